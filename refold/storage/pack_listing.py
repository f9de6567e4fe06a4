"""Which packs a store has, and reading them: what `refold.storage.packs` knows of the store below it.

The index of a pack is read once by a process, those of many packs at the same time. Of the generations of a number the
highest counts. A pack is small and its parts are mostly read together, so the first read fetches all of it.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from refold.errors import Damaged, NotFound
from refold.storage.objects import ObjectInfo, ObjectStore
from refold.storage.pack_format import END_BYTES, PACKS, Pack, index_bytes, pack_name, pack_numbers, read_index

_TAIL_BYTES = 64 << 10
_AT_ONCE = 16
_BLOCK_BYTES = 512 << 10
_AHEAD_MAX_BYTES = 64 << 20
_TAIL = -1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    """Bytes of a pack from a place on, and the parts of them that were asked for."""

    start: int
    data: memoryview
    taken: set[str] = field(default_factory=set)


class ReadAhead:
    """Reads parts, each with those that follow it, since neighbours are mostly read one after the other.

    What was read is kept until it was asked for once: a part that is read again comes from the store again, so that
    damage since the first time is seen. Threads may share it.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._held: dict[tuple[str, int], _Held] = {}
        self._held_bytes = 0

    def hold(self, pack: Pack, block: int, start: int, data: bytes | memoryview) -> None:
        """Keep the bytes of a pack from a place on; `_TAIL` is the block of its last bytes."""
        with self._lock:
            former = self._held.pop((pack.name, block), None)
            self._held_bytes += len(data) - (0 if former is None else len(former.data))
            self._held[pack.name, block] = _Held(start, memoryview(data))
            while self._held_bytes > _AHEAD_MAX_BYTES and len(self._held) > 1:
                self._held_bytes -= len(self._held.pop(next(iter(self._held))).data)

    def read(self, pack: Pack, name: str, ranges: Sequence[tuple[int, int]] | None) -> list[memoryview]:
        """A part, whole or some ranges of it. Raises NotFound where the pack is gone."""
        if ranges is not None and not ranges:
            return []
        start, size = pack.places[name]
        found = self._taken(pack, name)
        if found is None:
            block = start // _BLOCK_BYTES
            begin, end = block * _BLOCK_BYTES, min(max((block + 1) * _BLOCK_BYTES, start + size), pack.size_bytes)
            (data,) = self._inner.get_ranges(pack.name, [(begin, end - begin)])
            self.hold(pack, block, begin, data)
            found = self._taken(pack, name)
            if found is None:  # others read much meanwhile, or it is cut off
                found = memoryview(data)[start - begin : start - begin + size]
        return [found] if ranges is None else [found[begin : begin + length] for begin, length in ranges]

    def _taken(self, pack: Pack, name: str) -> memoryview | None:
        """A part of what is held that was not asked for yet."""
        start, size = pack.places[name]
        with self._lock:
            for block in (_TAIL, start // _BLOCK_BYTES):
                held = self._held.get((pack.name, block))
                place = -1 if held is None else start - held.start
                if held is not None and 0 <= place <= len(held.data) - size and name not in held.taken:
                    held.taken.add(name)
                    return held.data[place : place + size]
        return None


class PackListing:
    """The packs that are known, and which of them counts for each name. Callers hold one lock."""

    def __init__(self, inner: ObjectStore, ahead: ReadAhead) -> None:
        self._inner, self._ahead = inner, ahead
        self._packs: dict[int, Pack] | None = None
        self._counting: dict[str, Pack] = {}
        self._sorted: list[str] | None = None
        self.superseded: list[str] = []

    @property
    def packs(self) -> dict[int, Pack]:
        """The packs by number, listed at the first use."""
        if self._packs is None:
            self.refresh()
        assert self._packs is not None
        return self._packs

    @property
    def next_number(self) -> int:
        """The number after the highest that is known."""
        return max(self.packs, default=-1) + 1

    def counting(self, name: str) -> Pack | None:
        """The pack that counts for a name."""
        return self._counting.get(name) if self.packs else None

    @property
    def names(self) -> Iterable[str]:
        """The names of all parts that count."""
        return self._counting if self.packs else ()

    def below(self, prefix: str) -> Iterator[ObjectInfo]:
        """The parts below a folder ("" for all), by name."""
        if self._sorted is None:
            self._sorted = sorted(self._counting)
        start = f"{prefix}/" if prefix else ""
        for name in self._sorted[bisect_left(self._sorted, start) :]:
            if not name.startswith(start):
                return
            pack = self._counting[name]
            yield ObjectInfo(name, pack.places[name][1], pack.sums[name], pack.modified_at)

    def refresh(self) -> None:
        """List the packs again, and read the indexes of new ones. Raises Damaged where one cannot be read."""
        newest, self.superseded = dict[int, tuple[int, ObjectInfo]](), []
        for info in self._inner.list(PACKS):  # by number, then generation
            numbers = pack_numbers(info.name)
            if numbers is not None:
                if numbers[0] in newest:
                    self.superseded.append(newest[numbers[0]][1].name)
                newest[numbers[0]] = numbers[1], info
        known = self._packs or {}
        infos = [info for number, (_, info) in newest.items() if number not in known or known[number].name != info.name]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="refold-index") as pool:
            added = list(pool.map(self._index, infos))
        kept = {
            number: pack if pack.modified_at else replace(pack, modified_at=newest[number][1].modified_at)
            for number, pack in known.items()
            if number in newest
        }
        self._packs = dict(sorted({**kept, **{pack.number: pack for pack in added if pack is not None}}.items()))
        self._counting = {name: pack for pack in self._packs.values() for name in pack.places}
        self._sorted = None

    def add(self, pack: Pack) -> None:
        """A pack that was written just now, after all others or in place of its former generation."""
        self.packs[pack.number] = pack
        if pack.generation:
            self._packs = dict(sorted(self.packs.items()))
            self._counting = {name: pack for pack in self.packs.values() for name in pack.places}
        else:
            self._counting.update(dict.fromkeys(pack.places, pack))
        self._sorted = None

    def look_for_next(self) -> bool:
        """Whether another process has written packs after those that are known; they are known then."""
        found = False
        while (pack := self._index(ObjectInfo(pack_name(self.next_number, 0), 0, ""))) is not None:
            self.add(pack)
            found = True
        return found

    def _index(self, info: ObjectInfo) -> Pack | None:
        """The pack of a listed name, of any size if that is 0; None where it is gone. Raises Damaged."""
        numbers = pack_numbers(info.name)
        assert numbers is not None, info.name
        try:
            if not info.size_bytes:
                data, info = self._inner.get_with_info(info.name)
                start = 0
            else:
                start = max(0, info.size_bytes - _TAIL_BYTES)
                (tail,) = self._inner.get_ranges(info.name, [(start, info.size_bytes - start)])
                data = bytes(tail)
        except NotFound:
            return None
        faults = []
        for first in (False, True):
            try:
                pack = read_index(self._beside(info, start, data, first=first), info.name, numbers, info)
            except (Damaged, KeyError, TypeError, ValueError) as error:
                faults.append(str(error))
                continue
            if faults:
                _log.warning("The index at the end of the pack %s is damaged; the one at its start is used.", info.name)
            self._ahead.hold(pack, _TAIL, start, data)
            return pack
        raise Damaged(
            f"The pack {info.name} in {self._inner.url} is damaged: neither index can be read. {faults[0]}",
            remedy="Restore it from a copy. Without one, remove it: what follows from the log is made again by "
            "`refold repair`, and segments are sealed again where landing still holds them.",
        )

    def _beside(self, info: ObjectInfo, start: int, tail: bytes, *, first: bool) -> bytes | memoryview:
        """The index at the start or the end of a pack, of which the last bytes were read."""
        size = info.size_bytes
        end = self._range(info, start, tail, 0, END_BYTES) if first else tail[-END_BYTES:]
        count = index_bytes(end, first=first)
        if count is None or not 0 <= count <= size:
            raise Damaged(f"The pack {info.name} has no index where one belongs.")
        place = END_BYTES if first else size - END_BYTES - count
        return self._range(info, start, tail, place, count)

    def _range(self, info: ObjectInfo, start: int, tail: bytes, place: int, count: int) -> bytes | memoryview:
        if place >= start:
            return tail[place - start : place - start + count]
        return self._inner.get_ranges(info.name, [(max(0, place), count)])[0]
