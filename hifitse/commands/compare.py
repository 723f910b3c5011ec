"""The command ``hifitse compare``."""

from pathlib import Path

import click


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("-o", "--output", default="compare.html", show_default=True, metavar="HTML", help="File of the page.")
def compare(first: str, second: str, output: str) -> int:
    """Set two runs, or two reports, side by side on one page.

    A and B are names of runs or their folders, or both are folders of reports.
    """
    from hifitse.report.compare import write

    write(first, second, Path(output))
    print(f"hifitse: open {output} in a browser")
    return 0
