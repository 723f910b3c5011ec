"""One recording of one speaker."""

from dataclasses import dataclass

from hifitse import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of one speaker; ``path`` is relative to the root, ``samples`` counts at 48 kHz, ``sample_rate`` is the file's own.

    ``group`` is held out as a whole, on the side ``split`` ("train", "valid", "test") if that is not empty. Recordings of one ``source``
    share microphones, rooms and formats.
    """

    speaker: str
    utterance: str
    path: str
    samples: int
    group: str
    sample_rate: int = SAMPLE_RATE
    source: str = ""
    split: str = ""


def unfit(utterances: int, groups: int, splits: int) -> str:
    """Why a speaker cannot be used who has so many utterances, in so many groups and splits; empty where he can."""
    if utterances < 2:
        return "only one utterance, two are needed"
    return "utterances in different groups" if groups > 1 else "utterances in different splits" if splits > 1 else ""


def source_of(said: Utterance) -> str:
    """Where a recording comes from: what its manifest says, or the part of the speaker's name up to the first ``_``."""
    return said.source or said.speaker.partition("_")[0]
