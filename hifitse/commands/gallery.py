"""The command ``hifitse gallery``."""

import os
from pathlib import Path

import click


@click.command()
def gallery() -> int:
    """Write the index of all reports, and the tables of README.md, from their metrics.json."""
    from hifitse.report import readme, report
    from hifitse.report.gallery import write_index

    page = write_index()
    committed = report.CHECKOUT / "reports"
    if committed in report.roots() and (report.CHECKOUT / "README.md").exists():
        readme.fill(report.CHECKOUT / "README.md", committed)
    shown = os.path.relpath(page) if page.is_relative_to(Path.cwd()) else page
    print(f"hifitse: open {shown} in a browser; index.md lies beside it")
    return 0
