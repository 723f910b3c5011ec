"""Golden values: what the library computed before a rewrite. Moving or rewriting code must not change them.

``python tests/test_golden.py`` writes ``golden.json`` anew; run it only if the numbers are meant to change. Sound is compared at a few
samples and with a tolerance, because the last bits differ between processors.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
import numpy as np
import pytest
import torch
from headless import ROOT
from processes import cut, losses

from hifitse.data.mixing import Mixer, Mixture
from hifitse.data.scene import evaluation_conditions, training_conditions, validation_conditions
from hifitse.model import Extractor
from hifitse.params import resolve
from hifitse.training.train import train

GOLDEN = Path(__file__).with_name("golden.json")
PRESETS = ("smoke", "demo", "full", "demo-best", "full-best")
NOTEBOOKS = ("00_baseline", "02_capacity")
MEASURED = ("commit", "created", "device", "params", "seconds_per_step", "step_ratio")
"""Entries of ``metrics.json`` that are times or depend on the machine; the run ids cover ``params``."""


def run_ids() -> dict[str, str]:
    return {preset: resolve(preset).run_id for preset in PRESETS}


def sound(signal: np.ndarray) -> dict[str, Any]:
    """Return the shape of a signal, its level, and 24 of its samples."""
    flat = np.asarray(signal, np.float64).ravel()
    samples = flat[np.linspace(0, len(flat) - 1, 24).astype(int)]
    return {"shape": list(np.shape(signal)), "rms": float(np.sqrt(np.mean(flat**2))), "samples": samples.tolist()}


def model_output() -> dict[str, Any]:
    """Return the committed model's estimates for two mixtures of seeded noise, each with an enrolment of seeded noise."""
    rng = np.random.default_rng(0)
    mix, enroll = (torch.from_numpy(rng.standard_normal((2, 48_000)).astype(np.float32)) * 0.1 for _ in range(2))
    with torch.inference_mode():
        return sound(Extractor.from_pretrained().eval()(mix, enroll).numpy())


def mixtures() -> dict[str, Any]:
    """Return three of the smoke preset's mixtures in each split."""
    params = resolve("smoke", device="cpu")
    test = evaluation_conditions(params)["test"][0]
    drawn = {"train": training_conditions(params, 0), "valid": validation_conditions(params)[0], "test": test}
    made = {}
    for split, conditions in drawn.items():
        mixer = Mixer(params, split)
        made[split] = [_described(mixer.mixture(0, index, conditions)) for index in range(3)]
    return made


def _described(mixture: Mixture) -> dict[str, Any]:
    names = ("target_speaker", "interferer_speakers", "room", "noise", "sir_db", "snr_db", "level_db")
    parts = {name: sound(getattr(mixture, name)) for name in ("mix", "target", "interferers", "noise", "enroll")}
    return {name: mixture.metadata[name] for name in names} | parts


def resumed_training() -> dict[str, float]:
    """Return the last history row of a training that was interrupted in its fourth step and resumed from its checkpoint."""
    params = resolve("smoke", device="cpu", threads=1, steps=6, checkpoint_every=2)
    with tempfile.TemporaryDirectory() as runs, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIFITSE_RUNS", runs)
        cut(params, 3, patch)
        return losses(train(params, progress=False))[-1]


SHOWS = ("show", "HTML(", "for ", "explore.")
"""Beginnings of cells that only show something and add nothing to ``metrics.json``."""


def notebook(folder: Path, name: str) -> dict[str, Any]:
    """Run a notebook's cells with the smoke preset, without those that only show something; return its ``metrics.json`` without times."""
    cells = [cell.source for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells if cell.cell_type == "code"]
    names: dict[str, Any] = {"preset": "smoke", "In": ["# Parameters: of this test\npreset = \"smoke\""]}
    with mock.patch.dict(os.environ, HIFITSE_RUNS=str(folder / "runs"), HIFITSE_REPORT_DIR=str(folder)):
        for source in cells[1:]:
            if not source.startswith(SHOWS):
                exec(source, names)
    return _without_times(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(entry) for name, entry in value.items() if name not in MEASURED}
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


# ---- comparison


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def differences(value: Any, expected: Any, absolute: float, where: str = "") -> list[str]:
    """Return the places where two JSON trees differ; numbers may differ by ``absolute``, or by that fraction of the expected value."""
    if isinstance(value, dict) and isinstance(expected, dict) and value.keys() == expected.keys():
        return [each for name in value for each in differences(value[name], expected[name], absolute, f"{where}/{name}")]
    if isinstance(value, list) and isinstance(expected, list) and len(value) == len(expected):
        return [each for i, pair in enumerate(zip(value, expected, strict=True)) for each in differences(*pair, absolute, f"{where}/{i}")]
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (value, expected))
    same = value == pytest.approx(expected, abs=absolute, rel=absolute) if numbers else value == expected
    return [] if same else [f"{where}: {value}, expected {expected}"]


def test_run_ids(golden):
    assert run_ids() == golden["run_ids"]


def test_the_committed_model_on_noise(golden):
    assert differences(model_output(), golden["model_output"], 1e-5) == []


def test_smoke_mixtures(golden):
    assert differences(mixtures(), golden["mixtures"], 1e-5) == []


def test_a_resumed_training(golden):
    assert differences(resumed_training(), golden["resumed_training"], 1e-3) == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_metrics_of_a_notebook(name, golden, tmp_path):
    assert differences(notebook(tmp_path, name), golden["notebooks"][name], 5e-3) == []


def write() -> None:
    """Write all golden values as they are now."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HIFITSE_CACHE"] = folder
        values = {"run_ids": run_ids(), "model_output": model_output(), "mixtures": mixtures(), "resumed_training": resumed_training()}
        values["notebooks"] = {name: notebook(Path(folder), name) for name in NOTEBOOKS}
    GOLDEN.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())
