"""TF-GridNet block (Wang et al. 2023) on bands: a layer across bands, one along frames, attention along frames.

The LSTMs are the baseline's. ``mixer`` and ``conv`` are matrix products over all frames at once in their place: an LSTM's
steps wait for each other, which a CPU and a GPU both pay for.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hifitse.config import ExtractorConfig
from hifitse.model import kernels
from hifitse.model.conditioning import CROSS_ATTENTION, AdaptiveNorm, BandAttention, FiLM


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
