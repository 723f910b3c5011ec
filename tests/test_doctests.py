"""Examples in docstrings do what they say."""

import doctest
import importlib

import pytest
from headless import ROOT

FILES = [path for path in sorted((ROOT / "hifitse").rglob("*.py")) if ">>>" in path.read_text()]
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES]


def test_there_are_examples():
    assert "hifitse.metrics" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.failed == 0
    if name != "hifitse.evaluation.perceptual":  # its example starts processes, and is skipped
        assert found.attempted > 0
