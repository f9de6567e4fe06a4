"""Which 64-bit hashes occur more than once among many, in bounded memory, and a set of them to look others up in.

Hashes are parted by their top bits. What does not fit into memory waits in temporary files, one for each part, in the
folder for temporary files of the system (TMPDIR); parts are then sorted one by one. The order in which hashes are added
does not matter.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from refold.base.parallel import each
from refold.canonical.encoding import Hashes, compiled

_PARTS = 256
_PROBES_MAX = 200
_FEW = 1 << 14
Places = npt.NDArray[np.int64]


class RepeatedHashes:
    """Collects hashes; afterwards says which occurred more than once.

    Args:
        memory_bytes: so much may be held in memory before it is written to temporary files.

    >>> found = RepeatedHashes(memory_bytes=0)
    >>> found.add(np.array([7, 3, 7, 1], dtype=np.uint64))
    >>> found.add(np.array([1, 2], dtype=np.uint64))
    >>> found.result().tolist(), found.occurrences
    ([1, 7], 4)

    Attributes:
        occurrences: how many of the hashes that were added are among the result; known once there is one.
    """

    occurrences = 0

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._held: list[list[Hashes]] = [[] for _ in range(_PARTS)]
        self._held_bytes = 0
        self._count = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = Lock()

    def add(self, hashes: Hashes) -> None:
        """Take in some hashes; several threads may do so at once."""
        bounds, scattered = np.zeros(_PARTS + 1, dtype=np.int64), np.empty_like(hashes)
        _scatter(hashes, bounds, scattered)
        with self._lock:
            for part, held in enumerate(self._held):
                held.append(scattered[bounds[part] : bounds[part + 1]])
            self._count += len(hashes)
            self._held_bytes += hashes.nbytes
            if self._held_bytes > self._memory_bytes:
                self._spill()

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="refold-")
        for part, held in enumerate(self._held):
            with self._file(part).open("ab") as file:
                np.concatenate(held).tofile(file)
            held.clear()
        self._held_bytes = 0

    def _file(self, part: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name, f"{part:02}")

    def result(self) -> Hashes:
        """The hashes that occurred more than once, ascending; afterwards nothing is held any more."""
        try:
            if self._folder is None and self._count < _FEW:
                every = [hashes for held in self._held for hashes in held]
                found = [_repeated(np.concatenate([np.zeros(0, dtype=np.uint64), *every]))]
            else:
                found = each(self._result_of, range(_PARTS), [self._count // _PARTS + 1] * _PARTS)
        finally:
            if self._folder is not None:
                self._folder.cleanup()
        self.occurrences = sum(occurrences for _, occurrences in found)
        return np.concatenate([repeated for repeated, _ in found])

    def _result_of(self, part: int) -> tuple[Hashes, int]:
        spilled = [np.fromfile(self._file(part), dtype=np.uint64)] if self._folder is not None else []
        hashes = np.concatenate([np.zeros(0, dtype=np.uint64), *spilled, *self._held[part]])
        self._held[part].clear()
        return _repeated(hashes)


def _repeated(hashes: Hashes) -> tuple[Hashes, int]:
    """The hashes that occur more than once, ascending, and how many of all there are of them."""
    table, again = np.zeros(_table_size(len(hashes)), dtype=np.uint64), np.empty_like(hashes)
    count = _find_again(table, hashes, again)
    if count < 0:  # hashes made to collide in the table would take the square of the time
        ordered = np.sort(hashes)
        again = ordered[1:][ordered[1:] == ordered[:-1]]
    else:
        again = np.sort(again[:count])
    first = np.ones(len(again), dtype=np.bool_)
    first[1:] = again[1:] != again[:-1]
    repeated = again[first]
    return repeated, len(again) + len(repeated)


class HashSet:
    """A set of hashes that many can be looked up in at once."""

    def __init__(self, hashes: Hashes) -> None:
        self._count = len(hashes)
        self._table = np.zeros(_table_size(len(hashes)), dtype=np.uint64)
        self._zero = bool(len(hashes) and (hashes == 0).any())  # an empty place is 0 as well
        _insert(self._table, hashes)

    def __len__(self) -> int:
        return self._count

    def has(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of some hashes are in the set; shape (hashes,)."""
        out = np.empty(len(hashes), dtype=np.bool_)
        _lookup(self._table, self._zero, hashes, out)
        return out


def _table_size(count: int) -> int:
    return 1 << max(4, (2 * count).bit_length())


@compiled
def _scatter(hashes, bounds, out):  # type: ignore[no-untyped-def]
    for h in hashes:
        bounds[(h >> np.uint64(56)) + np.uint64(1)] += 1
    for part in range(bounds.size - 1):
        bounds[part + 1] += bounds[part]
    cursor = bounds[:-1].copy()
    for h in hashes:
        part = h >> np.uint64(56)
        out[cursor[part]] = h
        cursor[part] += 1


@compiled
def _find_again(table, hashes, again):  # type: ignore[no-untyped-def]
    """Write the hashes met before to `again`; returns how many, or -1 where looking them up takes too many steps."""
    mask, count, zeros = np.uint64(table.size - 1), 0, 0
    for h in hashes:
        if h == 0:
            zeros += 1
            continue
        place = (h ^ (h >> np.uint64(32))) & mask
        steps = 0
        while table[place] != 0 and table[place] != h:
            place = (place + np.uint64(1)) & mask
            steps += 1
        if steps > _PROBES_MAX:
            return -1
        if table[place] == h:
            again[count] = h
            count += 1
        table[place] = h
    for _ in range(zeros - 1):
        again[count] = 0
        count += 1
    return count


@compiled
def _insert(table, hashes):  # type: ignore[no-untyped-def]
    mask = np.uint64(table.size - 1)
    for h in hashes:
        if h == 0:
            continue
        place = (h ^ (h >> np.uint64(32))) & mask
        while table[place] != 0 and table[place] != h:
            place = (place + np.uint64(1)) & mask
        table[place] = h


@compiled
def _lookup(table, zero, hashes, out):  # type: ignore[no-untyped-def]
    mask = np.uint64(table.size - 1)
    for i in range(hashes.size):
        h = hashes[i]
        if h == 0:
            out[i] = zero
            continue
        place = (h ^ (h >> np.uint64(32))) & mask
        while table[place] != 0 and table[place] != h:
            place = (place + np.uint64(1)) & mask
        out[i] = table[place] == h
