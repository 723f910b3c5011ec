"""The command ``hifitse arms``: train and evaluate the arms of several notebooks, without their reports."""

import sys
from typing import Any

import click

from hifitse import HifitseError
from hifitse.commands.run import notebook_path
from hifitse.params import resolve
from hifitse.presets import parameter_options, values


@click.command()
@click.argument("notebooks", metavar="NN_name ...", nargs=-1, required=True)
@parameter_options("people")
def arms(notebooks: tuple[str, ...], **given: Any) -> int:
    """Train and evaluate what notebooks compare, without their reports.

    First the first seed of every arm, several at a time as arms_together says; then the evaluation and further seeds, notebook by notebook.
    What is finished is kept: the same command goes on after a stop, and `hifitse run` then finds all done.
    """
    from hifitse.evaluation.comparison import completed
    from hifitse.studies.combined import declared
    from hifitse.training.abreast import train_abreast

    params = resolve(**({"preset": "people"} | values(**given)), arms=True)
    found, failed = {}, []
    for name in notebooks:
        try:
            found[name] = declared(notebook_path(name).stem, params)
        except HifitseError as error:
            failed.append(f"{name}: {error}")
    every = [each for trainings in found.values() for each in trainings.values()]
    print(f"hifitse: {len({each.run_id for each in every})} trainings, {params.arms_together} at a time", flush=True)
    try:
        train_abreast(every, params.arms_together, judge=params)
    except HifitseError as error:
        failed.append(str(error))
    for name, wanted in found.items():
        try:
            done = completed(params, wanted)
            print(f"hifitse: {name} has {len(done)} arms, {sum(1 + len(arm.others) for arm in done.values())} trainings", flush=True)
        except HifitseError as error:
            failed.append(f"{name}: {error}")
    for said in failed:
        print(f"hifitse: {said}", file=sys.stderr)
    return 1 if failed else 0
