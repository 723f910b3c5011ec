"""Test the speed of the model and of mixing: what is measured, and notebooks 08 and 11, which show the ratios.

Test the machine: cores and threads, how threads wait, bfloat16, resources for workers.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from headless import explained

from hifitse import HifitseError, machine
from hifitse.model import ExtractorConfig
from hifitse.params import resolve
from hifitse.studies import data_loading, performance
from hifitse.studies.performance import ALONE, FAST, PLAIN

SMOKE = resolve("smoke", device="cpu", threads=1)
ALL = dict(  # every layer there is, in a small model
    band_layer="mixer", frame_layer="conv", frame_attention=True, usef="full", reinject="band", adaln=True, input_power=0.3,
    magnitude_input=True, blocks=2, mixture_blocks=1, both_talkers=True, batch_size=4,
)  # fmt: skip


@pytest.mark.parametrize("changes", [{}, ALL], ids=["smoke", "all"])
def test_the_plain_formulas_give_the_same_outputs_and_gradients(changes):
    """The batch shares mixtures, which the plain formulas compute again for each item."""
    found = performance.equal(SMOKE.model_copy(update={"enroll_dropout": 0.0} | changes))
    assert 0 < found["outputs"] < 1e-9 and 0 < found["gradients"] < 1e-9


def test_other_programs_are_ended_whatever_happens(monkeypatch):
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *of, **more: started.append(popen(*of, **more)) or started[-1])
    with pytest.raises(KeyboardInterrupt), performance._busy(2):
        assert [each.poll() for each in started] == [None, None]
        raise KeyboardInterrupt
    assert [each.poll() for each in started] == [-9, -9]
    assert set(performance.beside_others(SMOKE, 1, (0, 1))) == {0, 1}


def test_models_and_the_plans_model():
    smoke, best = performance.models(SMOKE).values()
    assert smoke is SMOKE and best.threads == 1, "what was asked for stays"
    assert performance.plans(SMOKE.model_copy(update={"bench_full_seconds": []})) == {}
    plans = performance.plans(SMOKE.model_copy(update={"bench_full_seconds": [1.0, 2.0]}))
    assert plans["full"].extractor == ExtractorConfig() and plans["full-best"].extractor != ExtractorConfig()
    assert {each.threads for each in plans.values()} == {1}


VERSIONS = {"small": {FAST: [1.0, 1.0, 2.0], ALONE: [1.1, 1.1, 2.2], PLAIN: [1.6, 1.6, 3.2]}}
LENGTHS = {"small": {1.0: 0.02, 4.0: 0.08, 60.0: 1.2}, "full": {4.0: 6.0}}


def test_the_verdict_says_gain_growth_the_full_model_and_long_recordings():
    text = performance.answer(VERSIONS, LENGTHS).data
    assert "1.60 times as fast" in text and "goal of 1.5 is reached" in text and "asked for 0.35" in text
    assert "small: exponent 1.00" in text and "1.50 s per second of audio" in text
    text = performance.answer({"small": {FAST: [1.0] * 3, PLAIN: [1.2] * 3}}, LENGTHS).data
    assert "goal of 1.5 is not reached" in text and "verdict weak" in text
    assert "Too few rounds (1)" in performance.answer({"small": {FAST: [1.0], PLAIN: [1.6]}}, LENGTHS).data


def test_tables_and_pictures_hold_the_numbers():
    table = performance.versions_table(VERSIONS, {"small": {"outputs": 2e-7, "gradients": 3e-7}}).data
    assert "1.60 (1.60 to 1.60)" in table and "outputs 2e-07" in table and ALONE in table
    assert "60 s: 1.20 s" in performance.lengths_picture(LENGTHS).alt
    assert "0.50" in performance.busy_table({"small": {0: 0.1, 2: 0.5}}).data


def test_the_verdict_of_data_loading_follows_from_the_ratios():
    same = {"kept_bit_equal": 1.0, "old_to_present_db": -30.0}
    for factor, words in ((6.0, "is reached."), (2.0, "is not reached.")):
        seconds = {data_loading.OLD: [factor] * 3, data_loading.NEW: [1.0] * 3, data_loading.KEPT: [0.9] * 3}
        text = data_loading.answer({"files": seconds}, same, data_loading.Params()).data
        assert f"the goal of 5 {words}" in text and "verdict" in text


def test_notebook_08_runs_as_typed_and_explains_itself(tmp_path):
    metrics, text = explained(tmp_path, "08_data_loading")
    measured = metrics["measured"]
    assert all(set(kind) == {data_loading.NEW, data_loading.KEPT} for kind in measured["speedup"].values())
    assert all(each["mean"] > 0 for kind in measured["speedup"].values() for each in kind.values())
    assert measured["content"]["kept_bit_equal"] == 1
    assert len(measured["rendering"]) >= 2 and all(each[0] > 0 for each in measured["rendering"].values())
    assert len(measured["waiting"]) >= 2 and all(0 < share < 1 for share in measured["waiting"].values())
    assert "Too few rounds" in text and "bit for bit the same" in text.lower() and "<img" not in text


def test_notebook_11_runs_as_typed_and_explains_itself(tmp_path):
    metrics, text = explained(tmp_path, "11_performance")
    measured = metrics["measured"]
    assert set(measured["speedup"]) == {"smoke", "smoke-best"}
    assert all(each[PLAIN]["mean"] > 0 for each in measured["speedup"].values())
    assert all(value < 1e-4 for each in measured["equal"].values() for value in each.values())
    assert set(measured["busy"]["smoke"]) == {"0", "1", "2"}
    assert all(measured["waiting"][name][0] > 0 for name in (performance.SPINNING, performance.PASSIVE))
    assert "Too few rounds" in text and "exponent" in text.lower() and "nothing shared" in text.lower()
    assert text.count("<img") == 1


@pytest.mark.parametrize("files, most", [
    ({"cpu.max": "50000 100000"}, 1), ({"cpu.max": "max 100000"}, 4096), ({}, 4096),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4096),
    ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
])  # fmt: skip
def test_cores_are_those_that_the_process_may_use(files, most, tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4096)), raising=False)
    assert machine.usable_cores(str(tmp_path)) == most


WAITS = "import os, hifitse.params; print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
COMPUTES = "import os, hifitse.data.mixing; from threadpoolctl import threadpool_info as found; print(os.environ['OPENBLAS_NUM_THREADS'], "
COMPUTES += "*{each['num_threads'] for each in found() if each['internal_api'] == 'openblas'})"


@pytest.mark.parametrize(("told", "given", "expected"), [
    (WAITS, {}, "PASSIVE 0"), (WAITS, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
    (COMPUTES, {}, "1 1"), (COMPUTES, {"OPENBLAS_NUM_THREADS": "2"}, "2 [12]"),
])  # fmt: skip
def test_threads_wait_without_spinning_and_numpy_has_one_unless_the_user_says_how(told, given, expected):
    free = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "OPENBLAS_", "MKL_"))}
    shown = subprocess.run([sys.executable, "-c", told], env=free | given, capture_output=True, text=True).stdout
    assert re.fullmatch(expected, shown.strip())


def test_a_card_without_bfloat16_computes_in_float32_and_says_so(monkeypatch):
    machine.half_precision.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.warns(UserWarning, match="Tesla T4 has no bfloat16, so the model computes in float32"):
        assert not machine.half_precision("bf16", torch.device("cuda", 0))
    assert machine.half_precision("bf16", torch.device("cpu")) and not machine.half_precision("float32", torch.device("cpu"))
    machine.half_precision.cache_clear()


def test_workers_get_open_files_and_shared_memory_or_one_sentence_with_the_cure(monkeypatch, tmp_path):
    limits = [(64, 4096)]
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(machine.resource, "setrlimit", lambda _, pair: limits.append(pair))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**8, 0, 64 * 10**6))
    machine.make_room_for_workers(2, 6.0, str(tmp_path))
    assert limits[-1] == (384, 4096)
    with pytest.raises(HifitseError, match="has 64 MB free, expected 70 MB for 2 workers: give it more"):
        machine.make_room_for_workers(2, 7.0, str(tmp_path))
    machine.make_room_for_workers(0, 70.0, str(tmp_path))
    limits.append((64, 128))
    with pytest.raises(HifitseError, match="ulimit -n is 128, expected 384 for 2 workers"):
        machine.make_room_for_workers(2, 6.0, str(tmp_path))


def test_progress_is_a_widget_where_somebody_sits_and_else_a_line(monkeypatch, capsys):
    with machine.progress_bar(total=3, unit="step") as bar:
        bar.update(3)
    assert "3/3" in capsys.readouterr().err and not machine.is_live()
    monkeypatch.setattr(machine, "is_live", lambda: True)
    with machine.progress_bar(total=3, unit="step") as bar:
        bar.update(2)
        bar.refresh()
        assert bar.container.children[1].value == 2
    assert capsys.readouterr().err == ""
