"""Contrastive terms: the voice of the estimate is nearer to its enrolment, or an enrolment to its clean speech, than to any other voice."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from hifitse import HifitseError


def voices(metadata: Mapping[str, Any]) -> tuple[str, str | None]:
    """Speaker of ``enroll`` and of ``wrong_enroll``, ``None`` without interferer. A swapped mixture has the metadata of the one drawn."""
    target, first = metadata["target_speaker"], next(iter(metadata["interferer_speakers"]), None)
    return (first, target) if metadata.get("swapped") else (target, first)


def voice(metadata: Mapping[str, Any]) -> tuple[str, float]:
    """Who is asked for, and the speed factor of their speech: another factor is another voice."""
    if metadata.get("swapped"):
        return metadata["interferer_speakers"][0], metadata["interferer_speeds"][0]
    return metadata["target_speaker"], metadata["target_speed"]


def speaker_contrast(embed: Callable[[Tensor], Tensor], est: Tensor, batch: Mapping[str, Any], temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, eq. 4): ``-log(exp(c_ii / t) / sum_j exp(c_ij / t))``, cosines of estimates and recordings.

    Recordings are the batch's enrolments and one of each interferer who is not asked for elsewhere in it. One of the item's own
    speaker is never a negative, even at another speed. An item without any negative has 0.

    Args:
        embed: (M, T) or (M, N, T') -> (M, E); the gradient reaches the estimate and whatever embeds.
        est: (B, T); silent ones have a value too: leave items without their target out.
        batch: as :data:`hifitse.data.dataset.Batch`, with ``enroll``, ``wrong_enroll`` and ``metadata``.
        temperature: above 0; lower ones ask for a wider margin.

    Returns (B,), 0 or more. Raises HifitseError: there are interferers and no recordings of them.
    """
    asked, others = zip(*map(voices, batch["metadata"]), strict=True)
    first_place = {name: place for place, name in reversed(list(enumerate(others))) if name is not None and name not in asked}
    recordings, names = batch["enroll"].to(est.device), list(asked)
    if first_place:
        if "wrong_enroll" not in batch:
            raise HifitseError("the batch has interferers and no wrong_enroll, expected a batch with both: see training_loader")
        chosen = batch["wrong_enroll"][list(first_place.values())].to(est.device)
        recordings, names = torch.cat([recordings, chosen]), [*asked, *first_place]
    queries, keys = normalize(embed(est).float(), dim=-1), normalize(embed(recordings).float(), dim=-1)  # (B, E), (M, E)
    same = torch.tensor([[name == mine for name in names] for mine in asked], device=est.device)  # (B, M)
    own = torch.arange(len(est), device=est.device)
    same[own, own] = False  # the item's own enrolment is what is to be found
    return cross_entropy((queries @ keys.T / temperature).masked_fill(same, -torch.inf), own, reduction="none")


def identity_contrast(enrolled: Tensor, spoken: Tensor, voices: Sequence[Hashable], present: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, SimCLR, eq. 1): enrolment and clean target of an item are two views of one voice, all recordings of
    other voices negatives. No estimate is needed: the term teaches the embedding, not what is done with it.

    Args:
        enrolled, spoken: (B, E) embeddings of each item's enrolment and of its clean target.
        voices: of each item, equal where the voice is.
        present: (B,) bool, whether the target is there; absent ones are no negatives.
        temperature: above 0.

    Returns (B,), mean over the two views, 0 without any other voice; meaningless where the target is absent.
    """
    B = len(enrolled)
    x = normalize(torch.cat([enrolled, spoken]).float(), dim=-1)  # (2 B, E)
    other = torch.tensor([[mine != theirs for theirs in voices] for mine in voices], device=x.device).repeat(2, 2)  # (2 B, 2 B)
    other &= torch.cat([torch.ones_like(present), present])
    places = torch.arange(2 * B, device=x.device)
    pair = (places + B) % (2 * B)
    other[places, pair] = True
    values = cross_entropy((x @ x.T / temperature).masked_fill(~other, -torch.inf), pair, reduction="none")
    return values.view(2, B).mean(0)
