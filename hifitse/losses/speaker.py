"""A contrastive term: the voice of the estimate must be nearer to the enrolment than to any other voice at hand."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from hifitse import HifitseError


def voices(metadata: Mapping[str, Any]) -> tuple[str, str | None]:
    """Names of the speaker asked for, whose recording is ``enroll``, and of the one of ``wrong_enroll``, ``None`` without interferer.

    The metadata of a swapped mixture (:func:`hifitse.data.dataset.swapped`) are those of the mixture as it was drawn: there the two
    change places.
    """
    target, first = metadata["target_speaker"], next(iter(metadata["interferer_speakers"]), None)
    return (first, target) if metadata.get("swapped") else (target, first)


def speaker_contrast(embed: Callable[[Tensor], Tensor], est: Tensor, batch: Mapping[str, Any], temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, eq. 4) between the embedding of the estimate and that of its enrolment.

    ``-log(exp(c_ii / t) / sum_j exp(c_ij / t))`` with the cosines c_ij between estimate i and recording j, at the temperature t. The
    recordings are the enrolments of the whole batch and one of each interferer who is not among those asked for: a mixture that
    comes twice, once for each talker, has the other's recording in the batch already. A recording of the same speaker as the item's is
    never a negative, even at another speed, which changes the voice by as little as 1 %. An item without any negative has 0.

    Args:
        embed: (M, T) or (M, N, T') -> (M, E); the gradient reaches the estimate and whatever embeds.
        est: (B, T).
        batch: as :data:`hifitse.data.dataset.Batch`, with ``enroll``, ``wrong_enroll`` and ``metadata``.
        temperature: above 0; lower ones ask for a wider margin to the nearest negative.

    Returns:
        (B,), 0 or more. A silent estimate has a value too: leave the items without their target out.

    Raises:
        HifitseError: there are interferers and no recordings of them.
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


def voice(metadata: Mapping[str, Any]) -> tuple[str, float]:
    """Who is asked for, and the speed factor of their speech: another factor is another voice.

    The metadata of a swapped mixture (:func:`hifitse.data.dataset.swapped`) are those of the mixture as it was drawn.
    """
    if metadata.get("swapped"):
        return metadata["interferer_speakers"][0], metadata["interferer_speeds"][0]
    return metadata["target_speaker"], metadata["target_speed"]


def identity_contrast(enrolled: Tensor, spoken: Tensor, voices: Sequence[Hashable], present: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, SimCLR, eq. 1): enrolment and clean target of an item are two views of one voice.

    For each of the two, ``-log(exp(c_pair / t) / (exp(c_pair / t) + sum exp(c_j / t)))`` with the cosines c_j to both recordings of all
    items with another voice, at the temperature t. Recordings of the item's own voice are never negatives, nor are targets that are
    not there. No estimate is needed: the term teaches the embedding, not what is done with it.

    Args:
        enrolled, spoken: (B, E) embeddings of each item's enrolment and of its clean target.
        voices: of each item, equal where the voice is.
        present: (B,) bool, whether the target is there.
        temperature: above 0; lower ones ask for a wider margin to the nearest other voice.

    Returns:
        (B,) mean over the item's two views, 0 where there is no other voice; meaningless where the target is absent.
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
