"""The extractor: ``Extractor(ExtractorConfig())`` is the plan's 11.79 M baseline.

In: mixture (B, T) and enrolment (B, N, T'); recordings.
Out: the estimate (B, T).
May not import: losses, training or any room after them.

bands.py STFT, band split and merge, masked inverse; kernels.py fast ways to compute them, and their switch; gridnet.py the
layers: FiLM, attention to the enrolment, embedding, blocks; extractor.py puts them together. extraction.py one voice out of a
recording in memory, in cross-faded chunks; extract_files.py out of files, piece by piece; verifier.py who speaks;
pretrained.py a trained model as a folder.
"""

from hifitse.config import ExtractorConfig
from hifitse.model.extractor import AveragedEstimates, Extractor, SecondPass, Speaker

__all__ = ["AveragedEstimates", "Extractor", "ExtractorConfig", "SecondPass", "Speaker"]
