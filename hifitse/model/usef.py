"""Cross-attention from the mixture to the enrolment's frames (USEF-TSE, Zeng & Li 2024): no fixed speaker vector needed."""

import torch.nn.functional as F
from torch import Tensor, nn

from hifitse.model.conditioning import AdaptiveNorm


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention with the last axis cut into heads: (G, L, D), (G, S, D), (G, S, D') -> (G, L, D')."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (G, heads, L, D / heads)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class BandAttention(nn.Module):
    """Residual attention along frames, each band by itself. ``context=None`` is self-attention.

    Shape:
        z (B, K, L, D), context (B, K, S, D), spk_emb (B, E) where the normalisation needs it -> (B, K, L, D)
    """

    def __init__(self, features: int, heads: int, speaker: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = AdaptiveNorm(features, speaker)
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.out = nn.Linear(features, features)

    def forward(self, z: Tensor, context: Tensor | None = None, spk_emb: Tensor | None = None) -> Tensor:
        x = self.norm(z, spk_emb)
        source = x if context is None else context
        q, k, v = (y.flatten(0, 1) for y in (self.query(x), self.key(source), self.value(source)))  # (B*K, L or S, D)
        return z + self.out(attend(q, k, v, self.heads).view_as(z))


class FullBandAttention(nn.Module):
    """Residual attention along frames in which a token is a whole frame: all bands decide together where to look.

    With one band at a time, pitch (low bands) and formants (middle bands) never meet in one comparison. Queries and keys are
    a few features of every band, side by side; the values found are returned to each band.

    Shape:
        z (B, K, L, D), context (B, K, S, D), spk_emb (B, E) where the normalisation needs it -> (B, K, L, D)
    """

    def __init__(self, features: int, heads: int, per_band: int = 4, speaker: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = AdaptiveNorm(features, speaker)
        self.query = nn.Linear(features, per_band * heads)
        self.key = nn.Linear(features, per_band * heads)
        self.value = nn.Linear(features, features)
        self.out = nn.Linear(features, features)

    def forward(self, z: Tensor, context: Tensor | None = None, spk_emb: Tensor | None = None) -> Tensor:
        x = self.norm(z, spk_emb)
        source = x if context is None else context
        heads = self.heads
        # (B, K, L, heads * d) -> (B, heads, L, K * d): the bands side by side in every head
        q, k, v = (
            y.unflatten(-1, (heads, -1)).permute(0, 3, 2, 1, 4).flatten(3) for y in (self.query(x), self.key(source), self.value(source))
        )
        found = F.scaled_dot_product_attention(q, k, v)
        found = found.unflatten(-1, (z.shape[1], -1)).permute(0, 3, 2, 1, 4).flatten(3)  # (B, K, L, D)
        return z + self.out(found)


CROSS_ATTENTION = {"band": BandAttention, "full": FullBandAttention}
