"""Local files that survive a power cut: what is written whole, and what is synced before something names it.

A file that was written is on disk only once it was synced, and its name only once its folder was. Until then a power
cut may leave nothing, an empty file, or all of it. Objects are therefore written unsynced, many at a time, and synced
together before an object that names them is written (`Unsynced`). What is replaced, or created only once, is synced
before it gets its name, so that the name is never that of half a file.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path


def create_whole(path: Path, data: bytes) -> None:
    """Create a file that must not exist, synced before it gets its name. Raises FileExistsError.

    Its name is durable only once its folder was synced.
    """
    with _draft(path, data) as draft:
        os.link(draft, path)


def replace_whole(path: Path, data: bytes) -> None:
    """Write a file in place of another one, synced before it gets its name, so that a power cut leaves either whole.

    A file with the same bytes is only marked as written now.
    """
    with suppress(FileNotFoundError, PermissionError):  # removed now, or of another user in a folder of both
        if path.stat().st_size == len(data) and path.read_bytes() == data:
            os.utime(path)
            return
    with _draft(path, data) as draft:
        os.replace(draft, path)  # noqa: PTH105 -- `Path.replace` does the same


def sync(path: Path | str) -> None:
    """Wait until a file's bytes, or a folder's names, are on disk; one that is gone needs no sync."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system without syncs of folders
                raise
        finally:
            os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync all files and folders below a folder, and the folder itself; not its name, which is its parent's."""
    for place, _, names in os.walk(folder):
        for path in (*(os.path.join(place, name) for name in names), place):  # noqa: PTH118 -- of many files
            sync(path)


class Unsynced:
    """The files below a root, by name, that this process has written and not synced yet. Threads may share it."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._named: set[str] = set()
        self._lock = threading.Lock()

    def add(self, *names: str) -> None:
        """Files that were written."""
        with self._lock:
            self._files.update(names)

    def renamed(self, name: str) -> None:
        """A synced file got its name, or a file was removed; either is durable once its folder was synced."""
        with self._lock:
            self._files.discard(name)
            self._folders.add(_folder(name))

    def sync(self, folder: str = "", *, renamed: bool = True) -> None:
        """Sync every such file below a folder ("": the root), then the folders that hold them.

        With everything, also the folders where files were renamed or removed, unless `renamed` can wait.
        """
        with self._lock:
            files = [name for name in self._files if not folder or name.startswith(f"{folder}/")]
            self._files.difference_update(files)
            folders = set(map(_folder, files))
            if not folder and renamed:
                folders |= self._folders
                self._folders = set()
            new = {above for place in folders for above in self._unnamed(place)}
        self._sync_all(files)
        self._sync_all({*folders, *map(_folder, new)})
        with self._lock:
            self._named |= new

    def _unnamed(self, folder: str) -> Iterator[str]:
        """A folder and those above it up to the root whose own names may not be durable."""
        while folder not in self._named:
            yield folder
            if folder == "":
                return
            folder = _folder(folder)

    def _sync_all(self, names: Collection[str]) -> None:
        """Sync; many at once, since the file system then writes its journal once for several."""
        paths = [f"{self._root}/{name}" for name in names]
        if len(paths) < _AT_ONCE_MIN:
            for path in paths:
                sync(path)
        else:
            list(_waiting().map(sync, paths))


_AT_ONCE_MIN = 4


@cache
def _waiting() -> ThreadPoolExecutor:
    """Threads that wait for the disk."""
    return ThreadPoolExecutor(16, thread_name_prefix="refold-sync")


if hasattr(os, "register_at_fork"):  # a child has none of the threads
    os.register_at_fork(after_in_child=_waiting.cache_clear)


def _folder(name: str) -> str:
    """The folder of a name; that of the root is the one that holds it."""
    return name.rpartition("/")[0] if name else ".."


@contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """A synced file of some bytes beside a path, which is gone afterwards.

    Its name ends as those of unfinished writes of the storage library do, which lists none of them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in count(os.getpid()):
        draft = path.with_name(f"{path.name}#{number}")
        with suppress(FileExistsError):
            file = draft.open("xb")
            break
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
