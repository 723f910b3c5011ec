"""The extractor: ``Extractor(ExtractorConfig())`` is the plan's 11.79 M baseline.

In: mixture (B, T) and enrolment (B, N, T'), or recordings.
Out: the estimate (B, T).
May not import: losses, training or any later package.

bands.py: STFT, band split and merge, masked inverse STFT. kernels.py: their fast paths, and the switch that turns these off.
gridnet.py: FiLM, attention to the enrolment, speaker embedding, GridNet blocks. extractor.py: the whole network. extraction.py:
extraction from recordings in memory, in cross-faded chunks. extract_files.py: extraction from files, piece by piece.
verifier.py: speaker verification. pretrained.py: trained models as folders.
"""

from hifitse.config import ExtractorConfig
from hifitse.model.extractor import AveragedEstimates, Extractor, SecondPass, Speaker

__all__ = ["AveragedEstimates", "Extractor", "ExtractorConfig", "SecondPass", "Speaker"]
