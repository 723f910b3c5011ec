"""A first pass over a recording on disk: how long and loud it is, what is missing or clipped, and which of its channels are heard."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hifitse.audio import AudioError, cancelled, downmix
from hifitse.decode import Sound
from hifitse.model.extraction import ENROLL_MAX_S

FULL_SCALE, CLIPPED_SHARE = 0.999, 1e-4
"""A sample as high as this beside another one is clipped; and the share of such samples that is worth saying."""


@dataclass
class Survey:
    """What a first pass over a recording finds; ``power`` (C,) is the summed squares of the channels, ``mixed`` those of their mix."""

    sample_rate: int
    channels: int
    samples: int = 0
    power: np.ndarray = field(default_factory=lambda: np.zeros(1))
    mixed: float = 0.0
    clipped: int = 0
    missing: str = ""

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    def warnings(self) -> list[str]:
        """What a listener should know, in words."""
        said = [self.missing] if self.missing else []
        if self.clipped > CLIPPED_SHARE * self.samples:
            said.append(f"{100 * self.clipped / self.samples:.2g} % of its samples are clipped")
        if (loudest := cancelled(self.power, self.mixed)) is not None:
            said.append(f"its channels cancel each other, so channel {loudest + 1} alone is heard; --channel takes another")
        return said


def survey(path: str | Path, channel: int | None = None) -> Survey:
    """One pass over a recording. Raises AudioError: no sound, values that are not finite, or no such channel."""
    with Sound(path) as sound:
        if channel is not None and not 1 <= channel <= sound.channels:
            raise AudioError(f"channel is {channel}, expected 1 to {sound.channels} in {str(path)!r}")
        found = Survey(sound.sample_rate, sound.channels, power=np.zeros(sound.channels))
        for block in sound.blocks():
            found.samples += len(block)
            found.power += np.square(block, dtype=np.float64).sum(0)
            mixed = downmix(block) if channel is None else block[:, channel - 1]
            found.mixed += float(np.square(mixed, dtype=np.float64).sum())
            high = np.abs(block) >= FULL_SCALE
            found.clipped += int((high[1:] & high[:-1]).any(1).sum())
        found.missing = sound.missing
    if channel is not None:
        found.power = found.power[channel - 1 : channel]
    if not found.samples:
        raise AudioError(f"audio file {str(path)!r} holds 0 samples, expected at least 1")
    return found


def heard(block: np.ndarray, found: Survey, channel: int | None) -> np.ndarray:
    """What the network hears of a block ``(T, C)``: ``(T,)``."""
    loudest = cancelled(found.power, found.mixed) if channel is None else channel - 1
    return downmix(block) if loudest is None else block[:, loudest]


def enrolment(path: str | Path, start_s: float = 0.0, stop_s: float = float("inf"), channel: int | None = None) -> tuple[np.ndarray, int]:
    """A recording of the speaker, or a piece of one: ``(T,)`` of at most 30 s, and its rate.
    Raises AudioError: as :func:`survey`; the piece is not in it."""
    found = survey(path, channel)
    if start_s >= found.seconds:
        raise AudioError(f"the piece begins at {start_s:g} s of {str(path)!r}, expected one in its {found.seconds:.1f} s")
    rate = found.sample_rate
    with Sound(path) as sound:
        block = sound.read(round(start_s * rate), round(min(stop_s, found.seconds, start_s + ENROLL_MAX_S) * rate))
    return heard(block, found, channel), rate
