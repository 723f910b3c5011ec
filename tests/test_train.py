"""Test training: exact resume, clean stops, the schedule, averaged weights, a loss that is not finite; Muon."""

import errno
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings
from contextlib import closing
from itertools import count
from unittest import mock

import pytest
import torch
from processes import cut, losses, same, wait_for_step, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from tqdm import tqdm

import hifitse.training.train as train_module
from hifitse import HifitseError
from hifitse.commands.run import run as run_command
from hifitse.data import dataset
from hifitse.data.augment import hide_enrollments, spectrum_mask
from hifitse.data.manifest import CorpusError
from hifitse.evaluation.comparison import vary, with_phase
from hifitse.evaluation.cost import made_up_batch
from hifitse.losses.objective import Objective
from hifitse.params import resolve
from hifitse.presets import values as given_values
from hifitse.training import checkpoint
from hifitse.training import state as muon
from hifitse.training.checkpoint import BEST, Journal, checkpoints, load_tensors
from hifitse.training.run import MARKER, Run, locked, relative
from hifitse.training.train import TrainingError, learning_rate, new_state, train
from hifitse.training.validation import device_of

pytestmark = pytest.mark.usefixtures("runs")


def test_a_run_learns_and_is_returned_when_asked_again(monkeypatch):
    params = resolve("smoke", steps=30, lr=3e-3, loss_phase=0.0, loss_amplitude=0.0, absent_prob=[0.0], ema_decay=0.5, warmup_steps=5)
    run = train(params, progress=False)
    assert run.finished and run.step == 30 and run.seconds_per_step > 0
    first, last = (sum(row["si_sdr"] for row in rows) for rows in (run.history[:8], run.history[-8:]))
    assert last < first, "30 steps on 60 easy mixtures must lower the loss"
    assert [row["step"] for row in run.history] == list(range(1, 31))
    assert [row["step"] for row in run.validation] == [4, 8, 12, 16, 20, 24, 28, 30]
    monkeypatch.setattr(train_module, "_loop", None)  # any training would fail now
    assert train(params).step == 30


@pytest.mark.parametrize("at", [5, 6])
def test_resume_across_a_phase_boundary_is_exact(runs, monkeypatch, at):
    """Interrupt one step before the third phase and at its start, with all that curriculum and augmentation draw, and learned weights."""
    values = dict(steps=9, checkpoint_every=1, threads=1, enrollments=2, enrollments_min=1, specaug=0.2, enroll_augment_prob=0.5)
    learns = dict(loss_weighting="uncertainty", loss_snr=0.25, loss_multires=0.5, loss_speaker=0.5, optimizer="muon", both_talkers=True)
    base = resolve("smoke", **values, **learns)
    hard = {"interferers_max": 4, "snr_min_db": -10.0, "snr_max_db": 10.0, "absent_prob": 0.3, "similarity": 0.8}
    params = vary(base, with_phase(base, 2 / 3, **hard))
    step, phases = train_module.train_step, set()

    def watched(state, batches):
        phases.update((state.step, meta["phase"]) for batch in batches for meta in batch["metadata"])
        return step(state, batches)

    monkeypatch.setattr(train_module, "train_step", watched)
    cut(params, at, monkeypatch)
    assert Run.of(params).step == at
    resumed = train(params, progress=False)
    monkeypatch.setenv("HIFITSE_RUNS", str(runs / "whole"))
    whole = train(params, progress=False)
    assert {phase for at, phase in phases if at < 6} == {0, 1} and {phase for at, phase in phases if at >= 6} == {2}
    assert same(weights(resumed), weights(whole)) and losses(resumed) == losses(whole)
    assert [path.stem[-1] for path in checkpoints(whole.folder)] == ["9", "8"], "the newest two are kept"
    assert whole.history[0]["weight_snr"] == 0.25 and {"weight_absent", "weight_speaker"} <= whole.history[0].keys()
    learned = Run.of(params).objective().learned_weights()["weight_snr"]
    assert learned == pytest.approx(whole.history[-1]["weight_snr"], rel=0.1) and learned != 0.25


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_after_a_whole_step_with_a_checkpoint(runs, number):
    values = dict(steps=5000, checkpoint_every=5000, threads=1)
    code = f"from processes import train_there; train_there({values}, {{}})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=os.path.dirname(__file__), stderr=subprocess.PIPE)
    folder = runs / resolve("smoke", **values).run_id
    wait_for_step(process, folder, 3)
    process.send_signal(number)
    process.wait(60)
    assert b"the same call goes on from there" in process.stderr.read()
    run = Run.of(resolve("smoke", **values))
    assert run.step >= 3 and run.step == run.history[-1]["step"], "nothing is lost"


def test_steps_count_batches_and_the_last_update_takes_what_is_left():
    params = resolve("smoke", steps=7, accumulation=3, checkpoint_every=5, validate_every=4, threads=1)
    with mock.patch.object(train_module, "train_step", wraps=train_module.train_step) as step:
        run = train(params, progress=False)
    heard = [[meta["id"] for batch in call.args[1] for meta in batch["metadata"]] for call in step.call_args_list]
    assert [len(ids) for ids in heard] == [6, 6, 2] and len(set(sum(heard, []))) == 7 * params.batch_size
    assert [row["step"] for row in run.history] == [3, 6, 7] and [row["step"] for row in run.validation] == [6, 7]
    assert [path.stem[-1] for path in checkpoints(run.folder)] == ["7", "6"]


def test_a_cut_run_whose_steps_were_updates_is_not_gone_on_with(monkeypatch):
    params = resolve("smoke", accumulation=2, max_minutes=1e-9)
    monkeypatch.setattr(train_module.State, "header", lambda state: {"seconds": 0.0, "device": "cpu"})
    assert train(params, progress=False).step == 2
    with pytest.raises(TrainingError, match="counts updates of 2 batches as steps"):
        train(params, progress=False)


def test_not_finite_loss_stops_with_step_and_mixtures(monkeypatch):
    real, calls = Objective.forward, count(1)

    def poisoned(self, est, *rest):
        return real(self, est * float("nan") if next(calls) == 3 else est, *rest)

    monkeypatch.setattr(Objective, "forward", poisoned)
    params = resolve("smoke")
    with pytest.raises(TrainingError, match=r"not finite at step 3.*train-"):
        train(params, progress=False)
    record = json.loads((Run.of(params).folder / "not_finite.json").read_text())
    assert record["step"] == 3 and len(record["mixtures"]) == params.batch_size
    assert Run.of(params).step == 2, "the checkpoint from before is there"


def test_a_held_lock_is_another_process_and_without_locks_a_marker_file_stands_for_it(monkeypatch, tmp_path):
    def without(number: int) -> None:
        monkeypatch.setattr(fcntl, "lockf", mock.Mock(side_effect=OSError(number, os.strerror(number))))

    without(errno.EACCES)
    with pytest.raises(HifitseError, match="being trained by another process"), locked(tmp_path):
        pass
    marker = tmp_path / MARKER
    for number in (errno.ENOLCK, errno.EOPNOTSUPP):
        without(number)
        with pytest.warns(UserWarning, match=f"has no locks .{os.strerror(number)}.: the file {MARKER}"), locked(tmp_path):
            here = json.loads(marker.read_text())
            assert here["pid"] == os.getpid()
        assert not marker.exists()
    gone = subprocess.Popen(["true"])
    gone.wait()
    marker.write_text(json.dumps(here | {"pid": gone.pid}))
    with pytest.warns(UserWarning), locked(tmp_path):
        assert json.loads(marker.read_text()) == here, "what a killed process left is taken over"
    for other in (here | {"pid": os.getppid()}, {"host": "elsewhere", "pid": gone.pid}):
        marker.write_text(json.dumps(other))
        with pytest.raises(HifitseError, match=f"marked as being trained by another process.*delete {marker}"), locked(tmp_path):
            pass
        assert json.loads(marker.read_text()) == other


def test_a_validation_of_exactly_0_db_counts(tmp_path):
    with tqdm(disable=True) as bar, closing(Journal(tmp_path, resolve("smoke"), bar, 0)) as journal:
        assert [journal.validation({"si_sdri_db": value}, 1) for value in (None, 0.0, -1.0, 1.0)] == [False, True, False, True]


def test_the_best_validation_is_kept_and_curves_do_not_run_back(monkeypatch):
    scores = iter([1.0, 3.0, 2.0, 2.5, 2.2])
    monkeypatch.setattr(train_module, "quick_validate", lambda *_: {"si_sdri_db": next(scores), "si_sdri_wrong_enroll_db": None})
    params = resolve("smoke", steps=8, validate_every=2, checkpoint_every=3, threads=1)
    cut(params, 5, monkeypatch)
    run = train(params, progress=False)  # resumes from step 3
    tensors, header = load_tensors(run.folder / BEST)
    assert (header["step"], header["si_sdri_db"]) == (6, 2.5), "that of step 4 was undone, and measured again"
    best, last = run.extractor(best=True).state_dict(), run.extractor().state_dict()
    assert all(torch.equal(value, tensors[f"ema.{name}"]) for name, value in best.items()) and not same(best, last)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("train/loss")) == 8
    shown = {event.step: event.value for event in events.Scalars("train/loss")}
    assert shown == pytest.approx({row["step"]: row["loss"] for row in run.history}, rel=1e-5)
    names = set(run.history[0]) - {"step", "seconds"}
    assert {"loss", "si_sdr", "lr", "grad_norm"} <= names
    assert {f"train/{name}" for name in names} | {"valid/si_sdri_db"} <= set(events.Tags()["scalars"])


def test_what_is_said_names_steps_arms_time_and_the_run_to_begin_from(monkeypatch, capsys):
    first = train(resolve("smoke", steps=1, threads=1), progress=True, others=2)
    assert "training: 1 step of 2 mixtures, 1 CPU thread, and" in (said := capsys.readouterr().err) and "2 more trainings after it" in said
    monkeypatch.setattr(checkpoint, "FIRST_S", 0.0)
    train(resolve("smoke", steps=4, threads=1), progress=True, others=1)
    said = capsys.readouterr().err
    assert f"run {first.folder.name} is finished and differs in steps (1, here 4)" in said and f"-p start_from {first.folder.name}" in said
    assert "minutes to go" in said and "with the following trainings" in said
    assert [checkpoint.minutes(hours * 3600) for hours in (0.5, 5, 192.3)] == ["30 minutes", "5.0 hours", "8 days"]
    assert relative(resolve("smoke", steps=2, lr=0.01)) == "" and "steps (4, here 3)" in relative(resolve("smoke", steps=3))
    checkpoints(first.folder)[0].write_bytes(b"")
    with warnings.catch_warnings(action="ignore"):
        assert "steps (4, here 3)" in relative(resolve("smoke", steps=3, threads=1)), "damage of another run does no harm"
    with tqdm(disable=True) as bar, closing(Journal(first.folder, resolve("smoke", max_minutes=1), bar, 0)) as journal:
        with mock.patch.object(Journal, "_say") as say:
            journal._begun -= 500  # the only step took that long
            journal.tick(1)
        say.assert_called_once_with("about 0 minutes to go")


def test_the_command_of_a_run_gives_its_parameters():
    params = resolve("demo-best", steps=7, absent_prob=[0.1, 0.25], corpus="/a b/it's", lr=1e-3)
    words = shlex.split(Run.of(params).command)
    given = run_command.make_context("run", words[2:]).params
    assert words[:2] == ["hifitse", "run"] and given.pop("notebook") == "00_baseline"
    assert resolve(**given_values(**{name: value for name, value in given.items() if name != "name"})).run_id == params.run_id


def test_learning_rate_warms_up_falls_as_a_cosine_and_ends_at_its_floor():
    params = resolve("full", steps=1000, warmup_steps=100, lr=1e-3, lr_min=1e-5)
    rates = [learning_rate(params, step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-5) and rates[49] == pytest.approx(5e-4) and max(rates) == pytest.approx(1e-3)
    assert rates[550] == pytest.approx((1e-3 + 1e-5) / 2)
    assert rates[-1] == pytest.approx(1e-5, rel=0.01) and learning_rate(params, 5000) == pytest.approx(1e-5)
    assert all(a >= b for a, b in zip(rates[100:-1], rates[101:], strict=True))


def test_muon_takes_the_matrices_and_adamw_the_rest():
    muon, adamw = new_state(resolve("smoke", optimizer="muon")).optimizers
    assert all(p.dim() == 2 for g in muon.param_groups for p in g["params"])
    taken = [id(p) for o in (muon, adamw) for g in o.param_groups for p in g["params"]]
    assert len(taken) == len(set(taken)) == len(list(new_state(resolve("smoke")).model.parameters()))


def test_enrolments_are_dropped_and_left_out_as_often_as_asked_and_by_seed_and_step_only():
    params = resolve("smoke", enroll_dropout=0.25)
    enroll = torch.ones(4000, 1, 2)
    dropped = hide_enrollments(enroll, params, step=5, part=0)
    assert torch.equal(dropped, hide_enrollments(enroll, params, step=5, part=0))
    for other in (params, 6), (params.model_copy(update={"seed": 1}), 5):
        assert not torch.equal(dropped, hide_enrollments(enroll, *other, part=0))
    assert float((dropped.sum((1, 2)) == 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    params = resolve("smoke", enrollments=3, enrollments_min=2, enroll_dropout=0.0)
    enroll = torch.arange(3.0)[None, :, None].expand(2, 3, 4)
    counts = [hide_enrollments(enroll, params, step, 0).shape[1] for step in range(60)]
    assert set(counts) == {2, 3} and 15 < counts.count(2) < 45
    assert torch.equal(hide_enrollments(enroll, params, counts.index(2), 0), enroll[:, :2])


@pytest.mark.parametrize("samples", [479, 480, 4800, 48001])
def test_the_networks_view_is_masked_and_the_estimate_is_not(samples):
    """A mask hides parts of the spectrum from the network; the output is still the whole mixture under the network's mask."""
    params = resolve("smoke", specaug=0.3)
    state, mix, enroll = new_state(params), torch.randn(2, samples), torch.randn(2, 1, 4800)
    seen = spectrum_mask(mix, params, step=3, part=0)
    assert seen.shape == state.model.spectrum(mix).shape and 0 < float(seen.mean()) < 1
    assert torch.equal(seen, spectrum_mask(mix, params, 3, 0)) and not torch.equal(seen, spectrum_mask(mix, params, 4, 0))
    torch.testing.assert_close(state.model(mix, enroll, seen), mix, atol=0.35, rtol=0)  # at the start the network's mask is nearly 1
    assert not torch.equal(state.model(mix, enroll, seen), state.model(mix, enroll))
    assert spectrum_mask(mix, resolve("smoke"), 3, 0) is None


def test_accumulated_batches_equal_one_large_batch():
    """Two batches of 2 and one of 4 give the same step, apart from the order of summation."""
    base = dict(seed=3, enroll_dropout=0.0, clip_norm=1e6, loss_absent=1.0, lr=1e-3)
    batch = made_up_batch(resolve("smoke", batch_size=4)) | {"present": torch.tensor([True, True, False, True])}
    halves = [{k: v[i : i + 2] for k, v in batch.items()} for i in (0, 2)]
    results = []
    for values, batches in ((dict(batch_size=4, accumulation=1), [batch]), (dict(batch_size=2, accumulation=2), halves)):
        row = train_module.train_step(new_state(resolve("smoke", **base, **values)), batches)
        results.append((row["grad_norm"], row["loss"]))
    assert results[0] == pytest.approx(results[1], rel=1e-4)
    gone = batch | {"present": torch.zeros(4, dtype=torch.bool), "target": 0 * batch["target"]}
    one, two = (train_module.train_step(new_state(resolve("smoke", **base)), batches) for batches in ([batch], [batch, gone]))
    assert one["si_sdr"] == two["si_sdr"], "the mean of the batches with a target"


def test_bf16_runs_with_float32_losses_and_stays_near_float32():
    params = [resolve("smoke", precision=precision, steps=2) for precision in ("float32", "bf16")]
    whole, half = (train(each, progress=False).history[0] for each in params)
    assert whole["loss"] != half["loss"], "half precision was used"
    assert half["si_sdr"] == pytest.approx(whole["si_sdr"], abs=0.3)


def test_no_memory_no_such_device_and_a_mistyped_corpus_are_one_sentence(runs):
    with pytest.raises(CorpusError, match="'/mistyped', which does not exist"):
        train(resolve("smoke", corpus="synthetic, /mistyped"), progress=False)
    assert not list(runs.iterdir())
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="parameter 'device' is 'cuda', expected one of: auto"):
            train(resolve("smoke", device="cuda"), progress=False)
    where = ((Objective, "forward"), (torch.nn.utils, "clip_grad_norm_"), (dataset, "collate"), (train_module, "quick_validate"))
    for owner, name in where:  # a step, its optimiser, a batch rendered on the GPU, a validation
        full = mock.patch.object(owner, name, side_effect=torch.OutOfMemoryError("CUDA out of memory"))
        with full, pytest.raises(TrainingError, match="batch_size 2 does not fit .*: halve .* and double accumulation"):
            train(resolve("smoke", validate_every=1), progress=False)


def test_the_progress_bar_shows_what_the_history_holds(capsys):
    run = train(resolve("smoke", threads=1))
    last = capsys.readouterr().err.split("\r")[-1]
    assert re.search(r"4/4 \[\d+:\d+<\d+:\d+, +[\d.]+(step/s|s/step)", last), "steps, time gone and left, speed"
    shown = {name: float(value) for name, value in re.findall(r"(loss|dB)=(-?[\d.]+)", last)}
    assert shown == pytest.approx({"loss": run.history[-1]["loss"], "dB": -run.history[-1]["si_sdr"]}, abs=0.006)


def test_an_extractor_runs_where_its_weights_are():
    assert device_of(nn.Linear(1, 1, device="meta")) == torch.device("meta")
    assert device_of(lambda mix, enroll: mix) == device_of(nn.Identity()) == torch.device("cpu")


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5)])
def test_orthogonal_has_singular_values_near_one_and_keeps_directions(shape):
    torch.manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linalg.svdvals(muon.orthogonal(u @ torch.diag(s.clamp_min(0.05 * s.max())) @ v))
    assert values.min() > 0.5 and values.max() < 1.3
    assert torch.trace(u.T @ muon.orthogonal(u @ v) @ v.T) > 0.6 * min(shape), "along the input's own directions"


def test_muon_step_has_the_size_of_its_rate_whatever_the_gradients():
    for scale in (1e-6, 1.0, 1e6):
        weight = torch.nn.Parameter(torch.zeros(32, 64))
        weight.grad = torch.randn(32, 64) * scale
        muon.Muon([weight], lr=0.01).step()
        assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.002, rel=0.3)


@pytest.mark.parametrize(
    "values", [torch.ones(20), torch.logspace(0, -7, 20), torch.tensor([1.0, 0.5] + 18 * [0.0])], ids=["equal", "decaying", "rank two"]
)
def test_products_of_the_small_side_alone_give_the_same_matrix(values):
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(20, 60), full_matrices=False)
    x = u @ torch.diag(values / values.norm()) @ v
    exact = muon._step_by_step(x.double())
    assert (muon._on_small_side(x) - exact).norm() < 2e-3 * exact.norm()
    assert (muon._on_small_side(x.double()) - exact).norm() < 1e-6 * exact.norm()
    assert (muon.orthogonal(x.T).T - exact).norm() < 5e-3 * exact.norm(), "a tall one is taken as a wide one"
