"""What a training minimises: the terms of the loss, weighted, with all that is learned about their weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hifitse import HifitseError
from hifitse.losses import TERMS, Loss, Term, item_terms
from hifitse.losses.identity import identity_contrast, voice
from hifitse.losses.speaker import speaker_contrast
from hifitse.losses.weighting import Uncertainty
from hifitse.machine import half_precision
from hifitse.params import Params


class Objective(nn.Module):
    """Weighted sum over the terms, mean over the batch's items.

    An item where a term does not apply adds nothing to it, not even to the learning of its weight, so that every item weighs the
    same whatever its neighbours. With ``loss_weighting`` fixed it has no parameters.

    Args:
        params: ``loss_*`` and ``speaker_temperature`` decide all.

    Raises:
        HifitseError: a weight without a term.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params = params
        self.weights = {name: weight for name in TERMS if (weight := getattr(params, f"loss_{name}"))}
        tried = item_terms(*torch.linspace(-0.1, 0.1, 9_600).expand(3, 1, -1), torch.ones(1, dtype=torch.bool), params)
        if missing := self.weights.keys() - tried.keys() - {"speaker", "identity"}:
            raise HifitseError(f"loss_{min(missing)} is a weight without a term, expected one in hifitse.losses.item_terms")
        self.uncertainty = Uncertainty(tuple(self.weights)) if params.loss_weighting == "uncertainty" else None

    def forward(
        self, est: Tensor, target: Tensor, mix: Tensor, present: Tensor, batch: Mapping[str, Any] | None = None, model: Any = None
    ) -> Loss:
        """The loss of a batch.

        Args:
            est, target, mix: (B, T) float32, 48 kHz; ``target`` is zero where the target speaker is absent.
            present: (B,) bool.
            batch: as :data:`hifitse.data.dataset.Batch`; only ``loss_speaker`` and ``loss_identity`` need it, and the model.
            model: the :class:`hifitse.model.Extractor` whose encoder embeds voices.

        Returns:
            ``total`` to go backward from; ``terms`` to log: the mean of each term over the items it applies to, as it is without weight,
            and where the weights are learned, each as ``weight_<term>``.
        """
        total = est.new_zeros(())
        logged: dict[str, float] = {}
        for name, (values, applies) in self.terms(est, target, mix, present, batch, model).items():
            total = total + self.weighted(name, values, applies)
            if applies.any():
                logged[name] = float(torch.where(applies, values.detach(), 0.0).sum() / applies.sum())
        return Loss(total, logged | self.learned_weights())

    def terms(self, est: Tensor, target: Tensor, mix: Tensor, present: Tensor, batch: Any = None, model: Any = None) -> dict[str, Term]:
        """Every term with a weight, by name; arguments as :meth:`forward`."""
        found, temperature = item_terms(est, target, mix, present, self.params), self.params.speaker_temperature

        def embed(audio: Tensor) -> Tensor:
            with torch.autocast(audio.device.type, torch.bfloat16, enabled=half_precision(self.params.precision, audio.device)):
                return model.encode(audio).embedding

        if "speaker" in self.weights:
            found["speaker"] = (speaker_contrast(embed, est, batch, temperature), present)
        if "identity" in self.weights:
            voices = [voice(each) for each in batch["metadata"]]
            enrolled, spoken = embed(batch["enroll"].to(target.device)), embed(target)
            found["identity"] = (identity_contrast(enrolled, spoken, voices, present, temperature), present)
        return found

    def weighted(self, name: str, values: Tensor, applies: Tensor) -> Tensor:
        """What one term adds to the total: (B,), (B,) -> ()."""
        values = torch.where(applies, values, 0.0)  # where, not a product: 0 * nan would poison the sum
        if self.uncertainty is None:
            return self.weights[name] * values.sum() / len(values)
        return torch.where(applies, self.uncertainty(name, self.weights[name], values), 0.0).sum() / len(values)

    def learned_weights(self) -> dict[str, float]:
        """``weight_<term>`` -> the weight with which it counts now; empty where the weights are fixed."""
        if self.uncertainty is None:
            return {}
        return {f"weight_{name}": self.weights[name] * scale for name, scale in self.uncertainty.scales().items()}
