"""The summary as a reader sees it: verdict, ranking, forest plot, what is missing. A page and a text file are made of the same rows."""

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from IPython.display import HTML, Image
from matplotlib.figure import Figure

from hifitse.evaluation.rows import BASELINE
from hifitse.metrics import Interval
from hifitse.report import comparison_figures, show, tables
from hifitse.report.collect import RECORDINGS, SYNTHETIC, Report, number
from hifitse.report.show import LEAST_MIXTURES
from hifitse.report.style import FRAGMENTS
from hifitse.report.summary import PLAN, TOO_FEW, VERDICTS, Entry, ranked

Row = tuple[str, list[str]]
"""Where the first cell leads, or nothing; and the cells, plain text."""

MARKS = {
    "helped": ("▲", "good"), "neutral": ("●", "weak"), "hurt": ("▼", "bad"), TOO_FEW: ("?", "weak"),
    "complete": ("✓", "good"), "failed": ("✕", "bad"), "unreadable": ("✕", "bad"), "missing": ("○", "none"), "reported": ("✓", "none"),
}  # fmt: skip
"""Verdict or state -> sign and class of its badge; the word stands beside the sign, so that nothing hangs on colour."""
BADGES = """
.badge { white-space: nowrap; padding: .05em .5em; border-radius: 4px;
  border: 1px solid rgba(128,128,128,.45); border-left: 5px solid #6b6b6b; }
.scroll { font-size: .86em; } .scroll tbody th { min-width: 7.5em; }
.badge.good { border-left-color: #009E73; } .badge.weak { border-left-color: #E69F00; } .badge.bad { border-left-color: #D55E00; }
pre.commands { padding: .7em .9em; border-radius: 4px; background: rgba(128,128,128,.13); }
"""
RANKING = ("arm", "verdict", "measured, dB", "95 % interval", "n", "the plan, dB", "beside the plan", "time a step, parameters", "made on")
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
    seeds = number(of.content["params"].get("arm_seeds")) or 1
    several = f", {seeds:.0f} seeds" if seeds > 1 else ""
    return f"{of.data}, {of.preset}, {trained}{several}, {of.said('device')}"


def name(entry: Entry) -> str:
    """Number of the notebook and name of the arm, with what it is compared with where that is not the baseline."""
    return f"{entry.stage.number} {entry.arm}" + ("" if entry.against == BASELINE else f" (against {entry.against})")


def link(of: Report | None) -> str:
    """Relative to the root of the reports: its page, or the first of its files that exists."""
    return quote(f"{of.folder}/{of.files[0]}".encode(errors="replace")) if of and of.files else ""


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
        "to have helped, and the luck of a single training is not in the intervals. "
    )
    text += f"Where the plan names a range ({_count(hoped, 'arm')}), the whole interval is below it for {below}. " if hoped else ""
    text += "The plan speaks of 1.5 million steps on recordings; what each number here was made on stands beside it."
    return headline, cards, text


def verdict(entries: Sequence[Entry]) -> str:
    """HTML: the verdict in a box, with the styles of all fragments of the summary."""
    headline, cards, text = sentences(entries)
    boxes = "".join(f'<div class="card"><span>{data}</span> <b>{helped}</b> <small>{rest}</small></div>' for data, helped, rest in cards)
    return (
        f'<style>{FRAGMENTS}{BADGES}</style><div class="verdict"><p class="headline">{headline}</p>'
        f'<div class="cards">{boxes}</div><p>{text}</p></div>'
    )


def badge(word: str) -> str:
    """HTML: sign and word."""
    sign, kind = MARKS[word]
    return f'<span class="badge {kind}">{sign} {word}</span>'


def table(header: Sequence[str], rows: Iterable[Row], linked: bool = True) -> str:
    """HTML: a table that scrolls sideways, with badges for verdicts and states. All text is escaped."""
    body = ""
    for place, (first, *others) in rows:
        head = f'<a href="{html.escape(place)}">{html.escape(first)}</a>' if linked and place else html.escape(first)
        shown = [(cell, badge(cell) if cell in MARKS else html.escape(cell)) for cell in others]
        cells = "".join(f'<td class="{"long" if len(cell) > 32 else "short"}">{content}</td>' for cell, content in shown)
        body += f'<tr><th scope="row">{head}</th>{cells}</tr>\n'
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>'


def ranking(entries: Sequence[Entry], data: str, linked: bool = False) -> str:
    """HTML: the measured arms on one kind of data, by gain."""
    rows = ranking_rows(entries, data)
    return table(RANKING, rows, linked) if rows else f"<p>Nothing was measured on {data} yet.</p>"


def stages(entries: Sequence[Entry]) -> str:
    """HTML: the plan's table, and what became of each claim."""
    return table(STAGES, stage_rows(entries))


def gaps(entries: Sequence[Entry], preset: str = "demo", linked: bool = False) -> str:
    """HTML: what is missing or went wrong, why, and the commands that make it."""
    rows, lines = gap_rows(entries), commands(entries, preset)
    if not rows:
        return "<p>Nothing is missing: every claim has a complete report on both kinds of data.</p>"
    typed = f'<p>The commands that make it:</p><pre class="commands">{html.escape(chr(10).join(lines))}</pre>' if lines else ""
    need = "<p>Those with <code>--overlay real</code> need recordings in the folder that HIFITSE_DATA names.</p>" if "real" in typed else ""
    return table(GAPS, rows, linked) + typed + need


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
    drawn = [(label.replace("$", r"\$"), value, expected) for label, value, expected in lines]  # dollars would set a formula
    figure = comparison_figures.forest(drawn, "difference in SI-SDRi from the baseline, dB")
    return figure, f"Gains on {data} with 95 % intervals and the plan's ranges, largest first: {shown}"


def picture(entries: Sequence[Entry], data: str) -> Image | HTML:
    """The forest plot as a notebook shows it, or a sentence where nothing was measured."""
    drawn = forest(entries, data)
    return show.picture(*drawn) if drawn else HTML(f"<p>Nothing was measured on {data} yet, so there is no plot.</p>")
