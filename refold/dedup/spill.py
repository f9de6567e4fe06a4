"""Values by key until their turn comes, in a temporary file beyond the memory they may take."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Hashable
from typing import IO, Any, Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Values by key; what does not fit into memory waits in a file.

    The file has no name, in the folder for temporary files of the system (TMPDIR), and goes with this object or with
    the process. What was let go in it makes no room for others.

    Args:
        memory_bytes: so much may be held in memory.
        size_of: how much of it a value takes.

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

    def __getitem__(self, key: Hashable) -> Value:
        if key in self._held:
            return self._held[key]
        assert self._file is not None
        self._file.seek(self._places[key])
        value: Value = pickle.load(self._file)
        return value

    def keep(self, key: Hashable, value: Value) -> None:
        """Keep a value, in place of another of that key."""
        self.let_go(key)
        size = self._size_of(value)
        if size <= self._room:
            self._held[key] = value
            self._room -= size
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="refold-")  # noqa: SIM115  # it goes with this object
        self._places[key] = self._file.seek(0, 2)
        pickle.dump(value, self._file, protocol=pickle.HIGHEST_PROTOCOL)

    def let_go(self, key: Hashable) -> None:
        """Keep the value of a key no longer, if there is one."""
        if key in self._held:
            self._room += self._size_of(self._held.pop(key))
        self._places.pop(key, None)
