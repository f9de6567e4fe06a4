"""Packs: objects that hold many small parts, so that a snapshot costs a few objects and not one for each part.

Callers name parts as they name objects, and never see a pack. A pack is `packs/<number>-<generation>.pack`: an index
(name, size, sha256 of each part), the parts, and the index again, so that damage to one copy loses nothing.
`PackedStore` writes what was put as one pack, created once with the next number, before anything that relies on it is
written: parts keep the order in which they were put, and a pack is there whole or not at all. Of parts of one name the
pack with the highest number counts, and any pack before a loose object. Loose are parts above `_PART_MAX_BYTES`, and
all those of an older store, which is read as it is.

Removing a part writes its pack again without it, as the next generation, created once, and then removes the former
one; so the bytes are gone, and of two processes that remove parts of one pack neither undoes the other. What a killed
removal leaves is not read, and goes with the next `sync`. A pack without parts stays, as a few hundred bytes.

The bytes of a pack are in `pack_format`; which packs there are, and reading them, in `pack_listing`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from refold.errors import Conflict, NotFound
from refold.storage.names import ObjectKind, folder_of, kind_of
from refold.storage.objects import ObjectInfo, ObjectStore, OpenStore, sha256_hex, unmapped, written_first
from refold.storage.pack_format import (
    PACKS,
    is_part,
    pack_bytes,
    pack_name,
    pack_of_bytes,
    parts_of_pack,
    sums_of,
)
from refold.storage.pack_listing import PackListing, ReadAhead
from refold.storage.wrappers import WrapperStore

T = TypeVar("T")

_PART_MAX_BYTES = 1 << 20
"""Larger parts take longer to send than a round trip, and are objects of their own."""

_PACK_MAX_BYTES = 4 << 20
"""How many bytes of parts wait for one another at most."""


def open_packed(url: str, open_store: OpenStore = ObjectStore.open, *, must_exist: bool = False) -> ObjectStore:
    """Open a store of Refold's own: in packs where it is remote, or has packs already.

    On a local folder an object costs no round trip, so parts are files there. Raises as `ObjectStore.open` does.
    """
    objects = open_store(url, must_exist=must_exist)
    return PackedStore(objects) if objects.probe_key is not None or objects.list(PACKS) else objects


class PackedStore(WrapperStore):
    """Another store, with its parts in packs.

    What is put is written at the latest with the next `sync`, `create` or `delete`. The `sync` of a folder only keeps
    the order: what is put after it is never there without what was put before it. Threads may share a store.
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.packed = True
        self._lock = threading.RLock()
        self._waiting: dict[str, bytes] = {}
        self._waiting_bytes = 0
        self._ahead = ReadAhead(inner)
        self._packs = PackListing(inner, self._ahead)
        self._loose_records: set[str] | None = None

    def get(self, name: str) -> bytes:
        """As the other store's; a part is read with the rest of its pack."""
        return self._read(name, None, lambda found: bytes(found[0]), lambda: self._inner.get(name))

    def get_with_info(self, name: str) -> tuple[bytes, ObjectInfo]:
        """As the other store's."""
        return self._read(
            name,
            None,
            lambda found: (bytes(found[0]), ObjectInfo(name, len(found[0]), "")),
            lambda: self._inner.get_with_info(name),
        )

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """As the other store's."""
        return self._read(name, ranges, lambda found: found, lambda: self._inner.get_ranges(name, ranges))

    def map(self, name: str) -> bytes | memoryview:
        """As the other store's; a part is not mapped but read."""
        if not is_part(name):
            return self._inner.map(name)
        try:
            return self.get(name)
        except NotFound as error:
            raise unmapped(name, self.url, error) from error

    def exists(self, name: str) -> bool:
        """As the other store's."""

        def loose() -> bool:
            if not self._inner.exists(name):
                raise self._missing(name)
            return True

        try:
            return self._read(name, [], lambda _: True, loose)
        except NotFound:
            return False

    def _read(
        self,
        name: str,
        ranges: Sequence[tuple[int, int]] | None,
        of_part: Callable[[list[memoryview]], T],
        loose: Callable[[], T],
    ) -> T:
        """Read a part where there is one of that name, else an object.

        Where neither is known, look whether another process has added a pack.
        """
        if not is_part(name):
            return loose()
        found = self._part(name, ranges)
        if found is None and self._may_be_loose(name):
            try:
                return loose()
            except NotFound:
                pass
        if found is None:
            with self._lock:
                self._packs.look_for_next()
            found = self._part(name, ranges)
        if found is None:
            raise self._missing(name)
        return of_part(found)

    def _part(self, name: str, ranges: Sequence[tuple[int, int]] | None) -> list[memoryview] | None:
        """A part, whole or some ranges of it; None where no pack that is known has it."""
        while True:
            with self._lock:
                waiting, pack = self._waiting.get(name), self._packs.counting(name)
            if waiting is not None:
                whole = memoryview(waiting)
                return [whole] if ranges is None else [whole[start : start + size] for start, size in ranges]
            if pack is None:
                return None
            try:
                return self._ahead.read(pack, name, ranges)
            except NotFound:  # another process has written the pack again, without some part
                with self._lock:
                    self._packs.refresh()

    def _may_be_loose(self, name: str) -> bool:
        """Whether an object of the name may be there; state records are looked for mostly in vain.

        Those that are objects are of an older store, so that they are listed once.
        """
        if kind_of(name) is not ObjectKind.STATE_RECORD:
            return True
        with self._lock:
            if self._loose_records is None:
                self._loose_records = {i.name for i in self._inner.list(folder_of(ObjectKind.STATE_RECORD))}
            return name in self._loose_records

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"Expected the object {name} in {self.url}, found none.")

    def put(self, name: str, data: bytes) -> None:
        """As the other store's; a part waits for the next pack."""
        if not is_part(name):
            self._inner.put(name, data)
            return
        if self._has(name, data):
            return
        with self._lock:
            large = len(data) > _PART_MAX_BYTES
            if large and (name.endswith(".json") or name in self._waiting):  # it may name what waits
                self._write()
            if large and self._packs.counting(name) is None:
                self._inner.put_soon(name, data)
                return
            self._waiting_bytes += len(data) - len(self._waiting.pop(name, b""))
            self._waiting[name] = data
            if self._waiting_bytes > _PACK_MAX_BYTES:
                self._write()

    def _has(self, name: str, data: bytes) -> bool:
        """Whether a pack has a record with these bytes, sound; other parts are written again, since that renews them.

        A part's age is that of its pack, and a prune removes old ones that nothing names yet.
        """
        with self._lock:
            pack = self._packs.counting(name)
            if pack is None or name in self._waiting or not name.endswith(".json"):
                return False
        found = self._part(name, None) if pack.sums[name] == sha256_hex(data) else None
        return found is not None and found[0] == data

    def put_soon(self, name: str, data: bytes) -> None:
        """As `put` for parts, and as the other store's for objects."""
        if is_part(name):
            self.put(name, data)
        else:
            self._inner.put_soon(name, data)

    def put_mapped(self, name: str, data: bytes) -> bytes | memoryview:
        """As `put`; returns the bytes."""
        if not is_part(name):
            return self._inner.put_mapped(name, data)
        self.put(name, data)
        return data

    def _write(self) -> None:
        """Write what waits as the next pack. Raises as `create` does; what waits is written with the next one then."""
        with self._lock:
            while self._waiting:
                number = self._packs.next_number
                data = pack_bytes(number, 0, sums_of(self._waiting))
                try:
                    self._inner.create(pack_name(number, 0), data)
                except Conflict:  # another process was first
                    self._packs.refresh()
                    continue
                self._packs.add(pack_of_bytes(number, 0, data))
                self._waiting, self._waiting_bytes = {}, 0

    def try_create(self, name: str, data: bytes) -> None:
        """As the other store's; what was put is written first, except for a lease, which names nothing."""
        if kind_of(name) is not ObjectKind.LEASE:
            self._write()
        if is_part(name) and self._packs_have(name):
            raise written_first(name, self.url)
        self._inner.try_create(name, data)

    def _packs_have(self, name: str) -> bool:
        with self._lock:
            return self._packs.counting(name) is not None

    def try_swap(self, name: str, data: bytes, former: bytes) -> None:
        """As the other store's; what was put is written first."""
        self._write()
        self._inner.try_swap(name, data, former)

    def sync(self, folder: str = "") -> None:
        """As the other store's; with a folder it only keeps the order."""
        if folder:
            self._inner.sync(folder)
            return
        with self._lock:
            self._write()
            self._remove_superseded()
        self._inner.sync()

    def delete(self, name: str) -> None:
        """As the other store's; a part is gone when this returns."""
        self.delete_all([name])

    def delete_all(self, names: Iterable[str]) -> None:
        """Remove objects, the parts of each pack together; what counts goes last, so that nothing older counts."""
        names = list(names)
        parts = {name for name in names if is_part(name)}
        with self._lock:
            self._loose_records = None
            self._write()
            for name in names:
                self._inner.delete(name)
            if parts:
                self._packs.refresh()
                for number in [n for n, pack in self._packs.packs.items() if not parts.isdisjoint(pack.places)]:
                    self._write_without(number, parts)
                self._remove_superseded()

    def _write_without(self, number: int, gone: set[str]) -> None:
        """Write a pack again, as its next generation, without some parts and those that no longer count."""
        while (pack := self._packs.packs.get(number)) is not None and not gone.isdisjoint(pack.places):
            left = [name for name in pack.places if name not in gone and self._packs.counting(name) is pack]
            try:
                data = pack_bytes(number, pack.generation + 1, parts_of_pack(pack, self._inner.get(pack.name), left))
                self._inner.create(pack_name(number, pack.generation + 1), data)
            except (Conflict, NotFound):  # another process was first
                self._packs.refresh()
                continue
            self._packs.add(pack_of_bytes(number, pack.generation + 1, data))
            self._packs.superseded.append(pack.name)

    def _remove_superseded(self) -> None:
        while self._packs.superseded:
            self._inner.delete(self._packs.superseded[-1])
            self._packs.superseded.pop()

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        """As the other store's: parts and objects, without the packs."""
        loose = self._inner.scan(prefix)
        if prefix and not is_part(prefix):
            return [] if prefix.partition("/")[0] == PACKS else loose
        with self._lock:
            self._packs.refresh()
            start = f"{prefix}/" if prefix else ""
            waiting = [ObjectInfo(n, len(data), "") for n, data in self._waiting.items() if n.startswith(start)]
            found = {info.name: info for info in (*loose, *self._packs.below(prefix), *waiting)}
        return [info for name, info in found.items() if not name.startswith(f"{PACKS}/")]

    def top(self) -> Sequence[str]:
        """As the other store's, with the folders of parts and without that of packs."""
        with self._lock:
            self._packs.refresh()
            parts = {f"{name.partition('/')[0]}/" for name in (*self._packs.names, *self._waiting)}
        return sorted({*self._inner.top(), *parts} - {f"{PACKS}/"})
