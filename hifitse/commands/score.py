"""The command ``hifitse score``."""

from pathlib import Path
from typing import Any

import click

from hifitse.presets import parameter_options, values


@click.command()
@click.argument("scenes", metavar="LIST")
@click.option("--estimates", required=True, metavar="DIR", help="A file ID.wav for each scene, and perhaps wrong/ID.wav.")
@click.option("-o", "--output", metavar="FOLDER", help="Where rows and report go (default: DIR/score).")
@parameter_options("demo")
def score(scenes: str, estimates: str, output: str | None, **given: Any) -> int:
    """Score any system's estimates of a list of scenes.

    LIST is a file of `hifitse scenes`; -p corpus, noise and rooms say where its recordings are. Rows, intervals and confusions are those
    of the evaluation of models trained here.
    """
    from hifitse.evaluation.score import score as measured
    from hifitse.evaluation.score import write_score
    from hifitse.params import resolve

    params = resolve(**({"preset": "demo"} | values(**given) | {"eval_list": scenes}))
    folder = Path(output or Path(estimates) / "score")
    print(write_score(measured(params, Path(estimates)), folder, f"{Path(estimates).name} on {Path(scenes).name}"))
    print(f"hifitse: wrote report.md, metrics.json and rows.jsonl to {folder}")
    return 0
