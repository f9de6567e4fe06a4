"""Threads for work that releases the interpreter's lock: reading, hashing and compiled folds. Results keep their order.

Nothing may depend on which thread does what, or when: every piece of work is a function of its own item.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


WORTH_THREADS = 50_000
"""Fewer rows than this are done before a thread has begun."""


def each(work: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int]) -> list[Result]:
    """The result of each item in the order of the items, computed by as many threads as there are cores.

    `sizes` says how many rows an item has; the largest begin first. The first error, in the order of the items, is
    raised once all have ended.

    >>> each(len, ["a", "bcd"], sizes=[100_000, 300_000])
    [1, 3]
    """
    if len(items) < 2 or sum(sizes) < WORTH_THREADS or cores() < 2 or getattr(_here, "is_worker", False):
        return [work(item) for item in items]
    order = sorted(range(len(items)), key=lambda i: -sizes[i])
    pool = _pool_of(cores())
    begun = {i: pool.submit(work, items[i]) for i in order}
    try:
        wait(begun.values())
    finally:
        for future in begun.values():
            future.cancel()
    return [begun[i].result() for i in range(len(items))]


_here = threading.local()


@cache
def _pool_of(threads: int) -> ThreadPoolExecutor:
    """Threads that stay: new ones would each time take memory of their own, which the old ones leave behind."""
    return ThreadPoolExecutor(threads, thread_name_prefix="refold", initializer=_begin)


def _begin() -> None:
    """Work within work is done by the same thread, since the others may all be waiting for theirs."""
    _here.is_worker = True


if hasattr(os, "register_at_fork"):  # a child has none of the threads
    os.register_at_fork(after_in_child=_pool_of.cache_clear)
