"""Speaker conditioning: feature-wise modulation (FiLM, Perez et al. 2018) and an embedding pooled over all bands."""

import torch
from torch import Tensor, nn


class FiLM(nn.Module):
    """``z * (1 + scale) + shift`` with scale and shift from a condition; the identity at the start.

    Shape:
        z (..., D), condition (..., C) broadcastable in front -> (..., D)
    """

    def __init__(self, condition: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * features)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.linear(condition).chunk(2, -1)
        return torch.addcmul(shift, z, 1 + scale)


class SpeakerPooling(nn.Module):
    """Enrolment features -> one embedding of the voice: attentive statistics pooling (Okabe et al. 2018) over all frames,
    the bands side by side, so that pitch and formants are judged together.

    Shape:
        (B, K, S, D) -> (B, E), of unit variance
    """

    def __init__(self, bands: int, features: int, size: int) -> None:
        super().__init__()
        per_band = 8
        self.reduce = nn.Linear(features, per_band)
        self.score = nn.Linear(bands * per_band, 1)
        self.embed = nn.Linear(2 * bands * per_band, size)
        self.norm = nn.LayerNorm(size)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.reduce(frames).permute(0, 2, 1, 3).flatten(2)  # (B, S, K * 8)
        weight = self.score(torch.tanh(x)).softmax(1)  # (B, S, 1)
        mean = (weight * x).sum(1)
        var = (weight * (x - mean[:, None]).square()).sum(1)
        return self.norm(self.embed(torch.cat([mean, (var + 1e-5).sqrt()], -1)))
