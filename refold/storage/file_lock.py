"""A lock between processes on one machine, as a file or folder that they lock."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refold.errors import Unavailable

WAIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.05


@contextmanager
def locked(path: Path, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the lock of a folder, or of a file, which is made where it is missing. A kill gives it back.

    Raises Unavailable where another process does not give it back in time, and OSError where the file cannot be opened.
    """
    with _opened(path) as file:
        end = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Unavailable(
                        f"{path} has been locked by another process for more than {wait_seconds:g} seconds.",
                        remedy=f"`fuser {path}` shows which one. Let it finish or end it, then try again.",
                    ) from None
                time.sleep(_PAUSE_SECONDS)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    if not path.is_dir():
        with path.open("a") as made:
            yield made.fileno()
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        yield folder
    finally:
        os.close(folder)
