"""Figures of a comparison: what they draw and where, no label over another, nothing cut off."""

import io
from itertools import combinations

import numpy as np
import pytest

from hifitse import HifitseError
from hifitse.data.conditions import training_conditions
from hifitse.metrics import Interval
from hifitse.params import resolve
from hifitse.report import figures, labels
from hifitse.report.comparison_figures import forest, gain_scatter, grouped, learning, pareto, schedule

LONG = "a description that goes on and on until nobody can read it in one line any more"


def interval(mean: float, half: float = 0.4, n: int = 79) -> Interval:
    return Interval(mean, mean - half, mean + half, n)


def shown(figure) -> None:
    """Lay the figure out, as a report does, and see that nothing is cut off."""
    figure.savefig(io.BytesIO(), dpi=figures.DPI)
    box, page = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= -0.01 and box.y0 >= -0.01
    assert box.x1 <= page[0] + 0.01 and box.y1 <= page[1] + 0.01


def assert_apart(texts) -> None:
    boxes = {text.get_text(): text.get_window_extent() for text in texts if text.get_text()}
    for (a, first), (b, second) in combinations(boxes.items(), 2):
        assert not first.overlaps(second), (a, b)


def legend_texts(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def ticks(axis) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


POINTS = {
    "baseline": (0.427, interval(2.4)), "A lstm_hidden 96": (0.51, interval(2.55)), "B 6 blocks": (0.60, interval(2.5)),
    "C both": (0.75, interval(2.7)), "16 bands": (0.30, interval(2.0)), "32 bands": (0.56, interval(2.45)),
    "hop 480": (0.85, interval(2.2)), "D 24": (0.28, interval(2.02)), "D 48": (0.7, interval(2.68)),
}  # fmt: skip


@pytest.fixture(scope="module")
def nine():
    return pareto(POINTS, "GFLOPs a second")


def front_line(figure):
    return next(line for line in figure.axes[0].lines if line.get_linestyle() == "--")


def test_pareto_front_steps_over_the_points_that_nothing_cheaper_beats(nine):
    figure = nine
    x, y = front_line(figure).get_data()
    assert list(zip(x[:-1], y[:-1], strict=True)) == [(0.28, 2.02), (0.427, 2.4), (0.51, 2.55), (0.7, 2.68), (0.75, 2.7)]
    assert front_line(figure).get_drawstyle() == "steps-post" and x[-1] == figure.axes[0].get_xlim()[1] and y[-1] == 2.7


def test_of_two_points_at_one_cost_the_better_is_on_the_front():
    figure = pareto({"worse": (1.0, interval(1)), "better": (1.0, interval(2)), "dear": (3.0, interval(2))}, "x")
    assert list(zip(*front_line(figure).get_data(), strict=True))[:-1] == [(1.0, 2.0)]


def test_pareto_labels_every_point_beside_the_others_and_off_the_bars(nine):
    figure = nine
    shown(figure)
    axis = figure.axes[0]
    assert {text.get_text() for text in axis.texts} == set(POINTS)
    assert_apart(axis.texts)
    bars = {name: axis.transData.transform([(cost, value.low), (cost, value.high)]) for name, (cost, value) in POINTS.items()}
    inside = axis.get_window_extent()
    for text in axis.texts:
        box = text.get_window_extent()
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
        for low, high in bars.values():
            assert not (box.x0 < low[0] < box.x1 and box.y0 < high[1] and low[1] < box.y1), text.get_text()


def test_pareto_of_long_names_and_of_one_point_without_interval():
    figure = pareto({f"{name} {LONG[:30]}": point for name, point in list(POINTS.items())[:5]}, "x")
    shown(figure)
    assert_apart(figure.axes[0].texts)
    alone = pareto({"baseline": (118.0, Interval(2.4, np.nan, np.nan, 1)), "nothing": (3.0, Interval(np.nan, np.nan, np.nan, 0))}, "x")
    shown(alone)
    assert [text.get_text() for text in alone.axes[0].texts] == ["baseline"]


@pytest.mark.parametrize(("low", "high"), [(0.28, 0.9), (99, 140), (1, 1000), (0.001, 0.0014), (3, 3e6)])
def test_ticks_of_a_logarithmic_axis_are_some_and_apart(low, high):
    figure = figures.Figure(dpi=figures.DPI)
    axis = figure.subplots()
    labels.log_axis(axis, low, high)
    figure.draw_without_rendering()
    assert 3 <= len(axis.get_xticks()) <= 13
    assert_apart(axis.get_xticklabels())


ROWS = [
    ("A lstm_hidden 96", interval(0.6, 0.2), (0.5, 1.5)), ("B 6 blocks", interval(-0.1), (0.5, 1.5)), (LONG, None, (0.3, 0.8)),
    ("one seed", Interval(0.2, np.nan, np.nan, 1), (0.4, 0.4)), ("nothing known", None, None),
]  # fmt: skip


def test_forest_draws_measured_differences_over_the_plans_ranges():
    figure = forest(ROWS, "difference, dB")
    shown(figure)
    axis = figure.axes[0]
    bands = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in axis.patches]
    assert bands == [(0.5, 1.0, 0), (0.5, 1.0, 1), (0.3, pytest.approx(0.5), 2), (0.4, 0.0, 3)]
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert [dot.get_xydata()[0].tolist() for dot in dots] == [[0.6, 0], [-0.1, 1], [0.2, 3]]
    assert [dot.get_markerfacecolor() for dot in dots] == [figures.BLUE, "white", "white"]  # open: the interval holds 0, or there is none
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first row on top
    assert [line for line in axis.lines if list(line.get_xdata()) == [0, 0]]
    assert axis.get_xlabel() == "difference, dB" and len(legend_texts(figure)) == 3


def test_forest_says_what_was_not_measured_in_its_row():
    axis = forest(ROWS, "difference, dB").axes[0]
    assert [(text.get_text(), text.get_position()[1], text.get_color()) for text in axis.texts] == [
        ("not measured", place, figures.GREY) for place in (2, 4)
    ]


def test_forest_keeps_every_word_of_a_long_label():
    figure = forest(ROWS, "difference, dB")
    shown(figure)
    assert [label.replace("\n", " ") for label in ticks(figure.axes[0])] == [row[0] for row in ROWS]
    assert_apart(figure.axes[0].get_yticklabels())
    assert figure.axes[0].get_window_extent().width > 0.5 * figure.bbox.width
    shown(forest(ROWS[:1], "difference, dB"))


PHASES = dict(
    phase_starts=[0.0, 2 / 15, 2 / 3], absent_prob=[0.0, 0.2, 0.3], noisy_enroll_prob=[0.0, 0.5, 0.5], snr_min_db=[-5, -5, -10],
    snr_max_db=[15, 15, 10], interferers_max=[3, 3, 4], similarity=[0, 0.3, 0.9],
)  # fmt: skip


def test_schedule_draws_what_the_training_draws_from():
    params = resolve("full", **PHASES)
    figure = schedule(params, resolve("full"))
    shown(figure)
    assert [axis.get_ylabel().split("\n")[0] for axis in figure.axes] == [
        "target-to-noise", "interferers", "target absent,", "noisy enrolment,", "similarity of",
    ]  # fmt: skip
    total = params.steps * params.batch_size
    reads = [lambda c: c.snr_min_db, lambda c: c.interferers_min, lambda c: 100 * c.absent_prob, lambda c: 100 * c.noisy_enroll_prob]
    for axis, read in zip(figure.axes, reads, strict=False):
        line = next(line for line in axis.lines if line.get_color() == figures.BLUE)
        for share in (0.05, 0.3, 0.5, 0.9):
            expected = read(training_conditions(params, int(share * total)))
            assert np.interp(share * params.steps, *line.get_data()) == pytest.approx(expected, abs=1e-3)
    assert legend_texts(figure) == ["this curriculum", "baseline"]
    assert figure.axes[-1].get_xlim() == (0, params.steps) and figure.axes[-1].get_xlabel() == "step"


def test_schedule_leaves_out_what_stays_the_same():
    one = schedule(resolve("demo"))
    assert [axis.get_ylabel() for axis in one.axes] == ["target absent,\n% of mixtures"] and not one.legends
    other = schedule(resolve("demo", snr_min_db=[5.0]), resolve("demo"))
    assert [axis.get_ylabel().split("\n")[0] for axis in other.axes] == ["target-to-noise", "target absent,"]
    constant = schedule(resolve("demo", absent_prob=[0.1]))
    assert len(constant.axes) == 5
    shown(constant)
    assert_apart(constant.axes[-1].get_xticklabels())


def test_gain_scatter_shows_each_mixture_and_counts_the_gains():
    before = np.array([0.0, 1.0, 2.0, 3.0, np.nan])
    figure = gain_scatter(before, before + [1.0, -2.0, 3.0, 0.0, 1.0], LONG[:40], "baseline, dB", "arm, dB")
    shown(figure)
    (dots,) = figure.axes[0].collections
    assert dots.get_offsets().tolist() == [[0.0, 1.0], [1.0, -1.0], [2.0, 5.0], [3.0, 3.0]]
    title = figure.axes[0].get_title(loc="left").replace("\n", " ")
    assert "in 2 of 4 mixtures, mean +0.50, median +0.50" in title
    assert [tuple(np.round(colour[:3], 2)) for colour in dots.get_facecolors()].count((0.0, 0.45, 0.7)) == 2


ARMS = ("baseline", "augmented", "augmented, 2-3 enrolments")
GROUPS = {
    kind: {name: interval(2 - 0.3 * i + 0.2 * k) for k, name in enumerate(ARMS)}
    for i, kind in enumerate(("clean", "equalised", "noisy", "reverberant", "band limited", "codec"))
}


def test_grouped_draws_each_arm_once_in_each_group_side_by_side():
    figure = grouped(GROUPS, "SI-SDRi, dB", "enrolment")
    shown(figure)
    axis = figure.axes[0]
    curves = [line.get_xydata() for line in axis.lines if line.get_marker() in "oDs"]
    assert [curve[:, 1].tolist() for curve in curves] == [[GROUPS[kind][name].mean for kind in GROUPS] for name in ARMS]
    for place in range(len(GROUPS)):
        x = [curve[place, 0] for curve in curves]
        assert x == sorted(x) and np.mean(x) == pytest.approx(place) and max(x) - min(x) < 0.8
    assert [label.get_text() for label in axis.get_xticklabels()][0] == "clean\nn=79"
    assert_apart(axis.get_xticklabels())
    assert legend_texts(figure) == list(ARMS) and (axis.get_xlabel(), axis.get_ylabel()) == ("enrolment", "SI-SDRi, dB")


def test_grouped_leaves_a_gap_where_an_arm_is_missing():
    figure = grouped({"easy": {"a": interval(1, n=10), "b": interval(2, n=12)}, "hard": {"b": interval(0)}}, "dB")
    curves = [line.get_ydata().tolist() for line in figure.axes[0].lines if line.get_marker() in "oD"]
    assert curves == [[1], [2, 0]]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["easy\nn=10–12", "hard\nn=79"]


def test_grouped_has_room_for_many_arms_with_long_names_and_words():
    values = {f"{kind} donaudampfschiff": {f"{name} {LONG[:30]} {i}": interval(i) for name in "abcd" for i in (1, 2)} for kind in GROUPS}
    figure = grouped(values, "SI-SDRi, dB")
    shown(figure)
    axis = figure.axes[0]
    assert axis.get_window_extent().height > 200
    assert figure.legends[0].get_window_extent().y0 > axis.get_window_extent().y1
    assert len(legend_texts(figure)) == 8


def test_learning_draws_a_curve_an_arm():
    rows = [{"step": step, "si_sdri_db": step / 100} for step in (100, 200)] + [{"step": 300, "si_sdri_db": None}]
    figure = learning({"baseline": rows, "arm": [], "other": rows[:1]})
    shown(figure)
    curves = [line.get_xydata().tolist() for line in figure.axes[0].lines if line.get_marker() in ("o", "D", "s")]
    assert curves == [[[100, 1], [200, 2]], [], [[100, 1]]]
    assert legend_texts(figure) == ["baseline", "arm", "other"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pareto({}, "x"), "at least one point"),
        (lambda: pareto({"free": (0.0, interval(1))}, "x"), "{'free': 0.0}, expected numbers above 0"),
        (lambda: forest([], "x"), "0 rows"),
        (lambda: gain_scatter(np.zeros(3), np.zeros(4), "a", "x", "y"), r"\(3,\) and \(4,\)"),
        (lambda: gain_scatter(np.full(3, np.nan), np.zeros(3), "a", "x", "y"), "0 of 3 mixtures"),
        (lambda: grouped({}, "y"), "0 groups"),
        (lambda: learning({}), "0 curves"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
    with pytest.raises(HifitseError, match=words):
        call()
