"""Finds the 64-bit hashes that occur more than once among many, in bounded memory.

Hashes are divided into parts by their top bits. Beyond the memory limit they are written to temporary files, one for
each part, in the system's temporary folder (TMPDIR); the parts are then searched one by one. The order in which hashes
are added does not matter.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from threading import Lock

import numpy as np

from refold.base.parallel import each
from refold.canonical.encoding import Hashes, compiled
from refold.canonical.hash_table import recurring
from refold.dedup.spill import temporary_files

_PARTS = 256
WHOLE_MAX = 1 << 14


class RepeatedHashes:
    """Collects hashes, then reports those that occurred more than once.

    Args:
        memory_bytes: the most memory to hold hashes in; beyond it they are written to temporary files.
        whole_max: fewer hashes than this are searched at once, and not part by part.

    >>> found = RepeatedHashes(memory_bytes=0)
    >>> found.add(np.array([7, 3, 7, 1], dtype=np.uint64))
    >>> found.add(np.array([1, 2], dtype=np.uint64))
    >>> found.result().tolist(), found.occurrences
    ([1, 7], 4)

    Attributes:
        occurrences: how many of the added hashes are in the result; 0 before `result` is called.
    """

    occurrences = 0

    def __init__(self, memory_bytes: int, whole_max: int = WHOLE_MAX) -> None:
        self._whole_max = whole_max
        self._memory_bytes = memory_bytes
        self._held: list[list[Hashes]] = [[] for _ in range(_PARTS)]
        self._held_bytes = 0
        self._count = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = Lock()

    def add(self, hashes: Hashes) -> None:
        """Add hashes; several threads may call this at once."""
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
        with temporary_files():
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="refold-")
            for part, held in enumerate(self._held):
                with self._file(part).open("ab") as file:
                    file.write(np.concatenate(held).data)  # not tofile, whose error does not name the cause
                held.clear()
        self._held_bytes = 0

    def _file(self, part: int) -> Path:
        assert self._folder is not None
        return Path(self._folder.name, f"{part:02}")

    def result(self) -> Hashes:
        """The hashes that occurred more than once, ascending. Call it once: it frees all hashes and files."""
        try:
            if self._folder is None and self._count < self._whole_max:
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
    """The hashes that occur more than once, ascending, and how often they occur in total."""
    again = recurring(hashes)
    first = np.ones(len(again), dtype=np.bool_)
    first[1:] = again[1:] != again[:-1]
    repeated = again[first]
    return repeated, len(again) + len(repeated)


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
