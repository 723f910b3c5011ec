"""The run folder of a training, ``runs/<run id>/``: parameters, history, validation, checkpoints."""

import contextlib
import errno
import fcntl
import json
import os
import shlex
import socket
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hifitse import HifitseError
from hifitse.data.manifest import SOURCES, by_content
from hifitse.files import CheckpointError, load_weights
from hifitse.losses.objective import Objective
from hifitse.model import Extractor
from hifitse.model.pretrained import DEFAULT, METRICS, PARAMS
from hifitse.params import NOT_TRAINING, Params, resolve
from hifitse.training.checkpoint import BEST, clear_unfinished, load_checkpoint, load_tensors, read_rows


def runs_dir() -> Path:
    """Return the folder of all runs: ``$HIFITSE_RUNS``, else ``runs/`` in the checkout, else ``runs/`` in the working directory."""
    if os.environ.get("HIFITSE_RUNS"):
        return Path(os.environ["HIFITSE_RUNS"]).expanduser()
    checkout = Path(__file__).resolve().parents[2]
    return (checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()) / "runs"


LABEL = "label.txt"


@dataclass
class Run:
    """One training, finished or interrupted. Reads the run folder, which :func:`hifitse.training.train.train` writes."""

    folder: Path
    params: Params

    @classmethod
    def of(cls, params: Params) -> "Run":
        """Return the run of these parameters and of the content of their sources, whether or not it exists yet."""
        return cls(runs_dir() / by_content(params).run_id, params)

    @classmethod
    def at(cls, folder: Path) -> "Run":
        """Open the run in a folder. Raises OSError or ValueError: it has no readable parameters."""
        values = json.loads((folder / PARAMS).read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"{PARAMS} holds no parameters")
        return cls(folder, Params(**values))

    @classmethod
    def found(cls, name: str) -> "Run":
        """Return the finished run of this name, or in this folder. Raises HifitseError: there is none, or it is not finished."""
        try:
            folder = Path(name) if Path(name).is_dir() else runs_dir() / name
            return cls.at(folder.resolve()).required()  # "." has no name
        except (OSError, ValueError) as error:
            listed = "expected the name of a run, which `hifitse runs` lists, or its folder"
            raise HifitseError(f"run {name!r} cannot be read ({error}), {listed}") from error

    def required(self) -> "Run":
        """Return this run. Raises HifitseError: it is not finished."""
        if not self.finished:
            done = f"has done {self.step} of its {self.params.steps} steps"
            raise HifitseError(f"run {self.folder.name} {done}, expected a finished one: {self.command}")
        return self

    @classmethod
    def named(cls, run_id: str) -> "Run":
        """Like :meth:`found`; but if the run is gone and produced the bundled model, return :class:`ModelInside` instead."""
        inside = not (runs_dir() / run_id).exists() and ModelInside.of(run_id)
        return inside or cls.found(run_id)

    @property
    def command(self) -> str:
        """The full command that trains or resumes this run."""
        plain = resolve(self.params.preset)
        own = {name: value for name, value in self.params if name not in NOT_TRAINING and value != getattr(plain, name)}
        words = [f"-p {name} {shlex.quote(value if isinstance(value, str) else json.dumps(value))}" for name, value in own.items()]
        return " ".join(["hifitse run 00_baseline --preset", self.params.preset, *words])

    step = property(lambda self: self._header.get("step", 0), doc="Steps done, each one batch, as of the last checkpoint.")
    seconds = property(lambda self: self._header.get("seconds", 0.0), doc="Wall-clock seconds of training, without validation.")
    collapsed = property(lambda self: self._header.get("collapsed", ""), doc="Why adversarial training was stopped, or nothing.")
    device = property(lambda self: self._header.get("device", "none"), doc="Name of the device that trained it.")

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / max(1, self.step)

    @property
    def finished(self) -> bool:
        return self.step >= self.params.steps or bool(self.collapsed)

    @cached_property
    def _loaded(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return load_checkpoint(self.folder) or ({}, {})

    _header = property(lambda self: self._loaded[1])

    @property
    def label(self) -> str:
        """Label of the report that this run was trained for; empty if there was none."""
        return (self.folder / LABEL).read_text(encoding="utf-8") if (self.folder / LABEL).is_file() else ""

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """Training log, one row per interval: step, loss, each loss term, lr, grad_norm, seconds."""
        return read_rows(self.folder / "history.jsonl")

    @cached_property
    def validation(self) -> list[dict[str, float]]:
        """Validation log: step, si_sdri_db and si_sdri_wrong_enroll_db on held-out speakers, among others."""
        return read_rows(self.folder / "validation.jsonl")

    def extractor(self, best: bool = False) -> Extractor:
        """Load the averaged (EMA) weights of the last checkpoint, or of the best validation, in evaluation mode, on the CPU.
        Raises CheckpointError: the run has no checkpoint, or no validation, yet."""
        tensors = load_tensors(self.folder / BEST)[0] if best else self._loaded[0]
        if not tensors:
            raise CheckpointError(f"run {self.folder.name} has no checkpoint, expected a run that was trained for at least one step")
        model = Extractor(self.params.extractor)
        load_weights(model, tensors, self.folder.name, "ema.")
        return model.eval()

    def objective(self) -> Objective:
        """Return the training objective with its learned loss weights, on the CPU; the initial ones if there is no checkpoint."""
        objective = Objective(self.params)
        if tensors := self._loaded[0]:
            load_weights(objective, tensors, self.folder.name, "objective.")
        return objective


class ModelInside(Run):
    """The model bundled with the library, in place of the run that produced it: finished, without history."""

    @classmethod
    def of(cls, run_id: str) -> "ModelInside | None":
        """Return the bundled model if run ``run_id`` produced it, else ``None``."""
        known = json.loads((DEFAULT / METRICS).read_text(encoding="utf-8"))
        return cls.at(DEFAULT) if known["run"] == run_id else None

    _header = property(lambda self: {"step": self.params.steps})

    def extractor(self, best: bool = False) -> Extractor:
        """Load the exported weights, which are averaged and stored in half precision; ``best`` is ignored."""
        return Extractor.from_pretrained()


def refuse_another(path: Path, params: Params) -> None:
    """Raise HifitseError if the run folder was made with other training parameters, because a default has changed since. The paths of the
    recordings do not matter: the folder's name identifies their content."""
    known: dict[str, Any] = {}  # stays empty for a new run, or one killed before it wrote its parameters
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(path.read_text(encoding="utf-8")))
    for name, value in params.model_dump(mode="json").items():
        if name not in NOT_TRAINING and name not in SOURCES and known.get(name, value) != value:
            cure = f"expected the same; give {name} explicitly, or move the folder away"
            raise HifitseError(f"run {path.parent.name} was made with {name} {known[name]!r}, now it is {value!r} by default: {cure}")


PORTIONS = {"steps", "batch_size", "accumulation", "precision", "checkpointing", "warmup_steps"}  # how long to train, and in what portions


def relative(params: Params) -> str:
    """Name the longest finished run that differs only in ``PORTIONS`` and how to start from it, in one sentence; empty if there is none."""
    found = []
    for path in sorted(runs_dir().glob("*/params.json")):
        with contextlib.suppress(OSError, ValueError, CheckpointError):  # another run's damage does not matter here
            run = Run.at(path.parent)
            other = {name for name, value in params if name not in NOT_TRAINING and value != getattr(run.params, name)}
            if other and other <= PORTIONS and run.finished:
                found.append((run, other))
    if not found:
        return ""
    run, other = max(found, key=lambda each: each[0].params.steps * each[0].params.batch_size)
    words = ", ".join(f"{name} ({getattr(run.params, name)}, here {value})" for name, value in params if name in other)
    return f"run {run.folder.name} is finished and differs in {words}; to begin with its weights: -p start_from {run.folder.name}"


MARKER = "running.json"  # in a run folder: host and process that train it, if the file system has no locks


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a run folder for this process with a POSIX lock, which is released when the process ends and not inherited by forked workers.
    On a file system without locks (NFS without lockd, Lustre), use a marker file instead."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / "lock", "a")  # noqa: SIM115 (held over the yield)
    except OSError as error:
        raise CheckpointError(f"cannot write the run's folder {folder}: {error}") from error
    with file, contextlib.ExitStack() as held:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                rule = "expected one at a time; wait for it"
                raise HifitseError(f"run {folder.name} is being trained by another process, {rule}") from None
            held.callback(_mark(folder / MARKER).unlink, missing_ok=True)
            instead = f"the file {MARKER} in the run's folder is used instead"
            warnings.warn(f"the file system of {folder.parent} has no locks ({error.strerror}): {instead}", stacklevel=3)
        clear_unfinished(folder)
        yield


def _mark(marker: Path) -> Path:
    """Write a marker file. Replace one left by a killed process of this machine; one of another machine cannot be checked.
    Raises HifitseError: another process has marked the folder."""
    host = socket.gethostname()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(marker.read_text(encoding="utf-8"))
        try:
            os.kill(int(known["pid"]), 0)
            lives = known["pid"] != os.getpid()  # a stale marker can have the same number as this process
        except OSError as error:
            lives = error.errno == errno.EPERM  # it belongs to another user
        if known["host"] == host and not lives:
            marker.unlink()
    try:
        with open(marker, "x", encoding="utf-8") as file:
            json.dump({"host": host, "pid": os.getpid()}, file)
    except FileExistsError:
        rule = f"expected one at a time; if none does, delete {marker}"
        raise HifitseError(f"run {marker.parent.name} is marked as being trained by another process, {rule}") from None
    except OSError as error:
        raise CheckpointError(f"cannot write the run's folder {marker.parent}: {error}") from error
    return marker
