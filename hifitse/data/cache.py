"""Folders that are made once and kept: the embedded corpus, noise and rooms."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hifitse import HifitseError


def cache_dir() -> Path:
    """Folder of everything made once: ``$HIFITSE_CACHE``, or ``~/.cache/hifitse``."""
    return Path(os.environ.get("HIFITSE_CACHE") or "~/.cache/hifitse").expanduser()


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder ``cache_dir()/name``, made by ``make(folder)`` if it is not there.

    The folder appears whole or not at all: it is made beside its place and renamed. Two processes at once both make
    it and one of them keeps its work, so ``make`` must be deterministic. What ``make`` raises is raised on.

    Raises:
        HifitseError: the cache cannot be written, or the disk is full.
    """
    final = cache_dir() / name
    if final.is_dir():
        return final
    unfinished = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=final.parent))
        unfinished.chmod(0o755)  # mkdtemp gives 700, which other users of a shared cache could not read
        make(unfinished)
        try:
            unfinished.rename(final)
        except OSError:
            if not final.is_dir():  # else another process was faster, and its folder is the same
                raise
    except OSError as error:
        raise HifitseError(f"cannot write {final} ({error}), allowed is a folder with room; HIFITSE_CACHE names another") from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
    return final
