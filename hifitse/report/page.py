"""Render HTML from the templates: fragments of a report, pages that open offline, and executed notebooks as such pages.

Jinja escapes all text automatically; ``Markup`` is already HTML. Fragments do not need nbconvert, which is not always installed.
"""

import base64
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hifitse.files import write_text

if TYPE_CHECKING:
    from nbformat import NotebookNode

TEMPLATES = Path(__file__).with_name("templates")
FRAGMENTS, PAGE = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("fragments.css", "page.css"))
"""Style sheets: for the fragments that a notebook displays, and for the exported page around them."""
JINJA = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
SILENT = (
    "*In JupyterLab the players below stay silent until the notebook is trusted (in the command palette: Trust Notebook). "
    "[report.html](report.html) beside it plays them at once.*"
)


def piece(name: str, *values: Any) -> Markup:
    """Render a macro of ``parts.html``."""
    return getattr(JINJA.get_template("parts.html").module, name)(*values)


def box(mark: str, line: str, cards: str, text: str) -> Markup:
    """Return a verdict box, including the style sheet of all fragments: headline, cards (HTML), and a text on data and scale."""
    return piece("box", Markup(FRAGMENTS), mark, line, Markup(cards), text)


def image(png: bytes, alt: str) -> Markup:
    """Return an embedded PNG image with its alternative text."""
    return Markup('<div class="figure">{}</div>').format(piece("image", base64.b64encode(png).decode("ascii"), alt))


def document(title: str, body: str, style: str = "") -> str:
    """Return a complete page: title (text), body (HTML), and ``style``, CSS appended to that of all pages."""
    return JINJA.get_template("page.html").render(title=title, body=Markup(body), css=Markup(PAGE + style))


# ---- notebooks


def tidy(notebook: "NotebookNode") -> "NotebookNode":
    """Remove overwritten progress bars, widget state and local paths from an executed notebook. Modifies it in place."""
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook.metadata.pop("widgets", None)
    papermill = notebook.metadata.get("papermill", {})
    papermill.update({key: Path(papermill[key]).name for key in ("input_path", "output_path") if papermill.get(key)})
    CoalesceStreamsPreprocessor().preprocess(notebook, {})
    for cell in (cell for cell in notebook.cells if "outputs" in cell):
        shown = [output for output in cell.outputs if "application/vnd.jupyter.widget-view+json" not in output.get("data", {})]
        cell.outputs = [output for output in shown if output.output_type != "stream" or output.text.strip()]
    return notebook


def render(notebook: "NotebookNode") -> str:
    """Render a notebook as an HTML page. Code is folded; code cells without output share a fold with the code cell after them."""
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    cells: list[NotebookNode] = []
    for cell in deepcopy(notebook.cells):
        if cells and cells[-1].cell_type == cell.cell_type == "code" and not cells[-1].get("outputs"):
            cell.source = "\n\n".join(filter(None, (cells.pop().source.strip(), cell.source.strip())))
        cells.append(cell)
    light, dark = (HtmlFormatter(style=name, nobackground=True).get_style_defs(".highlight") for name in ("default", "github-dark"))
    style = f"{PAGE}{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}"
    given = {"hifitse_css": style, "hifitse_head": JINJA.get_template("head.html").render(), "metadata": {"name": "report"}}
    template = (TEMPLATES / "notebook.html").read_text(encoding="utf-8")  # nbconvert's classic cells, without scripts
    exporter = HTMLExporter(raw_template=template, exclude_input_prompt=True, exclude_output_prompt=True)
    return exporter.from_notebook_node(type(notebook)(notebook, cells=cells), resources=given)[0]


def finish(notebook: Path, target: Path) -> None:
    """Tidy an executed notebook in place and write its page. A note above the notebook's first players says why they may be silent."""
    import nbformat

    executed = tidy(nbformat.read(notebook, as_version=4))
    words = next((cell.source for cell in executed.cells if cell.cell_type == "markdown"), "")
    executed.metadata.title = words.partition("\n")[0].lstrip("# ")
    write_text(target, render(executed))
    players = [number for number, cell in enumerate(executed.cells) if "<audio" in str(cell.get("outputs", ""))]
    if players:
        executed.cells.insert(players[0], nbformat.v4.new_markdown_cell(SILENT))
    nbformat.write(executed, notebook)
