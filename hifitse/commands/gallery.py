"""The command ``hifitse gallery``."""

import os
from pathlib import Path

import click


@click.command()
def gallery() -> int:
    """Write index.html and index.md of all reports from their metrics.json."""
    from hifitse.report import collect
    from hifitse.report.gallery import write

    page, _ = write(collect.root())
    shown = os.path.relpath(page) if page.is_relative_to(Path.cwd()) else page
    print(f"hifitse: open {shown} in a browser; index.md lies beside it")
    return 0
