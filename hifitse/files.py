"""Atomic file operations, loading of weights into a module, and folders that are made once and cached.

Does not import torch, so that a process that only reads recordings starts quickly and stays small.
"""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from hifitse import HifitseError

if TYPE_CHECKING:
    from torch import Tensor, nn


class CheckpointError(HifitseError):
    """A checkpoint or weight file is missing, damaged or does not fit the model, or a file cannot be written."""


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary file in the same folder, then move it to ``path``. Permissions are those of a plain ``open``.
    Raises CheckpointError: the folder cannot be written or the disk is full. An existing file at ``path`` is then untouched."""
    path = Path(path)
    if os.path.exists(path) and not os.path.isfile(path):  # unlike Path.exists, these accept names that are too long
        raise CheckpointError(f"cannot write {str(path)!r}: it is a folder, device or pipe, expected a file or a new name")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.parent / f".{path.name[:40]}.{secrets.token_hex(6)}{path.suffix}"
        name.touch(exist_ok=False)
        temporary, mode = name, name.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors replaces the file by one that only the owner can read
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path.name} in {path.parent}: {error}; what was there before is untouched") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text to a file atomically, in UTF-8."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def load_weights(module: "nn.Module", tensors: "Mapping[str, Tensor]", origin: str, prefix: str = "") -> None:
    """Load the tensors whose names begin with ``prefix`` into a module. Raises CheckpointError: names or shapes differ."""
    try:
        module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"the weights in {origin} do not fit the model: {reason}") from None


@contextmanager
def unfinished_in(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder inside ``folder``. Its contents move there at the end; after a failure or a stop, nothing is left."""
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as work:
        yield Path(work)
        for path in Path(work).iterdir():
            path.rename(folder / path.name)


def cache_dir() -> Path:
    """Return the cache folder: ``$HIFITSE_CACHE``, or ``~/.cache/hifitse``."""
    return Path(os.environ.get("HIFITSE_CACHE") or "~/.cache/hifitse").expanduser()


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder ``cache_dir()/name``. If it does not exist, make it with ``make(folder)``, atomically. Two processes may both make
    it, so ``make`` must be deterministic. Raises what ``make`` raises, and HifitseError: the cache cannot be written."""
    final = cache_dir() / name
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=final.parent, ignore_cleanup_errors=True) as folder:
            unfinished = Path(folder) / "made"
            unfinished.mkdir()  # other users of a shared cache can read it, unlike the temporary folder
            make(unfinished)
            try:
                unfinished.rename(final)
            except OSError:
                if not final.is_dir():  # otherwise another process was faster, and made the same folder
                    raise
    except OSError as error:
        raise HifitseError(f"cannot write {final} ({error}), expected a folder with room; HIFITSE_CACHE names another") from error
    return final
