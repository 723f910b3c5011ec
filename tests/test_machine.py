"""The machine: how many cores and threads, how they wait, bfloat16, room for workers, memory that stays with the process."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from hifitse import HifitseError, machine


@pytest.mark.parametrize(
    ("files", "most"),
    [({"cpu.max": "50000 100000"}, 1), ({"cpu.max": "max 100000"}, 4096)]
    + [({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4096)]
    + [({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1), ({}, 4096)],
)
def test_cores_are_those_that_the_process_may_use(files, most, tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4096)), raising=False)
    assert machine.usable_cores(str(tmp_path)) == most


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE 0"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None")])
def test_threads_wait_without_spinning_unless_the_user_says_how(given, expected):
    told = "import os, hifitse.params; print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
    variables = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} | given
    assert subprocess.run([sys.executable, "-c", told], env=variables, capture_output=True, text=True).stdout.strip() == expected


def test_numpy_computes_on_one_thread_unless_the_user_says_how_many():
    told = "import os, hifitse.data.mixing; from threadpoolctl import threadpool_info as found; print(os.environ['OPENBLAS_NUM_THREADS'], "
    told += "*{each['num_threads'] for each in found() if each['internal_api'] == 'openblas'})"
    variables = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    for given, expected in (({}, "1 1"), ({"OPENBLAS_NUM_THREADS": "2"}, "2 ")):
        shown = subprocess.run([sys.executable, "-c", told], env=variables | given, capture_output=True, text=True).stdout
        assert shown.startswith(expected)


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
