"""What a run of a notebook leaves: metrics.json, the folder of its report, and the facts behind its numbers."""

import json
import math
import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hifitse.data.clips import load_clips
from hifitse.data.corpus import load_corpus
from hifitse.evaluation.cost import Cost
from hifitse.evaluation.experiment import Arm
from hifitse.evaluation.rows import METRICS, Rows, of_list, only_list, summarise
from hifitse.files import write_text
from hifitse.params import Params
from hifitse.report import tables

CHECKOUT = Path(__file__).resolve().parents[2]
"""Root of the checkout, beside which ``notebooks/`` and ``reports/`` lie."""


def is_synthetic(params: Params) -> bool:
    """Whether the voices are made by the speech synthesiser, whatever noise and rooms are."""
    return params.corpus == "synthetic"


def folder(params: Params, notebook: str) -> Path:
    """``reports/<preset>/<notebook>/``, with ``<preset>-real`` where the voices are recordings.

    The environment variable ``HIFITSE_REPORTS`` names another folder than ``reports/``.
    """
    root = Path(os.environ["HIFITSE_REPORTS"]).expanduser() if os.environ.get("HIFITSE_REPORTS") else CHECKOUT / "reports"
    return root / (params.preset + ("" if is_synthetic(params) else "-real")) / notebook


def commit() -> str:
    """Hash of the checkout's commit, with ``-dirty`` where library, notebooks or presets differ from it; "unknown" outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "hifitse", "notebooks", "params")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _strict(value: Any) -> Any:
    """JSON has no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {str(key): _strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def metrics(
    notebook: str,
    params: Params,
    arms: Iterable[Arm],
    comparisons: Sequence[Mapping] = (),
    error: str = "",
    groups: Mapping[str, Mapping[str, Mapping[str, Rows]]] | None = None,
    costs: Mapping[str, Cost] | None = None,
) -> dict[str, Any]:
    """The content of ``metrics.json``.

    Args:
        notebook: its name, such as ``00_baseline``.
        params: of the baseline arm.
        arms: the arms that were run, of which one is called ``baseline``.
        comparisons: as :func:`hifitse.evaluation.experiment.compare` makes them.
        error: why the run failed, in one sentence; empty for a complete one.
        groups: what else was measured: what varies -> condition -> arm -> rows of one list.
        costs: by arm, as :func:`hifitse.evaluation.cost.costs` measures them.
    """
    arms = list(arms)
    content = {
        "notebook": notebook,
        "preset": params.preset,
        "corpus": params.corpus,
        "status": "failed" if error else "complete",
        "commit": commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": arms[0].run.device if arms else params.device,
        "params": params.model_dump(mode="json"),
        "arms": {arm.name: _arm(arm) for arm in arms},
        "comparisons": list(comparisons),
    }
    for name, cost in (costs or {}).items():
        ratio = {"step_ratio": vars(cost.step_ratio)} if cost.step_ratio is not None else {}
        content["arms"][name] |= {"gflops_per_second": cost.gflops_per_second, "training_mb": cost.training_mb} | ratio
    if groups:
        content["groups"] = {
            kind: {
                condition: {name: summarise(rows, only_list(rows)) for name, rows in of_arms.items()}
                for condition, of_arms in conditions.items()
            }
            for kind, conditions in groups.items()
        }
    return _strict(content | ({"error": error} if error else {}))


def _arm(arm: Arm) -> dict[str, Any]:
    summary = summarise(arm.rows)
    return {
        "parameters": parameter_count(arm),
        "steps": arm.run.step,
        "seconds_per_step": arm.run.seconds_per_step,
        "metrics": {metric: summary[metric] for metric in METRICS if metric in summary},
    }


def metrics_path(notebook: str) -> Path:
    """Where a notebook writes its metrics: into the folder that ``hifitse run`` names, else beside where it was started.

    So an experiment by plain papermill never replaces a committed report.
    """
    given = os.environ.get("HIFITSE_REPORT_DIR")
    return Path(given) / "metrics.json" if given else Path.cwd() / f"{notebook}.metrics.json"


def write_metrics(path: Path, content: Mapping[str, Any]) -> Path:
    """Write ``metrics.json`` whole or not at all, as strict JSON."""
    write_text(path, json.dumps(_strict(content), indent=1, allow_nan=False) + "\n")
    return path


def parameter_count(arm: Arm) -> int:
    """Weights of the arm's extractor."""
    return sum(parameter.numel() for parameter in arm.run.extractor().parameters())


def facts(arm: Arm) -> dict[str, str]:
    """What a reader needs to make the numbers again, for :func:`hifitse.report.tables.provenance`."""
    params, rows, run, evaluation = arm.params, arm.rows, arm.run, arm.evaluation
    counts = Counter(rows["list"])
    present = int(of_list(rows, "test")["present"].sum())
    return {
        "speech": "synthetic (espeak-ng voices)" if is_synthetic(params) else params.corpus,
        "noise": params.noise if params.noise_prob else "none",
        "rooms": params.rooms if params.reverb_prob else "none",
        "test list": f"{counts['test']} mixtures of {evaluation.eval_seconds:g} s, {present} with the target; seed {evaluation.eval_seed}",
        "other lists": f"{counts['partial']} of partial presence, {counts['long']} of 5 to 8 s",
        "held out": "speakers, rooms and noises of the test are in no training mixture",
        "PESQ failures": tables.failures(rows),
        "skipped files": skipped(params),
        "run": f"{run.folder.name}: {run.step:,} steps of {run.seconds_per_step:.3f} s, {run.step * run.seconds_per_step:.0f} s in all",
        "trained on": run.device,
        "commit": commit(),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def skipped(params: Params) -> str:
    """How many files of the sources could not be used, with the first reason."""
    reasons: list[str] = []
    if not is_synthetic(params):
        reasons += load_corpus(params.corpus).skipped
    for source, kind in ((params.noise, "noise"), (params.rooms, "room")):
        if source != "synthetic":
            reasons += load_clips(source, kind).skipped
    return f"{len(reasons)}, the first: {reasons[0]}" if reasons else "none"
