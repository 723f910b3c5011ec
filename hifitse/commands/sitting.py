"""The commands ``hifitse pack``, ``unpack`` and ``sitting``: pack recordings for another machine, and train there in limited time."""

import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from hifitse import HifitseError
from hifitse.files import unfinished_in
from hifitse.params import Params, resolve
from hifitse.presets import parameter_options, values

TRAINING_SHARE = 0.75  # of the sitting's time; the rest is for evaluation, export and report
PART = 15_000_000  # bytes per part of ``run.zip``: the other machine may only let out files below 16 MB
CHECKPOINTS = "checkpoint-*.safetensors"
KEPT = ("params.json", "history.jsonl", "validation.jsonl")


@click.command()
@parameter_options("gpu")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder for the recordings; set HIFITSE_DATA to it.")
@click.option("--mb", default=40.0, show_default=True, help="Largest total size in megabytes.")
def pack(output: str, mb: float, **given: Any) -> None:
    """Pack a preset's recordings for another machine.

    Speech and noise are coded as Ogg Opus; rooms are copied unchanged.
    """
    from hifitse.prepare.pack import pack as write

    found = write(resolve(**({"preset": "gpu"} | values(**given))), Path(output), mb)
    print(f"hifitse: {output} holds " + ", ".join(f"{name} ({size:.1f} MB)" for name, size in found.items()))


@click.command()
@click.argument("packed", metavar="FOLDER")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder for the recordings; set HIFITSE_DATA to it.")
def unpack(packed: str, output: str) -> None:
    """Decode the output of `hifitse pack`, on the other machine.

    Training there then starts at full speed.
    """
    from hifitse.prepare.pack import unpack as decode

    print(f"hifitse: {output} holds {decode(Path(packed), Path(output)) / 60:.0f} minutes of sound")


@click.command()
@parameter_options("gpu")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder for report, metrics.json, weights and run.zip.")
@click.option("--minutes", default=9.0, show_default=True, help="Time limit for everything.")
def sitting(output: str, minutes: float, **given: Any) -> int | None:
    """Train, evaluate and export a preset within a few minutes.

    A short trial decides the number of steps, unless -p steps gives it. With the run.zip of an earlier sitting in FOLDER, the same command
    continues its training.
    """
    from hifitse.training.run import Run
    from hifitse.training.train import train

    until, folder, explicit = time.monotonic() + 60 * minutes, Path(output).absolute(), values(**given)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["HIFITSE_RUNS"] = str(folder / "runs")
    before = _unpack(folder)
    params = before or resolve(**({"preset": "gpu"} | explicit))
    if before is None and "steps" not in explicit:
        params = fitted(params, until - time.monotonic())
    left = TRAINING_SHARE * (until - time.monotonic()) / 60
    try:
        run = train(params.model_copy(update={"max_minutes": max(0.05, left)}))
    finally:  # after Ctrl-C too: the number of steps is in run.zip, and another trial would choose another one
        _keep(folder, Run.of(params).folder)
    if not run.finished:
        print(f"hifitse: {run.step} of {params.steps} steps are done; the same command goes on from {folder}/run.zip")
        return 1
    from hifitse.commands import exporting
    from hifitse.evaluation.experiment import run_arm
    from hifitse.report import contract, report

    arm = run_arm("baseline", params)
    contract.write(folder / "metrics.json", report.metrics("sitting", params, [arm]))
    exporting.export(run, folder / "model")
    if find_spec("papermill") and find_spec("nbconvert"):
        _report(params, folder)
    print(f"hifitse: {folder} holds the model, metrics.json and run.zip; {run.step} steps on {run.device}")


def fitted(params: Params, seconds: float) -> Params:
    """Return the parameters with as many steps as fit into a sitting of ``seconds``, including the trial."""
    from hifitse.training.abreast import fill, seconds_per_step

    started = time.monotonic()
    each = seconds_per_step(params, seconds / 4)
    left = TRAINING_SHARE * (seconds - (time.monotonic() - started))
    changes = fill(params, 0.95 * left, each)
    told = f"{1000 * each:.0f} ms per step of {params.batch_size} mixtures"
    print(f"hifitse: {told}, so {changes['steps']} steps in {left / 60:.1f} minutes", flush=True)
    return params.model_copy(update=changes)


def _keep(folder: Path, run: Path) -> None:
    """Write ``run.zip`` with what another sitting needs: the newest checkpoint, if there is one, and rows. It is split if larger than
    ``PART``, and replaces an older one when it is complete."""
    found = sorted(path.name for path in run.glob(CHECKPOINTS))
    if not found:
        return
    with unfinished_in(folder) as work:
        whole = work / "run.zip"
        with zipfile.ZipFile(whole, "w") as archive:
            for name in (found[-1], *KEPT):
                if (run / name).is_file():
                    archive.write(run / name, f"{run.name}/{name}")
        if whole.stat().st_size > PART:
            with open(whole, "rb") as file:
                for number, part in enumerate(iter(lambda: file.read(PART), b"")):
                    (work / f"run.zip.{number:02d}").write_bytes(part)
            whole.unlink()
        for old in folder.glob("run.zip*"):
            old.unlink()


def _unpack(folder: Path) -> Params | None:
    """Unpack the run in ``run.zip`` or its parts into ``runs/``, unless it has gone on there, and return its parameters; ``None`` if there
    is no such file. Raises HifitseError: a part is missing or damaged, or was written by another version of this library."""
    found = sorted(folder.glob("run.zip*"))
    if not found:
        return None
    with tempfile.TemporaryFile() as joined:
        for part in found:
            joined.write(part.read_bytes())
        try:
            with zipfile.ZipFile(joined) as archive:
                [name] = [each for each in archive.namelist() if each.endswith(".safetensors")]
                run = (folder / "runs" / name).parent
                if not any(path.name >= Path(name).name for path in run.glob(CHECKPOINTS)):
                    archive.extractall(folder / "runs")
            return Params.model_validate_json((run / "params.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:300]
            raise HifitseError(f"{found[0]} cannot be used ({reason}), expected all that one sitting wrote, or none of it") from None


def _report(params: Params, folder: Path) -> None:
    """Write the report of notebook 00 on the finished run, in a separate process, so that a failure affects nothing else."""
    words, plain = ["run", "00_baseline", "--preset", params.preset], resolve(params.preset)
    for name, value in params:
        words += ["-p", name, json.dumps(value)] if name != "max_minutes" and value != getattr(plain, name) else []
    subprocess.run([sys.executable, "-m", "hifitse.commands.cli", *words], env=os.environ | {"HIFITSE_REPORTS": str(folder / "report")})
