"""Threads for work that releases the interpreter's lock: reading, hashing and compiled folds. Results keep their order.

No result may depend on which thread does what, or when: each piece of work is a function of its own item.
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


_THREAD_BYTES = 128 << 20


def limit_threads(memory_bytes: int) -> None:
    """Let `each` use only as many threads as have 128 MiB each of some memory, at least one; for the whole process."""
    _limit[0] = max(1, memory_bytes // _THREAD_BYTES)


_limit = [1 << 10]


WORTH_THREADS = 50_000
"""With fewer rows than this, starting threads takes longer than the work."""


def each(work: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int]) -> list[Result]:
    """The result of each item in the order of the items, computed by as many threads as there are cores, or fewer
    where memory is limited (`limit_threads`).

    `sizes` are the numbers of rows of the items; the largest start first. After all have ended, the first error in the
    order of the items is raised.

    >>> each(len, ["a", "bcd"], sizes=[100_000, 300_000])
    [1, 3]
    """
    if len(items) < 2 or sum(sizes) < WORTH_THREADS or _threads() < 2 or getattr(_here, "is_worker", False):
        return [work(item) for item in items]
    order = sorted(range(len(items)), key=lambda i: -sizes[i])
    pool = _pool_of(_threads())
    begun = {i: pool.submit(work, items[i]) for i in order}
    try:
        wait(begun.values())
    finally:
        for future in begun.values():
            future.cancel()
    return [begun[i].result() for i in range(len(items))]


def _threads() -> int:
    return min(cores(), _limit[0])


_here = threading.local()


@cache
def _pool_of(threads: int) -> ThreadPoolExecutor:
    """Threads that are kept: new ones would take new memory each time, and the old ones' memory would not be freed."""
    return ThreadPoolExecutor(threads, thread_name_prefix="refold", initializer=_begin)


def _begin() -> None:
    """Nested work runs on the same thread, because all the others may be waiting for theirs."""
    _here.is_worker = True


if hasattr(os, "register_at_fork"):  # a child has none of the threads
    os.register_at_fork(after_in_child=_pool_of.cache_clear)
