"""Test fine-tuning against discriminators: networks, terms, what learns when, exact resume, collapse, and the starting weights."""

import json
import math
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import cut, losses, same, weights

import hifitse.training.train as train_module
from hifitse import HifitseError
from hifitse.evaluation.cost import made_up_batch
from hifitse.losses import Loss
from hifitse.losses.formulas import adversarial_loss, discriminator_loss, feature_loss, share_told
from hifitse.model import Extractor
from hifitse.model.pretrained import DEFAULT
from hifitse.params import Params, resolve
from hifitse.training import adversary
from hifitse.training.adversary import Adversary, Collapse, HiFiGAN, Spectral, Watch, held_steps, ramp
from hifitse.training.group import Group
from hifitse.training.run import Run
from hifitse.training.train import learning_rate, new_state, train

SMALL = {"disc_channels": 4, "gan_seconds": 0.1, "gan_warmup": 0.25, "gan_ramp": 0.25, "disc_lr": 1e-3, "freeze_norms": True}
BASE = resolve("smoke", threads=1, eval_pesq=False, device="cpu")
pytestmark = pytest.mark.usefixtures("runs")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return the folder of one finished run, from which all fine-tunings start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIFITSE_RUNS", str(tmp_path_factory.mktemp("trained")))
        return train(BASE, progress=False).folder


@pytest.fixture
def start(trained, runs) -> str:
    shutil.copytree(trained, runs / trained.name)
    return trained.name


def finetuned(start: str, **changes) -> Params:
    return Params(**(BASE.model_dump() | {"start_from": start, "gan": "stft", "steps": 8} | SMALL | changes))


def learned(module: torch.nn.Module) -> int:
    """Count the weights without the gains of the weight norm, which add one number per channel and no capacity."""
    return sum(p.numel() for name, p in module.named_parameters() if not name.endswith("original0"))


def test_the_networks_are_the_papers() -> None:
    """Counted from the tables in the papers' own code: 41.1 M weights for the periods and 29.6 M for the scales."""
    gan, c = HiFiGAN(32), 32
    first, *others = gan.scales
    assert learned(gan.periods) == 5 * 8_218_433 and learned(torch.nn.ModuleList(others)) == 2 * 9_870_209
    assert sum(p.numel() for p in first.parameters()) == 9_870_209, "spectral norm adds no weights"
    band = 2 * c * 27 + 3 * c * c * 27 + c * c * 9 + 5 * c
    assert learned(Spectral(c)) == 3 * (5 * band + 9 * c + 1)


@pytest.mark.parametrize(("kind", "parts"), [(HiFiGAN, 8), (Spectral, 3)])
@pytest.mark.parametrize("samples", [4800, 12_001])
def test_any_length_gives_scores_of_each_part_and_item(kind, parts, samples) -> None:
    maps = kind(4)(torch.randn(2, samples))
    assert len(maps) == parts and all(len(part) >= 6 for part in maps)
    assert all(each.shape[0] == 2 and each.isfinite().all() for part in maps for each in part)
    assert all(part[-1].shape[1] == 1 for part in maps)


def test_terms_are_the_formulas_written_out() -> None:
    rng = np.random.default_rng(0)
    fake, real = ([[rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 1, 5))] for _ in range(2)] for _ in range(2))
    maps = [[[torch.from_numpy(each) for each in part] for part in side] for side in (fake, real)]
    scores = [[part[-1] for part in side] for side in (fake, real)]
    expected = np.mean([np.mean((r - 1) ** 2) + np.mean(f**2) for f, r in zip(*scores, strict=True)])
    assert float(discriminator_loss(*maps)) == pytest.approx(expected)
    assert float(adversarial_loss(maps[0])) == pytest.approx(np.mean([np.mean((f - 1) ** 2) for f in scores[0]]))
    distance = np.mean([np.mean(np.abs(f[0] - r[0])) for f, r in zip(fake, real, strict=True)])
    assert float(feature_loss(*maps)) == pytest.approx(distance)
    judged = [f.mean((1, 2)) < 0.5 for f in scores[0]] + [r.mean((1, 2)) > 0.5 for r in scores[1]]
    assert share_told(*maps) == pytest.approx(np.concatenate(judged).mean())


def test_the_extractor_stands_still_in_the_warm_up_and_norms_always(start) -> None:
    params = finetuned(start)
    state, batch, rows = new_state(params), made_up_batch(params), []
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    scores = [tensor.clone() for tensor in state.adversary.model.parameters()]
    for step in range(4):
        rows.append(train_module.train_step(state, [batch]))
        moved = {name for name, tensor in state.model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert bool(moved) == (step >= 2)
    layers = [name for name, module in state.model.named_modules() if isinstance(module, torch.nn.LayerNorm)]
    norms = {f"{name}.{part}" for name in layers for part in ("weight", "bias")}
    assert norms and not moved & norms and len(moved) > len(norms)
    assert all(not torch.equal(a, b) for a, b in zip(scores, state.adversary.model.parameters(), strict=True) if b.dim() > 1)
    assert ["adversarial" in row for row in rows] == [False, False, True, True] and all("disc" in row for row in rows)
    assert [row["lr"] > 0 for row in rows] == [False, False, True, True]


def test_the_weight_rises_after_the_warm_up_and_the_rate_has_its_whole_schedule_there() -> None:
    params = resolve("smoke", gan="stft", steps=100, gan_warmup=0.1, gan_ramp=0.2, warmup_steps=5, lr=1e-3, lr_min=1e-5)
    assert held_steps(params) == 10 and held_steps(resolve("smoke", steps=100)) == 0
    assert [ramp(params, step) for step in (0, 9, 10, 19, 29, 30, 99)] == pytest.approx([0, 0, 0.05, 0.5, 1, 1, 1])
    plain = resolve("smoke", steps=90, warmup_steps=5, lr=1e-3, lr_min=1e-5)
    assert [learning_rate(params, step) for step in range(10)] == [0] * 10
    assert [learning_rate(params, 10 + step) for step in range(90)] == [learning_rate(plain, step) for step in range(90)]


def test_terms_reach_the_extractor_and_no_discriminator_and_absent_targets_neither() -> None:
    at_once = {"gan_warmup": 0.0, "gan_ramp": 0.0}
    params = resolve("smoke", gan="hifigan", steps=10, device="cpu", disc_channels=4, gan_seconds=0.1, **at_once)
    torch.manual_seed(0)
    against = Adversary(params, torch.device("cpu"))
    est = torch.randn(3, 12_000, requires_grad=True)
    target, mix = torch.randn(2, 3, 12_000)
    adversarial, feature = against.terms(est[:, :4800], target[:, :4800])
    (adversarial + feature).backward()
    assert est.grad.abs().sum() > 0 and all(p.grad is None and p.requires_grad for p in against.model.parameters())
    est.grad = None
    present = torch.tensor([True, False, True])
    joined = against.join(Loss(est.new_zeros(()), {"si_sdr": 1.0}), (est, target, mix), present, 5, 0, 1)
    whole = [p.grad.clone() for p in against.model.parameters()]
    against.model.zero_grad()
    against.join(Loss(est.new_zeros(()), {}), (est, target, mix), present, 5, 0, 4)
    quarter, of_one = (torch.cat([x.flatten() for x in each]) for each in ([p.grad for p in against.model.parameters()], whole))
    assert (4 * quarter - of_one).norm() < 0.01 * of_one.norm(), "of four batches, whatever ``accumulation`` says"
    joined.total.backward()
    assert 0 < int((est.grad[0] != 0).sum()) <= 4800, "only what was heard"
    assert est.grad[1].abs().max() == 0 and est.grad[0].abs().max() > 0 and est.grad[2].abs().max() > 0
    expected = 2 / 3 * (params.loss_adversarial * joined.terms["adversarial"] + params.loss_feature * joined.terms["feature"])
    assert joined.total.item() == pytest.approx(expected, rel=1e-5) and joined.terms["si_sdr"] == 1
    alone = Loss(est.new_ones(()), {})
    assert against.join(alone, (est, target, mix), torch.zeros(3, dtype=torch.bool), 5, 1, 2) is alone
    against.parts.clear()
    against.join(alone, (est, 0 * target, mix), present, 0, 0, 1)
    against.update(0, Group())
    assert all(tensor.isfinite().all() for tensor in against.tensors().values()), "else no checkpoint could be read"


def test_a_cut_fine_tuning_ends_bit_for_bit_as_a_whole_one(start, runs, monkeypatch) -> None:
    params = finetuned(start, checkpoint_every=3, optimizer="muon", accumulation=2, gan_patience=2, steps=5, batch_size=1)
    cut(params, 4, monkeypatch)
    assert Run.of(params).step == 4
    resumed = train(params, progress=False)
    (runs / params.run_id).rename(runs / "resumed")
    resumed.folder = runs / "resumed"
    whole = train(params, progress=False)
    assert same(weights(resumed), weights(whole)) and losses(resumed) == losses(whole)
    kept = weights(whole)
    assert any(name.startswith("adversary.optimizer.") for name in kept) and any(name.startswith("optimizer.1") for name in kept)


def test_it_starts_from_the_averaged_weights_and_hears_other_mixtures(start) -> None:
    params = finetuned(start, gan="none")
    state, given = new_state(params), Run.named(start).extractor().state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in state.ema.state_dict().items())
    assert all(torch.equal(tensor, given[name]) for name, tensor in state.model.state_dict().items())
    mixer = train_module.Mixer(params, "train")
    first, own = (next(iter(train_module.training_loader(each, mixer, 0, 2)))["metadata"][0]["id"] for each in (BASE, params))
    assert first != own


def test_a_start_that_is_not_there_or_not_finished_is_one_sentence(start) -> None:
    with pytest.raises(HifitseError, match=r"run '0123456789abcdef' cannot be read"):
        new_state(finetuned("0123456789abcdef"))
    longer = Params(**(BASE.model_dump() | {"steps": 10_000, "max_minutes": 0.005}))
    cut = train(longer, progress=False)
    done = rf"run {longer.run_id} has done {cut.step} of its 10000 steps.*: hifitse run 00_baseline --preset smoke"
    with pytest.raises(HifitseError, match=done):
        new_state(finetuned(longer.run_id))
    with pytest.raises(HifitseError, match="do not fit the model"):
        new_state(finetuned(start, features=24))


def test_the_watch_says_who_has_won_and_who_got_worse() -> None:
    params = resolve("smoke", gan="stft", steps=100, gan_warmup=0.1, gan_patience=5)
    table = ((0.3, 0.9, 4.0), (0.01, 1.0, 4.0), (0.3, 0.9, 1.5))
    quiet = {"disc": 0.3, "disc_told": 0.9}  # the targets are silent
    fine, won, lost = (dict(zip(("disc", "disc_told", "si_sdri"), numbers, strict=True)) for numbers in table)

    def ends(*parts) -> tuple[int | None, str]:
        watch = Watch(params)
        for step, each in enumerate(one for seen, count in parts for one in [seen] * count):
            try:
                watch.look(each, step)
            except Collapse as error:
                return step, str(error)
        return None, ""

    assert ends((fine, 100)) == (None, "") and ends((fine, 20), (won, 4), (fine, 76)) == (None, "")
    assert ends((fine, 1), (quiet, 99)) == ends((quiet, 100)) == (None, "")
    at, said = ends((fine, 20), (won, 80))
    assert at == 24 and "step 25" in said and "no estimate passed" in said
    assert ends((won, 100))[0] == 15, "what is won in the warm-up may be made good in a full patience after it"
    at, said = ends((fine, 20), (lost, 80))
    assert 20 < at <= 24 and "4.00 dB of the warm-up" in said and "\n" not in said


def test_a_collapsed_run_ends_with_the_weights_it_started_from_and_says_so(start, monkeypatch) -> None:
    monkeypatch.setattr(adversary, "FALL_DB", -1000.0)  # anything counts as a fall
    params = finetuned(start, gan_patience=2)
    with pytest.warns(UserWarning, match=r"collapsed at step 5: SI-SDRi .* the run ends with the weights that it started from"):
        run = train(params, progress=False)
    assert run.finished and run.step == 4 and "collapsed at step 5" in run.collapsed
    given = Run.named(start).extractor().state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in run.extractor().state_dict().items())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(params, progress=False).collapsed == run.collapsed, "asked again, it is not trained again"


def test_terms_that_are_not_finite_are_a_collapse_and_not_a_broken_mixture(start, monkeypatch) -> None:
    monkeypatch.setattr(adversary, "adversarial_loss", lambda fake: fake[0][-1].sum() * math.inf)
    with pytest.warns(UserWarning, match="collapsed at step 3: its terms are"):
        assert train(finetuned(start), progress=False).collapsed


def test_a_training_begins_with_the_weights_of_the_model_inside() -> None:
    run = Run.named(name := json.loads((DEFAULT / "metrics.json").read_text(encoding="utf-8"))["run"])
    assert run.finished
    changes = {"start_from": name, "steps": 3, "freeze_norms": False, "corpus": "synthetic", "noise": "synthetic", "rooms": "synthetic"}
    state = new_state(Params(**(run.params.model_dump() | changes)))
    inside = Extractor.from_pretrained().state_dict()
    assert all(torch.equal(weight, inside[name]) for name, weight in state.model.state_dict().items())
