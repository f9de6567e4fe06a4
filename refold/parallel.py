"""Threads for work that releases the interpreter's lock: reading, hashing and compiled folds. Results keep their order.

Nothing may depend on which thread does what, or when: every piece of work is a function of its own item.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    if len(items) < 2 or sum(sizes) < WORTH_THREADS or cores() < 2:
        return [work(item) for item in items]
    order = sorted(range(len(items)), key=lambda i: -sizes[i])
    with ThreadPoolExecutor(min(len(items), cores()), thread_name_prefix="refold") as pool:
        waiting = {i: pool.submit(work, items[i]) for i in order}
        return [waiting[i].result() for i in range(len(items))]
