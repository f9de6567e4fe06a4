"""What the races and the killed runs do in processes of their own. See `test_races.py` and `test_killed.py`."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Iterable
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from queue import Queue
from typing import Any, TypeVar

from refold.errors import Conflict
from refold.sinks.delta import DeltaTarget
from refold.sinks.ndjson import BulkNdjsonTarget
from refold.sinks.sql import SqlTarget
from refold.sinks.tantivy import TantivyTarget
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import Operation, WrapperStore
from tests.release.little import Little, database, read_whole, shown

T = TypeVar("T")
Turn = Callable[[Little], Any]

PROCESSES = multiprocessing.get_context("forkserver")
"""Processes that begin with everything imported and nothing opened, which takes 0.1 s instead of 1.5 s."""
PROCESSES.set_forkserver_preload(["tests.release.racing"])


def turns(side: int) -> list[Turn]:
    """What one of two sides does, round by round: publishing and releasing, or going back."""
    forward: list[Turn] = [lambda little: little.publish(3), lambda little: little.release(3, again=True)]
    back: list[Turn] = [lambda little: little.publish(3), lambda little: little.releaser().rollback(1)]
    other: list[Turn] = [lambda little: little.publish(2), lambda little: little.releaser().rollback(2)]
    return [*forward, *forward, *other] if side == 0 else [*back, *other, *back]


def race(little: Little, side: int, rounds: int, barrier: Any) -> list[str]:
    """Take turns against the other side; returns what became of each: the number served, or who won."""
    told = []
    mine = turns(side)
    for number in range(rounds):
        barrier.wait(60)
        try:
            done = mine[number % len(mine)](little)
            told.append(f"{done.number}" if done is not None else "published")
        except Conflict as error:
            told.append(str(error))
        barrier.wait(60)
    return told


def watch(little: Little, done: Any) -> tuple[int, int]:
    """Read by both ways until done; returns how many reads each made. A mix is an AssertionError."""
    engine, pinned, viewed = database(little), 0, 0
    while not done.is_set():
        read_whole(little)
        pinned += 1
        for _ in range(3):
            _, numbers = shown(engine)
            assert len(numbers) == 1, f"rows of several releases in one transaction: {numbers}"
            viewed += 1
    return pinned, viewed


def race_in_process(root: str, url: str, side: int, rounds: int, barrier: Barrier, told: Queue[Any]) -> None:
    told.put((side, race(Little(Path(root), database=url), side, rounds, barrier)))


def watch_in_process(root: str, url: str, done: Event, told: Queue[Any]) -> None:
    try:
        told.put(("reads", watch(Little(Path(root), database=url), done)))
    except AssertionError as error:
        told.put(("reads", str(error)))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying:
    """Kills the process when a number of calls (from 0) of methods of sinks and writes of stores would begin."""

    def __init__(self, call: int, methods: Iterable[tuple[type, str]], writes: Collection[Operation]) -> None:
        self._left, self._writes = call, writes
        for owner, name in methods:
            setattr(owner, name, self._counted(getattr(owner, name)))

    def open(self, url: str, *, must_exist: bool = False) -> ObjectStore:
        """A store whose writes count."""
        return _DyingStore(ObjectStore.open(url, must_exist=must_exist), self)

    def written(self, operation: Operation) -> None:
        """An operation begins."""
        if operation in self._writes:
            self._point()

    def _point(self) -> None:
        if self._left == 0:
            die()
        self._left -= 1

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **options: Any) -> Any:
            self._point()
            return original(*args, **options)

        return wrapper


class _DyingStore(WrapperStore):
    def __init__(self, inner: ObjectStore, dying: Dying) -> None:
        super().__init__(inner)
        self._dying = dying

    def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
        self._dying.written(operation)
        return call()


FLIPS = (
    (SqlTarget, "move"),
    (DeltaTarget, "release"),
    (BulkNdjsonTarget, "release"),
    (TantivyTarget, "release"),
)
DROPS = tuple((owner, "drop") for owner in (SqlTarget, DeltaTarget, BulkNdjsonTarget, TantivyTarget))


def do_and_die(root: str, url: str, what: str, call: int) -> None:
    """Do one thing and die at the given flip, drop or write of the pointer."""
    methods, writes = (DROPS, (Operation.CREATE, Operation.PUT)) if what == "prune" else (FLIPS, (Operation.CREATE,))
    little = Little(Path(root), database=url, open_store=Dying(call, methods, writes).open)
    if what == "prune":
        pruner = little.pruner()
        pruner.apply(pruner.plan(1, 0))
    else:
        little.release(1)
    die()  # after the last flip, before anything else
