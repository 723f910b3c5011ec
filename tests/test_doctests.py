"""Test the examples in docstrings."""

import doctest
import importlib

import pytest
from headless import ROOT

FILES = [path for path in sorted((ROOT / "hifitse").rglob("*.py")) if ">>>" in path.read_text()]
assert FILES, "expected some examples"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_of_a_module(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.failed == 0
    assert found.attempted > 0 or path.stem == "perceptual"  # its example starts processes, so it is skipped
