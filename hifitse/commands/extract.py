"""The command ``hifitse extract``."""

import glob
import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import soundfile

from hifitse import HifitseError
from hifitse.audio import SUBTYPES, AudioError
from hifitse.decode import SUFFIXES, Sound
from hifitse.presets import CommandError


@dataclass(frozen=True)
class Job:
    """One recording and its output files; ``None`` for those that were not requested."""

    mix: Path
    out: Path
    residual: Path | None = None
    presence: Path | None = None

    @property
    def written(self) -> list[Path]:
        return [path for path in (self.out, self.residual, self.presence) if path is not None]


def expand(names: Sequence[str], spool: Path) -> tuple[list[Path], bool]:
    """Resolve names of files, folders (their sound files, by suffix), globs and pipes (copied into the folder ``spool``). Return the
    recordings, and whether several may be meant. Raises AudioError: a folder or glob without a sound file."""
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
    """Return the path of a file, or of a copy of everything that a pipe delivers."""
    if not os.path.exists(path) or not (path.is_fifo() or path.is_socket()):  # unlike pathlib, os accepts names that are too long
        return path
    spool.mkdir(exist_ok=True)
    copy = spool / path.name
    with open(path, "rb") as source, open(copy, "wb") as target:
        shutil.copyfileobj(source, target)
    return copy


def plan(
    mixes: Sequence[Path], several: bool, enrolments: Sequence[Path], out: str, residual: str | None = None, presence: str | None = None
) -> list[Job]:
    """Assign all output files before any work starts: in folders if there may be ``several``, otherwise files or existing folders.
    Raises AudioError: an output is not possible, is used twice, or is an input."""
    wanted = {"output": (out, list(SUBTYPES)), "residual": (residual, list(SUBTYPES)), "presence": (presence, [".json"])}
    jobs = list(map(Job, mixes, *(_places(option, mixes, several, *where) for option, where in wanted.items())))
    inputs = {path.resolve() for path in (*mixes, *enrolments)}
    taken: dict[Path, Path] = {}
    for job in jobs:
        for path in job.written:
            place = path.resolve()
            if place in inputs:
                raise AudioError(f"output {str(path)!r} is an input, expected another place")
            if os.path.exists(path) and not os.path.isfile(path):
                raise AudioError(f"output {str(path)!r} is a folder, device or pipe, expected a file or a new name")
            if place in taken:
                raise AudioError(f"{str(taken[place])!r} and {str(job.mix)!r} would both go to {str(path)!r}, expected different names")
            taken[place] = job.mix
    return jobs


def _places(option: str, mixes: Sequence[Path], several: bool, given: str | None, suffixes: Sequence[str]) -> list[Path | None]:
    if given is None:
        return [None] * len(mixes)
    target = Path(given)
    is_folder = os.path.isdir(target)  # unlike Path.is_dir, False for names that are too long
    is_file = target.suffix.lower() in suffixes and not is_folder
    if is_file and several:
        raise AudioError(f"{option} is {given!r} for {len(mixes)} mixtures, expected a folder")
    if not is_file and not several and not is_folder:
        raise AudioError(f"{option} is {given!r}, expected a name that ends in {' or '.join(suffixes)} or a folder that exists")
    names = (mix.name if mix.suffix.lower() in suffixes else mix.with_suffix(suffixes[-1]).name for mix in mixes)
    return [target] if is_file else [target / name for name in names]


def surveyed(job: Job, channel: int | None, keep_stereo: bool) -> Any:
    """Survey the recording of a job. Raises AudioError: it cannot be used, or an output cannot hold its sample rate and channels."""
    from hifitse.model.extract_files import survey

    found = survey(job.mix, channel)
    rate, channels = found.sample_rate, found.channels if keep_stereo else 1
    for path in filter(None, (job.out, job.residual)):
        name, subtype = SUBTYPES[path.suffix.lower()]
        try:
            with soundfile.SoundFile(io.BytesIO(), "w", rate, channels, format=name, subtype=subtype) as file:
                file.write([[0.0] * channels] * 16)
        except soundfile.LibsndfileError:
            raise AudioError(f"{path.name!r} cannot hold the {rate} Hz and {channels} channels of its sound, expected .wav") from None
    return found


class Extract(click.Command):
    """Command whose ``--enroll A B`` takes all words up to the next option, which click does not support itself."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words, listed = [], False
        for word in args:
            if listed and not word.startswith("-"):
                words += ["--enroll"] * (words[-1] != "--enroll") + [word]
            else:
                words, listed = [*words, word], word == "--enroll"
        return super().parse_args(ctx, words)


@click.command(cls=Extract)
@click.argument("mixes", nargs=-1, metavar="MIX...")
@click.option("--enroll", multiple=True, metavar="A...", help="Recordings of the wanted speaker alone, of which the first 30 s count.")
@click.option("--enroll-from", metavar="S-S", help="Part of MIX in which the speaker is alone, in seconds, such as 12.5-18.0.")
@click.option("-o", "--output", required=True, metavar="OUT", help="A .wav or .flac file, or a folder; a folder for several MIX.")
@click.option("--model", metavar="PATH", help="Model folder or name on the Hugging Face Hub (default: the bundled model, CC BY-SA 4.0).")
@click.option("--channel", type=click.IntRange(1), metavar="N", help="Channel to use, from 1 (default: all, mixed down).")
@click.option("--keep-stereo", is_flag=True, help="Write as many channels as MIX has, all with the same mask.")
@click.option("--keep-db", type=click.FloatRange(0, 120), metavar="DB", help="Lower everything but the voice by DB instead of removing it.")
@click.option("--residual", metavar="OUT", help="Also write what was removed.")
@click.option("--presence", metavar="JSON", help="Also write whether the speaker is present, for every 100 ms.")
@click.option("-v", "--verbose", is_flag=True, help="Also show messages of the decoders.")
def extract(mixes: tuple[str, ...], enroll: tuple[str, ...], output: str, model: str | None, verbose: bool, **options: Any) -> int:
    """Extract one speaker's voice from recordings.

    MIX are sound or video files of any sample rate and length, folders or globs. The command first checks the enrolment. With several MIX,
    finished ones are skipped, and a failed one does not stop the others; the exit code is then 1.
    """
    if not mixes:
        raise CommandError("Missing argument 'MIX...', expected before --enroll, which takes all names up to the next option")
    if not enroll and not options["enroll_from"]:
        raise CommandError("Missing option '--enroll' or '--enroll-from'; see hifitse extract --help")
    if verbose:
        import av

        av.logging.set_level(av.logging.VERBOSE)
    with tempfile.TemporaryDirectory(prefix="hifitse-") as folder:
        found, several = expand(mixes, Path(folder) / "mix")
        voices = [spooled(Path(name), Path(folder) / "voice") for name in enroll]
        jobs = plan(found, several, voices, output, options["residual"], options["presence"])
        return _extract(jobs, several, voices, model, options)


def _extract(jobs: Sequence[Job], several: bool, voices: Sequence[Path], model: str | None, options: dict[str, Any]) -> int:
    import torch

    from hifitse.model import Extractor, extract_files, extraction

    if options["enroll_from"] and len(jobs) > 1:
        raise CommandError(f"--enroll-from takes a piece of one MIX, and there are {len(jobs)}; expected --enroll")
    kept = options["channel"], options["keep_stereo"]
    first = None if several else surveyed(jobs[0], *kept)  # report a problem with a single recording before the model is loaded
    heard = _enrolments(jobs[0].mix, voices, options)
    extractor = Extractor.from_pretrained(model).to("cuda" if torch.cuda.is_available() else "cpu")
    speaker = extraction.encode(extractor, [each for _, each in heard], names=[name for name, _ in heard])
    _examine(heard, voices, extractor)
    how = extract_files.How(*(options[name] for name in ("channel", "keep_stereo", "keep_db")), likeness=bool(options["presence"]))
    identity = _identity(extractor, heard, how)
    rows, failed = [], 0
    for job in jobs:
        try:
            with Sound(job.mix) as sound:
                entry = os.stat(sound.path)
            source = f"{os.path.realpath(job.mix)} {entry.st_size} {entry.st_mtime_ns}"
            known = hashlib.sha256(identity + source.encode(errors="surrogateescape")).hexdigest()
            comment = f"hifitse extract {known[:16]}"
            if several and all(_comment(path) == comment for path in job.written):
                rows.append((job.mix.name, "", "", "finished before, skipped"))
                continue
            found = first or surveyed(job, *kept)
            said = found.warnings()
            _warn(repr(job.mix.name), said)
            to = {"how": replace(how, comment=comment), "residual": job.residual, "found": found}
            done = extract_files.extract_file(extractor, speaker, job.mix, job.out, **to)
            if job.presence:
                _write_presence(job, done, extractor.origin.metrics.get("presence"), comment)
            print(f"hifitse: {done}", flush=True)
            rows.append((job.mix.name, f"{done.seconds:.1f} s", f"{done.level_db - done.mix_level_db:.1f} dB", "; ".join(said)))
        except HifitseError as error:
            print(f"hifitse: {error}", file=sys.stderr)
            rows.append((job.mix.name, "", "", "failed"))
            failed = 1
    if several:
        _table(rows)
    return failed


def _enrolments(mix: Path, voices: Sequence[Path], options: dict[str, Any]) -> list[tuple[str, tuple]]:
    """Return the speaker's recordings with names for messages: ``(name, (signal, rate))``."""
    from hifitse.model.extract_files import enrolment

    found = [(f"enrolment {path.name!r}", enrolment(path)) for path in voices]
    if piece := options["enroll_from"]:
        given = re.fullmatch(r"(\d+\.?\d*)-(\d+\.?\d*)", piece)
        if not given or not float(given[1]) < float(given[2]):
            raise CommandError(f"--enroll-from is {piece!r}, expected seconds from and to, such as 12.5-18.0")
        found.append((f"enrolment {piece} s of {str(mix)!r}", enrolment(mix, float(given[1]), float(given[2]), options["channel"])))
    return found


def _examine(heard: Sequence[tuple[str, tuple]], voices: Sequence[Path], extractor: Any) -> None:
    """Print measurements and warnings for all enrolments."""
    from hifitse.commands.doctor import examine
    from hifitse.model.extract_files import survey

    for path in voices:
        _warn(f"enrolment {path.name!r}", survey(path).warnings())
    worths = [examine(*each, extractor) for _, each in heard]
    for (name, _), worth in zip(heard, worths, strict=True):
        print(f"hifitse: {name}: {worth}", flush=True)
        other = [] if worth.is_alike(worths[0]) else [f"its voice is unlike that of {heard[0][0]}, expected recordings of one person"]
        _warn(name, worth.warnings() + other)


def _warn(name: str, said: Sequence[str]) -> None:
    for warning in said:
        print(f"hifitse: warning: {name}: {warning}", file=sys.stderr, flush=True)


def _identity(extractor: Any, heard: Sequence[tuple[str, tuple]], how: Any) -> bytes:
    """Hash everything that decides an output besides its recording: weights, thresholds, enrolments, options."""
    known = hashlib.sha256(f"{extractor.config} {extractor.origin.metrics.get('presence')} {how}".encode())
    for tensor in extractor.state_dict().values():
        known.update(tensor.cpu().numpy().tobytes())
    for _, (signal, rate) in heard:
        known.update(f"{rate}".encode() + signal.tobytes())
    return known.digest()


def _comment(path: Path) -> str:
    """Return what an earlier run noted in an output file about its origin; empty without such a file or note."""
    try:
        if path.suffix.lower() == ".json":
            return json.loads(path.read_text(encoding="utf-8"))["comment"]
        with soundfile.SoundFile(os.fsencode(path)) as file:
            return file.comment
    except (soundfile.LibsndfileError, OSError, ValueError, KeyError, TypeError):
        return ""


def _write_presence(job: Job, done: Any, calibration: dict[str, float] | None, comment: str) -> None:
    """Write when the speaker is present: while the estimate resembles the enrolment. Unknown without a verifier and a threshold."""
    import numpy as np

    from hifitse.files import write_text
    from hifitse.model.extract_files import PRESENCE_S

    known, there = calibration or {}, None
    if done.likeness is not None and "threshold_likeness" in known:
        there = np.isfinite(done.presence) & (done.likeness >= known["threshold_likeness"])
    content = {"mixture": job.mix.name, "estimate": job.out.name, "step_s": PRESENCE_S, "comment": comment}
    content |= {name: known.get(name) for name in ("threshold_likeness", "false_alarm_rate", "detection_rate")}
    content |= {"present_s": None if there is None else round(float(there.sum()) * PRESENCE_S, 1)}
    content |= {"level_db": _rounded(done.presence, 1), "likeness": _rounded(done.likeness, 3)}
    content |= {"present": None if there is None else there.tolist()}
    write_text(job.presence, json.dumps(content) + "\n")


def _rounded(values: Any, digits: int) -> list[float | None] | None:
    return None if values is None else [round(value, digits) if math.isfinite(value) else None for value in values.tolist()]


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    lines = [("recording", "length", "voice", ""), *rows]
    width, *widths = [max(len(row[column]) for row in lines) for column in range(3)]
    for name, length, level, note in lines:
        print(f"{name:{width}}  {length:>{widths[0]}}  {level:>{widths[1]}}  {note}".rstrip())
