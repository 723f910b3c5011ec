"""The command ``hifitse prepare``."""

import os
import shlex
import time
from pathlib import Path
from typing import Any

import click

from hifitse.data.manifest import ALLOW_ROOTS

PARAMETER = {"speech": "corpus", "noise": "noise", "rooms": "rooms"}


@click.command()
@click.argument("root", metavar="ROOT")
@click.option("--layout", default="folder", metavar="L", help="folder, vctk, ears, dns or lhotse.")
@click.option("--kind", default="speech", metavar="K", help="speech, noise or rooms.")
@click.option("-o", "--output", required=True, metavar="MANIFEST", help="File to write, ending in .jsonl or .jsonl.gz.")
@click.option("--audit", "page", metavar="PAGE", help="Also write a page about bandwidth, levels and speakers, .html.")
@click.option("--microphone", type=int, default=1, metavar="N", help="Of VCTK: 1 or 2.")
@click.option("--workers", type=int, metavar="N", help="Processes (default: one per core).")
def prepare(root: str, layout: str, kind: str, output: str, page: str | None, microphone: int, workers: int | None) -> int:
    """Scan a folder of recordings into a manifest.

    ROOT is the folder of the corpus, or of Lhotse's manifests. What is wrong with its files is counted.
    """
    from hifitse.prepare import audit
    from hifitse.prepare.prepare import prepare as scan
    from hifitse.prepare.prepare import summary_path

    began = time.monotonic()
    page = audit.checked(page) if page else None
    summary = scan(root, output, layout, kind, microphone=microphone, workers=workers)
    if page:
        audit.write(Path(output).expanduser(), summary, page)
    for line in said(summary, time.monotonic() - began):
        print(f"hifitse: {line}")
    beside = f"{summary_path(Path(output)).name}{f' and {page.name}' if page else ''}"
    print(f"hifitse: wrote {output}, {beside}; use it with -p {PARAMETER[kind]} {output}")
    if summary["permission"]:
        folders = shlex.quote(os.pathsep.join(summary["permission"]))
        print(f"hifitse: it names files outside of its own folder; allow that where you use it: export {ALLOW_ROOTS}={folders}")
    return 0


def said(summary: dict[str, Any], seconds: float) -> list[str]:
    """The summary in lines for a terminal."""
    from hifitse.prepare.prepare import of_suffixes

    speakers = f" of {summary['speakers']} speakers" if summary["speakers"] else ""
    lines = [f"{summary['files']} files in {seconds:.1f} s, {summary['kept']} kept{speakers}, {summary['minutes']:.1f} minutes"]
    left = [f"{count} {reason} ({of_suffixes(summary, reason)})" for reason, count in summary["left_out"].items()]
    marked, not_audio = ([f"{count} {what}" for what, count in summary[name].items()] for name in ("marked", "not_audio"))
    for title, parts in (("left out", left), ("kept and marked", marked), ("not audio by their names", not_audio)):
        if parts:
            lines.append(f"{title}: {', '.join(parts)}")
    ends = {key: f"{value / 1000:.1f}" for key, value in summary["bandwidth_hz"].items()}
    lines.append(f"true bandwidth: median {ends['median']} kHz, a tenth below {ends['p10']} kHz")
    return lines
