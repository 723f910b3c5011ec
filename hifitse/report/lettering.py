"""Names in any script inside figures: from a font that has the letters, or else spelled as code points.

Matplotlib brings DejaVu Sans, which has Latin, Greek, Cyrillic, Arabic and Hebrew letters but no Chinese, Japanese, Korean, Thai or Indic
ones. No font is shipped here: those of the system are looked at, and what none of them has is shown as Python would write it, ``\\u6771``.
"""

from collections.abc import Callable
from functools import cache, partial

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

USUAL = "DejaVu Sans"
OTHERS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "Source Han Sans",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "IPAexGothic", "TakaoPGothic", "VL Gothic", "NanumGothic", "Droid Sans Fallback",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic",
    "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Nirmala UI", "Leelawadee UI",
    "Arial Unicode MS", "FreeSans", "Unifont",
)  # fmt: skip
"""Families that common systems have for what DejaVu Sans lacks."""


@cache
def families() -> tuple[str, ...]:
    """DejaVu Sans, then those of ``OTHERS`` that are installed here."""
    installed = {font.name for font in fontManager.ttflist}
    return (USUAL, *(name for name in OTHERS if name in installed))


@cache
def _shown(letter: str) -> str:
    """A character, or its code point where no font has it."""
    if letter == "\n":
        return letter
    for name in families():
        if get_font(findfont(FontProperties(family=name))).get_char_index(ord(letter)):
            return letter
    return letter.encode("ascii", "backslashreplace").decode() if ord(letter) > 127 else repr(letter)[1:-1]


def legible(text: str) -> str:
    """The text with ``\\u6771`` in place of a character that no font here has."""
    return "".join(map(_shown, text))


def make_legible(figure: Figure) -> None:
    """See that all letters of a figure can be drawn, and that a dollar sign in a name begins no formula."""
    for axis in figure.findobj(Axis):
        for formatter in (axis.get_major_formatter(), axis.get_minor_formatter()):
            if isinstance(formatter, FuncFormatter):  # so set_xticks keeps names, which come into the labels only while the figure is drawn
                formatter.func = partial(_legible_tick, formatter.func)
                for label in axis.get_ticklabels(which="both"):
                    _plain(label)
    for text in figure.findobj(Text):
        said = text.get_text()
        if not said.isascii() or not said.isprintable() or ("$" in said and "\\mathdefault" not in said):
            text.set_text(legible(said))
            _plain(text)


def _legible_tick(func: Callable[[float, int | None], str], value: float, place: int | None) -> str:
    return legible(func(value, place))


def _plain(text: Text) -> None:
    text.set_fontfamily(list(families()))
    text.set_parse_math(False)
