"""Figures: the numbers they draw, one colour scale, nothing cut off, small files."""

import io

import numpy as np
import pytest
from PIL import Image

from hifitse.metrics import Interval, bootstrap
from hifitse.report import figures

SECOND = np.arange(48_000) / 48_000


def tone(hertz: float, amplitude: float = 1.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * SECOND)).astype(np.float32)


def assert_nothing_cut(figure) -> None:
    figure.savefig(io.BytesIO(), dpi=figures.DPI)  # lays it out
    box, page = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= -0.01 and box.y0 >= -0.01
    assert box.x1 <= page[0] + 0.01 and box.y1 <= page[1] + 0.01


@pytest.mark.parametrize("hertz", [200, 1000, 7000, 20_000])
def test_spectrogram_shows_a_tone_at_its_frequency_and_level(hertz):
    image = figures.spectrogram(tone(hertz))
    row, column = np.unravel_index(image.argmax(), image.shape)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 24_000 / 700), 121) / 2595) - 1)
    width = max(edges[row + 1] - edges[row], 48_000 / 2048)
    assert edges[row] - width <= hertz <= edges[row + 1] + width
    assert image[:, image.shape[1] // 2].max() == pytest.approx(-6.0, abs=1.5)


def test_spectrogram_of_half_the_amplitude_is_6_db_lower():
    middle = figures.spectrogram(tone(3000)).shape[1] // 2
    full, half = (figures.spectrogram(tone(3000, a))[:, middle].max() for a in (1.0, 0.5))
    assert full - half == pytest.approx(6.02, abs=0.05)


def test_spectrogram_has_one_column_a_hop_and_stands_silence():
    image = figures.spectrogram(np.zeros(48_000, np.float32), hop_length=480)
    assert image.shape == (120, 101)
    assert np.all(image == -120)


def test_spectrograms_share_one_colour_scale_and_one_bar():
    figure = figures.spectrograms({"mixture": tone(500), "target": tone(500, 0.1), "estimate": 0 * tone(500)})
    drawn = [axis.images[0] for axis in figure.axes if axis.images and axis.get_title(loc="left")]
    assert len(drawn) == 3 and len(figure.axes) == 4
    assert len({image.norm.vmax for image in drawn}) == 1
    assert drawn[0].norm.vmax - drawn[0].norm.vmin == figures.RANGE_DB
    loudest = [image.get_array().max() for image in drawn]
    assert loudest[0] == pytest.approx(drawn[0].norm.vmax)
    assert loudest[0] - loudest[1] == pytest.approx(20, abs=0.1)


def test_spectrogram_axes_reach_24_khz_and_name_their_units():
    figure = figures.spectrograms({"mixture": tone(500)})
    axis, bar = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()][-1] == "24"
    assert axis.get_ylim()[1] == pytest.approx(axis.get_yticks()[-1])
    assert (axis.get_ylabel(), axis.get_xlabel(), bar.get_ylabel()) == ("kHz", "time, s", "level, dBFS")


def test_by_condition_draws_the_means_and_counts():
    panel = {"right": {"low": bootstrap([1.0, 3.0]), "high": bootstrap([5.0])}, "wrong": {"high": bootstrap([-2.0, -4.0])}}
    figure = figures.by_condition({"SIR, dB": panel})
    axis = figure.axes[0]
    heights = [line.get_ydata().tolist() for line in axis.lines if line.get_marker() == "o"]
    assert heights == [[2.0, 5.0], [-3.0]]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["low\nn=2", "high\nn=1"]
    assert_nothing_cut(figure)


def test_curves_have_a_panel_for_each_term_and_survive_gaps():
    same = {"lr": 1e-3, "grad_norm": 2.0, "seconds": 1.0}
    history = [{"step": step, "loss": 9.0 - step, "si_sdr": 5.0 - step} | same for step in range(1, 5)]
    history[2] |= {"absent": -3.0, "loss": float("nan")}
    figure = figures.curves(history, [{"step": 4, "si_sdri_db": 1.0, "si_sdri_wrong_enroll_db": None}])
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]
    terms = ["loss, all terms", "term 'si_sdr', dB", "term 'absent', dB relative to the mixture"]
    assert titles == [*terms, "SI-SDRi of unseen speakers, dB", "learning rate", "gradient norm"]
    assert_nothing_cut(figure)


def test_curves_of_an_empty_history():
    assert_nothing_cut(figures.curves([], []))


def test_smoothing_keeps_a_constant_to_its_ends():
    assert np.allclose(figures._smooth(np.full(100, 3.0)), 3.0)


def test_presence_shades_the_target_and_labels_all():
    seconds = np.arange(80) / 10
    figure = figures.presence(seconds, {"mixture": seconds - 20, "estimate": seconds - 40}, (2.0, 5.5))
    span = figure.axes[0].patches[0]
    assert (span.get_x(), span.get_x() + span.get_width()) == (2.0, 5.5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["target speaks", "mixture", "estimate"]
    assert_nothing_cut(figure)
    figure = figures.presence(seconds, {"estimate": seconds - 40}, None, seconds / 8, 0.6)
    assert [axis.get_ylabel() for axis in figure.axes] == ["level, dBFS", "likeness to enrolment"]
    assert [line.get_ydata()[0] for line in figure.axes[1].lines] == [0, 0.6]
    assert_nothing_cut(figure)


def test_enrolment_use_draws_every_measured_mixture_once():
    values = {"right": [1.0, 2.0, 3.0], "wrong": [-1.0, None, -3.0]}
    figure = figures.enrolment_use(values, {"right": Interval(2, 1, 3, 3), "wrong": Interval(-2, -3, -1, 2)})
    dots = [np.ma.compressed(np.ma.masked_invalid(points.get_offsets()[:, 0])).tolist() for points in figure.axes[0].collections[::2]]
    assert dots[0] == [1.0, 2.0, 3.0]
    assert [1.0, 2.0, 3.0] in dots and any(entry == [-1.0, -3.0] for entry in dots)
    assert_nothing_cut(figure)


def test_png_is_small_and_keeps_the_colours():
    rng = np.random.default_rng(0)
    figure = figures.spectrograms({name: rng.standard_normal(4 * 48_000).astype(np.float32) for name in "abc"})
    data = figures.png(figure)
    image = Image.open(io.BytesIO(data))
    assert image.mode == "P" and image.width >= 700
    assert len(data) < 250_000  # noise, the worst case
    full = io.BytesIO()
    figure.savefig(full, dpi=figures.DPI)
    difference = np.abs(np.asarray(image.convert("RGB"), float) - np.asarray(Image.open(full).convert("RGB"), float))
    assert difference.mean() < 4
