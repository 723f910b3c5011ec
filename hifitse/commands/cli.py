"""The command line tool ``hifitse``: its entry point, its shorter commands, and its exit codes.

Exit codes: 0 success, 1 failure (``hifitse run`` keeps the partial report), 2 a request that is not allowed, usually refused before
anything starts, 3 a training was cut by ``max_minutes``, 130 interrupted.
"""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hifitse import HifitseError
from hifitse.commands.extract import extract
from hifitse.commands.run import arms, run
from hifitse.commands.sitting import pack, sitting, unpack
from hifitse.presets import call, parameter_options, values

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["run", "label", "preset", "steps", "of", "best SI-SDRi, dB", "date", "what differs"]


@click.group("hifitse", context_settings={"show_default": True})
def hifitse() -> None:
    """Target speaker extraction at 48 kHz: extract voices, run notebooks without a browser, manage their reports."""


for command in (run, arms, extract, pack, unpack, sitting):
    hifitse.add_command(command)


@hifitse.command()
@click.argument("root", metavar="ROOT")
@click.option("--layout", default="folder", metavar="L", help="folder, vctk, libri, ears, dns or lhotse.")
@click.option("--kind", default="speech", metavar="K", help="speech, noise or rooms.")
@click.option("-o", "--output", required=True, metavar="MANIFEST", help="File to write, ending in .jsonl or .jsonl.gz.")
@click.option("--audit", "page", metavar="PAGE", help="Also write an .html page on bandwidth, levels and speakers.")
@click.option("--workers", type=click.IntRange(0), metavar="N", help="Number of processes (default: one per core).")
def prepare(root: str, layout: str, kind: str, output: str, page: str | None, workers: int | None) -> None:
    """Scan a folder of recordings into a manifest.

    ROOT is a corpus folder, or a folder of Lhotse manifests. Faulty files are counted by reason.
    """
    from hifitse.data.manifest import ALLOW_ROOTS
    from hifitse.files import write_text
    from hifitse.prepare import audit
    from hifitse.prepare.prepare import prepare as scan
    from hifitse.prepare.prepare import summary_path

    began = time.monotonic()
    page = audit.checked(page) if page else None
    summary = scan(root, output, layout, kind, workers=workers)
    if page:
        write_text(page, audit.render(Path(output).expanduser(), summary))
    for line in said(summary, time.monotonic() - began):
        print(f"hifitse: {line}")
    beside = f"{summary_path(Path(output)).name}{f' and {page.name}' if page else ''}"
    print(f"hifitse: wrote {output}, {beside}; use it with -p {'corpus' if kind == 'speech' else kind} {shlex.quote(output)}")
    if summary["permission"]:
        folders = shlex.quote(os.pathsep.join(summary["permission"]))
        print(f"hifitse: it names files outside of its own folder; allow that where you use it: export {ALLOW_ROOTS}={folders}")


@hifitse.command()
@click.argument("run", metavar="RUN_OR_PRESET")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Folder to write.")
@click.option("--licence", metavar="FILE", help="Text file with the licence; its first line is its short name, such as cc-by-nc-sa-4.0.")
@click.option("--study", metavar="FILE", help="For the model card: metrics.json of 14_default_model with start_from this run.")
@click.option("--best", is_flag=True, help="Export the weights of the best validation, not the final ones.")
def export(run: str, output: str, licence: str | None, study: str | None, best: bool) -> None:
    """Export a finished training as a model folder.

    RUN_OR_PRESET is a run, by name or folder, or a preset whose training is finished.
    """
    from hifitse.commands import exporting
    from hifitse.commands.exporting import Licence
    from hifitse.params import PRESET_DIR, resolve
    from hifitse.training.run import Run

    terms = Licence.read(Path(licence)) if licence else None
    found = Run.of(resolve(run)).required() if (PRESET_DIR / f"{run}.yaml").is_file() else Run.found(run)
    known = exporting.conditions(Path(study), found) if study else None
    folder = exporting.export(found, Path(output), terms, study=known, best=best)
    print(f"hifitse: {folder} holds the model of run {found.folder.name}; its README.md says how good it is")


@hifitse.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("-o", "--output", default="compare.html", metavar="HTML", help="Page to write.")
def compare(first: str, second: str, output: str) -> None:
    """Compare two runs, two scores, or two reports, side by side on one page.

    A and B are two runs, by name or folder, two folders that `hifitse score` wrote, or two report folders.
    """
    from hifitse.report import collect

    collect.compare(first, second, Path(output))
    print(f"hifitse: open {output} in a browser")


@hifitse.command()
def gallery() -> None:
    """Write the index of all reports and the tables of README.md."""
    from hifitse.report import gallery, report

    *others, mine = report.roots()
    page, _ = gallery.write(mine, *others)  # of the user's own reports and the committed ones
    committed, text = report.CHECKOUT / "reports", report.CHECKOUT / "README.md"
    if committed in report.roots() and text.exists():
        gallery.fill(text, committed)
    shown = os.path.relpath(page) if page.is_relative_to(Path.cwd()) else page
    print(f"hifitse: open {shown} in a browser; index.md lies beside it")


@hifitse.command()
def runs() -> None:
    """List all trainings in the runs folder, newest first."""
    from hifitse.training.run import runs_dir

    found = trainings(runs_dir())
    if hidden := len(list(runs_dir().glob("*/params.json"))) - len(found):
        print(f"hifitse: {hidden} not listed: damaged, or with a parameter that this version does not have", file=sys.stderr)
    if found.empty:
        print(f"no training in {runs_dir()} yet")
        return
    widths = {name: min(found[name].str.len().max(), most) for name, most in (("label", 40), ("what differs", 400))}
    left = {name: f"{{:<{width}.{width}}}".format for name, width in widths.items()}  # left-aligned
    print(found.to_string(index=False, formatters=left, float_format="{:+.2f}".format, na_rep="–"))


def trainings(folder: Path) -> "pd.DataFrame":
    """Return the readable trainings in a folder of runs, newest first, as a frame with :data:`COLUMNS`.

    Columns are the run's id, label of its report, preset (with ``-real`` or ``-synthetic`` if the voices are not the preset's kind), steps
    done, steps requested, best SI-SDRi on the validation list, time of the last change, and parameters that differ from the preset.
    """
    import pandas as pd

    from hifitse.report import report
    from hifitse.training.run import Run

    rows = []
    for path in folder.glob("*/params.json"):
        with contextlib.suppress(OSError, ValueError, HifitseError):
            run = Run.at(path.parent)
            best = max((row["si_sdri_db"] for row in run.validation if isinstance(row.get("si_sdri_db"), float)), default=float("nan"))
            changed = max(file.stat().st_mtime for file in (path, run.folder / "history.jsonl") if file.is_file())
            differs = ", ".join(f"{name}={value}" for name, value in sorted(report.differences(run.params, evaluation=False).items()))
            top = report.top(run.params.preset, run.params.corpus)
            date = f"{datetime.fromtimestamp(changed):%Y-%m-%d %H:%M}"
            rows.append((changed, [run.folder.name, run.label, top, run.step, run.params.steps, best, date, differs]))
    ordered = [row for _, row in sorted(rows, reverse=True, key=lambda each: each[0])]
    return pd.DataFrame(ordered, columns=COLUMNS).astype({"label": str, "what differs": str})


@hifitse.command()
@click.argument("name", default="", metavar="[NAME]")
def params(name: str) -> None:
    """List every parameter, or one: default, range, unit and meaning."""
    from hifitse.params import describe

    print(describe(name))


@hifitse.command()
@click.option("-o", "--output", required=True, metavar="LIST", help="File to write, .jsonl: one scene per line.")
@click.option("--voicefilter", metavar="CSV", help="Import a VoiceFilter list of tuples for the corpus (VCTK or LibriSpeech).")
@click.option("--librimix", metavar="CSV", help="Import a LibriMix metadata file for the corpus (LibriSpeech).")
@click.option("--enrolments", metavar="MAP", help="For --librimix: file with lines of mixture, utterance and enrolment.")
@click.option("--wham", metavar="FOLDER", help="For --librimix: folder of the WHAM noise (default: no noise).")
@click.option("--sound", metavar="FOLDER", help="Also write mixtures, targets and enrolments as sound files, for other systems.")
@parameter_options("demo")
def scenes(
    output: str, voicefilter: str | None, librimix: str | None, enrolments: str | None, wham: str | None, sound: str | None, **given: Any
) -> None:
    """Write a test list, for evaluation with -p eval_list LIST.

    Each line is a scene: who speaks when, how loud and in which room. Without an import, the scenes are those of the evaluation itself.
    Paths of an import are relative to the corpus folder. To train on that folder too, prepare it with -o FOLDER/manifest.jsonl.gz.
    """
    from hifitse.data import lists
    from hifitse.data.manifest import sha256
    from hifitse.params import resolve

    params = resolve(**({"preset": "demo"} | values(**given)))
    if voicefilter and librimix:
        raise click.UsageError("--voicefilter and --librimix are both given, expected one")
    if bool(librimix) != bool(enrolments) or (wham and not librimix):
        raise click.UsageError("--librimix, --enrolments and --wham are given in part, expected the first two, all three, or none")
    if librimix:
        found = lists.librimix(Path(librimix), Path(enrolments), params.corpus, wham)
    else:
        found = lists.voicefilter(Path(voicefilter), params.corpus) if voicefilter else lists.drawn(params)
    count = lists.write_scenes(output, found)
    if sound:
        lists.write_sound(params.model_copy(update={"eval_list": output, "noise": wham or params.noise}), Path(sound))
    noise = f" -p noise {wham}" if wham else ""
    same = "corpus" if voicefilter or librimix else "corpus, noise and rooms"
    print(f"hifitse: {output} holds {count} scenes; evaluate on them with -p eval_list {output}{noise} and the same {same}")
    print(f"hifitse: cite it by its SHA-256, {sha256(output)}")


@hifitse.command()
@click.argument("scenes", metavar="LIST")
@click.option("--estimates", required=True, metavar="DIR", help="Folder with ID.wav for each scene and, optionally, wrong/ID.wav.")
@click.option("-o", "--output", metavar="FOLDER", help="Folder for rows and report (default: DIR/score).")
@parameter_options("demo")
def score(scenes: str, estimates: str, output: str | None, **given: Any) -> None:
    """Score any system's estimates on a list of scenes.

    LIST is a file written by `hifitse scenes`; -p corpus, noise and rooms say where its recordings are. Estimates can have any level
    and sample rate, but must be aligned with their mixtures: a delay of 1 ms makes SI-SDR worthless.
    """
    from hifitse.data.manifest import sha256
    from hifitse.evaluation import score as scoring
    from hifitse.params import resolve

    params = resolve(**({"preset": "demo"} | values(**given) | {"eval_list": scenes}))
    folder, system = Path(output or Path(estimates) / "score"), Path(estimates)
    title = f"{system.name} on {Path(scenes).name} (SHA-256 {sha256(scenes)[:12]})"
    print(scoring.write_score(scoring.score(params, system), folder, title))
    print(f"hifitse: wrote report.md, metrics.json and rows.jsonl to {folder}")


def said(summary: dict[str, Any], seconds: float) -> list[str]:
    """Format the summary of a scan as lines for the terminal."""
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
    if summary["kind"] == "speech" and (usable := summary["speakers"] - summary["speakers_with_one_file"]) < 6:
        lines.append(f"speakers with two or more files: {usable}, a training needs 6; if there are more, check ROOT and --layout")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):  # escape characters that the terminal cannot show
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # handle SIGTERM like Ctrl-C
    try:
        code = call(hifitse, argv) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does Python's last flush fail
        return 1
    except HifitseError as error:
        print(f"hifitse: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hifitse: interrupted; no half-written file is left, and the same command continues where it stopped", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"hifitse: {error}; expected folders and a disk that can be written", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
