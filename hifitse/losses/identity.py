"""A contrastive term on the speaker embedding alone: an enrolment must be nearer to its person's clean speech than to any other voice."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


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
