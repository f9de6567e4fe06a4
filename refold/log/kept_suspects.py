"""Suspects of the snapshots of a log until their turn comes, in temporary files beyond the memory they may take."""

from __future__ import annotations

import itertools
import pickle
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from refold.log.deduplication import Suspects
from refold.log.repeated_hashes import HashSet


class KeptSuspects:
    """Suspects by the key of their snapshot, each by log partition.

    What does not fit into memory waits in the folder for temporary files of the system (TMPDIR), until it is let go or
    nobody holds this object any more.

    Args:
        memory_bytes: so much may be held in memory.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._room = memory_bytes
        self._held: dict[str, Sequence[Suspects]] = {}
        self._files: dict[str, Path] = {}
        self._folder: Path | None = None
        self._numbers = itertools.count()

    def __getitem__(self, key: str) -> Sequence[Suspects]:
        if key in self._held:
            return self._held[key]
        with self._files[key].open("rb") as file:
            found: list[Suspects] = pickle.load(file)
        return found

    def keep(self, key: str, suspects: Sequence[Suspects]) -> None:
        """Keep the suspects of a snapshot."""
        size = sum(mine.size_bytes for mine in suspects)
        if size <= self._room:
            self._held[key] = suspects
            self._room -= size
        else:
            self._spill(key, suspects)

    def _spill(self, key: str, suspects: Sequence[Suspects]) -> None:
        if self._folder is None:
            # Not a TemporaryDirectory, which warns where it goes with its owner, as it does when a replay is given up.
            self._folder = Path(tempfile.mkdtemp(prefix="refold-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._files.setdefault(key, self._folder / str(next(self._numbers)))
        with path.open("wb") as file:
            pickle.dump(list(suspects), file, protocol=pickle.HIGHEST_PROTOCOL)

    def narrow(self, repeated: HashSet) -> int:
        """Keep those alone whose hashes are in a set; returns how many they are."""
        count = 0
        for key in [*self._held, *self._files]:
            before = self[key]
            suspects = [mine.among(repeated) for mine in before]
            count += sum(map(len, suspects))
            if key in self._held:
                self._held[key] = suspects
            elif sum(map(len, suspects)) < sum(map(len, before)):
                self._spill(key, suspects)
        return count

    def let_go(self, key: str) -> None:
        """Keep those of one snapshot no longer, if they are kept."""
        self._held.pop(key, None)
        path = self._files.pop(key, None)
        if path is not None:
            path.unlink()
