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
    Shape: z (B, K, L, D), context (B, K, S, D), spk_emb (B, E) where the normalisation needs it -> (B, K, L, D)"""

    def __init__(self, features: int, heads: int, speaker: int = 0, width: int = 0) -> None:
        super().__init__()
        self.heads, width = heads, width or features
        self.norm = AdaptiveNorm(features, speaker)
        self.query, self.key = nn.Linear(features, width), nn.Linear(features, width)
        self.value, self.out = nn.Linear(features, features), nn.Linear(features, features)

    def forward(self, z: Tensor, context: Tensor | None = None, spk_emb: Tensor | None = None) -> Tensor:
        x = self.norm(z, spk_emb)
        source = x if context is None else context
        return z + self.out(self.look(self.query(x), self.key(source), self.value(source)))

    def look(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What is found: (B, K, L or S, D) each -> (B, K, L, D)."""
        return attend(*(x.flatten(0, 1) for x in (q, k, v)), self.heads).view_as(q)


class FullBandAttention(BandAttention):
    """The same where a token is a whole frame: all bands decide together where to look.

    With one band at a time, pitch (low bands) and formants (middle bands) never meet in one comparison. Queries and keys are
    a few features of every band, side by side; the values found are returned to each band.
    """

    def __init__(self, features: int, heads: int, per_band: int = 4, speaker: int = 0) -> None:
        super().__init__(features, heads, speaker, per_band * heads)

    def look(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bands = q.shape[1]
        # (B, K, L, heads * d) -> (B, heads, L, K * d): the bands side by side in every head
        q, k, v = (y.unflatten(-1, (self.heads, -1)).permute(0, 3, 2, 1, 4).flatten(3) for y in (q, k, v))
        found = F.scaled_dot_product_attention(q, k, v)
        return found.unflatten(-1, (bands, -1)).permute(0, 3, 2, 1, 4).flatten(3)


CROSS_ATTENTION = {"band": BandAttention, "full": FullBandAttention}
