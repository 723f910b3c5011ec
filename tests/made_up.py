"""Made-up reports: the ``metrics.json`` of a comparison, written where a run would write it."""

import json
from pathlib import Path
from typing import Any


def arm(seconds_per_step: float = 0.5, parameters: int = 2_000_000, mean: float = 3.0) -> dict[str, Any]:
    values = {"mean": mean, "low": mean - 0.4, "high": mean + 0.4, "n": 79}
    ratio = {"mean": seconds_per_step / 0.5, "n": 5}
    about = {"parameters": parameters, "steps": 400, "seconds_per_step": seconds_per_step, "step_ratio": ratio}
    return about | {"metrics": {"si_sdri_db": values}}


def row(name: str, difference: float | None, half: float = 0.2, **changes: Any) -> dict[str, Any]:
    """Return a comparison with an interval of ``half`` dB to either side and the verdict that follows from it."""
    low, high = (None, None) if difference is None else (difference - half, difference + half)
    verdict = "neutral" if low is None or low <= 0 <= high else "helped" if low > 0 else "hurt"
    made = {"arm": name, "baseline": "baseline", "metric": "si_sdri_db", "difference": difference, "low": low, "high": high, "n": 79}
    return made | {"expected": [0.5, 1.5], "verdict": verdict} | changes


def content(folder: str, *rows: Any, **changes: Any) -> dict[str, Any]:
    """Return what a notebook would write into ``<preset>[-real]/<NN_name>``."""
    top, notebook = folder.split("/")
    arms = {"baseline": arm()} | {each["arm"]: arm(0.75, 3_000_000) for each in rows if isinstance(each, dict)}
    made = {
        "notebook": notebook, "preset": top.removesuffix("-real"), "corpus": "voices/speech" if top.endswith("-real") else "synthetic",
        "status": "complete", "commit": "0123456789abcdef0123456789abcdef01234567", "created": "2026-11-23T15:20:14+00:00",
        "device": "x86_64 cpu, 2 threads", "params": {"steps": 400, "arm_seeds": 1}, "arms": arms, "comparisons": list(rows),
    }  # fmt: skip
    return made | changes


def write(root: Path, folder: str, made: dict[str, Any] | str | bytes | None, page: bool = True) -> Path:
    """Write a report folder with the given ``metrics.json`` (``None``: without one) and return it."""
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    if page:
        (path / "report.html").write_text("<!DOCTYPE html><title>made up</title>", encoding="utf-8")
    if isinstance(made, dict):
        made = json.dumps(made)
    if made is not None:
        (path / "metrics.json").write_bytes(made if isinstance(made, bytes) else made.encode())
    return path


def reports(root: Path) -> Path:
    """Fill a folder with complete, failed and broken reports on both kinds of data and return it."""
    write(root, "demo/00_baseline", content("demo/00_baseline"))
    write(root, "demo/02_capacity", content("demo/02_capacity", row("wider", 0.9), row("deeper", 0.1), row("smaller", -0.6, expected=None)))
    write(root, "demo/03_long_segments", content("demo/03_long_segments", row("6 s", 0.05, expected=[0.3, 0.8])))
    write(root, "demo-real/02_capacity", content("demo-real/02_capacity", row("wider", 1.2)))
    write(root, "medium/02_capacity", content("medium/02_capacity", row("wider", 2.1, 0.3)))
    write(root, "demo/04_augmentation", content("demo/04_augmentation", status="failed", error="it rained, expected sunshine"))
    whole = json.dumps(content("demo/05_curriculum", row("hard", 0.4)), indent=1)
    write(root, "demo/05_curriculum", whole[: len(whole) // 2])
    write(root, "demo/08_data_loading", content("demo/08_data_loading"))
    return root
