"""The summary as a reader sees it: verdict, ranking, forest plot, what is missing. A page and a text file are made of the same rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from markupsafe import Markup
from matplotlib.figure import Figure

from hifitse.evaluation.rows import BASELINE
from hifitse.metrics import Interval
from hifitse.report import comparison_figures, document, tables
from hifitse.report.collect import RECORDINGS, SYNTHETIC, Report
from hifitse.report.document import piece
from hifitse.report.show import LEAST_MIXTURES
from hifitse.report.summary import PLAN, TOO_FEW, VERDICTS, Entry, ranked

Row = tuple[str, list[str]]
"""Where the first cell leads, or nothing; and the cells, plain text."""

MARKS = {
    "helped": ("▲", "good"), "neutral": ("●", "weak"), "hurt": ("▼", "bad"), TOO_FEW: ("?", "weak"),
    "complete": ("✓", "good"),
    "cut": ("◐", "weak"), "failed": ("✕", "bad"), "unreadable": ("✕", "bad"), "missing": ("○", "none"), "reported": ("✓", "none"),
}  # fmt: skip
"""Verdict or state -> sign and class of its badge; the word stands beside the sign, so that nothing hangs on colour."""
RANKING = ("arm", "verdict", "measured, dB", "95 % interval", "n", "the plan, dB", "beside the plan", "time per step, size", "made on")
STAGES = ("claim", "the plan, dB", SYNTHETIC, RECORDINGS, "also said", "effort", "new training")
GAPS = ("claim", "data", "state", "reason")


def gain(expected: tuple[float, float] | None) -> str:
    """A range of gains in dB, or a dash."""
    return f"{tables.number(expected[0], 1, True)} to {tables.number(expected[1], 1, True)}" if expected else "–"


def beside(entry: Entry) -> str:
    """Where the interval lies relative to the range that the plan expects."""
    if not entry.expected or not entry.value or entry.verdict == TOO_FEW:
        return "–"
    if entry.value.high < entry.expected[0]:
        return "below it"
    return "above it" if entry.value.low > entry.expected[1] else "overlaps it"


def _cost(entry: Entry) -> str:
    time = f"{entry.slower:.2f} ×" if entry.slower else ""
    size = f"{entry.parameters / 1e6:.2f} M" if entry.parameters else ""
    return ", ".join(filter(None, [time, size])) or "–"


def made_on(of: Report, steps: float | None) -> str:
    """Data and scale in a few words."""
    trained = f"{steps:,.0f} steps" if steps else "steps not said"
    seeds = of.metrics.params.get("arm_seeds")
    several = f", {seeds} seeds" if isinstance(seeds, int) and seeds > 1 else ""
    return f"{of.data}, {of.preset}, {trained}{several}, {of.said('device')}"


def name(entry: Entry) -> str:
    """Number of the notebook and name of the arm, with what it is compared with where that is not the baseline."""
    return f"{entry.stage.number} {entry.arm}" + ("" if entry.against == BASELINE else f" (against {entry.against})")


def link(of: Report | None) -> str:
    """Relative to the root of the reports: its page, or the first of its files that exists."""
    return quote(f"{of.place}/{of.files[0]}".encode(errors="replace")) if of and of.files else ""


def measured(entries: Iterable[Entry], data: str) -> list[Entry]:
    """The measured arms on one kind of data, the largest gain first."""
    return ranked([entry for entry in entries if entry.value is not None and entry.data == data])


def ranking_rows(entries: Iterable[Entry], data: str) -> list[Row]:
    """One row for each measured arm on one kind of data, by gain."""
    rows = []
    for entry in measured(entries, data):
        mean, ends = tables.number(entry.value.mean, 2, True), tables.interval(vars(entry.value), 2, True)
        cells = [name(entry), entry.verdict, mean, ends, str(entry.value.n), gain(entry.expected), beside(entry), _cost(entry)]
        rows.append((link(entry.report), [*cells, made_on(entry.report, entry.steps)]))
    return rows


def stage_rows(entries: Sequence[Entry]) -> list[Row]:
    """One row for each claim, in the plan's order, with what became of it on both kinds of data."""
    rows = []
    for stage in PLAN:
        cells = [f"{stage.number} {stage.title}", gain(stage.expected)]
        for data in (SYNTHETIC, RECORDINGS):
            mine = Counter(entry.verdict or entry.state for entry in entries if entry.stage == stage and entry.data == data)
            several = sum(mine.values()) > 1
            cells.append(", ".join(f"{count} {word}" if several else word for word, count in mine.items()))
        rows.append(("", [*cells, stage.remark or "–", stage.effort, stage.retrain]))
    return rows


def gap_rows(entries: Iterable[Entry]) -> list[Row]:
    """What has no gain to show, and why."""
    gaps = [entry for entry in entries if entry.state not in ("measured", "reported")]
    return [(link(entry.report), [f"{entry.stage.number} {entry.stage.title}", entry.data, entry.state, entry.reason]) for entry in gaps]


def commands(entries: Iterable[Entry], preset: str = "demo") -> list[str]:
    """The command for each claim and kind of data that is missing or went wrong, where there is such a notebook."""
    lines = []
    for entry in entries:
        if entry.state in ("failed", "unreadable", "missing") and entry.runnable:
            lines.append(f"hifitse run {entry.stage.notebook} --preset {preset}" + (" --overlay real" if entry.data == RECORDINGS else ""))
    return list(dict.fromkeys(lines))


def _count(number_of: int, thing: str) -> str:
    return f"{number_of} {thing}" + ("" if number_of == 1 else "s")


def sentences(entries: Sequence[Entry]) -> tuple[str, list[tuple[str, str, str]], str]:
    """The verdict: a headline; for each kind of data its name, how many arms helped, and the rest; and how to take it."""
    claims = {entry.stage.number for entry in entries if entry.state in ("measured", "reported")}
    headline = f"{len(claims)} of the plan's {len(PLAN)} claims were measured."
    cards = []
    for data in (SYNTHETIC, RECORDINGS):
        mine = measured(entries, data)
        counted = Counter(entry.verdict for entry in mine)
        rest = [f"{counted[word]} {word}" for word in (*VERDICTS[1:], TOO_FEW) if counted[word] or word in VERDICTS]
        gone = len({entry.stage for entry in entries if entry.data == data and entry.state in ("missing", "failed", "unreadable")})
        of = f"of {_count(len(mine), 'arm')} of {_count(len({entry.stage for entry in mine}), 'claim')}"
        gaps = f"{_count(gone, 'claim')} missing, failed or unreadable"
        cards.append((data, f"{counted['helped']} helped", f"{of}; {', '.join(rest)}; {gaps}"))
    judged = [entry for entry in entries if entry.verdict in VERDICTS]
    below = sum(beside(entry) == "below it" for entry in judged)
    hoped = sum(beside(entry) != "–" for entry in judged)
    text = (
        f"An arm helped or hurt where the 95 % interval of its paired difference in SI-SDRi excludes 0; with fewer than {LEAST_MIXTURES} "
        f"mixtures there is no verdict. {_count(len(judged), 'arm')} have one: if none changed anything, about one in 40 would still seem "
        "to have helped, and seed-to-seed variance is not in the intervals. "
    )
    text += f"Where the plan names a range ({_count(hoped, 'arm')}), the whole interval is below it for {below}. " if hoped else ""
    text += "The plan speaks of 1.5 million steps on recordings; what each number here was made on stands beside it."
    return headline, cards, text


def verdict(entries: Sequence[Entry]) -> Markup:
    """HTML: the verdict in a box."""
    headline, cards, text = sentences(entries)
    return document.box("", headline, Markup("").join(piece("card", *card) for card in cards), text)


def badge(word: str) -> Markup:
    """HTML: sign and word."""
    return piece("badge", word, *MARKS[word])


def table(header: Sequence[str], rows: Iterable[Row], linked: bool = True) -> Markup:
    """HTML: a table with links from the first cells, and badges for verdicts and states."""
    shown = []
    for place, (first, *others) in rows:
        cells = [badge(cell) if cell in MARKS else cell for cell in others]
        shown.append([piece("link", first, place if linked else ""), *cells])
    return tables.table(header, shown)


def forest(entries: Sequence[Entry], data: str) -> tuple[Figure, str] | None:
    """Forest plot of one kind of data, missing claims empty, and the text that stands for it; ``None`` where nothing was measured."""
    mine = measured(entries, data)
    if not mine:
        return None
    presets = {entry.report.preset for entry in mine}
    lines: list[tuple[str, Interval | None, tuple[float, float] | None]] = [
        (name(entry) + (f", {entry.report.preset}" if len(presets) > 1 else ""), entry.value, entry.expected) for entry in mine
    ]
    done = {entry.stage for entry in mine}
    lines += [(f"{stage.number} {stage.title}", None, stage.expected) for stage in PLAN if stage not in done and stage.expected]
    shown = "; ".join(f"{label} {tables.number(value.mean, 2, True)} dB" for label, value, _ in lines if value)
    figure = comparison_figures.forest(lines, "difference in SI-SDRi from the baseline, dB")
    return figure, f"Gains on {data} with 95 % intervals and the plan's ranges, largest first: {shown}"
