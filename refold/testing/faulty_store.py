"""An object store that fails on command, to test what your project and your sinks do then.

Plan faults, and open stores through them, as in `Engine(project, settings, faults.open, now=now)`:

>>> faults = Faults()
>>> faults.plan(Operation.CREATE, Effect.LOSE_ANSWER, names="snapshots/")
>>> store = faults.open("memory://")
>>> store.create("snapshots/2026-01-01.json", b"{}")  # read back, it is there
>>> [str(effect) for _, _, effect in faults.happened]
['lose-answer']
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from refold.errors import Unavailable
from refold.storage.objects import ObjectInfo, ObjectStore
from refold.storage.wrappers import WRITES, Operation, WrapperStore

T = TypeVar("T")


class Crash(BaseException):
    """Stands for the end of the process: error handlers do not catch it, and what was written stays."""


class Effect(StrEnum):
    """What happens to an operation."""

    FAIL = "fail"
    """It is not done, and Unavailable is raised."""

    LOSE_ANSWER = "lose-answer"
    """It is done, and Unavailable is raised."""

    RESEND = "resend"
    """It is done twice, as by a client that repeats its request after a lost answer."""

    CUT = "cut"
    """It is done, but the second half of the bytes that it reads or writes is missing; no error is raised."""

    CRASH = "crash"
    """It is not done, and Crash is raised."""

    CRASH_AFTER = "crash-after"
    """It is done, and Crash is raised."""


@dataclass
class _Planned:
    operations: Sequence[Operation]
    effect: Effect
    names: re.Pattern[str]
    after: int
    times: int | None
    seen: int = 0

    def meets(self, operation: Operation, name: str) -> bool:
        """Count an operation if it matches; returns whether it has the effect."""
        if operation not in self.operations or not self.names.search(name):
            return False
        self.seen += 1
        return self.seen > self.after and (self.times is None or self.seen <= self.after + self.times)


@dataclass
class Faults:
    """Planned faults, shared by all stores that it opens; threads may share it.

    Attributes:
        shuffle: a seed for the order in which stores list; None for the order of names.
        happened: the faults so far, in order, as operation, name and effect.
    """

    shuffle: int | None = None
    happened: list[tuple[Operation, str, Effect]] = field(default_factory=list)
    _planned: list[_Planned] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, url: str, *, must_exist: bool = False) -> FaultyStore:
        """The store behind a URL, as `ObjectStore.open` opens it, with these faults."""
        return FaultyStore(ObjectStore.open(url, must_exist=must_exist), self)

    def plan(
        self,
        operation: Operation | Sequence[Operation],
        effect: Effect,
        names: str = "",
        *,
        after: int = 0,
        times: int | None = 1,
    ) -> None:
        """Plan an effect on operations.

        Args:
            operation: the operation, or several that are counted together.
            effect: what happens to them.
            names: a regular expression; only objects whose name it matches anywhere are affected.
            after: how many such operations succeed first.
            times: how many then have the effect; None for all.
        """
        operations = (operation,) if isinstance(operation, Operation) else tuple(operation)
        self._planned.append(_Planned(operations, effect, re.compile(names), after, times))

    def clear(self) -> None:
        """Forget all planned faults, and list in the order of names again."""
        self._planned.clear()
        self.shuffle = None

    def next(self, operation: Operation, name: str) -> Effect | None:
        """The effect on an operation that is about to start; None if it has none."""
        with self._lock:
            effects = [planned.effect for planned in self._planned if planned.meets(operation, name)]
            if effects:
                self.happened.append((operation, name, effects[0]))
        return effects[0] if effects else None


class FaultyStore(WrapperStore):
    """Another store, with faults."""

    def __init__(self, inner: ObjectStore, faults: Faults) -> None:
        super().__init__(inner)
        self.faults = faults

    def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
        """Do it, with the planned effect if there is one."""
        effect = self.faults.next(operation, name)
        if effect is None:
            return call()
        if effect is Effect.CRASH:
            raise Crash
        if effect is Effect.FAIL:
            raise Unavailable(f"Cannot {operation} {name} in {self.url}: a planned fault.", remedy="Try again.")
        found = call()
        if effect is Effect.CRASH_AFTER:
            raise Crash
        if effect is Effect.LOSE_ANSWER:
            raise Unavailable(f"No answer to {operation} {name} in {self.url}: a planned fault.", remedy="Try again.")
        if effect is Effect.RESEND:
            return call()
        if operation in WRITES:
            self._inner.put(name, _half(self._inner.get(name)))
        halved: T = _half(found)
        return halved

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        """As the other store's, in the order of the seed."""
        found = sorted(super().scan(prefix), key=lambda info: info.name)
        if self.faults.shuffle is not None:
            random.Random(self.faults.shuffle).shuffle(found)
        return found


def _half(found: Any) -> Any:
    """The first half of some bytes, or of each of several; anything else as it is."""
    if isinstance(found, list | tuple):
        return type(found)(_half(part) for part in found)
    return found[: len(found) // 2] if isinstance(found, bytes | memoryview) else found
