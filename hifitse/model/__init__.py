"""The extractor: ``Extractor(ExtractorConfig())`` is the plan's 11.79 M baseline.

In: mixture (B, T) and enrolment (B, N, T'); recordings.
Out: the estimate (B, T).
May not import: losses, training or any room after them.

spectrum.py STFT and masked inverse; bands.py band split and merge; kernels.py fast ways to compute both, and their switch; usef.py
cross-attention to the enrolment; conditioning.py speaker embedding and FiLM; gridnet.py the blocks; extractor.py puts them together.
chunks.py long signals in cross-faded chunks; extraction.py one voice out of a recording in memory, extract_files.py out of recordings
on disk, piece by piece, after survey.py's first pass; likeness.py who speaks in it; pretrained.py a trained model as a folder.
"""

from hifitse.config import ExtractorConfig
from hifitse.model.extractor import AveragedEstimates, Extractor, SecondPass, Speaker

__all__ = ["AveragedEstimates", "Extractor", "ExtractorConfig", "SecondPass", "Speaker"]
