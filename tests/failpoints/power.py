"""A power cut at any moment of a process: what of a folder the disk still holds then. Not a test.

A file's bytes are on disk once it was synced, and names once their folder was. `Disk` watches every sync of the process
and says which files a power cut would leave, in each way that a file system may: what was not synced is lost, or empty,
or there. SQLite syncs its own files, which is its promise and not looked at here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.failpoints.watching import Watch, Write

Contents = Mapping[str, bytes]
"""The files of a folder by name, with their bytes."""

Identity = tuple[int, int, int]
"""What makes a file with its bytes: inode, time of change, size."""

KEPT = ("data/", "cache/")
"""Folders that are not of Refold's store: the database syncs itself, and a cache of compiled code may be lost."""


class Cut(StrEnum):
    """What becomes of what was not synced."""

    LOST = "lost"
    """It never happened: no new names, and removed files are there again."""

    EMPTIED = "emptied"
    """Names are as they were, and files are empty, as ext4 leaves them."""

    NAMED = "named"
    """Names are as they were, records are whole, and all other files are empty: what names the rest came first."""

    MIXED = "mixed"
    """Each file by itself, whole, empty, or as it was before."""


@dataclass
class Disk:
    """What of a folder is durable. Everything is at the beginning."""

    root: Path
    _synced: dict[Identity, bytes] = field(default_factory=dict)
    _names: dict[Path, dict[Path, Identity | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in (self.root, *self.root.rglob("*")):
            if not path.is_symlink():
                self.synced(path)
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            self.synced(Path(f"/proc/self/fd/{descriptor}").readlink())

        os.fsync = fsync  # in a process of its own

    def synced(self, path: Path) -> None:
        """A file or folder was synced."""
        if not path.is_relative_to(self.root):
            return
        if path.is_dir():
            entries = [entry for entry in path.iterdir() if not entry.is_symlink()]
            self._names[path] = {each: None if each.is_dir() else _identity(each) for each in entries}
        else:
            self._synced[_identity(path)] = path.read_bytes()

    def cut(self, how: Cut, seed: str) -> Contents:
        """The files that a power cut leaves now."""
        durable, now = self._durable(self.root), self._now()
        kept = {name: data for name, (data, _) in now.items() if name.startswith(KEPT)}
        if how is Cut.LOST:
            return {**{name: data for name, data in durable.items() if not name.startswith(KEPT)}, **kept}
        found = dict(kept)
        for name in sorted(durable.keys() | now.keys()):
            if not name.startswith(KEPT):
                data = self._one(how, seed, name, durable.get(name), now.get(name))
                if data is not None:
                    found[name] = data
        return found

    def _one(
        self, how: Cut, seed: str, name: str, durable: bytes | None, now: tuple[bytes, bool] | None
    ) -> bytes | None:
        """The bytes of one file after a cut; None where it is not there."""
        if now is not None and now[1] and now[0] == durable:
            return durable
        whole, is_synced = now if now is not None else (None, True)
        emptied = whole if is_synced else b""
        if how is Cut.MIXED:
            return (durable, emptied, whole)[hashlib.sha256(f"{seed} {name}".encode()).digest()[0] % 3]
        return whole if how is Cut.NAMED and name.endswith(".json") else emptied

    def _durable(self, folder: Path) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for path, identity in self._names.get(folder, {}).items():
            if identity is None:
                found |= self._durable(path)
            else:
                found[path.relative_to(self.root).as_posix()] = self._synced.get(identity, b"")
        return found

    def _now(self) -> dict[str, tuple[bytes, bool]]:
        """What is there, and whether its bytes were synced."""
        found = {}
        for path in self.root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = self._synced.get(_identity(path))
                there = path.read_bytes() if data is None else data
                found[path.relative_to(self.root).as_posix()] = there, data is not None
        return found


def _identity(path: Path) -> Identity:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


@dataclass
class PowerCuts(Watch):
    """Watches a process, and keeps what a power cut would leave before and after its writes, each state once.

    It looks at the chosen moments, each a number of writes.
    """

    disk: Disk | None = None
    states: dict[str, Contents] = field(default_factory=dict)
    moments: dict[str, str] = field(default_factory=dict)
    chosen: Collection[int] = ()

    def _perhaps_die(self, write: Write) -> None:
        if self.count in self.chosen:
            for how in Cut:
                self.keep(how, f"{write.primitive} {write.what} at {write.place}")

    def keep(self, how: Cut, where: str) -> None:
        """Keep what a power cut leaves now."""
        assert self.disk is not None
        contents = self.disk.cut(how, str(self.count))
        digest = hashlib.sha256(repr(sorted(contents.items())).encode()).hexdigest()
        if digest not in self.states:
            self.states[digest] = contents
            self.moments[digest] = f"{how} around write {self.count}, {where}"


def write_contents(contents: Contents, root: Path) -> None:
    """Write files into a new folder."""
    root.mkdir(parents=True)
    for name, data in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
