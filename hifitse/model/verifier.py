"""A pretrained speaker verifier whose embedding says who is enrolled: the GE2E encoder of Resemblyzer, rewritten for 48 kHz input.

It heard thousands of people, where an extractor is trained on hundreds. Its weights are frozen and travel with the extractor's.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from hifitse import SAMPLE_RATE, HifitseError

WINDOW, HOP = SAMPLE_RATE // 40, SAMPLE_RATE // 100
"""25 ms and 10 ms: the bins lie 40 Hz apart, as those of 400 samples at 16 kHz, at which the verifier was trained."""
BINS, MELS, HIDDEN, SIZE = 201, 40, 256, 256  # 201 bins are 8 kHz
PIECE = 160  # frames, 1.6 s: the length of the pieces that are embedded, as in the verifier's training
LEVEL_DB = -30.0  # dBFS: RMS level to which quiet recordings are raised


class Verifier(nn.Module):
    """GE2E speaker encoder (Wan et al., ICASSP 2018): mel energies, three LSTM layers, one linear layer, unit length.

    A recording is embedded in pieces of 1.6 s that overlap by half, and their mean is taken. In training its loudest piece stands for
    the recording. No gradient flows through it to the recording.

    Shape: enroll (B, N, T') at 48 kHz -> (B, 256) of unit length, the mean over the N recordings
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, HIDDEN, 3, batch_first=True)
        self.linear = nn.Linear(HIDDEN, SIZE)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        mel = melscale_fbanks(BINS, 0.0, 8_000.0, MELS, 16_000, norm="slaney", mel_scale="slaney")
        self.register_buffer("mel", mel / (SAMPLE_RATE / 16_000) ** 2, persistent=False)  # as large as at 16 kHz
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, enroll: Tensor) -> Tensor:
        with torch.autocast(enroll.device.type, enabled=False):
            return F.normalize(self.pieces(enroll.flatten(0, 1)).view(len(enroll), -1, SIZE).mean(1), dim=-1)

    @torch.no_grad()
    def pieces(self, audio: Tensor) -> Tensor:
        """Embeddings of the pieces of recordings: (M, T) -> (M, P, 256) of unit length."""
        pieces = self._pieces(self.frames(audio.float()))  # (M, P, PIECE, MELS)
        last = self.lstm(pieces.flatten(0, 1))[1][0][-1]
        return F.normalize(F.relu(self.linear(last)), dim=-1).view(len(audio), -1, SIZE)

    def frames(self, audio: Tensor) -> Tensor:
        """Mel energies of (M, T), not their logarithm: (M, L, 40)."""
        level = audio.square().mean(-1, keepdim=True).clamp_min(1e-10).sqrt()
        audio = audio * (10 ** (LEVEL_DB / 20) / level).clamp_min(1)
        padded = F.pad(audio, (WINDOW // 2, WINDOW // 2))
        spec = torch.stft(padded, WINDOW, HOP, window=self.window, center=False, return_complex=True)[:, :BINS]
        return (spec.real.square() + spec.imag.square()).transpose(1, 2) @ self.mel

    def _pieces(self, frames: Tensor) -> Tensor:
        """(M, L, 40) -> (M, P, PIECE, 40); short recordings are repeated."""
        if frames.shape[1] < PIECE:
            frames = frames.repeat(1, -(-PIECE // frames.shape[1]), 1)[:, :PIECE]
        if self.training:
            loudness = F.avg_pool1d(frames.sum(-1)[:, None], PIECE, 1)[:, 0]  # (M, places)
            places = loudness.argmax(1)[:, None] + torch.arange(PIECE, device=frames.device)
            return frames.gather(1, places[..., None].expand(-1, -1, MELS))[:, None]
        starts = range(0, max(1, frames.shape[1] - PIECE * 3 // 4), PIECE // 2)
        starts = [min(start, frames.shape[1] - PIECE) for start in starts]
        return torch.stack([frames[:, start : start + PIECE] for start in starts], 1)

    def load_resemblyzer(self) -> None:
        """Take the weights from the package ``resemblyzer`` (Apache-2.0), not imported. Raises HifitseError: it is not installed."""
        found = find_spec("resemblyzer")
        if found is None:
            raise HifitseError("verifier is True: expected the package resemblyzer (pip install --no-deps resemblyzer), got none")
        path = Path(found.submodule_search_locations[0]) / "pretrained.pt"
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]  # noqa: TID251 (weights only)
        self.load_state_dict({name: state[name] for name in self.state_dict()})
