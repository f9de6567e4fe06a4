"""Crashes and disorder on command: an exception at the n-th write, and listings in any order.

A crash is a `BaseException`, so nothing that handles errors handles it: like a kill it leaves what was written before,
and the engine it went through is thrown away. Points are counted right before and right after every write of an
object, before every statement that writes to the database, and before its commits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import obstore
import sqlalchemy as sa

from refold.storage.objects import ObjectStore

_WRITING = ("INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER")


class Crash(BaseException):
    """The process is gone at this point."""


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

    def watch(self, objects: ObjectStore) -> None:
        """Count the writes of a store from now on."""
        for name in ("put", "create", "delete"):
            setattr(objects, name, self._around(getattr(objects, name)))

    def _around(self, write: Callable[..., None]) -> Callable[..., None]:
        def watched(*arguments: Any) -> None:
            self.point()
            write(*arguments)
            self.point()

        return watched

    def _statement(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(_WRITING):
            self.point()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Watch databases, and list as `shuffle` says, while the block runs."""
        listing = obstore.list

        def shuffled(*arguments: Any, **named: Any) -> Any:
            if self.shuffle is None:
                return listing(*arguments, **named)
            found = [meta for batch in listing(*arguments, **named) for meta in batch]
            random.Random(self.shuffle).shuffle(found)
            return [found]

        hooks = {"before_cursor_execute": self._statement, "commit": self.point}
        for event, hook in hooks.items():
            sa.event.listen(sa.Engine, event, hook)
        try:
            with mock.patch.object(obstore, "list", shuffled):
                yield
        finally:
            for event, hook in hooks.items():
                sa.event.remove(sa.Engine, event, hook)
