"""What a notebook displays of a comparison of conditionings: how much each arm needs the enrolment, and what it spends on it."""

from IPython.display import HTML, Image

from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.counting import parameters, speaker_path
from hifitse.evaluation.rows import mean
from hifitse.metrics import Interval, paired
from hifitse.report import comparison_figures, tables
from hifitse.report.show import ENROLMENTS, gains, picture


def sensitivity(comparison: Comparison) -> Image:
    """SI-SDRi of each arm with the right, a wrong and a silent enrolment."""
    means = {
        f"{kind} enrolment": {name: mean(arm.rows, metric) for name, arm in comparison.all.items()} for kind, metric in ENROLMENTS.items()
    }
    shown = ", ".join(f"{name} {tables.number(value.mean, 2, True)} dB" for name, value in means["wrong enrolment"].items())
    figure = comparison_figures.grouped(means, "SI-SDRi, dB")
    return picture(figure, f"SI-SDRi of each arm with the right, a wrong and a silent enrolment; with a wrong one: {shown}")


def sensitivity_table(comparison: Comparison) -> HTML:
    """SI-SDRi by enrolment, the paired difference right minus wrong, and confusions, arm by arm."""
    rows = []
    for name, arm in comparison.all.items():
        cells = [tables.measured(mean(arm.rows, metric), 2, True) for metric in ENROLMENTS.values()]
        margin: Interval = paired(gains(arm, "right"), gains(arm, "wrong"))
        rows.append([name, *cells, tables.measured(margin, 2, True), tables.measured(mean(arm.rows, "confusion_rate"), 2)])
    header = ["arm", *(f"{kind} enrolment, dB" for kind in ENROLMENTS), "right minus wrong, dB", "confusions"]
    return HTML(tables.table(header, rows, "SI-SDRi, means with 95 % intervals; a wrong enrolment is that of the interferer"))


def speaker_share(comparison: Comparison) -> HTML:
    """How many of each arm's weights exist for the enrolment alone, and where."""
    rows = []
    for name, arm in comparison.all.items():
        parts, every = speaker_path(arm.params), parameters(arm.params)
        counts = [f"{number:,}" for number in (every, sum(parts.values()))]
        rows.append([name, *counts, f"{100 * sum(parts.values()) / every:.1f} %", *(f"{number:,}" for number in parts.values())])
    header = ["arm", "weights", "in the speaker path", "share", *speaker_path(comparison.baseline.params)]
    return HTML(tables.table(header, rows, "weights that exist for the enrolment alone; the band split serves mixture and enrolment"))
