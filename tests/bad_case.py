"""One bad input: how to make it, what the user does with it and what must happen, without any loss of existing files."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hifitse import HifitseError


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        make: puts the input into an empty folder and returns the argument of ``call``.
        call: what the user does with it.
        error: class of the expected error, whose message is one sentence; with ``None`` there is no error and ``check`` gets the result.
        words: parts of the message, including the value received.
        check: returns whether the result is the documented one.
        code: exit code, if ``call`` is a command that prints its message to the terminal.
    """

    name: str
    make: Callable[[Path], Any]
    call: Callable[[Any], Any]
    error: type[HifitseError] | None = None
    words: tuple[str, ...] = ()
    check: Callable[[Any], bool] = lambda result: True
    code: int | None = None


@contextmanager
def full_disk(room: int = 20_000) -> Iterator[None]:
    """Limit every file of this process to ``room`` bytes, so that a write breaks off halfway, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def one_sentence(text: str, words: tuple[str, ...]) -> None:
    assert text and "\n" not in text and len(text) < 1200 and "Traceback" not in text
    assert [word for word in words if word not in text] == [], text


def meets(case: Case, folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Make the input, do what the user does, and check the expected outcome and that all existing files are unchanged."""
    given = case.make(folder)
    before = files(folder)
    if case.error is not None:
        with pytest.raises(case.error) as caught:
            case.call(given)
        one_sentence(str(caught.value), case.words)
        assert type(caught.value).__module__.startswith("hifitse")
        assert files(folder) == before, "a refusal leaves neither loss nor litter"
        return
    result = case.call(given)
    if case.code is None:
        assert case.check(result)
    else:
        said = capsys.readouterr().err
        assert result == case.code and said.startswith("hifitse: ") and said.endswith("\n")
        one_sentence(said[:-1], case.words)
    assert before.items() <= files(folder).items()
