"""The command ``hifitse prepare``: arguments in, counts and an exit code out."""

import argparse
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hifitse.data.manifest import ALLOW_ROOTS

PARAMETER = {"speech": "corpus", "noise": "noise", "rooms": "rooms"}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """The arguments of the command."""
    command = commands.add_parser("prepare", help="scan a folder of recordings into a manifest, and count what is wrong with them")
    command.add_argument("root", metavar="ROOT", help="folder of the corpus, or of Lhotse's manifests")
    command.add_argument("--layout", default="folder", metavar="L", help="folder, vctk, ears, dns or lhotse (default: folder)")
    command.add_argument("--kind", default="speech", metavar="K", help="speech, noise or rooms (default: speech)")
    command.add_argument("-o", "--output", required=True, metavar="MANIFEST", help="file to write, ending in .jsonl or .jsonl.gz")
    command.add_argument("--audit", default=None, metavar="PAGE", help="also write a page about bandwidth, levels and speakers, .html")
    command.add_argument("--microphone", type=int, default=1, metavar="N", help="of VCTK: 1 or 2 (default: 1)")
    command.add_argument("--workers", type=int, default=None, metavar="N", help="processes (default: one a core)")


def prepare(arguments: argparse.Namespace) -> int:
    """``hifitse prepare``. Returns the exit code."""
    from hifitse.prepare import audit
    from hifitse.prepare.prepare import prepare as scan
    from hifitse.prepare.prepare import summary_path

    began = time.monotonic()
    page = audit.checked(arguments.audit) if arguments.audit else None
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is handled as Ctrl-C is
    try:
        summary = scan(
            arguments.root, arguments.output, arguments.layout, arguments.kind, microphone=arguments.microphone, workers=arguments.workers
        )
        if page:
            audit.write(Path(arguments.output).expanduser(), summary, page)
    except KeyboardInterrupt:
        print("hifitse: stopped from outside; the same command goes on where it was", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    for line in said(summary, time.monotonic() - began):
        print(f"hifitse: {line}")
    beside = f"{summary_path(Path(arguments.output)).name}{f' and {page.name}' if page else ''}"
    print(f"hifitse: wrote {arguments.output}, {beside}; use it with -p {PARAMETER[arguments.kind]} {arguments.output}")
    if summary["permission"]:
        folders = shlex.quote(os.pathsep.join(summary["permission"]))
        print(f"hifitse: it names files outside of its own folder; allow that where you use it: export {ALLOW_ROOTS}={folders}")
    return 0


def said(summary: dict[str, Any], seconds: float) -> list[str]:
    """The summary in lines for a terminal."""
    speakers = f" of {summary['speakers']} speakers" if summary["speakers"] else ""
    lines = [f"{summary['files']} files in {seconds:.1f} s, {summary['kept']} kept{speakers}, {summary['minutes']:.1f} minutes"]
    for name, title in (("left_out", "left out"), ("marked", "kept and marked")):
        if summary[name]:
            lines.append(f"{title}: " + ", ".join(f"{count} {reason}" for reason, count in summary[name].items()))
    ends = {key: f"{value / 1000:.1f}" for key, value in summary["bandwidth_hz"].items()}
    lines.append(f"true bandwidth: median {ends['median']} kHz, a tenth below {ends['p10']} kHz")
    return lines
