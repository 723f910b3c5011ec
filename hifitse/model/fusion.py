"""Late fusion of several enrolments: one extraction for each, and the mean of the estimates."""

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
