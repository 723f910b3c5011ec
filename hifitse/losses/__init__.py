"""Loss terms, by the names under which they are logged. Terms with weight 0 are not computed.

In: estimates and targets (B, T), and the batch they come from.
Out: the loss to backpropagate, and terms to log.
May not import: model, training or any later package.

formulas.py: the terms. objective.py: their weighted sum.
"""

from typing import NamedTuple

from torch import Tensor

from hifitse.losses import formulas
from hifitse.params import Params

OF_OTHERS = ("loss_adversarial", "loss_feature")
"""Weights of losses that need the discriminators."""
WEIGHTS = [name for name, field in Params.model_fields.items() if name.startswith("loss_") and field.annotation is float]
TERMS = tuple(name.removeprefix("loss_") for name in WEIGHTS if name not in OF_OTHERS)
"""All terms. The parameter ``loss_<term>`` is the weight of a term."""
Term = tuple[Tensor, Tensor]
"""Value per item (B,), and (B,) bool: the items to which the term applies."""


class Loss(NamedTuple):
    """Loss of a batch: ``total`` to backpropagate, and ``terms`` to log."""

    total: Tensor
    terms: dict[str, float]


def item_terms(est: Tensor, target: Tensor, mix: Tensor, present: Tensor, params: Params) -> dict[str, Term]:
    """Compute every weighted term that compares signals only. :class:`hifitse.losses.objective.Objective` adds the others.

    Args:
        est, target, mix: (B, T) float32, 48 kHz. ``target`` is zero where the target speaker is absent. With ``min_activity`` 0
            it may also be zero where the speaker is present; SI-SDR then does not apply.
        present: (B,) bool.
    """
    terms: dict[str, Term] = {}
    if params.loss_si_sdr or params.loss_snr:
        both = zip(("si_sdr", "snr"), formulas.waveform_terms(est, target), (present & formulas.audible(target), present), strict=True)
        terms |= {name: (value, applies) for name, value, applies in both if getattr(params, f"loss_{name}")}
    if params.loss_phase or params.loss_amplitude:
        both = zip(("phase", "amplitude"), formulas.spectral_distances(est, target), strict=True)
        terms |= {name: (value, present) for name, value in both if getattr(params, f"loss_{name}")}
    if params.loss_absent:
        level = formulas.absent_level(est, mix) if params.loss_absent_kind == "relative" else formulas.absent_floor(est)
        terms["absent"] = (level, ~present)
    if params.loss_multires:
        terms["multires"] = (formulas.negative_multires_si_sdr(est, target), present & formulas.audible(target))
    return terms
