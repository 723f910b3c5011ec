"""The command ``hifitse runs``."""

import click


@click.command()
def runs() -> int:
    """List the trainings that are here, the newest first."""
    from hifitse.report.runs import listing

    print(listing())
    return 0
