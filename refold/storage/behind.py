"""Writes of a remote store that are done beside what follows: their order does not matter, and each is waited for.

A write takes a round trip, and a snapshot has many. What is `put_soon` is written by threads; reading it waits for it,
and so does everything that relies on it: `sync`, `create` and `delete`. One that failed is written again there, so that
a fault is raised before anything names what is missing, however often it is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

_AT_ONCE_MAX = 16
_SIZE_MAX_BYTES = 1 << 20
"""Larger objects take longer than a round trip, and would be held in memory: they are written at once."""


class Behind:
    """Objects of a store that are being written, or whose write failed, by name. Threads may share it."""

    def __init__(self, put: Callable[[str, bytes], None]) -> None:
        self._put = put
        self._pending: dict[str, tuple[Future[None], bytes]] = {}
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(_AT_ONCE_MAX)
        self._pool: ThreadPoolExecutor | None = None

    def put(self, name: str, data: bytes) -> None:
        """Write an object soon; waits while many others are being written, and for an earlier write of the name."""
        self.wait(name)
        if len(data) > _SIZE_MAX_BYTES:
            self._put(name, data)
            return
        self._free.acquire()
        with self._lock:
            self._pool = self._pool or ThreadPoolExecutor(_AT_ONCE_MAX, thread_name_prefix="refold-put")
            future = self._pool.submit(self._put, name, data)
            self._pending[name] = future, data
        future.add_done_callback(lambda done: self._done(name, done))

    def _done(self, name: str, future: Future[None]) -> None:
        self._free.release()
        if not future.cancelled() and future.exception() is None:
            self._forget(name, future)

    def _forget(self, name: str, future: Future[None]) -> None:
        with self._lock:
            if name in self._pending and self._pending[name][0] is future:
                del self._pending[name]

    def wait(self, name: str) -> None:
        """Wait until an object that was put is written; one that failed is written again. Raises what that raises."""
        with self._lock:
            pending = self._pending.get(name)
        if pending is not None:
            future, data = pending
            if future.exception() is not None:
                self._put(name, data)
            self._forget(name, future)

    def wait_all(self) -> None:
        """Wait until everything that was put is written. Raises as `wait` does, for the first name."""
        with self._lock:
            names = sorted(self._pending)
        for name in names:
            self.wait(name)
