"""Progress of long work (label, items done, rows so far), and how long its stages took.

Work reports its progress; a watcher (the command line, a test), which is set with `watching`, shows it. Without a
watcher nothing happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """The progress of a piece of work: `done` of `total` items, `rows` rows so far."""

    label: str
    done: int
    total: int
    rows: int


@dataclass
class Timings:
    """How long the stages of a piece of work took, in seconds by name; for reports only, never for decisions.

    >>> timings = Timings()
    >>> with timings.of("fold"):
    ...     pass
    >>> list(timings.seconds)
    ['fold']
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Add the block's seconds to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def over(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Pass items on, adding the seconds that making them takes to a stage, without those of their use."""
        with self.of(name):
            waiting = iter(items)
        while True:
            with self.of(name):
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            yield item


Watcher = Callable[[Progress], None]
_watcher: ContextVar[Watcher | None] = ContextVar("refold_watcher", default=None)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Show progress to `watcher` while the block runs."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def track(items: Iterable[T], label: str, total: int, rows: Callable[[T], int]) -> Iterator[T]:
    """Pass items on and report each after its use; `rows` gives the number of rows of an item.

    >>> seen = []
    >>> with watching(seen.append):
    ...     _ = list(track([3, 4], "fold", 2, lambda n: n))
    >>> seen[-1]
    Progress(label='fold', done=2, total=2, rows=7)
    """
    so_far = 0
    for done, item in enumerate(items, start=1):
        yield item
        so_far += rows(item)
        watcher = _watcher.get()
        if watcher is not None:
            watcher(Progress(label, done, total, so_far))
