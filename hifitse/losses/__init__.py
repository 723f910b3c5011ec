"""Loss terms by the name they are logged under. A weight of 0 leaves a term out: it is not even computed.

In: estimates and targets (B, T), with what a batch says of them.
Out: one number to go backward from, and terms to log.
May not import: model, training or any room after them.

formulas.py each term; objective.py the weighted sum.
"""

from typing import NamedTuple

from torch import Tensor

from hifitse.losses import formulas
from hifitse.params import Params

OF_OTHERS = ("loss_adversarial", "loss_feature")
"""Weights of the discriminators' losses."""
WEIGHTS = [name for name, field in Params.model_fields.items() if name.startswith("loss_") and field.annotation is float]
TERMS = tuple(name.removeprefix("loss_") for name in WEIGHTS if name not in OF_OTHERS)
"""All terms; ``loss_<term>`` is the parameter of a term's weight."""
Term = tuple[Tensor, Tensor]
"""(B,) value of each item, and (B,) bool: the items it applies to."""


class Loss(NamedTuple):
    """What a batch costs: ``total`` to go backward from, and what is logged of it."""

    total: Tensor
    terms: dict[str, float]


def item_terms(est: Tensor, target: Tensor, mix: Tensor, present: Tensor, params: Params) -> dict[str, Term]:
    """Every term with a weight that compares sounds alone, by name; :class:`hifitse.losses.objective.Objective` adds the others.

    Args:
        est, target, mix: (B, T) float32, 48 kHz; ``target`` is zero where the target speaker is absent, and where crops
            are not checked (``min_activity`` 0) perhaps in a present one too, which then has no SI-SDR.
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
