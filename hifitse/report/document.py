"""HTML from the templates: pieces of a report, and one page around them that opens offline (no scripts, nothing fetched, light and dark).

Jinja escapes all text by itself; ``Markup`` is what is HTML already.
"""

import base64
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hifitse.report.style import FRAGMENTS, PAGE, TEMPLATES

JINJA = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
HEAD = JINJA.get_template("head.html").render()
"""How every page begins: the browser itself refuses scripts and all that is not inside the page."""


def piece(name: str, *values: Any) -> Markup:
    """One of the macros of ``parts.html``, filled."""
    return getattr(JINJA.get_template("parts.html").module, name)(*values)


def box(mark: str, line: str, cards: str, text: str) -> Markup:
    """A verdict with the style of all pieces: headline, cards (HTML), and what they were measured on."""
    return piece("box", Markup(FRAGMENTS), mark, line, Markup(cards), text)


def document(title: str, body: str, style: str = "") -> str:
    """A whole page.

    Args:
        title: text.
        body: HTML.
        style: CSS after that of all pages.
    """
    return JINJA.get_template("page.html").render(title=title, body=Markup(body), css=Markup(PAGE + style))


def image(png: bytes, alt: str) -> Markup:
    """A picture inside the page, with the text that stands for it where it cannot be seen."""
    return Markup('<div class="figure">{}</div>').format(piece("image", base64.b64encode(png).decode("ascii"), alt))
