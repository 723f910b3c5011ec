"""Set-up of all tests: no windows, the same examples in every run, one cache of synthetic sound, real recordings if present.

``make test`` runs the suite in two pytest-xdist processes, each of which takes one test file after the other.
"""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from sounds import folders

os.environ.setdefault("MPLBACKEND", "Agg")

# A shell that starts the tests in the background makes them ignore SIGINT, which every process they start would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Use the same examples in every run, without a time limit: a busy machine must not fail a test.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

LONGEST = ("comparison_notebooks", "notebooks", "train", "group", "gan", "explore", "soak")
"""The slowest files. Where two processes share the work, these run first, so that both finish at about the same time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the slowest files first; keep each file together and all others in their order."""
    if hasattr(config, "workerinput"):
        names = [f"test_{name}.py" for name in LONGEST]
        items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))


@pytest.fixture(scope="session", autouse=True)
def synthetic_sound(request, tmp_path_factory) -> Path:
    """Return the cache folder of synthetic speech, noise and rooms, made afresh once for all tests and the processes they start."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    if hasattr(request.config, "workerinput"):
        folder = folder.parent.with_name("cache")  # beside the workers' own folders, so that they share it
    folder.mkdir(exist_ok=True)
    os.environ["HIFITSE_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> dict[str, str]:
    """Return parameters that name small folders of speech, noise and rooms, which no test changes."""
    return folders(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def hifitse_data() -> Path:
    """Return the folder of real recordings; skip the test with the reason if there is none."""
    named = os.environ.get("HIFITSE_DATA")
    if not named:
        pytest.skip("HIFITSE_DATA is not set: no real recordings")
    folder = Path(named).expanduser()
    if not (folder / "speech").is_dir():
        pytest.skip(f"HIFITSE_DATA names {named}, which has no folder 'speech'")
    return folder


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Return the folder of runs of one test."""
    monkeypatch.setenv("HIFITSE_RUNS", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def extractor():
    """Return the default model, which no test changes."""
    from hifitse.model import Extractor  # imported here, because most test files do not need it

    return Extractor.from_pretrained()


@pytest.fixture(scope="module")
def chromium():
    """Yield a headless browser; skip the test with the reason if none is installed."""
    from browser import chromium  # imported here, because most test files do not need it

    yield from chromium()
