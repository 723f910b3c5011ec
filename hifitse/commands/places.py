"""Which recordings ``hifitse extract`` reads and which files it writes: folders, globs and pipes, and no input is overwritten."""

import glob
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from hifitse.audio import SUBTYPES, AudioError
from hifitse.decode import SUFFIXES


@dataclass(frozen=True)
class Job:
    """One recording and what comes of it; ``None`` where that was not asked for."""

    mix: Path
    out: Path
    residual: Path | None = None
    presence: Path | None = None

    @property
    def written(self) -> list[Path]:
        return [path for path in (self.out, self.residual, self.presence) if path is not None]


def expand(names: Sequence[str], spool: Path) -> tuple[list[Path], bool]:
    """Recordings behind names of files, folders (their sound files, by the endings), globs and pipes; and whether there may be several.

    Pipes are read into the folder ``spool``, because a recording is read twice. Raises AudioError: a folder or glob without a sound file.
    """
    found, several = [], len(names) > 1
    for name in names:
        path = Path(name)
        if os.path.isdir(path) or (not os.path.exists(path) and glob.has_magic(name)):
            inside = path.iterdir() if path.is_dir() else map(Path, glob.glob(name, recursive=True))
            files = sorted(each for each in inside if each.suffix.lower() in SUFFIXES and not each.name.startswith(".") and each.is_file())
            if not files:
                raise AudioError(f"no sound file in {name!r}, expected names that end in .wav, .flac, .mp3, .m4a, .mp4 or the like")
            found, several = found + files, True
        else:
            found.append(spooled(path, spool))
    return found, several


def spooled(path: Path, spool: Path) -> Path:
    """The file itself, or a copy of all that comes out of a pipe."""
    if not os.path.exists(path) or not (path.is_fifo() or path.is_socket()):  # the first takes names that are too long
        return path
    spool.mkdir(exist_ok=True)
    copy = spool / path.name
    with open(path, "rb") as source, open(copy, "wb") as target:
        shutil.copyfileobj(source, target)
    return copy


def plan(
    mixes: Sequence[Path], several: bool, enrolments: Sequence[Path], out: str, residual: str | None = None, presence: str | None = None
) -> list[Job]:
    """Which file goes where, before anything is done: no name stands twice, no input is overwritten.

    Args:
        several: whether outputs go to folders, made where they do not exist; else to files, or to folders that exist.
        out, residual: end in .wav or .flac, where they are no folders.
        presence: ends in .json.

    Raises AudioError: an output cannot be there.
    """
    sounds = tuple(SUBTYPES)
    places = [
        [None] * len(mixes) if target is None else _places(option, Path(target), mixes, several, suffixes)
        for option, target, suffixes in (("output", out, sounds), ("residual", residual, sounds), ("presence", presence, (".json",)))
    ]
    jobs = [Job(*each) for each in zip(mixes, *places, strict=True)]
    inputs = {path.resolve() for path in (*mixes, *enrolments)}
    taken: dict[Path, Path] = {}
    for job in jobs:
        for path in job.written:
            if path.resolve() in inputs:
                raise AudioError(f"output {str(path)!r} is an input, expected another place")
            if os.path.exists(path) and not os.path.isfile(path):
                raise AudioError(f"output {str(path)!r} is a folder, device or pipe, expected a file or a new name")
            if path in taken:
                raise AudioError(f"{str(taken[path])!r} and {str(job.mix)!r} would both go to {str(path)!r}, expected different names")
            taken[path] = job.mix
    return jobs


def _places(option: str, target: Path, mixes: Sequence[Path], several: bool, suffixes: Sequence[str]) -> list[Path]:
    is_file = target.suffix.lower() in suffixes and not target.is_dir()
    if several or target.is_dir():
        if is_file:
            raise AudioError(f"{option} is {str(target)!r} for {len(mixes)} mixtures, expected a folder")
        kept = [mix if mix.suffix.lower() in suffixes else mix.with_suffix(suffixes[-1]) for mix in mixes]
        return [target / path.name for path in kept]
    if not is_file:
        raise AudioError(f"{option} is {str(target)!r}, expected a name that ends in {' or '.join(suffixes)} or a folder that exists")
    return [target]


def refuse_rate(path: Path, rate: int) -> None:
    """Raises AudioError: a file of that kind cannot hold the rate."""
    name, subtype = SUBTYPES[path.suffix.lower()]
    try:
        with soundfile.SoundFile(io.BytesIO(), "w", rate, 1, format=name, subtype=subtype) as file:
            file.write([0.0] * 16)
    except soundfile.LibsndfileError:
        raise AudioError(f"{path.suffix} cannot hold the {rate} Hz of {path.name!r}, expected -o with .wav") from None
