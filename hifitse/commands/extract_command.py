"""The commands ``hifitse extract`` and ``hifitse export``: arguments in, sentences and an exit code out."""

import argparse
import signal
import sys
from pathlib import Path

from hifitse import HifitseError
from hifitse.presets import PRESET_DIR


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """The arguments of both commands."""
    extract = commands.add_parser("extract", help="write one speaker's voice out of recordings")
    extract.add_argument("mixes", nargs="+", metavar="MIX", help="recordings: any rate and length; channels are averaged")
    extract.add_argument("--enroll", nargs="+", required=True, metavar="A", help="recordings of the wanted speaker alone")
    extract.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="of one MIX a .wav or .flac file or a folder that exists; of several a folder"
    )
    extract.add_argument(
        "--model", metavar="PATH", help="a model's folder, or its name on the Hugging Face Hub (default: a small one under CC BY-NC-SA 4.0)"
    )
    export = commands.add_parser("export", help="make a model's folder of a training")
    export.add_argument("run", metavar="RUN_OR_PRESET", help="a folder in runs/, or the preset whose training is finished")
    export.add_argument("-o", "--output", required=True, metavar="FOLDER", help="where the model goes")
    export.add_argument("--also", action="append", default=[], metavar="OVERLAY", help="measure it on these data too, such as real")
    export.add_argument(
        "--licence", metavar="FILE", help="the model's: a text file whose first line is its short name, such as cc-by-nc-sa-4.0"
    )


def extract(arguments: argparse.Namespace) -> int:
    """``hifitse extract``. Returns 0, or 1 where a recording failed; the others are done nevertheless."""
    from hifitse.model import extract_files

    pairs = extract_files.plan(arguments.mixes, arguments.enroll, arguments.output)
    import torch

    from hifitse.model import Extractor

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is handled as Ctrl-C is
    failed = 0
    try:
        extractor = Extractor.from_pretrained(arguments.model).to("cuda" if torch.cuda.is_available() else "cpu")
        speaker = extract_files.encode_files(extractor, arguments.enroll)
        for mix, out in pairs:
            try:
                print(f"hifitse: {extract_files.extract_file(extractor, speaker, mix, out)}", flush=True)
            except HifitseError as error:
                print(f"hifitse: {error}", file=sys.stderr)
                failed = 1
    except KeyboardInterrupt:
        print("hifitse: stopped from outside; the recordings named above are done, of the others there is nothing", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return failed


def export(arguments: argparse.Namespace) -> int:
    """``hifitse export``. Returns 0."""
    from hifitse.commands import exporting
    from hifitse.commands.model_card import Licence

    licence = Licence.read(Path(arguments.licence)) if arguments.licence else None
    known = sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))
    run = exporting.find_run(arguments.run, known)
    folder = exporting.export(run, Path(arguments.output), arguments.also, licence)
    print(f"hifitse: {folder} holds the model of run {run.folder.name}; its README.md says how good it is")
    return 0
