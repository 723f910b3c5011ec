"""Parameters from a notebook: its own cell, the cell that papermill adds, edits in JupyterLab."""

import pytest

from hifitse.params import ParameterError, from_notebook, resolve

OWN = "# Parameters: change them here\npreset = 'smoke'\nsteps = 9\n"


def notebook(*cells: str, **later: object) -> dict:
    """The namespace of a notebook that ran ``cells``, in which ``later`` was assigned after them."""
    namespace: dict = {}
    for cell in cells:
        exec(cell, namespace)
    return namespace | {"In": ["", "import os", *cells, "params = from_notebook(globals())"]} | later


def test_notebook_takes_its_own_cell() -> None:
    params = from_notebook(notebook(OWN, os="not a parameter", lr=3.0))
    assert (params.preset, params.steps) == ("smoke", 9)
    assert params.lr == resolve("smoke").lr  # a name that no parameters cell assigned


def test_the_cell_that_papermill_adds_wins() -> None:
    params = from_notebook(notebook(OWN, "# Parameters\nsteps = 20\nlr = 0.01\n"))
    assert (params.preset, params.steps, params.lr) == ("smoke", 20, 0.01)


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("stpes = 20", ["'stpes'", "20", "'steps'"]),
        ("steps = 'many'", ["'steps'", "'many'", "1 up to 100000000"]),
        ("steps = -1", ["'steps'", "-1", "1 up to 100000000"]),
        ("steps, stpes = 1, 2", ["'stpes'"]),
        ("stpes: int = 20", ["'stpes'"]),
    ],
)
def test_a_bad_added_cell_is_refused(cell: str, parts: list[str]) -> None:
    with pytest.raises(ParameterError) as caught:
        from_notebook(notebook(OWN, f"# Parameters\n{cell}\n"))
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts)


def test_an_edited_cell_run_again_replaces_its_older_text() -> None:
    """In JupyterLab a mistake is corrected in its cell; the older text stays in the history and the name in the namespace."""
    wrong = OWN + "stpes = 20\nlr = 0.01\n"
    params = from_notebook(notebook(wrong, OWN))
    assert params.steps == 9 and params.lr == resolve("smoke").lr


@pytest.mark.parametrize("namespace", [{}, {"In": ["", "steps = 3"], "steps": 3}, {"In": ["# Parameters: none yet"]}])
def test_a_notebook_without_a_parameters_cell_is_refused(namespace: dict) -> None:
    with pytest.raises(ParameterError, match="# Parameters"):
        from_notebook(namespace)


def test_the_cell_is_what_papermill_writes() -> None:
    """papermill's own translator makes the injected cell that ``from_notebook`` looks for."""
    from papermill.translators import PythonTranslator

    values = {"steps": 20, "lr": 3e-4, "absent_prob": [0.0, 0.25], "checkpointing": False, "corpus": 'a "b"'}
    params = from_notebook(notebook(OWN, PythonTranslator.codify(values)))
    assert {name: getattr(params, name) for name in values} == values
