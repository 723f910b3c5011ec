"""Shares of the gradient: a term whose gradient is known, what they depend on, the figures that show them."""

import io

import pytest
import torch

from hifitse.evaluation.cost import made_up_batch
from hifitse.losses import TERMS as LOSS_TERMS
from hifitse.losses.objective import Objective
from hifitse.params import resolve
from hifitse.report import figures
from hifitse.report.comparison_figures import training
from hifitse.studies.losses import TERMS, gradient_norms, gradient_shares, learned_weights, shares_figure
from hifitse.training.train import train

ALL = {"loss_snr": 0.25, "loss_multires": 0.5, "loss_speaker": 0.3, "loss_identity": 0.3, "loss_weighting": "uncertainty"}
SHORT = {"seconds": 0.5, "enroll_seconds": 0.5, "valid_mixtures": 1, "threads": 1, "steps": 2}


class Half(torch.nn.Module):
    """An extractor that hands out half of the mixture."""

    def forward(self, mix, enroll):
        return 0.5 * mix


def snr_gradient(est, target):
    """Of the negative SNR in dB of one item, written out."""
    error = est - target
    ratio = error.square().mean() / (target.square().mean() + 1e-10) + 1e-6
    return 20 / torch.log(torch.tensor(10.0)) * error / len(est) / (target.square().mean() + 1e-10) / ratio


def test_the_norm_is_that_of_the_gradient_at_the_mixtures_level():
    params = resolve("smoke", loss_si_sdr=0.0, loss_snr=0.5, loss_phase=0.0, loss_amplitude=0.0, loss_absent=0.0, **SHORT)
    batch = made_up_batch(params)
    found = gradient_norms(Objective(params), Half(), batch)
    items = [snr_gradient(0.5 * m, t) * m.square().mean().sqrt() * 0.5 / 2 for m, t in zip(batch["mix"], batch["target"], strict=True)]
    assert found == {"snr": pytest.approx(float(torch.cat(items).norm()), rel=1e-4)}


def test_louder_mixtures_and_other_weights_of_all_terms_change_no_share():
    """But for the terms' floors."""
    base = resolve("smoke", loss_phase=0.0, loss_amplitude=0.0, loss_snr=0.5, **SHORT)
    batch = made_up_batch(base) | {"present": torch.tensor([True, False])}
    loud = batch | {name: 4 * batch[name] for name in ("mix", "target")}
    twice = base.model_copy(update={"loss_si_sdr": 2.0, "loss_snr": 1.0, "loss_absent": 2.0})
    norms = [gradient_norms(Objective(params), Half(), each) for params, each in ((base, batch), (base, loud), (twice, batch))]
    assert set(norms[0]) == {"si_sdr", "snr", "absent"} and all(norms[0].values())
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert norms[2] == pytest.approx({name: 2 * norm for name, norm in norms[0].items()}, rel=1e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIFITSE_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield train(resolve("smoke", **SHORT, **ALL), progress=False)


def test_shares_of_a_run_add_up_to_one_and_are_the_same_again(run):
    found = gradient_shares(run, batches=2)
    assert set(found) == set(LOSS_TERMS) and sum(found.values()) == pytest.approx(1) and min(found.values()) >= 0
    assert found["si_sdr"] > 0 and found["speaker"] > 0 and gradient_shares(run, batches=2) == found


# ---- figures


def texts(figure):
    figure.savefig(io.BytesIO(), dpi=figures.DPI)
    box, page = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= -0.01 and box.y0 >= -0.01 and box.x1 <= page[0] + 0.01 and box.y1 <= page[1] + 0.01
    assert figure.legends[0].get_window_extent().x1 <= figures.DPI * page[0]
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_term_of_the_loss_has_a_name_and_a_colour_of_its_own():
    assert set(TERMS) == set(LOSS_TERMS) and len({colour for _, colour in TERMS.values()}) == len(TERMS)
    assert texts(shares_figure({"all": dict.fromkeys(TERMS, 1 / len(TERMS))})) == [name for name, _ in TERMS.values()]
    assert texts(learned_weights({"all": [{"step": 1} | {f"weight_{name}": 1.0 for name in TERMS}]}))


def test_bars_are_the_shares_and_small_ones_have_no_number():
    values = {"si_sdr": 0.14, "phase": 0.5, "speaker": 0.34, "snr": 0.02}
    figure = shares_figure({"baseline": {"si_sdr": 0.7, "absent": 0.3}, "all": values})
    assert texts(figure) == ["SI-SDR", "SNR", "phase", "speaker", "absent"]
    widths = [bar.get_width() for bars in figure.axes[0].containers for bar in bars if bar.get_width()]
    assert sorted(widths) == pytest.approx(sorted([0.7, 0.3, 0.14, 0.5, 0.34, 0.02]))
    assert {text.get_text() for text in figure.axes[0].texts} - {""} == {"70 %", "30 %", "14 %", "50 %", "34 %"}


def test_weights_are_drawn_over_the_steps_on_a_logarithmic_axis():
    rows = [{"step": step, "loss": 1.0, "weight_si_sdr": 1 / step, "weight_phase": float(step)} for step in range(1, 101)]
    figure = learned_weights({"one": rows, "two": rows[:1]})
    assert texts(figure) == ["SI-SDR", "phase"] and [axis.get_yscale() for axis in figure.axes] == ["log", "log"]
    assert figure.axes[0].lines[0].get_xydata()[-1].tolist() == [100, 0.01]


def test_curves_of_a_training_leave_the_learned_weights_out(run):
    titles = [axis.get_title(loc="left") for axis in training(run.history, run.validation).axes]
    assert "term 'multires', dB" in titles and not any("weight" in title for title in titles)
