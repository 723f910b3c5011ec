"""One recording of one speaker."""

from dataclasses import dataclass

from hifitse import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of one speaker; ``path`` is relative to the root, ``samples`` counts at 48 kHz, ``sample_rate`` is the file's own."""

    speaker: str
    utterance: str
    path: str
    samples: int
    group: str
    sample_rate: int = SAMPLE_RATE
