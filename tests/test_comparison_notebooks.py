"""Run the notebooks that compare variants with the baseline as a user would: complete reports that share one cached baseline."""

import functools
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import headless
import pytest
from headless import checkout, typed

from hifitse.evaluation.rows import METRICS
from hifitse.params import resolve
from hifitse.report.summary import CONTROLS

ARMS = {
    "01_gan_finetune": ["longer", "HiFi-GAN", "STFT"],
    "02_capacity": ["A wider", "B deeper", "C both", "half the bands", "half the frames", "half the features"],
    "03_long_segments": ["1.5 s", "2 s"],
    "04_augmentation": ["SpecAugment 5 %", "SpecAugment 2 %", "enrolment", "another pitch", "2-3 enrolments", "all three"],
    "05_curriculum": ["1-4 interferers", "2-5 interferers", "similar voices"],
    "06_losses": [
        "multi-resolution", "speaker contrast", "learned weights",
        "multi-resolution, late", "speaker contrast, late", "learned weights, late",
        "all four, fixed", "all four, uncertainty", "all terms together",
    ],  # fmt: skip
    "07_conditioning": [  # the demo's baseline is "all bands together"
        "embedding only", "band by band", "all bands together", "in every block", "verifier embedding", "AdaLN", "several scales",
        "identity loss", "last three together",
    ],  # fmt: skip
    "09_combined": ["02 capacity", "03 segments", "04 augmentation", "05 curriculum", "all together"],
    "12_diagnosis": [  # the smoke preset compares band by band and trains with AdamW
        "enrolment at its own speed", "absent loss flat below -30 dBFS", "crops not checked", "enrolment only band by band", "beta 0.8",
        "all faults",
    ],
    "13_best": ["magnitudes alone", "small, large batches", "best"],
}  # fmt: skip
GROUPS = {
    "03_long_segments": {"list": ["1 s", "5 to 8 s", "8 s, partly there", "8 to 12 s, turns"]},
    "04_augmentation": {
        "enrolment": ["clean", "equalised", "noisy", "in a room", "band-limited", "coded", "at another pitch"],
        "enrolments": ["1", "2", "3", "5"],
    },
    "05_curriculum": {"list": ["easy", "hard", "similar voices"]},
    "06_losses": {"weights": ["the same terms"]},
    "07_conditioning": {"likeness": ["least alike"]},  # two test speakers make one pair
    "12_diagnosis": {"test": [
        "as everywhere here", "voices, rooms and noises of the training", "enrolments at their own speed",
        "crops not checked", "SIR from -15 to 15 dB",
    ]},
}  # fmt: skip
WORDS = {
    "01_gan_finetune": ["what the discriminators add", "LSD, 8 to 24 kHz", "estimate, longer"],
    "02_capacity": ["What a decibel costs", "21.65", "GFLOP"],
    "03_long_segments": ["audio per update", "turns", "by items heard"],
    "04_augmentation": ["late", "band-limited", "second pass"],
    "05_curriculum": ["Easy and hard", "phases from 0 %"],
    "06_losses": ["share of the gradient", "Learned weights over", "last weight", "Whose voice"],
    "07_conditioning": ["right minus wrong", "least alike"],
    "09_combined": ["sum of the separate gains", "together minus the sum"],
    "12_diagnosis": ["the preset has this fault itself", "cannot be split"],
    "13_best": ["sum of the separate gains", "seconds per step"],
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """Return one folder for all notebooks, so that they share the baseline's run, as a user's notebooks do."""
    return checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def done(elsewhere) -> Callable[[str], subprocess.CompletedProcess]:
    """Return a function that runs a notebook when it is first asked for, in the folder where all share their runs."""
    return functools.cache(lambda stem: typed(elsewhere, stem, f"{stem}_out.ipynb", "-p", "preset", "smoke", threads=1))


@pytest.mark.parametrize("stem", ARMS)
def test_a_comparison_runs_as_typed_and_its_page_explains_itself(stem, elsewhere, done):
    assert done(stem).returncode == 0, done(stem).stderr[-3000:]
    metrics = headless.metrics(elsewhere, stem)
    assert (metrics["status"], metrics["notebook"], metrics["preset"]) == ("complete", stem, "smoke")
    assert list(metrics["arms"]) == ["baseline", *ARMS[stem]]
    steps = resolve("smoke", arms=True).steps
    assert all(arm["steps"] == steps and set(arm["metrics"]) == set(METRICS) for arm in metrics["arms"].values())
    said = {(each["arm"], each["metric"]) for each in metrics["comparisons"]}
    assert said == {(name, metric) for name in ARMS[stem] for metric in METRICS}
    against = {"baseline", CONTROLS.get(stem, "baseline")}
    assert all(each["verdict"] in ("helped", "neutral", "hurt") and each["baseline"] in against for each in metrics["comparisons"])
    for kind, conditions in GROUPS.get(stem, {}).items():
        assert list(metrics["groups"][kind]) == conditions
        counts = {each["si_sdri_db"]["n"] for arms in metrics["groups"][kind].values() for each in arms.values()}
        assert counts and 0 not in counts
    text = headless.shown(elsewhere / f"{stem}_out.ipynb")
    for words in ("Too few mixtures", "synthetic voices", "Paired differences", "most improved", "most worsened", *WORDS[stem]):
        assert words.lower() in text.lower(), words
    stored = re.findall(r"src=\"data:audio/mpeg;base64,([^\"]+)", text)
    assert len(stored) == text.count("<audio") >= 10 and text.count("<img") >= 4 and len(text) < 6 * 2**20


def test_they_share_one_baseline(elsewhere, done):
    """Notebook 09 also takes arms from the others: its four parts were trained by 02, 03, 04 and 05."""
    assert all(done(stem).returncode == 0 for stem in ARMS)
    runs = [run.name for run in (elsewhere / "runs").iterdir()]
    assert resolve("smoke", arms=True).run_id in runs
    assert len(runs) == 1 + sum(map(len, ARMS.values())) - 4
