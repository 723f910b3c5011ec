"""One HTML page that opens offline: no scripts, nothing fetched, light and dark."""

import base64
import html

from hifitse.report.style import PAGE

HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<link rel="icon" href="data:,">
"""
"""How every page begins: the browser itself refuses scripts and all that is not inside the page."""


def document(title: str, body: str, style: str = "") -> str:
    """A whole page.

    Args:
        title: text; it is escaped.
        body: HTML, whose text is escaped already.
        style: CSS after that of all pages.
    """
    return (
        f"{HEAD}<title>{html.escape(title)}</title>\n<style>{PAGE}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def image(png: bytes, alt: str) -> str:
    """A picture inside the page, with the text that stands for it where it cannot be seen; the text is escaped."""
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'
