"""Stores that wrap another store: one that passes everything on, one that counts, one that logs.

A wrapper of your own overrides `around`, which every operation passes through, or single operations. To use it, hand
`Engine` a way to open stores that wraps what `ObjectStore.open` returns, for example `wrapped(LoggingStore)`.
Faults for tests are in `refold.testing.faulty_store`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from refold.base.outside import printable
from refold.storage.objects import ObjectInfo, ObjectStore, OpenStore

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Operation(StrEnum):
    """The operations of a store that read or change objects."""

    GET = "get"
    GET_RANGES = "get_ranges"
    MAP = "map"
    PUT = "put"
    CREATE = "create"
    EXISTS = "exists"
    DELETE = "delete"
    LIST = "list"


READS = (Operation.GET, Operation.GET_RANGES, Operation.MAP)
WRITES = (Operation.PUT, Operation.CREATE, Operation.DELETE)


class WrapperStore(ObjectStore):
    """A store that passes every operation on to another one."""

    def __init__(self, inner: ObjectStore) -> None:
        self.url, self.location, self.probe_key = inner.url, inner.location, inner.probe_key
        self.packed = inner.packed
        self._inner = inner

    def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
        """Do an operation on an object, or on a folder for LIST; `size_bytes` is the size of what it writes, else 0."""
        return call()

    def get(self, name: str) -> bytes:
        """As the other store's."""
        return self.around(Operation.GET, name, 0, lambda: self._inner.get(name))

    def get_with_info(self, name: str) -> tuple[bytes, ObjectInfo]:
        """As the other store's; it passes `around` as GET."""
        return self.around(Operation.GET, name, 0, lambda: self._inner.get_with_info(name))

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """As the other store's."""
        return self.around(Operation.GET_RANGES, name, 0, lambda: self._inner.get_ranges(name, ranges))

    def map(self, name: str) -> bytes | memoryview:
        """As the other store's."""
        return self.around(Operation.MAP, name, 0, lambda: self._inner.map(name))

    def put(self, name: str, data: bytes) -> None:
        """As the other store's."""
        self.around(Operation.PUT, name, len(data), lambda: self._inner.put(name, data))

    def put_soon(self, name: str, data: bytes) -> None:
        """As the other store's; it passes `around` as PUT."""
        self.around(Operation.PUT, name, len(data), lambda: self._inner.put_soon(name, data))

    def put_mapped(self, name: str, data: bytes) -> bytes | memoryview:
        """As the other store's; it passes `around` as PUT."""
        return self.around(Operation.PUT, name, len(data), lambda: self._inner.put_mapped(name, data))

    def try_create(self, name: str, data: bytes) -> None:
        """As the other store's."""
        self.around(Operation.CREATE, name, len(data), lambda: self._inner.try_create(name, data))

    def try_replace(self, name: str, data: bytes, e_tag: str) -> None:
        """As the other store's; it passes `around` as CREATE."""
        self.around(Operation.CREATE, name, len(data), lambda: self._inner.try_replace(name, data, e_tag))

    def try_swap(self, name: str, data: bytes, former: bytes) -> None:
        """As the other store's; it passes `around` as PUT."""
        self.around(Operation.PUT, name, len(data), lambda: self._inner.try_swap(name, data, former))

    def exists(self, name: str) -> bool:
        """As the other store's."""
        return self.around(Operation.EXISTS, name, 0, lambda: self._inner.exists(name))

    def delete(self, name: str) -> None:
        """As the other store's."""
        self.around(Operation.DELETE, name, 0, lambda: self._inner.delete(name))

    def sync(self, folder: str = "") -> None:
        """As the other store's; it does not pass `around`."""
        self._inner.sync(folder)

    def adopt(self, folder: str) -> None:
        """As the other store's."""
        self._inner.adopt(folder)

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        """As the other store's; it passes `around` as LIST."""
        return self.around(Operation.LIST, prefix, 0, lambda: self._inner.scan(prefix))

    def top(self) -> Sequence[str]:
        """As the other store's; it passes `around` as LIST."""
        return self.around(Operation.LIST, "", 0, self._inner.top)

    def unlisted(self, prefix: str, listed: Collection[str]) -> Sequence[str]:
        """As the other store's."""
        return self._inner.unlisted(prefix, listed)

    def outside(self, names: Iterable[str]) -> Mapping[str, str]:
        """As the other store's."""
        return self._inner.outside(names)

    def shorten(self, folder: Path) -> str:
        """As the other store's."""
        return self._inner.shorten(folder)

    def resolve(self, folder: str) -> Path:
        """As the other store's."""
        return self._inner.resolve(folder)


def wrapped(wrap: Callable[[ObjectStore], ObjectStore], open_store: OpenStore = ObjectStore.open) -> OpenStore:
    """A way to open stores that wraps each of them.

    >>> wrapped(LoggingStore)("memory://").url
    'memory://'
    """

    def opened(url: str, *, must_exist: bool = False) -> ObjectStore:
        return wrap(open_store(url, must_exist=must_exist))

    return opened


class AllowingLinks(WrapperStore):
    """A store whose symbolic links may lead to some folders outside it."""

    def __init__(self, inner: ObjectStore, folders: Sequence[Path]) -> None:
        super().__init__(inner)
        self._folders = [folder.resolve() for folder in folders]

    def outside(self, names: Iterable[str]) -> Mapping[str, str]:
        """As the other store's, without what is in one of the folders."""
        found = self._inner.outside(names).items()
        return {name: path for name, path in found if not any(map(Path(path).is_relative_to, self._folders))}


class CountingStore(WrapperStore):
    """Counts operations and bytes; may be used by several threads.

    Attributes:
        calls: how often each operation was called.
        reads: how often each object was read, by name.
        bytes_read, bytes_written: how many bytes were read and written; mapped ones count as read.

    >>> store = CountingStore(ObjectStore.open("memory://"))
    >>> store.create("a", b"1234")
    >>> store.get("a"), store.bytes_written, store.bytes_read, store.reads["a"]
    (b'1234', 4, 4, 1)
    >>> store.requests
    '1 puts, 1 gets, 0 lists'
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.calls, self.reads = Counter[Operation](), Counter[str]()
        self.bytes_read = self.bytes_written = 0
        self._lock = threading.Lock()

    @property
    def requests(self) -> str:
        """How many requests there were, for people: puts and deletes together, gets and looks for a name, and lists."""
        puts = sum(self.calls[operation] for operation in WRITES)
        gets = sum(self.calls[operation] for operation in (*READS, Operation.EXISTS))
        return f"{puts:,} puts, {gets:,} gets, {self.calls[Operation.LIST]:,} lists"

    def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
        """Do it and count it."""
        with self._lock:
            self.calls[operation] += 1
        found = call()
        with self._lock:
            self.bytes_written += size_bytes
            if operation in READS:
                self.reads[name] += 1
                self.bytes_read += _bytes_of(found)
        return found


class LoggingStore(WrapperStore):
    """Logs every operation with its seconds and bytes, or its error, at DEBUG to the logger of this module."""

    def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
        """Do it and log it."""
        began = time.perf_counter()
        try:
            found = call()
        except BaseException as error:
            _log.debug(
                "%s %s: %s after %.3f s", operation, printable(name), type(error).__name__, time.perf_counter() - began
            )
            raise
        _log.debug(
            "%s %s: %d bytes in %.3f s",
            operation,
            printable(name),
            size_bytes or _bytes_of(found),
            time.perf_counter() - began,
        )
        return found


def _bytes_of(found: object) -> int:
    """The bytes of what an operation returned; 0 where it returned something else."""
    if isinstance(found, list | tuple):
        return sum(_bytes_of(part) for part in found)
    return len(found) if isinstance(found, bytes | memoryview) else 0
