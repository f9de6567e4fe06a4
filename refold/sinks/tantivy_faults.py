"""What tantivy raises, as errors of Refold: a full disk, missing rights and damaged files told apart.

tantivy reports all of them as ValueError, with the system's number in the text, or panics. Which files an index has is
known in `refold.sinks.tantivy`.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refold.errors import Damaged
from refold.storage.failures import explained, system_error

_DAMAGED = {None, errno.ENOENT, errno.EINVAL, errno.EISDIR, errno.ENOTDIR}
"""What a missing or changed file gives; every other error of the system concerns rights or the disk."""


@contextmanager
def writing_explained(folder: Path) -> Iterator[None]:
    """Raises Unavailable, AccessDenied or FixInput where an index cannot be written."""
    with explained(f"The index {folder} cannot be written"):
        try:
            yield
        except ValueError as error:
            raise OSError(system_error(error) or errno.EIO, str(error)) from None


@contextmanager
def reading_explained(index: Path) -> Iterator[None]:
    """Raises Damaged where files of an index are, and Unavailable or AccessDenied where they cannot be read."""
    with explained(f"The index {index} cannot be read"):
        try:
            yield
        except (ValueError, OSError, KeyError, IndexError, MemoryError) as error:
            code = system_error(error)
            if code not in _DAMAGED:
                raise OSError(code, str(error)) from None
            raise _damaged(index, error) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # its class can be imported from nowhere
                raise
            raise _damaged(index, error) from error


@contextmanager
def rights_explained(path: Path) -> Iterator[None]:
    """Raises AccessDenied or Unavailable for errors of the system but those of a missing or changed file."""
    try:
        yield
    except OSError as error:
        if error.errno in _DAMAGED:
            raise
        with explained(f"{path} cannot be read"):
            raise


def readable(folder: Path, keep: list[tempfile.TemporaryDirectory[str]]) -> Path:
    """A folder in which tantivy can open an index, since it makes a file even to read.

    For a read-only folder this is a temporary one with links to the files; it is added to `keep`, and removed with it.
    """
    if os.access(folder, os.W_OK) or not folder.is_dir():
        return folder
    keep.append(tempfile.TemporaryDirectory(prefix="refold-index-"))
    linked = Path(keep[-1].name)
    for file in folder.iterdir():
        if file.suffix != ".lock":
            (linked / file.name).symlink_to(file.resolve())
    return linked


def _damaged(index: Path, error: BaseException) -> Damaged:
    return Damaged(f"The index {index} cannot be read: {error}.", remedy="Publish it again.")
