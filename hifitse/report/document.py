"""HTML from the templates: pieces of a report, players, and one page around them that opens offline (no scripts, light and dark).

Jinja escapes all text by itself; ``Markup`` is what is HTML already.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hifitse import SAMPLE_RATE
from hifitse.audio import encode

TEMPLATES = Path(__file__).with_name("templates")
FRAGMENTS, PAGE = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("fragments.css", "page.css"))
"""Style sheets: for the pieces that a notebook shows, and for the exported page around them."""
JINJA = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
HEAD = JINJA.get_template("head.html").render()
"""How every page begins: the browser itself refuses scripts and all that is not inside the page."""
PEAK = 0.9
"""Largest sample of the loudest clip of a group; the rest is headroom for the overshoot of a lossy codec."""


def piece(name: str, *values: Any) -> Markup:
    """One of the macros of ``parts.html``, filled."""
    return getattr(JINJA.get_template("parts.html").module, name)(*values)


def box(mark: str, line: str, cards: str, text: str) -> Markup:
    """A verdict with the style of all pieces: headline, cards (HTML), and what they were measured on."""
    return piece("box", Markup(FRAGMENTS), mark, line, Markup(cards), text)


def document(title: str, body: str, style: str = "") -> str:
    """A whole page: title (text), body (HTML), and CSS after that of all pages."""
    return JINJA.get_template("page.html").render(title=title, body=Markup(body), css=Markup(PAGE + style))


def image(png: bytes, alt: str) -> Markup:
    """A picture inside the page, with the text that stands for it where it cannot be seen."""
    return Markup('<div class="figure">{}</div>').format(piece("image", base64.b64encode(png).decode("ascii"), alt))


def common_gain(clips: Mapping[str, np.ndarray]) -> float:
    """The one factor for all clips that brings the loudest sample among them to :data:`PEAK`: levels stay comparable."""
    peak = max((float(np.abs(audio).max(initial=0)) for audio in clips.values()), default=0.0)
    return PEAK / peak if peak > 1e-6 else 1.0


def players(clips: Mapping[str, np.ndarray], about: str) -> Markup:
    """One labelled player per clip, as MP3 inside the page, all with the same gain.

    Args:
        clips: label -> ``(T,)`` at 48 kHz.
        about: what the clips belong to, such as "best mixture", for those who do not see the heading above.

    Raises:
        AudioError: a clip is empty or not finite.
    """
    gain, shown = common_gain(clips), []
    for label, audio in clips.items():
        data = base64.b64encode(encode(audio * gain)).decode("ascii")
        shown.append((label, f"{label}, {about}, {len(audio) / SAMPLE_RATE:.1f} seconds", data))
    return piece("players", shown)
