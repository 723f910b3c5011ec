"""Test figures: what they draw and where, one colour scale, no overlapping labels, nothing cut off."""

import io
from itertools import combinations

import numpy as np
import pytest
from arms import interval
from sounds import tone

from hifitse import HifitseError
from hifitse.data.scene import training_conditions
from hifitse.metrics import Interval
from hifitse.params import resolve
from hifitse.report import figures, listening
from hifitse.report.figures import forest, grouped, lines, log_axis, presence, training
from hifitse.studies.levers import course

LONG = "a description that goes on and on until nobody can read it in one line any more"


def shown(figure) -> None:
    """Lay out the figure as a report does, and check that nothing is cut off."""
    figure.savefig(io.BytesIO(), dpi=figures.DPI)
    box, page = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= -0.01 and box.y0 >= -0.01 and box.x1 <= page[0] + 0.01 and box.y1 <= page[1] + 0.01


def assert_apart(texts) -> None:
    boxes = {text.get_text(): text.get_window_extent() for text in texts if text.get_text()}
    for (a, first), (b, second) in combinations(boxes.items(), 2):
        assert not first.overlaps(second), (a, b)


def legend_texts(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(axis, markers: str = "oDs") -> list[list]:
    return [line.get_xydata().tolist() for line in axis.lines if line.get_marker() in tuple(markers)]


@pytest.mark.parametrize("hertz", [200, 1000, 7000, 20_000])
def test_spectrogram_shows_a_tone_at_its_frequency_and_level(hertz):
    image = listening.spectrogram(tone(hertz, 1.0))
    row, _ = np.unravel_index(image.argmax(), image.shape)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 24_000 / 700), 121) / 2595) - 1)
    width = max(edges[row + 1] - edges[row], 48_000 / 2048)
    assert edges[row] - width <= hertz <= edges[row + 1] + width
    assert image[:, image.shape[1] // 2].max() == pytest.approx(-6.0, abs=1.5)


def test_spectrograms_share_one_colour_scale_and_one_bar_and_name_their_units():
    figure = listening.spectrograms({"mixture": tone(500), "target": tone(500, 0.05), "estimate": 0 * tone(500)})
    *axes, bar = figure.axes
    drawn = [axis.images[0] for axis in axes]
    loudest = [image.get_array().max() for image in drawn]
    assert [(image.norm.vmin, image.norm.vmax) for image in drawn] == 3 * [pytest.approx((loudest[0] - listening.RANGE_DB, loudest[0]))]
    assert loudest[0] - loudest[1] == pytest.approx(20, abs=0.1)
    assert [label.get_text() for label in axes[0].get_yticklabels()][-1] == "24"
    assert (axes[0].get_ylabel(), axes[-1].get_xlabel(), bar.get_ylabel()) == ("kHz", "time, s", "level, dBFS")


def test_a_training_has_a_panel_for_each_term_and_survives_gaps():
    same = {"lr": 1e-3, "grad_norm": 2.0, "seconds": 1.0, "weight_si_sdr": 0.5}
    history = [{"step": step, "loss": 9.0 - step, "si_sdr": 5.0 - step} | same for step in range(1, 5)]
    history[2] |= {"absent": -3.0, "loss": float("nan")}
    figure = training(history, [{"step": 4, "si_sdri_db": 1.0, "si_sdri_wrong_enroll_db": None}])
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]
    terms = ["loss, all terms", "term 'si_sdr', dB", "term 'absent', dB relative to the mixture"]
    assert titles == [*terms, "learning rate", "gradient norm", "SI-SDRi of unseen speakers, dB"]
    shown(figure)
    shown(training([], []))


def test_presence_shades_the_target_and_labels_all():
    seconds = np.arange(80) / 10
    figure = presence(seconds, {"mixture": seconds - 20, "estimate": seconds - 40}, (2.0, 5.5))
    span = figure.axes[0].patches[0]
    assert (span.get_x(), span.get_x() + span.get_width()) == (2.0, 5.5)
    assert legend_texts(figure) == ["target speaks", "mixture", "estimate"]
    shown(figure)
    figure = presence(seconds, {"estimate": seconds - 40}, None, seconds / 8, 0.6)
    titles = [axis.get_title(loc="left").split(",")[0] for axis in figure.axes]
    assert titles == ["level", "likeness of the estimate to the enrolment"]
    assert {line.get_ydata()[0] for line in figure.axes[1].lines} == {0, 0.6}
    shown(figure)


def test_enrolment_use_draws_every_measured_mixture_once():
    values = {"right": [1.0, 2.0, 3.0], "wrong": [-1.0, None, -3.0]}
    figure = figures.enrolment_use(values, {"right": Interval(2, 1, 3, 3), "wrong": Interval(-2, -3, -1, 2)})
    dots = [np.ma.compressed(np.ma.masked_invalid(drawn.get_offsets()[:, 0])).tolist() for drawn in figure.axes[0].collections]
    assert [1.0, 2.0, 3.0] in dots and [-1.0, -3.0] in dots
    shown(figure)


@pytest.mark.parametrize(("low", "high"), [(0.28, 0.9), (99, 140), (1, 1000), (0.001, 0.0014), (3, 3e6)])
def test_ticks_of_a_logarithmic_axis_are_some_and_apart(low, high):
    figure, axis = figures.panel(3.0)
    log_axis(axis, low, high)
    figure.draw_without_rendering()
    assert 3 <= len(axis.get_xticks()) <= 13
    assert_apart(axis.get_xticklabels())


def test_forest_draws_measured_differences_over_the_plans_ranges():
    rows = [
        ("A lstm_hidden 96", interval(0.6, 0.2), (0.5, 1.5)), ("B 6 blocks", interval(-0.1), (0.5, 1.5)), (LONG, None, (0.3, 0.8)),
        ("one seed", Interval(0.2, np.nan, np.nan, 1), (0.4, 0.4)), ("nothing known", None, None),
    ]  # fmt: skip
    figure = forest(rows, "difference, dB")
    shown(figure)
    axis = figure.axes[0]
    bands = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in axis.patches]
    assert bands == [(0.5, 1.0, 0), (0.5, 1.0, 1), (0.3, pytest.approx(0.5), 2), (0.4, 0.0, 3)]
    assert points(axis, "o") == [[[0.6, 0]], [[-0.1, 1]], [[0.2, 3]]]
    open_dots = [line.get_markerfacecolor() == "white" for line in axis.lines if line.get_marker() == "o"]
    assert open_dots == [False, True, True], "where the interval holds 0, or there is none"
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first row is on top
    assert [(text.get_text(), text.get_position()[1]) for text in axis.texts] == [("not measured", place) for place in (2, 4)]
    assert [label.get_text().replace("\n", " ") for label in axis.get_yticklabels()] == [row[0] for row in rows]
    assert_apart(axis.get_yticklabels())
    assert axis.get_window_extent().width > 0.5 * figure.bbox.width and len(legend_texts(figure)) == 3
    assert "the plan expects" not in legend_texts(forest([("alone", interval(1), None)], "dB")), "nothing there is of the plan"


ARMS = ("baseline", "augmented", "augmented, 2-3 enrolments")
GROUPS = {
    kind: {name: interval(2 - 0.3 * i + 0.2 * k) for k, name in enumerate(ARMS)}
    for i, kind in enumerate(("clean", "equalised", "noisy", "reverberant", "band limited", "codec"))
}


def test_grouped_draws_each_arm_once_in_each_group_side_by_side():
    figure = grouped({"enrolment": GROUPS}, "SI-SDRi, dB")
    shown(figure)
    axis = figure.axes[0]
    curves = np.array(points(axis))  # (arms, groups, 2)
    assert curves[:, :, 1].tolist() == [[GROUPS[kind][name].mean for kind in GROUPS] for name in ARMS]
    assert (np.diff(curves[:, :, 0], axis=0) > 0).all() and np.allclose(curves[:, :, 0].mean(0), range(len(GROUPS)))
    assert [label.get_text() for label in axis.get_xticklabels()][0] == "clean\nn=79"
    assert_apart(axis.get_xticklabels())
    assert legend_texts(figure) == list(ARMS) and (axis.get_xlabel(), axis.get_ylabel()) == ("enrolment", "SI-SDRi, dB")
    gap = {"easy": {"a": interval(1, n=10), "b": interval(2, n=12)}, "hard": {"b": interval(0)}}
    figure = grouped({"SIR, dB": gap, "SNR, dB": gap}, "SI-SDRi, dB")
    shown(figure)
    for axis, label in zip(figure.axes, ("SIR, dB", "SNR, dB"), strict=True):
        assert [[y for _, y in curve] for curve in points(axis)] == [[1], [2, 0]] and axis.get_xlabel() == label
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["easy\nn=10–12", "hard\nn=79"]


def test_grouped_has_room_for_many_arms_with_long_names_and_words():
    values = {f"{kind} donaudampfschiff": {f"{name} {LONG[:30]} {i}": interval(i) for name in "abcd" for i in (1, 2)} for kind in GROUPS}
    figure = grouped({"": values}, "SI-SDRi, dB")
    shown(figure)
    room = figure.axes[0].get_window_extent()
    assert room.height > 200 and figure.legends[0].get_window_extent().y0 > room.y1 and len(legend_texts(figure)) == 8


def test_lines_draw_each_curve_alike_in_all_panels():
    curve = [(100, 1.0), (200, 2.0)]
    figure = lines({"one": {"a": curve, "b": []}, "two": {"b": curve}}, "step", levels={"two": 0.5}, spans={"phase": (0, 150)})
    shown(figure)
    assert [points(axis, "oD") for axis in figure.axes] == [[[[100, 1], [200, 2]], []], [[[100, 1], [200, 2]]]]
    colours = [[line.get_color() for line in axis.lines if line.get_marker() == "D"] for axis in figure.axes]
    assert colours[0] == colours[1] and legend_texts(figure) == ["phase", "a", "b"]


def test_bad_input_is_refused_in_one_sentence():
    cases = {"0 rows": lambda: forest([], "x"), "0 arms": lambda: grouped({"x": {}}, "y"), "0 curves": lambda: lines({}, "x")}
    for words, call in cases.items():
        with pytest.raises(HifitseError, match=words):
            call()


def test_course_draws_what_the_training_draws_from():
    params = resolve(
        "full", phase_starts=[0.0, 2 / 15, 2 / 3], absent_prob=[0.0, 0.2, 0.3], noisy_enroll_prob=[0.0, 0.5, 0.5],
        snr_min_db=[-5, -5, -10], snr_max_db=[15, 15, 10], interferers_max=[3, 3, 4], similarity=[0, 0.3, 0.9],
    )  # fmt: skip
    figure = course(params, resolve("full"))
    shown(figure)
    starts = ["target-to-noise", "interferers", "target absent", "noisy enrolment", "similarity of"]
    assert all(axis.get_title(loc="left").startswith(start) for axis, start in zip(figure.axes, starts, strict=True))
    total = params.steps * params.batch_size
    reads = [lambda c: c.snr_min_db, lambda c: c.interferers_min, lambda c: c.absent_prob, lambda c: c.noisy_enroll_prob]
    for axis, read in zip(figure.axes, reads, strict=False):
        steps, values = (each[:400] for each in axis.lines[0].get_data())
        for share in (0.05, 0.3, 0.5, 0.9):
            expected = read(training_conditions(params, int(share * total)))
            assert np.interp(share * params.steps, steps, values) == pytest.approx(expected, abs=2e-3)
    assert legend_texts(figure) == ["this curriculum", "baseline"] and figure.axes[-1].get_xlabel() == "step"
    other = course(resolve("demo", snr_min_db=[5.0]), resolve("demo"))
    more = course(resolve("smoke", interferers_max=[3]), resolve("smoke"))
    assert "interferers: fewest and most" in [axis.get_title(loc="left") for axis in more.axes]
    assert len(other.axes) == 2 and len(course(resolve("demo", absent_prob=[0.1]), resolve("demo", absent_prob=[0.1])).axes) == 5
