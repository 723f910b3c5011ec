"""The command ``hifitse extract``."""

import signal
import sys

import click

from hifitse import HifitseError


class Extract(click.Command):
    """``--enroll A B`` takes all words up to the next option, which click's own options do not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words, listed = [], False
        for word in args:
            if listed and not word.startswith("-"):
                words += ["--enroll"] * (words[-1] != "--enroll") + [word]
            else:
                words, listed = [*words, word], word == "--enroll"
        return super().parse_args(ctx, words)


@click.command(cls=Extract)
@click.argument("mixes", nargs=-1, required=True, metavar="MIX...")
@click.option("--enroll", multiple=True, required=True, metavar="A...", help="Recordings of the wanted speaker alone.")
@click.option("-o", "--output", required=True, metavar="OUT", help="A .wav or .flac file or a folder; of several MIX a folder.")
@click.option("--model", metavar="PATH", help="A model's folder or name on the Hugging Face Hub (default: a small one, CC BY-NC-SA 4.0).")
def extract(mixes: tuple[str, ...], enroll: tuple[str, ...], output: str, model: str | None) -> int:
    """Write one speaker's voice out of recordings.

    MIX are recordings of any rate and length; channels are averaged. The exit code is 1 where one failed; the others are done.
    """
    from hifitse.model import extract_files

    pairs = extract_files.plan(mixes, enroll, output)
    import torch

    from hifitse.model import Extractor

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is handled as Ctrl-C is
    failed = 0
    try:
        extractor = Extractor.from_pretrained(model).to("cuda" if torch.cuda.is_available() else "cpu")
        speaker = extract_files.encode_files(extractor, enroll)
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
