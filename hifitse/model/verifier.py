"""A pretrained speaker verifier: the GE2E encoder of Resemblyzer, rewritten for 48 kHz. Its embedding identifies the enrolled voice and
measures how similar a recording is to it. It was trained on thousands of people. Its weights are frozen and stored with the extractor's;
those of the bundled model are Resemblyzer's (Apache-2.0) in 16 and 8 bits.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from hifitse import SAMPLE_RATE

WINDOW, HOP = SAMPLE_RATE // 40, SAMPLE_RATE // 100  # 25 ms: bins 40 Hz apart, as at 16 kHz, where it was trained
BINS, MELS, HIDDEN, SIZE = 201, 40, 256, 256  # 201 bins reach up to 8 kHz
PIECE = 160  # frames (1.6 s) per embedded piece, as in the verifier's training
LEVEL_DB = -30.0  # dBFS: quieter recordings are raised to this RMS level


class Verifier(nn.Module):
    """GE2E speaker encoder (Wan et al., ICASSP 2018): mel energies, three LSTM layers, one linear layer, normalisation to unit length.

    Averages over half-overlapping pieces of 1.6 s; in training mode it uses the loudest piece only. No gradient flows through it, but
    :meth:`voice` is differentiable.

    Shape: enroll (B, N, T') at 48 kHz -> (B, 256) of unit length, averaged over the N recordings
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, HIDDEN, 3, batch_first=True)
        self.linear = nn.Linear(HIDDEN, SIZE)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        mel = melscale_fbanks(BINS, 0.0, 8_000.0, MELS, 16_000, norm="slaney", mel_scale="slaney")
        self.register_buffer("mel", mel / (SAMPLE_RATE / 16_000) ** 2, persistent=False)  # same scale as at 16 kHz
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, enroll: Tensor) -> Tensor:
        with torch.autocast(enroll.device.type, enabled=False):
            return F.normalize(self.pieces(enroll.flatten(0, 1)).view(len(enroll), -1, SIZE).mean(1), dim=-1)

    def voice(self, audio: Tensor) -> Tensor:
        """Embed one recording per item, with gradients to the recording: (B, T) -> (B, 256) of unit length."""
        with torch.autocast(audio.device.type, enabled=False):
            return F.normalize(self.pieces(audio).mean(1), dim=-1)

    def pieces(self, audio: Tensor) -> Tensor:
        """Embed the pieces of recordings: (M, T) -> (M, P, 256) of unit length."""
        pieces = self._pieces(self.frames(audio.float()))  # (M, P, PIECE, MELS)
        last = self.lstm(pieces.flatten(0, 1))[1][0][-1]
        return F.normalize(F.relu(self.linear(last)), dim=-1).view(len(audio), -1, SIZE)

    def frames(self, audio: Tensor) -> Tensor:
        """Return mel energies (not their logarithm): (M, T) -> (M, L, 40)."""
        level = audio.square().mean(-1, keepdim=True).clamp_min(1e-10).sqrt()
        audio = audio * (10 ** (LEVEL_DB / 20) / level).clamp_min(1)
        padded = F.pad(audio, (WINDOW // 2, WINDOW // 2))
        spec = torch.stft(padded, WINDOW, HOP, window=self.window, center=False, return_complex=True)[:, :BINS]
        return (spec.real.square() + spec.imag.square()).transpose(1, 2) @ self.mel

    def _pieces(self, frames: Tensor) -> Tensor:
        """Cut frames into pieces, repeating short recordings: (M, L, 40) -> (M, P, PIECE, 40)."""
        if frames.shape[1] < PIECE:
            frames = frames.repeat(1, -(-PIECE // frames.shape[1]), 1)[:, :PIECE]
        if self.training:
            loudness = F.avg_pool1d(frames.sum(-1)[:, None], PIECE, 1)[:, 0]  # (M, places)
            places = loudness.argmax(1)[:, None] + torch.arange(PIECE, device=frames.device)
            return frames.gather(1, places[..., None].expand(-1, -1, MELS))[:, None]
        starts = range(0, max(1, frames.shape[1] - PIECE * 3 // 4), PIECE // 2)
        starts = [min(start, frames.shape[1] - PIECE) for start in starts]
        return torch.stack([frames[:, start : start + PIECE] for start in starts], 1)


LENGTH, EVERY = PIECE * HOP, 4 * SAMPLE_RATE // 10  # samples: windows of 1.6 s, one every 0.4 s


class Likeness:
    """Similarity of a signal that arrives in pieces to the enrolment embedding ``voice`` (1, 256): cosines of windows of 1.6 s."""

    def __init__(self, verifier: Verifier, voice: Tensor) -> None:
        self.verifier, self.voice = verifier, voice[0]
        self.waiting, self.samples = torch.zeros(0), 0
        self._found: list[Tensor] = []

    def through(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Add pieces (T_i,) or (T_i, C) at 48 kHz and pass them on."""
        for piece in pieces:
            self.add(piece if piece.dim() == 1 else piece.mean(1))
            yield piece

    def add(self, piece: Tensor) -> None:
        """Add a piece (T_i,) on the CPU."""
        self.samples += len(piece)
        self.waiting = torch.cat([self.waiting, piece.float()])
        if len(self.waiting) >= LENGTH:
            windows = self.waiting.unfold(0, LENGTH, EVERY)
            self._found.append(self._cosines(windows))
            self.waiting = self.waiting[len(windows) * EVERY :]

    def curve(self, steps: int, step_s: float) -> np.ndarray:
        """Return the cosine (``steps``,), 0 to 1, of the nearest window every ``step_s`` s; all nan if no signal was added."""
        found = self._found or ([self._cosines(self.waiting[None])] if self.samples else [])
        if not found:
            return np.full(steps, np.nan)
        cosines = torch.cat(found).numpy()
        middles = (np.arange(steps) + 0.5) * step_s * SAMPLE_RATE
        return cosines[np.clip(np.rint((middles - LENGTH / 2) / EVERY).astype(int), 0, len(cosines) - 1)]

    def _cosines(self, windows: Tensor) -> Tensor:
        return (self.verifier(windows[:, None].to(self.voice.device)) @ self.voice).float().cpu()


def likeness(verifier: Verifier, est: np.ndarray, enroll: np.ndarray, step_s: float) -> np.ndarray:
    """Return the similarity of an estimate (T,) to enrolments (N, T') every ``step_s`` s: (T / step,)."""
    found = Likeness(verifier, verifier(torch.from_numpy(enroll)[None].to(verifier.window.device)))
    found.add(torch.from_numpy(est))
    return found.curve(len(est) // round(step_s * SAMPLE_RATE), step_s)
