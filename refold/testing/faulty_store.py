"""An object store that fails on command, to test what your project and your sinks do then.

Plan faults, and open stores through them, as in `Engine(project, settings, faults.open)`:

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
    """The process is gone at this point. Nothing that handles errors handles it, and what was written stays."""


class Effect(StrEnum):
    """What becomes of an operation."""

    FAIL = "fail"
    """It is not done; Unavailable."""

    LOSE_ANSWER = "lose-answer"
    """It is done; Unavailable."""

    RESEND = "resend"
    """It is done, its answer is lost, and it is done again, as a client does that sends a request again."""

    CUT = "cut"
    """It is done, but the second half of the bytes that it reads or writes is missing."""

    CRASH = "crash"
    """It is not done; Crash."""

    CRASH_AFTER = "crash-after"
    """It is done; Crash."""


@dataclass
class _Planned:
    operations: Sequence[Operation]
    effect: Effect
    names: re.Pattern[str]
    after: int
    times: int | None
    seen: int = 0

    def meets(self, operation: Operation, name: str) -> bool:
        """Count an operation; returns whether it is one of those that have the effect."""
        if operation not in self.operations or not self.names.search(name):
            return False
        self.seen += 1
        return self.seen > self.after and (self.times is None or self.seen <= self.after + self.times)


@dataclass
class Faults:
    """The faults to come in all stores that are opened through it; may be used by several threads.

    Attributes:
        shuffle: a seed for the order in which stores list; None for the order of names.
        happened: the faults that came, in order, as operation, name and effect.
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
        """Let operations on objects have an effect.

        Args:
            operation: the kind of operation, or several, counted together.
            effect: what becomes of them.
            names: a regular expression that is searched for in the object's name.
            after: how many such operations are done as usual first.
            times: how many then have the effect; None for all.
        """
        operations = (operation,) if isinstance(operation, Operation) else tuple(operation)
        self._planned.append(_Planned(operations, effect, re.compile(names), after, times))

    def clear(self) -> None:
        """Forget the faults that are planned, and list in the order of names."""
        self._planned.clear()
        self.shuffle = None

    def next(self, operation: Operation, name: str) -> Effect | None:
        """The effect on an operation that is about to be done; None for none."""
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
        """Do it, unless a fault is planned for it."""
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
    if isinstance(found, list):
        return [_half(part) for part in found]
    return found[: len(found) // 2] if isinstance(found, bytes | memoryview) else found
