"""The command ``hifitse export``."""

from pathlib import Path

import click

from hifitse.presets import PRESET_DIR


@click.command()
@click.argument("run", metavar="RUN_OR_PRESET")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder to write.")
@click.option("--also", multiple=True, metavar="OVERLAY", help="Measure it on these data too, such as real.")
@click.option("--licence", metavar="FILE", help="The model's: a text file whose first line is its short name, such as cc-by-nc-sa-4.0.")
@click.option("--study", metavar="FILE", help="metrics.json of 14_default_model with start_from of this run, for the card.")
@click.option("--best", is_flag=True, help="The weights of the best validation instead of those of the end.")
def export(run: str, output: str, also: tuple[str, ...], licence: str | None, study: str | None, best: bool) -> int:
    """Make a model's folder of a training.

    RUN_OR_PRESET is a folder in runs/, or the preset whose training is finished.
    """
    from hifitse.commands import exporting
    from hifitse.commands.model_card import Licence

    terms = Licence.read(Path(licence)) if licence else None
    found = exporting.find_run(run, sorted(path.stem for path in PRESET_DIR.glob("*.yaml")))
    known = exporting.conditions(Path(study), found) if study else None
    folder = exporting.export(found, Path(output), also, terms, study=known, best=best)
    print(f"hifitse: {folder} holds the model of run {found.folder.name}; its README.md says how good it is")
    return 0
