"""Made-up intervals, evaluation rows and arms for the report tests."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from hifitse.evaluation.experiment import Arm
from hifitse.metrics import Interval
from hifitse.model import Extractor
from hifitse.params import Params, resolve

SMOKE = resolve("smoke", device="cpu", interferers_max=[2])


def interval(mean: float, half: float = 0.4, n: int = 79) -> Interval:
    return Interval(mean, mean - half, mean + half, n)


def made_up_rows(gain: float = 4.0, wrong: float = -2.0, count: int = 50, seed: int = 0) -> list[dict]:
    """Return rows like those of an evaluation: every fifth without the target, SI-SDRi spread around the given means."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        present = index % 5 != 0
        ratios = sorted(rng.uniform(-5, 5, size=1 + index % 2).tolist())
        values = {"si_sdr_mix_db": ratios[0], "si_sdri_db": gain + rng.normal(), "si_sdri_wrong_enroll_db": wrong + rng.normal()}
        values |= {"si_sdr_db": ratios[0] + values["si_sdri_db"], "si_sdri_zero_enroll_db": rng.normal()}
        values |= {"confused": bool(rng.random() < 0.1), "pesq": 1.2, "stoi": 0.5, "pesq_mix": 1.1, "stoi_mix": 0.45}
        absent = {"absent_level_db": -40.0, "absent_suppression_db": 12.0}
        row = {"list": "test", "index": index, "seed": 0, "present": present, "n_interferers": len(ratios), "sir_db": ratios[0]}
        row |= {"snr_db": float(rng.uniform(-5, 15)), "room": "hall", "pesq_error": None, "target_speaker": f"s{index % 3}"}
        rows.append(row | {name: (values if present else absent).get(name) for name in (*values, *absent)})
    return rows


def made_up_arm(rows: list[dict] | None = None, params: Params = SMOKE, **run) -> Arm:
    given = {"step": 4, "seconds_per_step": 0.5, "finished": True, "device": "a made-up device", "history": []}
    given |= {"validation": [], "folder": Path("runs/0123456789abcdef")}
    model = Extractor(params.extractor).eval()
    trained = SimpleNamespace(params=params, extractor=lambda: model, **(given | run))
    return Arm("baseline", params, trained, made_up_rows() if rows is None else rows, params)
