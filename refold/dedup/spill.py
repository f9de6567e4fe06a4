"""Keeps values by key, in memory up to a limit and in a temporary file beyond it."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Generic, TypeVar

from refold.storage.failures import explained

Value = TypeVar("Value")


@contextmanager
def temporary_files() -> Iterator[None]:
    """Raises Unavailable, AccessDenied or FixInput, with the folder, where temporary files cannot be written."""
    with explained(f"Temporary files cannot be written to TMPDIR={os.environ.get('TMPDIR') or '/tmp'}"):
        yield


class Kept(Generic[Value]):
    """A dictionary that writes values to a file when they do not fit into memory.

    The file is an unnamed one in the system's temporary folder (TMPDIR). It is removed with this object or when the
    process ends. File space is not reused. Several threads may read while none writes.

    Args:
        memory_bytes: the most memory to use for values.
        size_of: the memory that a value takes, in bytes.

    >>> kept = Kept[str](memory_bytes=3, size_of=len)
    >>> for key, value in enumerate(["abc", "def"]):
    ...     kept.keep(key, value)
    >>> kept[0], kept[1]
    ('abc', 'def')
    """

    def __init__(self, memory_bytes: int, size_of: Callable[[Value], int]) -> None:
        self._room = memory_bytes
        self._size_of = size_of
        self._held: dict[Hashable, Value] = {}
        self._places: dict[Hashable, int] = {}
        self._file: IO[Any] | None = None
        self._lock = threading.Lock()

    def __getitem__(self, key: Hashable) -> Value:
        if key in self._held:
            return self._held[key]
        assert self._file is not None
        with self._lock, temporary_files():  # seeking writes what is buffered
            self._file.seek(self._places[key])
            value: Value = pickle.load(self._file)
        return value

    def keep(self, key: Hashable, value: Value) -> None:
        """Store a value, replacing that of the same key."""
        self.let_go(key)
        size = self._size_of(value)
        if size <= self._room:
            self._held[key] = value
            self._room -= size
            return
        with temporary_files():
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="refold-")  # noqa: SIM115  # closed when this is freed
            self._places[key] = self._file.seek(0, 2)
            pickle.dump(value, self._file, protocol=pickle.HIGHEST_PROTOCOL)

    def let_go(self, key: Hashable) -> None:
        """Remove the value of a key, if there is one."""
        if key in self._held:
            self._room += self._size_of(self._held.pop(key))
        self._places.pop(key, None)
