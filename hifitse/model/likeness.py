"""How like an enrolled voice a recording sounds, over time: cosines between the verifier's embeddings of 1.6 s and of the enrolment."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from hifitse import SAMPLE_RATE
from hifitse.model.verifier import HOP, PIECE, Verifier

LENGTH, EVERY = PIECE * HOP, 4 * SAMPLE_RATE // 10  # samples: windows of 1.6 s, one each 0.4 s
SIDE = 4  # two voices are looked for on both sides of a change; each side has at least this share of the recording, one in so many


class Likeness:
    """Likeness of a signal that comes piece by piece, such as an estimate.

    Args:
        verifier: of the extractor.
        voice: (1, 256) of unit length, of the enrolment.
    """

    def __init__(self, verifier: Verifier, voice: Tensor) -> None:
        self.verifier, self.voice = verifier, voice[0]
        self.waiting, self.samples = torch.zeros(0), 0
        self._found: list[Tensor] = []

    def through(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pieces (T_i,) or (T_i, C) at 48 kHz, as they come, heard on their way."""
        for piece in pieces:
            self.add(piece if piece.dim() == 1 else piece.mean(1))
            yield piece

    def add(self, piece: Tensor) -> None:
        """Hear (T_i,) on the CPU."""
        self.samples += len(piece)
        self.waiting = torch.cat([self.waiting, piece.float()])
        if len(self.waiting) >= LENGTH:
            windows = self.waiting.unfold(0, LENGTH, EVERY)
            self._found.append(self._cosines(windows))
            self.waiting = self.waiting[len(windows) * EVERY :]

    def curve(self, steps: int, step_s: float) -> np.ndarray:
        """Cosine (``steps``,), 0 to 1, every ``step_s`` s: of the window whose middle is nearest. nan where nothing was heard."""
        found = self._found or ([self._cosines(self.waiting[None])] if self.samples else [])
        if not found:
            return np.full(steps, np.nan)
        cosines = torch.cat(found).numpy()
        middles = (np.arange(steps) + 0.5) * step_s * SAMPLE_RATE
        return cosines[np.clip(np.rint((middles - LENGTH / 2) / EVERY).astype(int), 0, len(cosines) - 1)]

    def _cosines(self, windows: Tensor) -> Tensor:
        return (self.verifier(windows[:, None].to(self.voice.device)) @ self.voice).float().cpu()


def likeness(verifier: Verifier, est: np.ndarray, enroll: np.ndarray, step_s: float) -> np.ndarray:
    """Likeness of an estimate (T,) to enrolments (N, T'), every ``step_s`` s: (T / step,)."""
    found = Likeness(verifier, verifier(torch.from_numpy(enroll)[None].to(verifier.window.device)))
    found.add(torch.from_numpy(est))
    return found.curve(len(est) // round(step_s * SAMPLE_RATE), step_s)


def change_of_voice(verifier: Verifier, enroll: Tensor) -> float:
    """Cosine between what comes before and after a change of voice: the least, wherever the change may be in (T',) at 48 kHz.

    1 where the recording is too short for two pieces. Two voices at once, or in many turns, are not found by it.
    """
    pieces = verifier.pieces(enroll[None])[0]  # (P, 256)
    count = len(pieces)
    side = max(1, count // SIDE)
    halves = [(pieces[:at].mean(0), pieces[at:].mean(0)) for at in range(side, count - side + 1)]
    return min((float(torch.cosine_similarity(one, other, dim=0)) for one, other in halves), default=1.0)
