"""The training objective: a weighted sum of the loss terms, optionally with learned weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hifitse import HifitseError
from hifitse.losses import TERMS, Loss, Term, item_terms
from hifitse.losses.formulas import identity_contrast, speaker_contrast, voice
from hifitse.machine import half_precision
from hifitse.params import Params

DECIBELS = ("si_sdr", "snr", "absent", "multires")  # terms in dB, which can be negative; the others are 0 or more
WELL_DB = 30.0  # dB: an error this far below the target or the mixture counts as almost none
LEAST = 0.01  # added to each term, so that no log-variance decreases without bound
GAIN = 10.0  # the parameters are tenths of log-variances: AdamW moves by about the learning rate per step, too slowly to reach log 30

LATE_FROM = 0.5  # share of the steps after which the terms in loss_late are used


def positive(name: str, values: Tensor) -> Tensor:
    """Make a term suitable for uncertainty weighting: above 0, and near 0 where nothing is left to gain.

    A term of x dB becomes ``10 log10(1 + 10^((x + 30) / 10))``, which is about x + 30 while the error is large: the soft threshold
    of Wisdom et al. 2020 (arXiv 2006.12701, eq. 2), here 30 dB. ``LEAST`` is added to every term.
    """
    if name in DECIBELS:
        scale = 10 / torch.log(values.new_tensor(10.0))
        values = scale * nn.functional.softplus((values + WELL_DB) / scale)
    return values + LEAST


class Uncertainty(nn.Module):
    """Homoscedastic uncertainty weighting (Kendall, Gal & Cipolla 2018, eq. 7, without the factor 1/2, as in their code).

    A term with weight w and value L > 0 contributes ``exp(-s) w L + s``, with one learned log-variance s per term. The optimal s is
    log(w L), where the effective weight is 1 / L; w only sets the starting point. ``names`` are the names of the terms.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.tenths = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, name: str, weight: float, values: Tensor) -> Tensor:
        """Return the contribution of each item to one term: values (B,) -> (B,)."""
        log_variance = GAIN * self.tenths[self.names.index(name)]
        return (-log_variance).exp() * weight * positive(name, values) + log_variance

    def scales(self) -> dict[str, float]:
        """Return exp(-s) of each term, the factor on its weight."""
        return dict(zip(self.names, (-GAIN * self.tenths.detach()).exp().tolist(), strict=True))


class Objective(nn.Module):
    """Weighted sum over the terms, averaged over the batch's items. It has no parameters if ``loss_weighting`` is fixed.

    Items to which a term does not apply add nothing to it, so each item has the same weight whatever else is in the batch.
    ``loss_*`` and ``speaker_temperature`` determine the objective. ``progress``, the share of training done, is set before
    each step. Raises HifitseError: weights and terms do not match.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params, self.progress = params, 1.0
        self.before = params.model_copy(update={f"loss_{name}": 0.0 for name in params.late})
        self.weights = {name: weight for name in TERMS if (weight := getattr(params, f"loss_{name}"))}
        _refuse_mistakes(params, self.weights)
        self.uncertainty = Uncertainty(tuple(self.weights)) if params.loss_weighting == "uncertainty" else None

    def forward(
        self, est: Tensor, target: Tensor, mix: Tensor, present: Tensor, batch: Mapping[str, Any] | None = None, model: Any = None
    ) -> Loss:
        """Compute the loss of a batch.

        Args:
            est, target, mix: (B, T) float32, 48 kHz; ``target`` is zero where the target speaker is absent.
            present: (B,) bool.
            batch: as :data:`hifitse.data.dataset.Batch`; needed by ``loss_speaker`` and ``loss_identity``.
            model: the :class:`hifitse.model.Extractor` whose encoder or verifier embeds voices; needed by these and ``loss_verifier``.

        Returns:
            ``total`` to backpropagate, and ``terms`` to log: the unweighted mean of each term over the items it applies to, and the
            learned weights as ``weight_<term>``.
        """
        total, logged = est.new_zeros(()), {}
        for name, (values, applies) in self.terms(est, target, mix, present, batch, model).items():
            total = total + self.weighted(name, values, applies)
            if applies.any():
                logged[name] = float(torch.where(applies, values.detach(), 0.0).sum() / applies.sum())
        return Loss(total, logged | self.learned_weights())

    def terms(self, est: Tensor, target: Tensor, mix: Tensor, present: Tensor, batch: Any = None, model: Any = None) -> dict[str, Term]:
        """Compute every weighted term. Arguments as in :meth:`forward`."""
        params = self.before if self.progress < LATE_FROM else self.params
        found, temperature = item_terms(est, target, mix, present, params), params.speaker_temperature

        def embed(audio: Tensor) -> Tensor:
            with torch.autocast(audio.device.type, torch.bfloat16, enabled=half_precision(params.precision, audio.device)):
                return model.encode(audio).embedding

        if params.loss_speaker:
            found["speaker"] = (speaker_contrast(embed, est, batch, temperature), present)
        if params.loss_identity:
            voices = [voice(each) for each in batch["metadata"]]
            enrolled, spoken = embed(batch["enroll"].to(target.device)), embed(target)
            found["identity"] = (identity_contrast(enrolled, spoken, voices, present, temperature), present)
        if params.loss_verifier:
            said, wanted = model.verifier.voice(est), model.verifier(target[:, None])  # (B, 256) of unit length
            found["verifier"] = (1 - (said * wanted).sum(-1), present)
        return found

    def weighted(self, name: str, values: Tensor, applies: Tensor) -> Tensor:
        """Return the contribution of one term to the total: (B,), (B,) -> ()."""
        values = torch.where(applies, values, 0.0)  # torch.where, because 0 * nan would make the sum nan
        if self.uncertainty is None or ("weighting" in self.params.late and self.progress < LATE_FROM):
            return self.weights[name] * values.sum() / len(values)
        return torch.where(applies, self.uncertainty(name, self.weights[name], values), 0.0).sum() / len(values)

    def learned_weights(self) -> dict[str, float]:
        """Return the current weight of each term as ``weight_<term>``; empty if the weights are fixed."""
        scales = self.uncertainty.scales() if self.uncertainty is not None else {}
        return {f"weight_{name}": self.weights[name] * scale for name, scale in scales.items()}


def _refuse_mistakes(params: Params, weights: Mapping[str, float]) -> None:
    """Try the terms. Raises HifitseError: a term without a weight, a weight without a term, or values that are not (B,)."""
    tried = item_terms(*torch.linspace(-0.1, 0.1, 19_200).view(2, -1).expand(3, -1, -1), torch.ones(2, dtype=torch.bool), params)
    if missing := weights.keys() - tried.keys() - {"speaker", "identity", "verifier"}:
        raise HifitseError(f"loss_{min(missing)} is a weight without a term, expected one in hifitse.losses.item_terms")
    for name, term in tried.items():
        if name not in weights:
            raise HifitseError(f"{name} is a term without a weight, expected it only where the parameter loss_{name} is above 0")
        if shapes := [tuple(each.shape) for each in term if each.shape != (2,)]:
            raise HifitseError(f"term {name} of 2 items has shape {shapes[0]}, expected (2,): one value, and one bool, per item")
