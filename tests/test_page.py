"""Test the page of a report: it opens offline, folds code away, escapes text, and drops widgets and local paths."""

import html
import re

import nbformat
from matplotlib.figure import Figure

from hifitse.report import page, show


def notebook(*outputs, source: str = "x = 1") -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell(source, outputs=list(outputs))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Heading"), cell], metadata={"title": "A & <B>"})


def stream(text: str, name: str = "stderr") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name=name, text=text)


def data(mime: str, value: str, **metadata) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", {mime: value}, metadata=metadata)


def assert_offline(text: str) -> None:
    assert not re.search(r"(?:src|href|action|data|poster)\s*=\s*[\"']?\s*(?:https?:)?//", text, re.IGNORECASE)
    assert "@import" not in text and not re.search(r"url\(\s*[\"']?(?!data:)", text)
    assert "<script" not in text and "default-src 'none'" in text


def test_code_and_progress_are_folded_but_not_results_and_code_that_shows_nothing_with_the_code_after_it():
    whole = notebook(data("text/html", "<p>here</p>"), stream("step 4\n"), stream("written\n", "stdout"), source="last = 3")
    whole.cells[1:1] = [nbformat.v4.new_code_cell(source) for source in ("first = 1", "", "second = 2")]
    text = page.render(whole)
    code, progress = re.findall(r"<details.*?</details>", text, re.DOTALL)
    assert all(word in code for word in ("first", "second", "last")) and "step 4" in progress
    shown = text.replace(code, "").replace(progress, "")
    assert len(whole.cells) == 5 and "<p>here</p>" in shown and "written" in shown
    assert page.render(notebook()).count("<details") == 1  # a cell at the end keeps its code


def test_page_escapes_an_error_and_shows_it_unfolded():
    error = nbformat.v4.new_output("error", ename="CorpusError", evalue="<script>x", traceback=["CorpusError: <script>x"])
    text = page.render(notebook(error))
    assert_offline(text)
    assert '<html lang="en">' in text and "<title>A &amp; &lt;B&gt;</title>" in text
    assert 'name="viewport"' in text and "prefers-color-scheme: dark" in text
    assert "CorpusError: &lt;script&gt;x" in re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)


def test_pictures_carry_their_text():
    image = show.picture(Figure(figsize=(1, 1)), 'a "small" <figure>')
    png, metadata = image._repr_mimebundle_()[0]["image/png"], image._repr_mimebundle_()[1]["image/png"]
    text = page.render(notebook(data("image/png", png, **{"image/png": metadata})))
    (tag,) = re.findall(r"<img[^>]*>", text)
    assert "data:image/png;base64," in tag
    assert html.unescape(re.search(r"alt=(\"[^\"]*\"|'[^']*')", tag)[1][1:-1]) == 'a "small" <figure>'


def test_tidy_keeps_the_last_state_of_a_progress_bar_and_drops_widgets_and_local_paths():
    widget = data("application/vnd.jupyter.widget-view+json", "x")
    executed = notebook(stream("0%|\r50%|"), stream("\r100%|\nsaved\n"), stream("kept\n", "stdout"), widget)
    paths = {"input_path": "/somewhere/me/a.ipynb", "output_path": "/elsewhere/report.ipynb"}
    executed.metadata |= {"widgets": {"state": "big"}, "papermill": paths}
    tidied = page.tidy(executed)
    outputs = [(output.name, output.text) for output in tidied.cells[1].outputs]
    assert "widgets" not in tidied.metadata and outputs == [("stderr", "100%|\nsaved\n"), ("stdout", "kept\n")]
    assert tidied.metadata.papermill == {"input_path": "a.ipynb", "output_path": "report.ipynb"}


def test_players_in_the_notebook_say_why_they_are_silent(tmp_path):
    path = tmp_path / "report.ipynb"
    nbformat.write(notebook(data("text/html", "<audio controls>"), source="show()"), path)
    page.finish(path, tmp_path / "report.html")
    cells = nbformat.read(path, as_version=4).cells
    assert [cell.cell_type for cell in cells] == ["markdown", "markdown", "code"] and "(report.html)" in cells[1].source
    text = (tmp_path / "report.html").read_text()
    assert "stay silent" not in text and "<title>Heading</title>" in text, "a copied notebook's title is that of its first line"
