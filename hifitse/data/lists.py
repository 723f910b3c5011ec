"""Test lists as scenes: drawn once and written as JSON lines, or imported from published lists."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, lru_cache
from math import isfinite
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from hifitse import SAMPLE_RATE, HifitseError, audio
from hifitse.data.manifest import expanded, locate, manifest_of, root_of
from hifitse.data.mixing import Mixer, Split
from hifitse.data.reader import Reader
from hifitse.data.rendering import Mixture, Renderer
from hifitse.data.sampling import WHOLE_S
from hifitse.data.scene import LISTS, Conditions, Enrollment, File, Noise, Piece, Scene, Segment, Talker, evaluation_conditions
from hifitse.data.synthetic import source_folders
from hifitse.decode import audio_files
from hifitse.files import write_text
from hifitse.params import Params

SLACK = 48  # samples at 48 kHz by which decoders may disagree on the length of a recording
TUPLE = ("clean_utterance", "embedding_utterance", "interference_utterance")  # of VoiceFilter's lists (Wang et al., Interspeech 2019)


class ListMixer:
    """Replaces the test split's :class:`hifitse.data.mixing.Mixer` if ``params.eval_list`` names the mixtures.

    Opens only recordings that the list names. Raises HifitseError if the list, or a source that it needs, is missing or unusable."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.scenes = by_list(params.eval_list)
        every = [scene for scenes in self.scenes.values() for scene in scenes]
        enrolled = [each for scene in every for each in (*scene.enroll, *scene.wrong_enroll)]
        noise = any(each.noise for each in (*every, *enrolled))
        rooms = any(each.response for each in (*enrolled, *(talker for scene in every for talker in scene.talkers)))
        limit = params.cache_mb * 2**20
        self.roots = {kind: _root(params, kind) for kind in ("corpus", "noise")[: 1 + noise]}
        speech, behind = Reader(self.roots["corpus"], limit, WHOLE_S), Reader(self.roots["noise"], limit) if noise else None
        self.renderer = Renderer(speech, behind, _root(params, "rooms") if rooms else None, limit)

    def mixture(self, seed: int, index: int, conditions: Conditions, wrong_enroll: bool = False) -> Mixture:
        """Return mixture ``index`` of the list that the conditions name; ``seed`` and ``wrong_enroll`` are ignored.
        Raise HifitseError if a recording is missing, broken or not as long as in the list, or the scene contradicts itself."""
        scene = self.scenes[conditions.name][index]
        self._check(scene)
        try:
            return self.renderer.mixture(scene)
        except (ValueError, TypeError, LookupError) as error:
            raise HifitseError(f"scene {scene.id!r} contradicts itself ({error}), expected one as `hifitse scenes` writes it") from error


    def _check(self, scene: Scene) -> None:
        """Raise HifitseError if a recording is missing, or not as long as when the list was written."""
        enrolled = (*scene.enroll, *scene.wrong_enroll)
        speech = [piece.file for each in (*scene.talkers, *enrolled) for piece in each.segment.pieces]
        for kind, files in {"corpus": speech, "noise": [each.noise.file for each in (scene, *enrolled) if each.noise]}.items():
            for file in files:
                try:
                    samples = _file(self.roots[kind], file.path).samples
                except HifitseError as error:
                    raise HifitseError(f"{error}; {kind} is {getattr(self.params, kind)!r}, expected that of the list") from None
                if abs(samples - file.samples) > SLACK:
                    told = f"{samples} samples at 48 kHz, expected the {file.samples} of the list"
                    raise HifitseError(f"{file.path} has {told}: this {kind} is another version")


def list_mixer(params: Params, split: Split = "test") -> Mixer | ListMixer:
    """Return the mixer of an evaluation: on the test split that of ``eval_list``, if given."""
    return ListMixer(params) if split == "test" and params.eval_list else Mixer(params, split)


def by_list(path: str | Path) -> dict[str, list[Scene]]:
    """Return the scenes of a file by the evaluation list that they belong to.
    Raise HifitseError if it is unreadable or empty, or a line is not a scene of such a list or leaves its root."""
    try:
        return _by_list(str(path), Path(expanded(path)).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise HifitseError(f"list {str(path)!r} cannot be read ({error}), expected JSON lines of scenes") from None


@lru_cache(maxsize=4)
def _by_list(path: str, text: str) -> dict[str, list[Scene]]:
    found: dict[str, list[Scene]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            scene = from_json(line)
        except HifitseError as error:
            raise HifitseError(f"list {path!r}, line {number}: {error}") from None
        if scene.conditions.name not in LISTS:
            raise HifitseError(f"list {path!r} has a scene of the list {scene.conditions.name!r}, expected one of {', '.join(LISTS)}")
        found.setdefault(scene.conditions.name, []).append(scene)
    if not found:
        raise HifitseError(f"list {path!r} is empty, expected at least one scene")
    return found


def _root(params: Params, kind: Literal["corpus", "noise", "rooms"]) -> Path:
    """Return the folder to which the paths of this kind of source are relative."""
    folder, *more = source_folders(params, kind)
    if more:
        return Path("/")
    manifest = manifest_of(locate(folder, kind))
    return root_of(manifest) if manifest else locate(folder, kind)


def drawn(params: Params) -> Iterator[Scene]:
    """Draw the scenes of the evaluation's own lists, as without ``eval_list``."""
    mixer = Mixer(params, "test")
    for entries in evaluation_conditions(params.model_copy(update={"eval_list": ""})).values():
        for index, conditions in enumerate(entries):
            yield mixer.draw(params.eval_seed, index, conditions, wrong_enroll=not conditions.absent)


def write_sound(params: Params, folder: Path) -> None:
    """Write what other systems need: ``mix/ID.wav``, ``target``, ``enroll`` and ``wrong_enroll``; of several enrolments the first.
    Float files, because unscaled mixtures can exceed full scale."""
    mixer = ListMixer(params)
    for index, scene in (numbered for scenes in mixer.scenes.values() for numbered in enumerate(scenes)):
        made = mixer.mixture(0, index, scene.conditions)
        enrolled = {name: rows[0] for name in ("enroll", "wrong_enroll") if (rows := getattr(made, name)) is not None}
        for name, sound in ({"mix": made.mix, "target": made.target} | enrolled).items():
            audio.write(folder / name / f"{scene.id}.wav", sound)


# ---- lists as JSON lines


_adapter = cache(lambda: TypeAdapter(Scene))  # slow to make


def to_json(scene: Scene) -> str:
    """Return a scene as one line of JSON, which :func:`from_json` turns back into an equal scene."""
    return json.dumps(_adapter().dump_python(scene, exclude_defaults=True))


def from_json(line: str) -> Scene:
    """Return the scene of a line; raise HifitseError if it is not one."""
    try:
        return _adapter().validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        fault = f"is invalid at {'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
    raise HifitseError(f"scene {fault}, expected the JSON of a scene")


def write_scenes(path: str | Path, scenes: Iterable[Scene]) -> int:
    """Write scenes as JSON lines, all or nothing, and return their number."""
    lines = [to_json(scene) + "\n" for scene in scenes]
    write_text(Path(path), "".join(lines))
    return len(lines)


# ---- published lists


def voicefilter(path: Path, corpus: str | Path) -> list[Scene]:
    """Return the scenes of VoiceFilter's tuples: a clean and an interfering utterance, cropped or padded to its length, both unscaled.

    The list has no wrong enrolment: the first of the interferer's other utterances by name is used. Raise HifitseError for a missing file,
    column or recording.

    Args:
        path: CSV with the columns of ``TUPLE``; utterances by name, such as ``p225_001``, with or without folder and suffix.
        corpus: folder with the recordings: VCTK or LibriSpeech."""
    root = _folder(corpus, "corpus")
    # in VCTK 0.92 the first microphone gets the plain name
    names = {file.stem.removesuffix("_mic1"): file.relative_to(root).as_posix() for file in audio_files(root)}
    scenes = []
    for index, row in enumerate(_table(path, TUPLE)):
        told = [Path(row[column]).stem.removesuffix("_mic1") for column in TUPLE]
        for name in told:
            if name not in names:
                raise HifitseError(f"{str(path)!r} names the utterance {name!r}, expected one of the {len(names)} in the corpus")
        clean, enroll, other = (names[name] for name in told)
        samples = _file(root, clean).samples
        said = [_talker(root, name, samples) for name in (clean, other)]
        used = told[2].removesuffix("_mic2")  # by either microphone
        rest = [name for name in names if _speaker(name) == said[1].speaker and name.removesuffix("_mic2") != used]
        wrong = (_enrolled(root, names[min(rest)]),) if rest else ()
        scenes.append(_scene(f"voicefilter-{index}", index, said, (_enrolled(root, enroll),), wrong))
    return scenes


def librimix(path: Path, enrollments: Path, corpus: str | Path, noise: str | Path | None = None) -> list[Scene]:
    """Return LibriMix scenes (Cosentino et al. 2020), one per mixture and speaker with an enrolment, cropped to the shortest source.

    Raise HifitseError for a missing file, column or recording, an enrolment from an unknown mixture, or if no mixture has an enrolment.

    Args:
        path: CSV with ``mixture_ID, source_1_path, source_1_gain, source_2_path ...`` and, for noise, ``noise_path, noise_gain``.
        enrollments: map with one ``mixture_ID utterance_ID enrollment`` per line, as in SpeakerBeam. An enrolment is ``s1/mixture_ID``,
            the first source as it is in that mixture, or the path of a recording in the corpus.
        corpus: LibriSpeech folder, to which paths are relative.
        noise: WHAM folder; ``None``: no noise."""
    root, behind_all = _folder(corpus, "corpus"), None if noise is None else _folder(noise, "noise")
    needed = ("mixture_ID", "source_1_path", "source_1_gain", *(("noise_path", "noise_gain") if noise is not None else ()))
    rows = {row["mixture_ID"]: row for row in _table(path, needed)}
    try:
        lines = [re.split(r"[\s,]+", line.strip()) for line in Path(enrollments).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise HifitseError(f"map {str(enrollments)!r} cannot be read ({error}), expected lines of mixture, utterance, enrolment") from None
    table = {(words[0], words[1]): words[2] for words in lines if len(words) == 3}

    def heard(row: dict[str, str]) -> list[Talker]:
        """Return the sources as they are in a mixture, cropped to the shortest."""
        said = [(name, _gain(row, f"source_{place}_gain")) for place in range(1, 9) if (name := row.get(f"source_{place}_path"))]
        if not row["source_1_path"]:
            raise HifitseError(f"mixture {row['mixture_ID']!r} has '' as source_1_path, expected the path of a recording")
        samples = min(_file(root, each).samples for each, _ in said)
        return [_talker(root, each, samples, gain) for each, gain in said]

    def enrolled(name: str) -> Enrollment:
        if not (match := re.fullmatch(r"s(\d+)/(.+?)(?:\.wav)?", name)):
            return _enrolled(root, name)
        said = heard(rows[match[2]]) if match[2] in rows else []
        if not 0 < int(match[1]) <= len(said):
            raise HifitseError(f"enrolment is {name!r}, expected a source of a mixture of {str(path)!r}")
        return Enrollment(said[int(match[1]) - 1].segment)

    scenes = []
    for name, row in rows.items():
        behind = Noise(_file(behind_all, row["noise_path"]), 0, _gain(row, "noise_gain")) if behind_all else None
        said = heard(row)
        found = [enrolled(table[key]) if (key := (name, *each.segment.utterances)) in table else None for each in said]
        for number, enroll in enumerate(found):
            if enroll:
                order = sorted(range(len(said)), key=lambda other, number=number: other != number)
                wrong = (found[order[1]],) if len(order) > 1 and found[order[1]] else ()
                scenes.append(_scene(f"{name}-s{number + 1}", len(scenes), [said[each] for each in order], (enroll,), wrong, behind))
    if not scenes:
        raise HifitseError(f"map {str(enrollments)!r} has no enrolment for a mixture of {str(path)!r}, expected at least one")
    return scenes


def _folder(source: str | Path, what: str) -> Path:
    """Return the folder that the paths of a published list are relative to."""
    if not (path := Path(os.path.abspath(expanded(source)))).is_dir():
        raise HifitseError(f"{what} is {str(source)!r}, expected the folder of the recordings that the list names")
    return path


def _gain(row: dict[str, str], column: str) -> float:
    with suppress(KeyError, ValueError):
        if isfinite(gain := float(row[column])):
            return gain
    raise HifitseError(f"mixture {row['mixture_ID']!r} has {row.get(column)!r} as {column}, expected a number")


def _scene(
    name: str, index: int, talkers: list[Talker], enroll: tuple[Enrollment, ...], wrong: tuple[Enrollment, ...], noise: Noise | None = None
) -> Scene:
    """Return a scene whose parts are summed without scaling."""
    count = len(talkers) - 1
    conditions = Conditions("test", talkers[0].segment.samples / SAMPLE_RATE, 0.0, count, count)
    return Scene(conditions, "test", 0, index, True, False, tuple(talkers), enroll, wrong, noise=noise, name=name)


def _talker(root: Path, path: str, samples: int, gain: float = 1.0) -> Talker:
    file, name = _file(root, path), Path(path).stem
    piece = Piece(file, 0, min(file.samples, samples), 0, gain)
    return Talker(_speaker(name), Segment((name,), (piece,), samples, samples), ((0, samples),))


def _enrolled(root: Path, path: str) -> Enrollment:
    return Enrollment(_talker(root, path, _file(root, path).samples).segment)


@lru_cache(maxsize=100_000)
def _file(root: Path, path: str) -> File:
    if Path(path).is_absolute() or ".." in Path(path).parts:  # refused by the reader of the written list
        raise HifitseError(f"path {path!r} leaves its root, expected one relative to {str(root)!r}")
    known = audio.info(root / path)
    return File(path, known.samples, known.sample_rate)


def _speaker(stem: str) -> str:
    """Return the speaker in a file name: ``p225_001`` -> ``p225``, ``4507-16021-0022`` -> ``4507``."""
    return re.split(r"[_-]", stem)[0]


def _table(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header."""
    import pandas as pd  # here, because data workers do not need it

    try:
        table = pd.read_csv(path, skipinitialspace=True, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise HifitseError(f"list {str(path)!r} cannot be read ({error}), expected a CSV with a header") from None
    if missing := [name for name in needed if name not in table or table.empty]:
        raise HifitseError(f"list {str(path)!r} has no column {missing[0]!r}, expected the columns {', '.join(needed)}, and rows")
    return table.to_dict("records")
