"""Who is there when: the whole mixture, one stretch of it, or turns as in a conversation."""

from dataclasses import dataclass

import numpy as np

from hifitse import SAMPLE_RATE
from hifitse.data.conditions import Conditions
from hifitse.data.scene import Spans

FADE_S = 0.01
"""s: fade at the ends of a stretch that does not reach to the mixture's own."""
TURN_S = (1.5, 3.0)
"""s: length of a turn, before all turns are fitted to the mixture's length."""
OVERLAP_S = (0.3, 0.5)
"""s: how long two turns in succession overlap."""


@dataclass(frozen=True)
class Presence:
    """Where the target is in a mixture of ``samples`` samples, and where each interferer."""

    samples: int
    target: Spans
    others: Spans

    def of(self, talker: int) -> Spans:
        """Stretches of a talker; 0 is the target."""
        return self.others if talker else self.target


def presence(conditions: Conditions, rng: np.random.Generator) -> Presence:
    """Where the talkers of a mixture are; ``rng`` is drawn from for turns only."""
    samples = round(conditions.seconds * SAMPLE_RATE)
    if conditions.turns:
        spans = turns(samples, conditions.turns, rng)
        return Presence(samples, spans[::2], spans[1::2])
    start = round((conditions.active_from_s or 0.0) * SAMPLE_RATE)
    stop = samples if conditions.active_to_s is None else round(conditions.active_to_s * SAMPLE_RATE)
    return Presence(samples, ((start, stop),), ((0, samples),))


def turns(samples: int, count: int, rng: np.random.Generator) -> Spans:
    """``count`` turns that fill ``samples`` samples, each overlapping the next.

    Lengths and overlaps are drawn from ``TURN_S`` and ``OVERLAP_S``, and then all stretched by the one factor with which the last turn
    ends with the mixture. A turn is longer than its two overlaps, so that nobody meets themselves.
    """
    lengths, overlaps = rng.uniform(*TURN_S, size=count), rng.uniform(*OVERLAP_S, size=count - 1)
    starts = np.concatenate([[0.0], np.cumsum(lengths[:-1] - overlaps)])
    edges = np.stack([starts, starts + lengths], axis=1)  # (count, 2)
    return tuple((start, stop) for start, stop in np.rint(edges * samples / edges[-1, 1]).astype(int).tolist())


def length(spans: Spans) -> int:
    """Samples in all stretches together."""
    return sum(stop - start for start, stop in spans)


def put(row: np.ndarray, spans: Spans, speech: np.ndarray) -> None:
    """Speech of the stretches' length, cut into them one after the other, into a row (T,) in place."""
    done = 0
    for start, stop in spans:
        row[start:stop] = speech[done : done + stop - start]
        done += stop - start


def heard(row: np.ndarray, spans: Spans) -> np.ndarray:
    """The stretches of a row (T,) one after the other, (T',)."""
    if len(spans) == 1:
        return row[slice(*spans[0])]
    return np.concatenate([row[start:stop] for start, stop in spans])


def gate(samples: int, spans: Spans) -> np.ndarray:
    """1 in the stretches with short fades inside, 0 elsewhere, (T,); no fade where the mixture itself begins or ends."""
    wave = np.zeros(samples, np.float32)
    for start, stop in spans:
        wave[start:stop] = 1
        fade = min(round(FADE_S * SAMPLE_RATE), (stop - start) // 2)
        ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
        if start > 0:
            wave[start : start + fade] = ramp
        if stop < samples:
            wave[stop - fade : stop] = ramp[::-1]
    return wave
