"""The network's layers: speaker modulation (FiLM, Perez et al. 2018; AdaLN), self-attention and cross-attention to the enrolment
(USEF-TSE, Zeng & Li 2024), encoders of the enrolment, and the TF-GridNet block (Wang et al. 2023) on bands.

The baseline uses LSTMs, whose sequential steps are slow on CPUs and GPUs alike. ``mixer`` and ``conv`` replace them with matrix products
over all frames at once.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hifitse.config import ExtractorConfig

# ---- modulation


class FiLM(nn.Module):
    """``z * (1 + scale) + shift``, with scale and shift computed from a condition. Starts as the identity.
    Shape: z (..., D), condition (..., C) with leading axes that broadcast -> (..., D)"""

    def __init__(self, condition: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * features)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.linear(condition).chunk(2, -1)
        return torch.addcmul(shift, z, 1 + scale)


class AdaptiveNorm(nn.LayerNorm):
    """Layer normalisation with scale and shift from a speaker embedding of size ``speaker`` (AdaLN; Peebles & Xie 2023, section 3.2; for
    speakers as in AdaSpeech, Chen et al. 2021, section 2.3). Starts as plain layer normalisation; with ``speaker`` 0 it stays plain.

    Shape: x (B * M, ..., D) with the M rows of an item adjacent, spk_emb (B, E) -> (B * M, ..., D)
    """

    def __init__(self, features: int, speaker: int = 0) -> None:
        super().__init__(features)
        self.film = None
        if speaker:
            with torch.random.fork_rng(devices=[]):  # leaves the initial values of all other weights unchanged
                self.film = FiLM(speaker, features)

    def forward(self, x: Tensor, spk_emb: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        if self.film is None:
            return y
        y = y.unflatten(0, (len(spk_emb), -1))  # (B, M, ..., D)
        return self.film(y, spk_emb.view(len(spk_emb), *[1] * (y.dim() - 2), -1)).flatten(0, 1)


# ---- attention


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head scaled dot-product attention: (G, L, D), (G, S, D), (G, S, D') -> (G, L, D')."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (G, heads, L, D / heads)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class BandAttention(nn.Module):
    """Residual attention over the frames of each band separately. ``context=None`` gives self-attention.
    Shape: z (B, K, L, D), context (B, K, S, D), spk_emb (B, E) if ``speaker`` is above 0 -> (B, K, L, D)"""

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
        """Return the attention output: q (B, K, L, D), k and v (B, K, S, D) -> (B, K, L, D)."""
        return attend(*(x.flatten(0, 1) for x in (q, k, v)), self.heads).view_as(q)


class FullBandAttention(BandAttention):
    """Attention whose tokens are whole frames: all bands share their attention weights, so that pitch and formants are compared together.
    Queries and keys concatenate a few features of every band; each band gets back its own values.
    """

    def __init__(self, features: int, heads: int, speaker: int = 0) -> None:
        super().__init__(features, heads, speaker, width=4 * heads)

    def look(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bands = q.shape[1]
        # (B, K, L, heads * d) -> (B, heads, L, K * d): bands concatenated within each head
        q, k, v = (y.unflatten(-1, (self.heads, -1)).permute(0, 3, 2, 1, 4).flatten(3) for y in (q, k, v))
        found = F.scaled_dot_product_attention(q, k, v)
        return found.unflatten(-1, (bands, -1)).permute(0, 3, 2, 1, 4).flatten(3)


CROSS_ATTENTION = {"band": BandAttention, "full": FullBandAttention}


# ---- the enrolment


class Resolutions(nn.Module):
    """Build the cross-attention context from several levels of enrolment features, each at several time resolutions, concatenated.

    Single frames identify sounds, means over many frames identify the voice (after Zhang et al. 2024, "Multi-level speaker representation
    for target speaker extraction"). A learned vector is added to each part, so that attention can tell them apart.

    Args:
        levels: number of feature levels: after the band split, after the first speaker block, ...
        scales: number of time resolutions: single frames, means over 4, over 16, ...

    Shape: ``levels`` tensors (B, K, S, D), the shallowest first -> (B, K, S', D), S' = levels * (S + S / 4 + ...), each term rounded up
    """

    STEP = 4

    def __init__(self, features: int, levels: int, scales: int) -> None:
        super().__init__()
        self.scales = scales
        self.marks = nn.Parameter(torch.zeros(levels * scales, features))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        parts: list[Tensor] = []
        for frames in levels:
            for scale in range(self.scales):
                frames = frames if scale == 0 else F.avg_pool2d(frames, (self.STEP, 1), ceil_mode=True)
                parts.append(frames + self.marks[len(parts)])
        return torch.cat(parts, 2)


class SpeakerPooling(nn.Module):
    """Pool enrolment features to one voice embedding by attentive statistics pooling (Okabe et al. 2018) over all frames. The bands are
    concatenated, so that pitch and formants are judged together. Shape: (B, K, S, D) -> (B, E), layer-normalised.
    """

    def __init__(self, bands: int, features: int, size: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(features, 8)
        self.score = nn.Linear(bands * 8, 1)
        self.embed = nn.Linear(2 * bands * 8, size)
        self.norm = nn.LayerNorm(size)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.reduce(frames).permute(0, 2, 1, 3).flatten(2)  # (B, S, K * 8)
        weight = self.score(torch.tanh(x)).softmax(1)  # (B, S, 1)
        mean = (weight * x).sum(1)
        var = (weight * (x - mean[:, None]).square()).sum(1)
        return self.norm(self.embed(torch.cat([mean, (var + 1e-5).sqrt()], -1)))


class VerifiedVoice(nn.Module):
    """Add a verifier's embedding, passed through two layers, to the pooled one: pooled (B, E), voice (B, 256) of unit length -> (B, E)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner, self.outer, self.norm = nn.Linear(256, size), nn.Linear(size, size), nn.LayerNorm(size)

    def forward(self, pooled: Tensor, voice: Tensor) -> Tensor:
        return self.norm(pooled + self.outer(F.relu(self.inner(16 * voice))))


# ---- the block


class BiLSTM(nn.Module):
    """Residual bidirectional LSTM along the second-to-last axis: (G, S, D) -> (G, S, D). CPUs use float32 even under autocast."""

    def __init__(self, features: int, hidden: int, speaker: int = 0) -> None:
        super().__init__()
        self.norm = AdaptiveNorm(features, speaker)
        self.lstm = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, features)

    def forward(self, x: Tensor, spk_emb: Tensor | None = None) -> Tensor:
        y = self.norm(x, spk_emb)
        with torch.autocast("cpu", enabled=False):
            y = self.lstm(y.to(self.out.weight.dtype) if x.device.type == "cpu" else y)[0]
        return x + self.out(y)


class GatedConv(nn.Module):
    """Residual gated convolution with three taps, ``dilation`` frames apart: (G, L, D) -> (G, L, D). Its weight has shape (2 H, 3 D)."""

    def __init__(self, features: int, hidden: int, dilation: int, speaker: int = 0) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = AdaptiveNorm(features, speaker)
        self.taps = nn.Linear(3 * features, 2 * hidden)
        self.out = nn.Linear(hidden, features)

    def forward(self, x: Tensor, spk_emb: Tensor | None = None) -> Tensor:
        kernel = self.taps.weight.unflatten(1, (3, -1)).transpose(1, 2)  # (2 H, D, 3)
        y = self.norm(x, spk_emb).transpose(1, 2)
        y = F.conv1d(y, kernel, self.taps.bias, padding=self.dilation, dilation=self.dilation).transpose(1, 2)
        return x + self.out(F.glu(y, -1))


class BandMixer(nn.Module):
    """Residual perceptron with a bottleneck over all features of all bands of a frame: (B, K, L, D) -> (B, K, L, D).

    Mixing the bands separately for each feature (MLP-Mixer) is cheaper but learned half as much in the same time, because
    grouping harmonics needs all bands and features at once.
    """

    def __init__(self, bands: int, features: int, hidden: int, speaker: int = 0) -> None:
        super().__init__()
        self.norm = AdaptiveNorm(features, speaker)
        self.down = nn.Linear(bands * features, hidden)
        self.up = nn.Linear(hidden, bands * features)

    def forward(self, z: Tensor, spk_emb: Tensor | None = None) -> Tensor:
        B, K, L, D = z.shape
        x = self.norm(z, spk_emb).transpose(1, 2).reshape(B, L, K * D)
        x = self.up(F.relu(self.down(x)))
        return z + x.view(B, L, K, D).transpose(1, 2)


class GridBlock(nn.Module):
    """One block: [modulation by the embedding] -> bands -> frames -> [self-attention] -> [cross-attention to the enrolment].

    Args:
        depth: index of the block from 0. The dilations of ``conv`` are 1, 2, 4, 8, 1, ...
        speaker: size of the pooled speaker embedding that modulates the block and, with ``adaln``, its normalisations; 0 for none.
        reinject: cross-attention to the enrolment at the end of the block: none, band or full.

    Shape: z (B, K, L, D), enrolment frames (B, K, S, D), spk_emb (B, E) or ``None`` -> (B, K, L, D)
    """

    def __init__(self, config: ExtractorConfig, bands: int, depth: int, speaker: int = 0, reinject: str = "none") -> None:
        super().__init__()
        D, H = config.features, config.lstm_hidden
        adapt = speaker if config.adaln else 0
        self.film = FiLM(speaker, D) if speaker else None
        self.bands = BiLSTM(D, H, adapt) if config.band_layer == "lstm" else BandMixer(bands, D, 4 * H, adapt)
        self.frames = BiLSTM(D, H, adapt) if config.frame_layer == "lstm" else GatedConv(D, H, 2 ** (depth % 4), adapt)
        self.attention = BandAttention(D, config.heads, adapt) if config.frame_attention else None
        self.reinject = CROSS_ATTENTION[reinject](D, config.heads, speaker=adapt) if reinject != "none" else None

    def forward(self, z: Tensor, enroll: Tensor | None = None, spk_emb: Tensor | None = None) -> Tensor:
        B, K, L, D = z.shape
        if self.film is not None:
            z = self.film(z, spk_emb[:, None, None])
        if isinstance(self.bands, BandMixer):
            z = self.bands(z, spk_emb)
        else:
            z = self.bands(z.transpose(1, 2).reshape(B * L, K, D), spk_emb).view(B, L, K, D).transpose(1, 2)
        z = self.frames(z.reshape(B * K, L, D), spk_emb).view(B, K, L, D)
        if self.attention is not None:
            z = self.attention(z, spk_emb=spk_emb)
        if self.reinject is not None:
            z = self.reinject(z, enroll, spk_emb)
        return z
