"""An extractor used twice or more: the mean over several enrolments, and its own estimate as a further enrolment."""

import torch
from torch import Tensor, nn

from hifitse.model.extractor import Extractor


class AveragedEstimates(nn.Module):
    """An extractor that hears each enrolment alone and averages what it extracts; N times the work of the early fusion.

    Early fusion, the extractor's own, attends to the frames of all enrolments at once.

    Shape:
        mix (B, T), enroll (B, N, T') -> est (B, T)
    """

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, mix: Tensor, enroll: Tensor) -> Tensor:
        ests = [self.extractor(mix, enroll[:, number]) for number in range(enroll.shape[1])]
        return sum(ests[1:], ests[0]) / len(ests)


class SecondPass(nn.Module):
    """An extractor that hears its own first estimate as one more enrolment; twice the work.

    The estimate takes the level and the length of the first enrolment: it is cut, or repeated.

    Shape:
        mix (B, T), enroll (B, N, T') -> est (B, T)
    """

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, mix: Tensor, enroll: Tensor) -> Tensor:
        first, samples = self.extractor(mix, enroll), enroll.shape[-1]
        heard = first.repeat(1, -(-samples // first.shape[-1]))[:, :samples]
        level = enroll[:, 0].square().mean(-1, keepdim=True) / heard.square().mean(-1, keepdim=True).clamp_min(1e-12)
        return self.extractor(mix, torch.cat([enroll, (heard * level.sqrt())[:, None]], 1))
