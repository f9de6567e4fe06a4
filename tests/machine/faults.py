"""Crashes and disorder on command: an exception at the n-th write, and listings in any order.

A crash is a `BaseException`, so nothing that handles errors handles it: like a kill it leaves what was written before,
and the engine it went through is thrown away. Points are counted right before and right after every write of an
object, before every statement that writes to the database, and before its commits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa

from refold.storage.objects import ObjectInfo, ObjectStore
from refold.storage.wrappers import WRITES, Operation, WrapperStore
from refold.testing.faulty_store import Crash

T = TypeVar("T")

_WRITING = ("INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER")


class Faults:
    """The next crash, if one is to come, and the order in which stores list."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.points = 0
        self.shuffle: int | None = None

    def point(self, *_: object) -> None:
        """A place where the process can die."""
        self.points += 1
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Crash

    def wrap(self, store: ObjectStore) -> ObjectStore:
        """The store with these faults."""
        return _Faulty(store, self)

    def _statement(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(_WRITING):
            self.point()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Watch databases while the block runs."""
        hooks = {"before_cursor_execute": self._statement, "commit": self.point}
        for event, hook in hooks.items():
            sa.event.listen(sa.Engine, event, hook)
        try:
            yield
        finally:
            for event, hook in hooks.items():
                sa.event.remove(sa.Engine, event, hook)


class _Faulty(WrapperStore):
    def __init__(self, inner: ObjectStore, faults: Faults) -> None:
        super().__init__(inner)
        self._faults = faults

    def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
        if operation not in WRITES:
            return call()
        self._faults.point()
        found = call()
        self._faults.point()
        return found

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        found = list(super().scan(prefix))
        if self._faults.shuffle is not None:
            random.Random(self._faults.shuffle).shuffle(found)
        return found
