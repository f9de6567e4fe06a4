"""The stores that a URL opens: local folders, buckets of S3, Google Cloud Storage and Azure, and memory.

They are object stores (`refold.storage.objects`), which is all that others know of them. How files of a local folder
survive a power cut is in `refold.storage.durable`.
"""

from __future__ import annotations

import datetime as dt
import errno
import mmap
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import LocalStore, MemoryStore, from_url

from refold.errors import Damaged, FixInput, NotFound, RefoldError, Unavailable
from refold.storage import durable
from refold.storage.aws_profile import profile_settings
from refold.storage.behind import Behind
from refold.storage.failures import MISSING, explained, is_bucket_missing, whole
from refold.storage.file_lock import locked
from refold.storage.objects import ObjectInfo, ObjectStore, unmapped, written_first
from refold.storage.urls import local_path, mask_url, require_ports

_RETRY_TIMEOUT = dt.timedelta(seconds=15)
"""A refusing address is given up after about three seconds; obstore's own ten attempts take more than a minute.

Set no client options: any that are given make obstore forget those of the environment, such as AWS_ALLOW_HTTP.
"""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO)
"""What opening a name reports that is not there, is a folder, or is a socket."""


def open_store(url: str, *, must_exist: bool, retries_max: int) -> ObjectStore:
    """As `ObjectStore.open`, which is how stores are opened."""
    if url.startswith("memory://"):
        return _ObstoreStore(MemoryStore(), url, None)
    root = local_path(url)
    with explained(f"Cannot open {mask_url(url)}", opening=True):
        if root is None:
            require_ports(os.environ)
            retries: Any = {"max_retries": retries_max, "retry_timeout": _RETRY_TIMEOUT}
            profile: Any = profile_settings(os.environ) if url.lower().startswith(("s3:", "s3a:")) else {}
            return _RemoteStore(from_url(url, retry_config=retries, **profile), url, url.rstrip("/"))
        if must_exist and not root.is_dir():
            what = "a file" if root.exists() else "none"
            raise NotFound(f"Expected a folder at {root}, found {what}.", remedy="Check the path or the setting.")
        root.mkdir(parents=True, exist_ok=True)
        return _LocalStore(root)


class _ObstoreStore(ObjectStore):
    """A store of the obstore library: memory, S3, GCS, Azure."""

    def __init__(self, store: Any, url: str, location: str | None) -> None:
        self.url = mask_url(url)
        self.location = location
        self._store = store

    def get(self, name: str) -> bytes:
        with self._reading(name):
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except MISSING as error:
                raise self._missing(name, error) from None

    def get_with_info(self, name: str) -> tuple[bytes, ObjectInfo]:
        with self._reading(name):
            try:
                found = obstore.get(self._store, name)
                return bytes(found.bytes()), _listed(found.meta)
            except MISSING as error:
                raise self._missing(name, error) from None

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        starts, sizes = [start for start, _ in ranges], [size for _, size in ranges]
        with self._reading(name):
            try:
                found = obstore.get_ranges(self._store, name, starts=starts, lengths=sizes)
                return [memoryview(part) for part in found]
            except MISSING as error:
                raise self._missing(name, error) from None

    def put(self, name: str, data: bytes) -> None:
        with explained(f"Cannot write {name} in {self.url}"):
            obstore.put(self._store, name, data)

    def try_create(self, name: str, data: bytes) -> None:
        with explained(f"Cannot write {name} in {self.url}"):
            try:
                obstore.put(self._store, name, data, mode="create")
            except (AlreadyExistsError, PreconditionError, FileExistsError):
                raise written_first(name, self.url) from None

    def try_swap(self, name: str, data: bytes, former: bytes) -> None:
        with explained(f"Cannot write {name} in {self.url}"):
            try:
                found = obstore.get(self._store, name)
                if bytes(found.bytes()) != former:
                    raise written_first(name, self.url)
                # Google Cloud Storage compares the version, the others the entity tag.
                mode = {each: found.meta[each] for each in ("e_tag", "version") if found.meta[each] is not None}
                obstore.put(self._store, name, data, mode=cast(Any, mode))
            except (*MISSING, AlreadyExistsError, PreconditionError):
                raise written_first(name, self.url) from None

    def exists(self, name: str) -> bool:
        with explained(f"Cannot look for {name} in {self.url}"):
            try:
                obstore.head(self._store, name)
            except MISSING:
                return False
            return True

    def delete(self, name: str) -> None:
        with explained(f"Cannot remove {name} in {self.url}"), suppress(*MISSING):
            obstore.delete(self._store, name)

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        with explained(f"Cannot list {prefix or 'objects'} in {self.url}"):
            return [_listed(meta) for batch in obstore.list(self._store, prefix or None) for meta in batch]

    def top(self) -> Sequence[str]:
        with explained(f"Cannot list objects in {self.url}"):
            found = obstore.list_with_delimiter(self._store)
            folders = [prefix.rstrip("/") + "/" for prefix in found["common_prefixes"]]
            return sorted([*folders, *(meta["path"] for meta in found["objects"])])

    def _reading(self, name: str) -> Any:
        return explained(f"Cannot read {name} in {self.url}")

    def _missing(self, name: str, error: Exception | None = None) -> Exception:
        """The error for an object that is not there; where its bucket is not, the library's own."""
        if error is not None and is_bucket_missing(error):
            return error
        return NotFound(f"Expected the object {name} in {self.url}, found none.")


class _RemoteStore(_ObstoreStore):
    """A store of another machine, whose answers can be lost and whose conditions are probed."""

    def __init__(self, store: Any, url: str, location: str) -> None:
        super().__init__(store, url, location)
        self.probe_key = location
        self._behind = Behind(self.put)

    def get(self, name: str) -> bytes:
        self._behind.wait(name)
        return whole(super().get, name)

    def get_with_info(self, name: str) -> tuple[bytes, ObjectInfo]:
        self._behind.wait(name)
        return whole(super().get_with_info, name)

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        self._behind.wait(name)
        return whole(super().get_ranges, name, ranges)

    def exists(self, name: str) -> bool:
        self._behind.wait(name)
        return super().exists(name)

    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        self._behind.wait_all()
        return whole(super().scan, prefix)

    def top(self) -> Sequence[str]:
        self._behind.wait_all()
        return super().top()

    def put_soon(self, name: str, data: bytes) -> None:
        self._behind.put(name, data)

    def sync(self, folder: str = "") -> None:
        self._behind.wait_all()

    def try_create(self, name: str, data: bytes) -> None:
        self._behind.wait_all()
        super().try_create(name, data)

    def try_swap(self, name: str, data: bytes, former: bytes) -> None:
        self._behind.wait_all()
        super().try_swap(name, data, former)

    def delete(self, name: str) -> None:
        self._behind.wait_all()
        super().delete(name)

    def put(self, name: str, data: bytes) -> None:
        try:
            super().put(name, data)
        except Unavailable:
            with suppress(RefoldError):
                if super().get(name) == data:
                    return
            raise

    def try_replace(self, name: str, data: bytes, e_tag: str) -> None:
        with explained(f"Cannot write {name} in {self.url}"):
            try:
                # Google Cloud Storage compares the version, the others the entity tag.
                obstore.put(self._store, name, data, mode={"e_tag": e_tag, "version": "1"})
            except (AlreadyExistsError, PreconditionError):
                raise written_first(name, self.url) from None


_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}


def _kind(mode: int) -> str:
    """What an entry that is not a file is."""
    return _KINDS.get(stat.S_IFMT(mode), "a device")


def _listed(meta: Any) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], (meta["e_tag"] or "").strip('"'), meta["last_modified"])


class _LocalStore(_ObstoreStore):
    """A local folder, whose objects are also files."""

    def __init__(self, root: Path) -> None:
        super().__init__(LocalStore(root), str(root), str(root))
        self._root = root
        self._unsynced = durable.Unsynced(root)

    def put(self, name: str, data: bytes) -> None:
        path = self._root / name
        if path.is_file():
            # What names the object that is there relies on it, so it must not become an empty file.
            with explained(f"Cannot write {name} in {self.url}"):
                durable.replace_whole(path, data)
        else:
            super().put(name, data)
        self._unsynced.add(name)

    def try_create(self, name: str, data: bytes) -> None:
        self.sync()
        with explained(f"Cannot write {name} in {self.url}"):
            try:
                durable.create_whole(self._root / name, data)
            except FileExistsError:
                self._require_regular(name)
                self._unsynced.add(name)  # another process may have created it and not synced it yet
                self.sync()
                raise written_first(name, self.url) from None
        self._unsynced.renamed(name)
        self.sync()

    def try_swap(self, name: str, data: bytes, former: bytes) -> None:
        with explained(f"Cannot write {name} in {self.url}"):
            path = self._root / name
            if not path.parent.is_dir():
                raise written_first(name, self.url)
            with locked(path.parent):
                if not path.is_file() or path.read_bytes() != former:
                    raise written_first(name, self.url)
                self.put(name, data)
        self.sync()

    def delete(self, name: str) -> None:
        with explained(f"Cannot sync objects in {self.url}"):
            self._unsynced.sync(renamed=False)
        super().delete(name)
        self._unsynced.renamed(name)

    def sync(self, folder: str = "") -> None:
        with explained(f"Cannot sync {folder or 'objects'} in {self.url}"):
            self._unsynced.sync(folder)

    def adopt(self, folder: str) -> None:
        place = self._root / folder
        names = (path.name for path in place.iterdir() if path.is_file()) if place.is_dir() else ()
        self._unsynced.add(*(f"{folder}/{name}" for name in names))

    def _settle(self, name: str, data: bytes, failure: RefoldError, former: bytes | None = None) -> None:
        if isinstance(failure, Unavailable):
            raise failure from None  # the answer of a file system is not lost: a sync that failed is no success
        super()._settle(name, data, failure, former)

    def get(self, name: str) -> bytes:
        with self._regular(name) as file:
            return file.read()

    def exists(self, name: str) -> bool:
        with explained(f"Cannot look for {name} in {self.url}"):
            return self._require_regular(name)

    def _require_regular(self, name: str) -> bool:
        """Whether there is an object of that name. Raises Damaged where there is a pipe, device or socket."""
        try:
            mode = (self._root / name).stat().st_mode
        except OSError as error:
            if error.errno in _NO_FILE:
                return False
            raise
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise Damaged(
                f"Expected the object {name} in {self.url} to be a file, found {_kind(mode)}.",
                remedy="Remove it, and restore the object from a copy.",
            )
        return stat.S_ISREG(mode)

    def get_with_info(self, name: str) -> tuple[bytes, ObjectInfo]:
        with self._regular(name) as file:
            data = file.read(os.fstat(file.fileno()).st_size + 1)
            found = os.fstat(file.fileno())  # after reading, so that a change meanwhile shows in its time
        # The entity tag is that of the storage library's listing, whose own look at a name waits for pipes.
        e_tag = f"{found.st_ino:x}-{found.st_mtime_ns // 1000:x}-{found.st_size:x}"
        return data, ObjectInfo(name, found.st_size, e_tag)

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        with self._regular(name) as file:
            return [memoryview(os.pread(file.fileno(), size, start)) for start, size in ranges]

    @contextmanager
    def _regular(self, name: str) -> Iterator[BinaryIO]:
        """The open file of an object; what is not a regular file is not found, and not waited for."""
        with self._reading(name):
            if any(part in ("", ".", "..") for part in name.split("/")) or _CONTROL.search(name):
                raise ValueError(name)
            try:
                # Without O_NONBLOCK, opening a pipe waits for a writer.
                with open(
                    self._root / name, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)
                ) as file:
                    mode = os.fstat(file.fileno()).st_mode
                    if not stat.S_ISREG(mode):
                        raise self._irregular(name, mode)
                    yield file
            except OSError as error:
                if error.errno == errno.ENXIO:
                    raise self._irregular(name, stat.S_IFSOCK) from None
                if error.errno in _NO_FILE:
                    raise self._missing(name) from None
                raise

    def _irregular(self, name: str, mode: int) -> NotFound:
        return NotFound(f"Expected the object {name} in {self.url} to be a file, found {_kind(mode)}.")

    def map(self, name: str) -> bytes | memoryview:
        try:
            with self._regular(name) as file:
                if not os.fstat(file.fileno()).st_size:
                    raise NotFound("it is empty")  # cannot be mapped
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (NotFound, FixInput) as error:
            raise unmapped(name, self.url, error) from error

    def _written(self, name: str, data: bytes) -> bytes | memoryview:
        return self.map(name)

    def unlisted(self, prefix: str, listed: Collection[str]) -> Sequence[str]:
        found = _entries(self._root, prefix) - set(listed)
        if found:
            # Objects that were written since `listed` are in this listing; deleted ones are dropped below.
            found -= {info.name for info in self.list(prefix)}
        return sorted(name for name in found if os.path.lexists(self._root / name))

    def outside(self, names: Iterable[str]) -> Mapping[str, str]:
        root, folders, found = self._root.resolve(), dict[str, Path](), dict[str, str]()
        for name in names:
            folder, _, own = name.rpartition("/")
            if folder not in folders:
                folders[folder] = (self._root / folder).resolve()
            path = folders[folder] / own
            real = path.resolve() if path.is_symlink() else path
            if not real.is_relative_to(root):
                found[name] = str(real)
        return found

    def shorten(self, folder: Path) -> str:
        return folder.relative_to(self._root).as_posix() if folder.is_relative_to(self._root) else str(folder)

    def resolve(self, folder: str) -> Path:
        return self._root / folder


def _entries(root: Path, prefix: str) -> set[str]:
    """The names of all entries below a folder except folders; its own name if it is not a folder."""
    if not (root / prefix).is_dir():
        return {prefix} if os.path.lexists(root / prefix) else set()
    found = set()
    for folder, _, files in os.walk(root / prefix, followlinks=True):
        place = Path(folder).relative_to(root).as_posix()
        found |= {f"{place}/{name}" for name in files}
    return found
