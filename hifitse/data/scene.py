"""A mixture before it is made: who says what from which file, where and how loud. Plain data, which any device can render.

A scene is drawn by :mod:`hifitse.data.mixing`, read from a list (:mod:`hifitse.data.lists`), and made into sound by
:mod:`hifitse.data.rendering` or :mod:`hifitse.data.batch_rendering`. Paths are relative to the roots of the corpus, noise and rooms
that the parameters name.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, TypeAdapter, ValidationError

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.data.conditions import Conditions, Spans
from hifitse.files import write_text


def _inside(path: str) -> str:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError(f"path {path!r} leaves its root")
    return path


@dataclass(frozen=True, slots=True)
class File:
    """A recording: ``path`` relative to its root, ``samples`` counted at 48 kHz, ``sample_rate`` the file's own, Hz."""

    path: Annotated[str, AfterValidator(_inside)]
    samples: int
    sample_rate: int = SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples ``start`` to ``start + samples`` of a recording, times ``gain``, put at sample ``at`` of a crop."""

    file: File
    start: int
    samples: int
    at: int = 0
    gain: float = 1.0


@dataclass(frozen=True, slots=True)
class Segment:
    """Speech of one speaker."""

    utterances: tuple[str, ...]  # names of those that it is made from, in order
    pieces: tuple[Piece, ...]
    crop: int  # samples before the change of speed
    samples: int  # after it; the rest is cut, or zeros follow
    speed: float = 1.0  # factor of hifitse.audio.change_speed
    start_s: float = 0.0  # where the crop begins in the joined utterances, before the change of speed
    activity: float = 1.0  # share of active frames

    @property
    def said(self) -> str:
        return "+".join(self.utterances)


@dataclass(frozen=True, slots=True)
class Noise:
    """A piece of a noise recording from sample ``start`` on, looped where that is shorter; ``gain`` where parts are summed as they are."""

    file: File
    start: int
    gain: float = 1.0


class Elsewhere(NamedTuple):
    """How a talker is recorded elsewhere: drawn by :func:`hifitse.data.augment.draw_elsewhere`."""

    level: float  # of the floor, as a factor of the speech's RMS; 0: none
    slope: float
    start: int  # of the floor in the table
    colour: tuple[float, ...]  # dB at COLOUR_HZ
    edge: float  # Hz; the sampling rate where the band has none


@dataclass(frozen=True, slots=True)
class Talker:
    """Who speaks when; ``response`` is of the room, ``elsewhere`` where they are as if recorded elsewhere."""

    speaker: str
    segment: Segment
    spans: Spans
    response: File | None = None
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One of :data:`hifitse.data.augment.CHANGES` with what was drawn for it."""

    name: str
    drawn: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Enrollment:
    """An enrolment: speech, perhaps in a room, in noise, changed, at an RMS level in dBFS (``None``: as it is), recorded elsewhere."""

    segment: Segment
    room: str | None = None
    response: File | None = None
    noise: Noise | None = None
    snr_db: float | None = None
    changes: tuple[Change, ...] = ()
    level_db: float | None = None
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True)
class Scene:
    """A mixture as it was drawn; split, seed and index as :meth:`hifitse.data.mixing.Mixer.draw` has them."""

    conditions: Conditions  # they say how long it is
    split: str
    seed: int
    index: int
    present: bool  # whether the target is there
    noisy: bool  # whether "drawn" enrolments are noisy
    talkers: tuple[Talker, ...]  # the target, then the interferers, the loudest first
    enroll: tuple[Enrollment, ...]  # of the target
    wrong_enroll: tuple[Enrollment, ...] = ()  # of the first interferer; empty where not asked for
    room: str | None = None
    noise: Noise | None = None
    sir_db: tuple[float, ...] = ()  # for each interferer
    snr_db: float | None = None  # without noise, what it would have been
    level_db: float | None = None  # dBFS, RMS of the mixture; None: all parts are summed as the gains of their pieces have them
    similarity: float | None = None  # cosine of the most similar interferer's voice with the target's, where it is known
    name: str = ""  # of an imported list's entry; empty: the conditions' name, the seed and the index

    @property
    def samples(self) -> int:
        return self.conditions.samples

    @property
    def id(self) -> str:
        return self.name or f"{self.conditions.name}-{self.seed}-{self.index}"

    def metadata(self) -> dict[str, Any]:
        """What is known before a sample is: flat, JSON-able; who, what, where, positions in s."""
        target, *others = self.talkers
        conditions, noise = self.conditions, self.noise
        spans = [[round(edge / SAMPLE_RATE, 6) for edge in span] for span in target.spans]
        known = {
            "id": self.id,
            "seed": self.seed, "index": self.index, "split": self.split, "phase": conditions.phase, "seconds": conditions.seconds,
            "present": self.present, "active_from_s": conditions.active_from_s, "active_to_s": conditions.active_to_s,
            "n_interferers": len(others), "noisy_enroll": self.noisy, "noisy_enroll_prob": conditions.noisy_enroll_prob,
            "target_speaker": target.speaker, "interferer_speakers": [each.speaker for each in others],
            "target_utterance": target.segment.said, "interferer_utterances": [each.segment.said for each in others],
            "target_start_s": target.segment.start_s, "interferer_starts_s": [each.segment.start_s for each in others],
            "target_speed": target.segment.speed, "interferer_speeds": [each.segment.speed for each in others],
            "activity": round(target.segment.activity, 4),
            "noise": noise and noise.file.path, "noise_start_s": noise and noise.start / SAMPLE_RATE,
            "turns": spans if conditions.turns else None, "enroll_as": conditions.enroll_as,
            "similarity": None if self.similarity is None else round(self.similarity, 4),
            "room": self.room, "room_responses": [each.response.path for each in self.talkers if each.response],
            "sir_db": [round(each, 4) for each in self.sir_db],
            "snr_db": round(self.snr_db, 4) if noise and self.snr_db is not None else None,
        }  # fmt: skip
        for side in ("enroll", "wrong_enroll"):
            some = getattr(self, side)
            known |= {
                f"{side}_utterances": [each.segment.said for each in some],
                f"{side}_snr_db": [None if each.snr_db is None else round(each.snr_db, 4) for each in some],
                f"{side}_noise": [each.noise and each.noise.file.path for each in some],
                f"{side}_room": [each.room for each in some],
                f"{side}_changed": [each.changes[-1].name if each.changes else None for each in some],
            } if some else {f"{side}_{key}": None for key in ("utterances", "snr_db", "noise", "room", "changed")}  # fmt: skip
        return known


_adapter = cache(lambda: TypeAdapter(Scene))  # slow to make


def to_json(scene: Scene) -> str:
    """A scene as one line of JSON; :func:`from_json` gives an equal one."""
    return json.dumps(_adapter().dump_python(scene, exclude_defaults=True))


def from_json(line: str) -> Scene:
    """The scene of a line; HifitseError where it is none."""
    try:
        return _adapter().validate_python(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        fault = f"has a fault at {'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
    except ValueError as error:
        fault = f"is not JSON ({error})"
    raise HifitseError(f"scene {fault}, expected the JSON of a scene")


def write_scenes(path: str | Path, scenes: Iterable[Scene]) -> int:
    """Write a list of scenes as JSON lines, whole or not at all; returns how many."""
    lines = [to_json(scene) + "\n" for scene in scenes]
    write_text(Path(path), "".join(lines))
    return len(lines)


def read_scenes(path: str | Path) -> list[Scene]:
    """The scenes of a list; HifitseError where it cannot be read or is empty, or a line is no scene or leaves its root."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise HifitseError(f"list {str(path)!r} cannot be read ({error}), expected JSON lines of scenes") from None
    scenes = []
    for number, line in enumerate(lines, 1):
        try:
            scenes.append(from_json(line))
        except HifitseError as error:
            raise HifitseError(f"list {str(path)!r}, line {number}: {error}") from None
    if not scenes:
        raise HifitseError(f"list {str(path)!r} is empty, expected at least one scene")
    return scenes
