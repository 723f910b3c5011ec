"""Style sheets: ``FRAGMENTS`` for the pieces that a notebook shows, ``PAGE`` for the exported page around them."""

from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates")
FRAGMENTS = (TEMPLATES / "fragments.css").read_text(encoding="utf-8")
PAGE = (TEMPLATES / "page.css").read_text(encoding="utf-8")
