"""From an executed notebook to one HTML file that opens offline: nothing is fetched, code is folded away."""

from copy import deepcopy
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from hifitse.files import write_text
from hifitse.report.document import HEAD, PAGE, TEMPLATES

TEMPLATE = (TEMPLATES / "notebook.html").read_text(encoding="utf-8")
"""Jinja: nbconvert's classic cells in a page of our own, without its scripts."""


def css() -> str:
    """The style of the page and of code, light and dark; fragments bring theirs with the verdict."""
    light, dark = (HtmlFormatter(style=name, nobackground=True).get_style_defs(".highlight") for name in ("default", "github-dark"))
    return f"{PAGE}{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}"


def tidy(notebook: NotebookNode) -> NotebookNode:
    """The executed notebook without what swells a file: overwritten progress bars, the state of widgets, local paths. In place."""
    notebook.metadata.pop("widgets", None)
    papermill = notebook.metadata.get("papermill", {})
    papermill.update({key: Path(papermill[key]).name for key in ("input_path", "output_path") if papermill.get(key)})
    CoalesceStreamsPreprocessor().preprocess(notebook, {})
    for cell in (cell for cell in notebook.cells if "outputs" in cell):
        shown = [output for output in cell.outputs if "application/vnd.jupyter.widget-view+json" not in output.get("data", {})]
        cell.outputs = [output for output in shown if output.output_type != "stream" or output.text.strip()]
    return notebook


def gathered(notebook: NotebookNode) -> NotebookNode:
    """A copy in which code cells that show nothing are one with the code cell after them, so that one fold holds them all."""
    copied = deepcopy(notebook)
    kept: list[NotebookNode] = []
    for cell in copied.cells:
        before = kept[-1] if kept else None
        if cell.cell_type == "code" and before is not None and before.cell_type == "code" and not before.get("outputs"):
            cell.source = "\n\n".join(filter(None, (before.source.strip(), cell.source.strip())))
            kept.pop()
        kept.append(cell)
    copied.cells = kept
    return copied


def render(notebook: NotebookNode) -> str:
    """The page's HTML."""
    exporter = HTMLExporter(raw_template=TEMPLATE, exclude_input_prompt=True, exclude_output_prompt=True)
    given = {"hifitse_css": css(), "hifitse_head": HEAD, "metadata": {"name": "report"}}
    body, _ = exporter.from_notebook_node(gathered(notebook), resources=given)
    return body


SILENT = (
    "*In JupyterLab the players below stay silent until the notebook is trusted (in the command palette: Trust Notebook). "
    "[report.html](report.html) beside it plays them at once.*"
)


def finish(notebook: Path, target: Path) -> None:
    """Tidy an executed notebook in its place, and write its page; above its first players it says why they are silent."""
    executed = tidy(nbformat.read(notebook, as_version=4))
    write_text(target, render(executed))
    players = [number for number, cell in enumerate(executed.cells) if "<audio" in str(cell.get("outputs", ""))]
    if players:
        executed.cells.insert(players[0], nbformat.v4.new_markdown_cell(SILENT))
    nbformat.write(executed, notebook)
