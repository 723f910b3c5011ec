"""Weights of the loss terms that are learned with the model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

DECIBELS = ("si_sdr", "snr", "absent", "multires")
"""Terms in dB: they fall below 0 without a bound that a training meets. The others are 0 or more."""
WELL_DB = 30.0
"""dB: an error so far below the target, or the mixture, counts as almost none."""
LEAST = 0.01
"""What a perfect term still counts, so that no log-variance falls without end."""
GAIN = 10.0


def positive(name: str, values: Tensor) -> Tensor:
    """A term as uncertainty weighting needs it: above 0, and next to 0 where nothing is left to gain.

    A term of x dB becomes ``10 log10(1 + 10^((x + 30) / 10))``: x + 30 while the error is large, so that its slope is that of the term
    itself (0.999 at 0 dB, 0.91 at -20 dB), and never below 0. In terms of the error it is the soft threshold of 30 dB of Wisdom et
    al. 2020 (arXiv 2006.12701, eq. 2). All others stay as they are. ``LEAST`` is added to every term.
    """
    if name in DECIBELS:
        scale = 10 / torch.log(values.new_tensor(10.0))
        values = scale * nn.functional.softplus((values + WELL_DB) / scale)
    return values + LEAST


class Uncertainty(nn.Module):
    """Homoscedastic uncertainty weighting (Kendall, Gal & Cipolla 2018, eq. 7, with the factor 1/2 left out, as in their code).

    A term with weight w and value L counts ``exp(-s) w L + s``, with one learned s for each term, its log-variance. The best s is
    log(w L), where the term counts with the weight 1 / L whatever w is: w decides only where the learning starts, at s = 0 and so at the
    fixed weights. L must be above 0, or s would fall for ever: see :func:`positive`. Terms in dB are about 30 where spectral ones
    are about 0.3, so learned weights let the spectral ones have most of the say; the report shows it.

    AdamW moves a parameter by about the learning rate a step, whatever its gradient, and the way from 0 to log 30 would take a short
    training longer than it lasts: the parameters are s / 10.

    Args:
        names: of the terms.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.tenths = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, name: str, weight: float, values: Tensor) -> Tensor:
        """What items of one term count: values (B,) -> (B,)."""
        log_variance = GAIN * self.tenths[self.names.index(name)]
        return (-log_variance).exp() * weight * positive(name, values) + log_variance

    def scales(self) -> dict[str, float]:
        """Term -> exp(-s), by which its weight is multiplied."""
        return dict(zip(self.names, (-GAIN * self.tenths.detach()).exp().tolist(), strict=True))
