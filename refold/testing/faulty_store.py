"""An object store that fails, lies, is slow or lags on command, to test what your project and your sinks do then.

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
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import count
from typing import Any, TypeVar, cast

from refold.errors import Damaged, NotFound, RefoldError, Unavailable
from refold.storage.objects import ObjectInfo, ObjectStore
from refold.storage.wrappers import Operation, WrapperStore

T = TypeVar("T")


class Crash(BaseException):
    """Stands for the end of the process: error handlers do not catch it, and what was written stays."""


class Effect(StrEnum):
    """The fault of an operation."""

    FAIL = "fail"
    """It is not done, and Unavailable is raised."""

    LOSE_ANSWER = "lose-answer"
    """It is done, and Unavailable is raised."""

    RESEND = "resend"
    """It is done twice, as by a client that repeats its request after a lost answer."""

    LATE = "late"
    """Unavailable is raised, and it is done only before the operation after the next."""

    SLOW = "slow"
    """It is done after a pause of `Faults.pause_seconds`."""

    SKIP = "skip"
    """No error is raised, but a write changes nothing, a read finds no object, and a listing is empty."""

    CUT = "cut"
    """It is done, but the second half of the bytes that it reads or writes is missing; no error is raised."""

    FLIP = "flip"
    """It is done, but one bit of the bytes that it reads or writes is wrong; no error is raised."""

    OVERWRITE = "overwrite"
    """A create is done although the object exists. Other operations are done as usual."""

    STALE = "stale"
    """A listing is that of the last time, or empty the first time. Other operations are done as usual."""

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
class _Late:
    call: Callable[[], object]
    operations: int = 0


@dataclass
class Faults:
    """Planned faults, shared by all stores that it opens; threads may share it.

    Attributes:
        shuffle: a seed for the order in which stores list; None for the order of names.
        probed: whether the stores count as remote ones, whose conditional writes are probed.
        pause_seconds: how long a slow operation waits.
        happened: the faults so far, in order, as operation, name and effect.
    """

    shuffle: int | None = None
    probed: bool = False
    pause_seconds: float = 0.01
    happened: list[tuple[Operation, str, Effect]] = field(default_factory=list)
    _planned: list[_Planned] = field(default_factory=list)
    _late: list[_Late] = field(default_factory=list)
    _listed: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
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
        """Forget all planned faults, do what is late, and list in the order of names again."""
        self._planned.clear()
        self.shuffle = None
        while self._late:
            self._do_late()

    def next(self, operation: Operation, name: str) -> Effect | None:
        """The effect on an operation that is about to start; None if it has none. Does what is late by now."""
        self._do_late()
        with self._lock:
            effects = [planned.effect for planned in self._planned if planned.meets(operation, name)]
            if effects:
                self.happened.append((operation, name, effects[0]))
        return effects[0] if effects else None

    def _do_late(self) -> None:
        """Count one more operation, and do what has waited for two."""
        with self._lock:
            for late in self._late:
                late.operations += 1
            due = [late for late in self._late if late.operations > 1]
            self._late = [late for late in self._late if late.operations <= 1]
        for late in due:
            with suppress(RefoldError):  # nobody waits for the answer any more
                late.call()

    def postpone(self, call: Callable[[], object]) -> None:
        """Do an operation before the one after the next."""
        with self._lock:
            self._late.append(_Late(call))

    def listing(self, place: tuple[str, str], effect: Effect | None, call: Callable[[], T]) -> T:
        """What a listing finds, which is kept for the next one of that place; if this one is stale, what was kept."""
        if effect is not Effect.STALE:
            self._listed[place] = list(call())  # type: ignore[call-overload]
        found: Any = self._listed.get(place, [])
        return cast(T, list(found))


class FaultyStore(WrapperStore):
    """Another store, with faults."""

    def __init__(self, inner: ObjectStore, faults: Faults) -> None:
        super().__init__(inner)
        self.faults = faults
        if faults.probed:
            self.probe_key = f"faulty {next(_opened)}"

    def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
        """Do it, with the planned effect if there is one."""
        effect = self.faults.next(operation, name)
        if operation is Operation.LIST:
            call = partial(self.faults.listing, (self.url, name), effect, call)
        if effect is None:
            return call()
        if effect in _UNDONE:
            return self._undone(effect, operation, name, call)
        if effect is Effect.SLOW:
            time.sleep(self.faults.pause_seconds)
        elif effect is Effect.OVERWRITE and operation is Operation.CREATE:
            self._inner.delete(name)
        found = call()
        if effect is Effect.CRASH_AFTER:
            raise Crash
        if effect is Effect.LOSE_ANSWER:
            raise Unavailable(f"No answer to {operation} {name} in {self.url}: a planned fault.", remedy="Try again.")
        if effect is Effect.RESEND:
            return call()
        change = _CHANGES.get(effect)
        if change is None:
            return found
        if operation in (Operation.PUT, Operation.CREATE):
            self._inner.put(name, change(self._inner.get(name)))
        changed: T = _changed(found, change)
        return changed

    def _undone(self, effect: Effect, operation: Operation, name: str, call: Callable[[], T]) -> T:
        """What comes of an operation that is not done now."""
        if effect is Effect.CRASH:
            raise Crash
        if effect is Effect.SKIP:
            return cast(T, self._skipped(operation, name))
        if effect is Effect.LATE:
            self.faults.postpone(call)
        raise Unavailable(f"Cannot {operation} {name} in {self.url}: a planned fault.", remedy="Try again.")

    def _skipped(self, operation: Operation, name: str) -> Any:
        if operation in (Operation.GET, Operation.GET_RANGES):
            raise NotFound(f"Expected the object {name} in {self.url}, found none: a planned fault.")
        if operation is Operation.MAP:
            raise Damaged(f"The object {name} in {self.url} cannot be read: a planned fault.")
        return {Operation.EXISTS: False, Operation.LIST: []}.get(operation)

    def put_mapped(self, name: str, data: bytes) -> bytes | memoryview:
        """As the other store's; where nothing was written, `data`."""
        return super().put_mapped(name, data) or data

    def top(self) -> Sequence[str]:
        """As the other store's; it passes `around` as LIST of `/`."""
        return self.around(Operation.LIST, "/", 0, self._inner.top)

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        """As the other store's, in the order of the seed."""
        found = sorted(super().scan(prefix), key=lambda info: info.name)
        if self.faults.shuffle is not None:
            random.Random(self.faults.shuffle).shuffle(found)
        return found


def _changed(found: Any, change: Callable[[Any], Any]) -> Any:
    """Bytes, or each of several, with a change; anything else as it is."""
    if isinstance(found, list | tuple):
        return type(found)(_changed(part, change) for part in found)
    return change(found) if isinstance(found, bytes | memoryview) else found


def _half(found: Any) -> Any:
    return found[: len(found) // 2]


def _flipped(found: bytes) -> bytes:
    """The bytes with the lowest bit of the middle one changed."""
    middle = len(found) // 2
    return bytes(found[:middle]) + bytes(byte ^ 1 for byte in found[middle : middle + 1]) + bytes(found[middle + 1 :])


_UNDONE = (Effect.CRASH, Effect.FAIL, Effect.LATE, Effect.SKIP)
_CHANGES = {Effect.CUT: _half, Effect.FLIP: _flipped}
_opened = count()
