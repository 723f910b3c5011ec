"""The command ``hifitse params``."""

import click


@click.command()
@click.argument("name", default="", metavar="[NAME]")
def params(name: str) -> int:
    """List every parameter, or one: default, range, unit and meaning."""
    from hifitse.params import describe

    click.echo(describe(name))
    return 0
