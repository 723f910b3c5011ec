"""The command ``hifitse scenes``."""

from pathlib import Path
from typing import Any

import click

from hifitse.presets import parameter_options, values


@click.command()
@click.option("-o", "--output", required=True, metavar="LIST", help="File to write, .jsonl: a scene a line.")
@click.option("--voicefilter", metavar="CSV", help="Import VoiceFilter's tuples for the corpus (VCTK or LibriSpeech).")
@click.option("--librimix", metavar="CSV", help="Import a LibriMix metadata file for the corpus (LibriSpeech).")
@click.option("--enrolments", metavar="MAP", help="Of LibriMix: lines of mixture, utterance and enrolment.")
@click.option("--wham", metavar="FOLDER", help="Of LibriMix: the noise, which is left out otherwise.")
@click.option("--sound", metavar="FOLDER", help="Also write mixtures, targets and enrolments, for other systems.")
@parameter_options("demo")
def scenes(
    output: str, voicefilter: str | None, librimix: str | None, enrolments: str | None, wham: str | None, sound: str | None, **given: Any
) -> int:
    """Write a test list as scenes, to evaluate on with -p eval_list LIST.

    Without an import it holds the evaluation's own lists: of the test speakers, rooms and noises that the parameters name.
    """
    from hifitse.data import lists
    from hifitse.data.scene import write_scenes
    from hifitse.params import resolve

    params = resolve(**({"preset": "demo"} | values(**given)))
    if voicefilter and librimix:
        raise click.UsageError("--voicefilter and --librimix are both given, expected one")
    if librimix and not enrolments:
        raise click.UsageError("--librimix has no --enrolments, expected the map of enrolments")
    if voicefilter:
        found = lists.voicefilter(Path(voicefilter), params.corpus)
    elif librimix:
        found = lists.librimix(Path(librimix), Path(enrolments), params.corpus, wham)
    else:
        found = lists.drawn(params)
    count = write_scenes(output, found)
    if sound:
        lists.write_sound(params.model_copy(update={"eval_list": output, "noise": wham or params.noise}), Path(sound))
    print(f"hifitse: {output} holds {count} scenes; evaluate on them with -p eval_list {output}")
    return 0
