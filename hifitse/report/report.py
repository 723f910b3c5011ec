"""Write what a notebook run produces: metrics.json, the report folder, and the provenance of its numbers."""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from hifitse import HifitseError
from hifitse.data.corpus import load_clips, load_corpus
from hifitse.data.manifest import sha256, sources
from hifitse.data.mixing import Mixer
from hifitse.evaluation.cost import Cost
from hifitse.evaluation.experiment import Arm, OwnModel
from hifitse.evaluation.rows import Rows, of_list, only_list, summarise
from hifitse.machine import device_name, pick_device
from hifitse.params import NOT_TRAINING, Params, resolve
from hifitse.presets import preset_values
from hifitse.report import contract

CHECKOUT = Path(__file__).resolve().parents[2]
"""Root of the checkout, which contains ``notebooks/`` and ``reports/``."""
ATTEMPT = ".attempt"
"""Suffix of the folder for a failed run, or for a cut run that may not replace a complete report."""
FILES = ("report.html", "report.ipynb", "metrics.json")


def root() -> Path:
    """Return the folder in which runs store their reports: ``$HIFITSE_REPORTS`` if set, else ``reports/mine/``, which git ignores."""
    given = os.environ.get("HIFITSE_REPORTS")
    return Path(given).expanduser() if given else CHECKOUT / "reports" / "mine"


def roots() -> tuple[Path, ...]:
    """Return the folders to search for reports: only ``$HIFITSE_REPORTS`` if set, else committed reports, then your own."""
    return (root(),) if os.environ.get("HIFITSE_REPORTS") else (CHECKOUT / "reports", root())


def label(params: Params) -> str:
    """Return the label that distinguishes runs of a preset: the value of ``--name``, else the parameters that differ from the preset."""
    if "HIFITSE_NAME" in os.environ:
        return re.sub(r"[^\w.=,~-]+", "_", os.environ["HIFITSE_NAME"])[:60]
    text = ",".join(f"{name}={value}" for name, value in sorted(differences(params).items()))
    clean = re.sub(r"[^\w.=,-]+", "_", text)
    return clean if len(clean) <= 60 else f"{clean[:50]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def differences(params: Params, evaluation: bool = True) -> dict[str, Any]:
    """Return the training (and ``evaluation``) parameters that differ from the preset. Values from an overlay count as the preset's."""
    names = [name for name in type(params).model_fields if name not in NOT_TRAINING or (evaluation and name.startswith("eval_"))]
    others = _presets(params.preset, os.environ.get("HIFITSE_DATA"))
    found = ({name: getattr(params, name) for name in names if getattr(params, name) != getattr(other, name)} for other in others)
    return min(found, key=len, default={})


@cache
def _presets(name: str, data: str | None) -> tuple[Params, ...]:
    """Return all parameter sets that a preset's name can stand for: every overlay, with and without arms. ``data`` is only a cache key."""
    found = []
    for overlay, arms in ((overlay, arms) for overlay in (None, "real", "synthetic") for arms in (False, True)):
        with contextlib.suppress(HifitseError):  # unknown preset, or the overlay needs an environment variable that is not set
            found.append(resolve(name, overlay, arms=arms))
    return tuple(found)


def top(preset: str, corpus: str, label: str = "") -> str:
    """Return the folder name for reports of a preset. The kind of voices is added only if it is not the preset's own kind."""
    own = True  # a preset without a file is assumed to use synthetic voices
    with contextlib.suppress(HifitseError):
        own = preset_values(preset).get("corpus", "synthetic") == "synthetic"
    synthetic = corpus == "synthetic"
    return preset + ("" if synthetic == own else "-synthetic" if synthetic else "-real") + (f"+{label}" if label else "")


def folder(params: Params, notebook: str) -> Path:
    """Return ``<preset>[-real][+label]/<notebook>/`` below :func:`root`; see :func:`top`."""
    return root() / top(params.preset, params.corpus, label(params)) / notebook


def place(work: Path, target: Path) -> tuple[Path, str]:
    """Move a run's three files from ``work`` to ``target``, or next to it if they may not replace the report there.

    A complete report replaces any report, a cut one replaces any but a complete one, and a failed one replaces none.
    Returns the folder that now holds the files, and one sentence on what was cut (empty if nothing was).
    """
    found, before = contract.load(work / FILES[2]), contract.complete(target / FILES[2])
    beside = target.with_name(target.name + ATTEMPT)
    where = beside if found.status == "failed" or (found.status == "cut" and before) else target
    where.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        os.replace(work / name, where / name)
    if where == target:
        shutil.rmtree(beside, ignore_errors=True)  # an earlier attempt at the same report
    return where, found.error if found.status == "cut" else ""


def commit() -> str:
    """Return the hash of the current commit, with ``-dirty`` if library, notebooks or presets have changed; "unknown" without git."""

    def git(*words: str) -> str:
        return subprocess.check_output(["git", *words], cwd=CHECKOUT, stderr=subprocess.DEVNULL, text=True, timeout=20).strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", "hifitse", "notebooks", "params") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def metrics(
    notebook: str, params: Params, arms: Iterable[Arm], comparisons: Sequence[Mapping] = (), error: str = "",
    groups: Mapping[str, Mapping[str, Mapping[str, Rows]]] | None = None, costs: Mapping[str, Cost] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the content of ``metrics.json``. ``params``: those of the baseline. ``comparisons``: from :func:`rows.compare`.
    ``error``: one sentence on why the run failed. ``groups``: varied property -> condition -> arm -> rows of one list."""
    arms = list(arms)
    cut = ", ".join(unfinished(arms))
    content = {
        "notebook": notebook,
        "preset": params.preset,
        "corpus": params.corpus,
        "status": "failed" if error else "cut" if cut else "complete",
        "commit": commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": arms[0].run.device if arms else params.device if error else device_name(pick_device(params.device)),
        "params": params.model_dump(mode="json"),
        "arms": {},
        "comparisons": list(comparisons),
    }
    for arm in arms:
        about = {"parameters": parameter_count(arm), "steps": arm.run.step, "seconds_per_step": arm.run.seconds_per_step}
        content["arms"][arm.name] = about | {"metrics": summarise(arm.rows)}
        if costs and not isinstance(arm.run, OwnModel):  # its costs are unknown, for its parameters are the baseline's
            cost = costs[arm.name]
            ratio = {"step_ratio": cost.step_ratio} if cost.step_ratio is not None else {}
            content["arms"][arm.name] |= {"gflops_per_second": cost.gflops_per_second, "training_mb": cost.training_mb} | ratio
    if groups:
        content["groups"] = {
            kind: {key: {name: summarise(rows, only_list(rows)) for name, rows in arms.items()} for key, arms in conditions.items()}
            for kind, conditions in groups.items()
        }
    why = error or (f"Cut short by max_minutes: {cut}. Run the same command again to continue from the last checkpoint." if cut else "")
    more = {"label": label(params), "error": why}
    return content | {key: text for key, text in more.items() if text}


def unfinished(arms: Iterable[Arm]) -> list[str]:
    """Describe each training that a time limit ended before its last step."""
    runs = [(arm.name, run) for arm in arms for run in (arm.run, *arm.others) if not run.finished]
    return [f"{name} after {run.step:,} of {run.params.steps:,} steps" for name, run in runs]


def parameter_count(arm: Arm) -> int:
    """Return the number of weights of the arm's extractor."""
    return sum(parameter.numel() for parameter in arm.run.extractor().parameters())


def metrics_path(notebook: str, params: Params) -> Path:
    """Return the path of a notebook's metrics: in the folder set by ``hifitse run``, else next to the report under a different name."""
    given = os.environ.get("HIFITSE_REPORT_DIR")
    return Path(given) / FILES[2] if given else folder(params, notebook) / f"{notebook}.metrics.json"


def write(notebook: str, params: Params, arms: Iterable[Arm] = (), comparisons: Sequence[Mapping] = (), **others: Any) -> Path:
    """Write a notebook's ``metrics.json``; its last action. Arguments as in :func:`metrics`; any others become keys of the file."""
    known = {name: others.pop(name) for name in ("groups", "costs") if name in others}
    return contract.write(metrics_path(notebook, params), metrics(notebook, params, arms, comparisons, **known) | others)


def facts(arm: Arm) -> dict[str, str]:
    """Return what a reader needs to reproduce the numbers, for :func:`hifitse.report.tables.provenance`."""
    params, run, evaluation = arm.params, arm.run, arm.evaluation
    rows = arm.rows.drop_duplicates(["list", "index"])  # mixtures: with several seeds, each has several rows
    counts, tested = Counter(rows["list"]), of_list(rows, "test")
    present, speakers = int(tested["present"].sum()), set(tested["target_speaker"])
    made, seed = f"{evaluation.eval_seconds:g} s", f"; seed {evaluation.eval_seed}"
    held_out = "speakers, rooms and noises of the test are in no training mixture"
    if evaluation.eval_list:
        made, seed = Path(evaluation.eval_list).name, f"; SHA-256 of the list {sha256(evaluation.eval_list)}"
        trained = speakers & set(Mixer(params, "train").speakers)
        held_out = f"{len(trained)} target speakers are in the training, by their names; rooms and noises were not compared"
    failed = Counter(arm.rows["pesq_error"].dropna())
    scored = failed.total() + arm.rows["pesq"].count()
    reasons = "; ".join(f"{count} times: {reason}" for reason, count in failed.most_common())
    return {
        "speech": "synthetic (espeak-ng voices)" if params.corpus == "synthetic" else params.corpus,
        "noise": params.noise if params.noise_prob else "none",
        "rooms": params.rooms if params.reverb_prob else "none",
        "test list": f"{counts['test']} mixtures of {made}, {present} with the target{seed}",
        "target speakers": f"{len(speakers)} in the test list",
        "other lists": f"{counts['partial']} of partial presence, {counts['long']} of 5 to 8 s",
        "held out": held_out,
        "PESQ failures": f"{failed.total()} of {scored} estimates ({reasons})" if failed else "none" if scored else "not measured",
        "skipped files": skipped(params),
        "run": run.folder.name if run.folder else "a model of one's own",
        "steps": f"{run.step:,} of {run.seconds_per_step:.3f} s, {run.step * run.seconds_per_step:.0f} s in all",
        "trained on": run.device,
        "commit": commit(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def skipped(params: Params) -> str:
    """Count the source files that could not be used, and give the first reason."""
    reasons: list[str] = []
    for text, listed in ((params.corpus, load_corpus), (params.noise, load_clips), (params.rooms, partial(load_clips, kind="rooms"))):
        for source in sources(text):
            reasons += listed(source).skipped if source != "synthetic" else []
    return f"{len(reasons)}, the first: {reasons[0]}" if reasons else "none"
