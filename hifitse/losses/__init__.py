"""Loss terms by the name they are logged under. A weight of 0 leaves a term out: it is not even computed."""

from typing import NamedTuple

import torch
from torch import Tensor

from hifitse.losses.sisdr import absent_level, negative_si_sdr, negative_snr
from hifitse.losses.spectral import spectral_distances
from hifitse.params import Params


class Loss(NamedTuple):
    """What a batch costs: ``total`` to go backward from, and the mean of each term over the items it applies to."""

    total: Tensor
    terms: dict[str, float]


def item_terms(est: Tensor, target: Tensor, mix: Tensor, present: Tensor, params: Params) -> dict[str, tuple[Tensor, Tensor]]:
    """Every term with a weight, by name: its value for each item and the items it applies to, (B,) each.

    Args:
        est, target, mix: (B, T) float32, 48 kHz; ``target`` is zero where the target speaker is absent.
        present: (B,) bool.
    """
    terms: dict[str, tuple[Tensor, Tensor]] = {}
    if params.loss_si_sdr:
        terms["si_sdr"] = (negative_si_sdr(est, target), present)
    if params.loss_snr:
        terms["snr"] = (negative_snr(est, target), present)
    if params.loss_phase or params.loss_amplitude:
        phase, amplitude = spectral_distances(est, target)
        if params.loss_phase:
            terms["phase"] = (phase, present)
        if params.loss_amplitude:
            terms["amplitude"] = (amplitude, present)
    if params.loss_absent:
        terms["absent"] = (absent_level(est, mix), ~present)
    return terms


def batch_loss(est: Tensor, target: Tensor, mix: Tensor, present: Tensor, params: Params) -> Loss:
    """Weighted sum over the terms, mean over the batch's items; arguments as :func:`item_terms`.

    An item where a term does not apply adds nothing to it, so that every item weighs the same whatever its neighbours.
    """
    total = est.new_zeros(())
    logged: dict[str, float] = {}
    for name, (values, applies) in item_terms(est, target, mix, present, params).items():
        chosen = torch.where(applies, values, 0.0)  # where, not a product: 0 * nan would poison the sum
        total = total + getattr(params, f"loss_{name}") * chosen.sum() / len(chosen)
        if applies.any():
            logged[name] = float(chosen.detach().sum() / applies.sum())
    return Loss(total, logged)
