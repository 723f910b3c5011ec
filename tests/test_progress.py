"""What is seen of a training while it goes on: the progress bar and TensorBoard."""

import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hifitse.params import resolve
from hifitse.training.train import train


def test_progress_bar_and_tensorboard_show_what_the_history_holds(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path))
    run = train(resolve("smoke", threads=1))
    last = capsys.readouterr().err.split("\r")[-1]
    assert re.search(r"4/4 \[\d+:\d+<\d+:\d+, +[\d.]+(step/s|s/step)", last), "steps, time gone and left, speed"
    shown = {name: float(value) for name, value in re.findall(r"(loss|dB)=(-?[\d.]+)", last)}
    assert shown == pytest.approx({"loss": run.history[-1]["loss"], "dB": -run.history[-1]["si_sdr"]}, abs=0.006)

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    names = set(run.history[0]) - {"step", "seconds"}
    assert {"loss", "si_sdr", "lr", "grad_norm"} <= names
    assert {f"train/{name}" for name in names} | {"valid/si_sdri_db"} <= set(events.Tags()["scalars"])
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert losses == pytest.approx({row["step"]: row["loss"] for row in run.history}, rel=1e-5)
