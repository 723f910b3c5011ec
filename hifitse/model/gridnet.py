"""The network's layers: modulation by a speaker (FiLM, Perez et al. 2018; AdaLN), attention, also from the mixture to the enrolment
(USEF-TSE, Zeng & Li 2024), what is made of the enrolment, and the TF-GridNet block (Wang et al. 2023) on bands.

The LSTMs are the baseline's. ``mixer`` and ``conv`` are matrix products over all frames at once in their place: an LSTM's
steps wait for each other, which a CPU and a GPU both pay for.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hifitse.config import ExtractorConfig
from hifitse.model import kernels

# ---- modulation


class FiLM(nn.Module):
    """``z * (1 + scale) + shift`` with scale and shift from a condition; the identity at the start.
    Shape: z (..., D), condition (..., C) broadcastable in front -> (..., D)"""

    def __init__(self, condition: int, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * features)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.linear(condition).chunk(2, -1)
        return torch.addcmul(shift, z, 1 + scale)


class AdaptiveNorm(nn.LayerNorm):
    """Layer normalisation whose output a speaker embedding scales and shifts (AdaLN; Peebles & Xie 2023, section 3.2; for speakers as in
    AdaSpeech, Chen et al. 2021, section 2.3), plain at the start; ``speaker`` is the embedding's size E, 0: plain, without weights.

    Shape: x (B * M, ..., D), the M rows of an item next to each other, spk_emb (B, E) -> (B * M, ..., D)
    """

    def __init__(self, features: int, speaker: int = 0) -> None:
        super().__init__(features)
        self.film = None
        if speaker:
            with torch.random.fork_rng(devices=[]):  # all other weights start as they would without
                self.film = FiLM(speaker, features)

    def forward(self, x: Tensor, spk_emb: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        if self.film is None:
            return y
        y = y.unflatten(0, (len(spk_emb), -1))  # (B, M, ..., D)
        return self.film(y, spk_emb.view(len(spk_emb), *[1] * (y.dim() - 2), -1)).flatten(0, 1)


# ---- attention


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
    """The same where a token is a whole frame: all bands decide together where to look, so that pitch and formants meet in one
    comparison. Queries and keys are a few features of every band, side by side; the values found are returned to each band.
    """

    def __init__(self, features: int, heads: int, speaker: int = 0) -> None:
        super().__init__(features, heads, speaker, width=4 * heads)

    def look(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bands = q.shape[1]
        # (B, K, L, heads * d) -> (B, heads, L, K * d): the bands side by side in every head
        q, k, v = (y.unflatten(-1, (self.heads, -1)).permute(0, 3, 2, 1, 4).flatten(3) for y in (q, k, v))
        found = F.scaled_dot_product_attention(q, k, v)
        return found.unflatten(-1, (bands, -1)).permute(0, 3, 2, 1, 4).flatten(3)


CROSS_ATTENTION = {"band": BandAttention, "full": FullBandAttention}


# ---- the enrolment


class Resolutions(nn.Module):
    """The enrolment for cross-attention: several features of its frames, each at several time resolutions, one after the other.

    A frame says which sound it is, a mean over many which voice (after Zhang et al. 2024, "Multi-level speaker representation for
    target speaker extraction"). A learnt vector is added to each part, so that attention can tell them apart.

    Args:
        levels: features of a frame: those after the band split, after the first speaker block, ...
        scales: time resolutions: the frames themselves, means over 4, over 16, ...

    Shape: ``levels`` tensors (B, K, S, D), the shallowest first -> (B, K, S', D), S' = levels * (S + S / 4 + ...), rounded up
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
    """Enrolment features -> one embedding of the voice: attentive statistics pooling (Okabe et al. 2018) over all frames, the bands side
    by side, so that pitch and formants are judged together. Shape: (B, K, S, D) -> (B, E), of unit variance.
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
    """A verifier's embedding, through two layers, added to the pooled one: pooled (B, E), voice (B, 256) of unit length -> (B, E)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner, self.outer, self.norm = nn.Linear(256, size), nn.Linear(size, size), nn.LayerNorm(size)

    def forward(self, pooled: Tensor, voice: Tensor) -> Tensor:
        return self.norm(pooled + self.outer(F.relu(self.inner(16 * voice))))


# ---- the block


class BiLSTM(nn.Module):
    """Residual bidirectional LSTM along the last but one axis: (G, S, D) -> (G, S, D). On a CPU in float32 even under autocast."""

    def __init__(self, features: int, hidden: int, speaker: int = 0) -> None:
        super().__init__()
        self.norm = AdaptiveNorm(features, speaker)
        self.lstm = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, features)

    def forward(self, x: Tensor, spk_emb: Tensor | None = None) -> Tensor:
        y = self.norm(x, spk_emb)
        on_cpu = x.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            y = self.lstm(y.to(self.out.weight.dtype) if on_cpu else y)[0]
        return x + self.out(y)


class GatedConv(nn.Module):
    """Residual gated convolution of three taps, ``dilation`` frames apart: (G, L, D) -> (G, L, D). Weights of shape (2 H, 3 D)."""

    def __init__(self, features: int, hidden: int, dilation: int, speaker: int = 0) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = AdaptiveNorm(features, speaker)
        self.taps = nn.Linear(3 * features, 2 * hidden)
        self.out = nn.Linear(hidden, features)

    def forward(self, x: Tensor, spk_emb: Tensor | None = None) -> Tensor:
        y = self.norm(x, spk_emb)
        if kernels.fast():
            y = kernels.convolve(y, self.taps, self.dilation)
        else:
            kernel = self.taps.weight.unflatten(1, (3, -1)).transpose(1, 2)  # (2 H, D, 3)
            y = F.conv1d(y.transpose(1, 2), kernel, self.taps.bias, padding=self.dilation, dilation=self.dilation).transpose(1, 2)
        return x + self.out(F.glu(y, -1))


class BandMixer(nn.Module):
    """Residual perceptron over a whole frame: all features of all bands together, by way of a narrow layer; (B, K, L, D) -> the same.

    A perceptron over the bands feature by feature (MLP-Mixer) costs less but learned half as much in the same time: which
    harmonics belong together is a question about all bands and features at once.
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
    """One block: [modulation by the embedding] -> bands -> frames -> attention -> [enrolment again].

    Args:
        depth: number of the block from 0; dilations of ``conv`` are 1, 2, 4, 8, 1, ...
        speaker: size of a pooled speaker embedding that modulates the block, with ``adaln`` its normalisations too; 0 for none.
        reinject: kind of cross-attention to the enrolment at the block's end: none, band or full.

    Shape: z (B, K, L, D), enrolment frames (B, K, S, D), spk_emb (B, E) or None -> (B, K, L, D)
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
