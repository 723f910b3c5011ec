"""What all tests share: no windows, the same examples in each run, one cache of synthetic sound, the recordings where they are present.

``make test`` runs the suite in two processes of pytest-xdist, each of which takes one file of tests after the other.
"""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from sounds import folders

os.environ.setdefault("MPLBACKEND", "Agg")

# A shell that starts the tests in the background lets them ignore SIGINT, and every process that they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and no limit of time for one: a busy machine must not fail a test.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")

LONGEST = ("comparison_notebooks", "notebooks", "train", "group", "gan", "explore", "soak")
"""Files that take longest: where two processes share the files these come first, so that both end at about the same time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, each file whole and all others in their order."""
    if hasattr(config, "workerinput"):
        names = [f"test_{name}.py" for name in LONGEST]
        items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))


@pytest.fixture(scope="session", autouse=True)
def synthetic_sound(request, tmp_path_factory) -> Path:
    """Folder of the embedded corpus, noise and rooms: made again, but once for all tests and the processes that they start."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    if hasattr(request.config, "workerinput"):
        folder = folder.parent.with_name("cache")  # beside the folders of the processes: they share it
    folder.mkdir(exist_ok=True)
    os.environ["HIFITSE_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> dict[str, str]:
    """Parameters that name small folders of speech, noise and rooms, which no test changes."""
    return folders(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="session")
def hifitse_data() -> Path:
    """Folder of the real recordings; the test is skipped, with the reason, where there are none."""
    named = os.environ.get("HIFITSE_DATA")
    if not named:
        pytest.skip("HIFITSE_DATA is not set: no real recordings")
    folder = Path(named).expanduser()
    if not (folder / "speech").is_dir():
        pytest.skip(f"HIFITSE_DATA names {named}, which has no folder 'speech'")
    return folder


@pytest.fixture(scope="module")
def chromium():
    """A headless browser; the test is skipped, with the reason, where none is installed."""
    from browser import chromium  # here: most files of tests need none

    yield from chromium()
