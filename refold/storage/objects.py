"""Object stores: what one can do, and the stores behind a URL. Everything Refold keeps is an object in such a store.

There are two kinds of write, and both are safe to repeat: `put` is for objects whose name determines their content,
and `create` for objects that are written once, ever. A pointer that moves is a series of `create`s with rising numbers,
which is a compare-and-swap on every store, also on a local folder. Nothing here knows what the objects mean.
Errors of the storage library become Refold's in `failures`; stores that wrap another one are in `wrappers`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import LocalStore, MemoryStore, from_url

from refold.errors import CommitUnknown, Conflict, Damaged, NotFound, RefoldError, Unavailable
from refold.storage.failures import MISSING, explained
from refold.storage.urls import local_path, mask_url

_RETRIES_MAX = 5
_RETRY_TIMEOUT = dt.timedelta(seconds=15)
"""A refusing address is given up after about three seconds; obstore's own ten attempts take more than a minute.

Set no client options: any that are given make obstore forget those of the environment, such as AWS_ALLOW_HTTP.
"""


def sha256_hex(data: bytes | memoryview) -> str:
    """The sha256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and raw UTF-8: the form of every manifest and of every hash over one."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@dataclass(frozen=True)
class ObjectInfo:
    """One listed object: its name below the store's root, its size, and its entity tag ("" where there is none).

    `modified_at` is when the store last saw it written, None where that is unknown; for housekeeping, never compared.
    """

    name: str
    size_bytes: int
    e_tag: str
    modified_at: dt.datetime | None = field(default=None, compare=False)


class OpenStore(Protocol):
    """Opens a store by its URL, as `ObjectStore.open` does; hand in another one to wrap or to replace stores."""

    def __call__(self, url: str, *, must_exist: bool = False) -> ObjectStore:
        """The store behind a URL or path."""


class ObjectStore(ABC):
    """A folder of objects.

    In every method, Unavailable says that the store does not answer, and FixInput that a name, a path, the URL or the
    rights must change.

    Attributes:
        url: the URL or path, for people: secrets are masked.
        location: the URL or absolute path by which other libraries and processes find the store, never shown since it
            may hold secrets; None where it exists in this process alone.
    """

    url: str
    location: str | None

    @staticmethod
    def open(url: str, *, must_exist: bool = False, retries_max: int = _RETRIES_MAX) -> ObjectStore:
        """Open a local path, `file://`, `s3://`, `gs://`, `az://` or `memory://`.

        A missing local folder is made, or refused where it `must_exist`. A remote store is not contacted yet.

        Args:
            url: where it is.
            must_exist: refuse a missing local folder.
            retries_max: how often a request to a remote store is sent again.

        Raises:
            NotFound: the local folder does not exist and must.
            FixInput: the URL is not one of a store, or the local folder cannot be made.
        """
        if url.startswith("memory://"):
            return _ObstoreStore(MemoryStore(), url, None)
        root = local_path(url)
        with explained(f"Cannot open {mask_url(url)}", opening=True):
            if root is None:
                retries: Any = {"max_retries": retries_max, "retry_timeout": _RETRY_TIMEOUT}
                return _ObstoreStore(from_url(url, retry_config=retries), url, url.rstrip("/"))
            if must_exist and not root.is_dir():
                what = "a file" if root.exists() else "none"
                raise NotFound(f"Expected a folder at {root}, found {what}.", remedy="Check the path or the setting.")
            root.mkdir(parents=True, exist_ok=True)
            return _LocalStore(root)

    @abstractmethod
    def get(self, name: str) -> bytes:
        """The bytes of an object. Raises NotFound."""

    @abstractmethod
    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Parts of an object, given as (start, size in bytes). Raises NotFound."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write an object whole, replacing it; for names that determine their content, so a rerun changes nothing."""

    @abstractmethod
    def try_create(self, name: str, data: bytes) -> None:
        """Try once to write an object that must not exist yet; callers use `create`.

        Raises:
            Conflict: the object exists; this very call may have written it, where a request was sent again.
            Unavailable: the store did not answer; the object may be written or not.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether an object of that name exists."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove an object; one that does not exist is no error."""

    @abstractmethod
    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        """All objects below a folder ("" for all), in whatever order the store lists them; callers use `list`."""

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """All objects below a folder, sorted by the bytes of their names, whatever order the store lists in."""
        return sorted(self.scan(prefix), key=lambda info: info.name.encode())

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist yet. Where it holds exactly these bytes already, that is success.

        So a write whose answer was lost is no conflict: what is stored is read back before anything is concluded.

        Raises:
            Conflict: the object holds other bytes; nothing was changed.
            Unavailable: the store did not answer, and the object does not exist.
            CommitUnknown: the store did not answer, nor did it when the object was read back.
        """
        try:
            self.try_create(name, data)
        except (Conflict, Unavailable) as failure:
            self._settle(name, data, failure)

    def _settle(self, name: str, data: bytes, failure: RefoldError) -> None:
        """Find out what became of a conditional write that failed."""
        try:
            found = self.get(name)
        except NotFound:
            raise failure from None
        except RefoldError as error:
            raise CommitUnknown(
                f"Whether {name} was written to {self.url} is unknown: {failure} Reading it back failed: {error}",
                remedy="Run again: if it was written, the next run finds it.",
            ) from error
        if found != data:
            raise _written_first(name, self.url) from None

    def map(self, name: str) -> bytes | memoryview:
        """The bytes of an object, mapped into memory where the store has files, so only what is looked at is read.

        Raises Damaged where it is missing.
        """
        try:
            return self.get(name)
        except NotFound as error:
            raise _unmapped(name, self.url, error) from error

    def put_mapped(self, name: str, data: bytes) -> bytes | memoryview:
        """Write an object as `put` does; returns its bytes as `map` does, so that the given ones can be freed."""
        self.put(name, data)
        return data

    def unlisted(self, prefix: str, listed: Collection[str]) -> Sequence[str]:
        """The sorted names of entries below a folder that are not among `listed` and cannot be read as objects.

        Only a local folder can hold any: links that lead nowhere, pipes, and names such as `b.jsonl#1`, which the
        storage library takes for a write of its own that is still under way.
        """
        return []

    def shorten(self, folder: Path) -> str:
        """The path of a local folder as records hold it: relative to the store where it is inside it."""
        return str(folder)

    def resolve(self, folder: str) -> Path:
        """The local folder that `shorten` gave this path of."""
        return Path(folder)

    def get_checked(self, name: str, sha256: str) -> bytes:
        """The bytes of an object whose sha256 is known. Raises Damaged where it is missing or differs."""
        try:
            data = self.get(name)
        except NotFound as error:
            raise Damaged(f"{error} Its manifest lists it.", remedy="Restore it, or rebuild what holds it.") from error
        found = sha256_hex(data)
        if found != sha256:
            raise Damaged(
                f"The object {name} in {self.url} is damaged: expected sha256 {sha256}, found {found}.",
                remedy="Restore it from a copy, or rebuild what holds it.",
            )
        return data

    def get_json(self, name: str) -> Any:
        """The JSON value of an object. Raises NotFound, or Damaged where it is not JSON."""
        try:
            return json.loads(self.get(name))
        except ValueError as error:
            raise Damaged(f"The object {name} in {self.url} is not JSON: {error}.") from error


def _written_first(name: str, url: str) -> Conflict:
    return Conflict(
        f"The object {name} in {url} was written by another process first.", remedy="Read it and go on from there."
    )


def _unmapped(name: str, url: str, error: Exception) -> Damaged:
    return Damaged(f"The object {name} in {url} cannot be read: {error}.")


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
            except MISSING:
                raise self._missing(name) from None

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        starts, sizes = [start for start, _ in ranges], [size for _, size in ranges]
        with self._reading(name):
            try:
                found = obstore.get_ranges(self._store, name, starts=starts, lengths=sizes)
                return [memoryview(part) for part in found]
            except MISSING:
                raise self._missing(name) from None

    def put(self, name: str, data: bytes) -> None:
        with explained(f"Cannot write {name} in {self.url}"):
            obstore.put(self._store, name, data)

    def try_create(self, name: str, data: bytes) -> None:
        with explained(f"Cannot write {name} in {self.url}"):
            try:
                obstore.put(self._store, name, data, mode="create")
            except (AlreadyExistsError, PreconditionError, FileExistsError):
                raise _written_first(name, self.url) from None

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
            return [
                ObjectInfo(meta["path"], meta["size"], (meta["e_tag"] or "").strip('"'), meta["last_modified"])
                for batch in obstore.list(self._store, prefix or None)
                for meta in batch
            ]

    def _reading(self, name: str) -> Any:
        return explained(f"Cannot read {name} in {self.url}")

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"Expected the object {name} in {self.url}, found none.")


class _LocalStore(_ObstoreStore):
    """A local folder, which can be looked at and mapped into memory as files."""

    def __init__(self, root: Path) -> None:
        super().__init__(LocalStore(root), str(root), str(root))
        self._root = root

    def map(self, name: str) -> bytes | memoryview:
        try:
            with (self._root / name).open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise _unmapped(name, self.url, error) from error

    def put_mapped(self, name: str, data: bytes) -> bytes | memoryview:
        self.put(name, data)
        return self.map(name)

    def unlisted(self, prefix: str, listed: Collection[str]) -> Sequence[str]:
        found = _entries(self._root, prefix) - set(listed)
        if found:
            # What came after the first listing is in this one, and what went before it is gone.
            found -= {info.name for info in self.list(prefix)}
        return sorted(name for name in found if os.path.lexists(self._root / name))

    def shorten(self, folder: Path) -> str:
        return folder.relative_to(self._root).as_posix() if folder.is_relative_to(self._root) else str(folder)

    def resolve(self, folder: str) -> Path:
        return self._root / folder


def _entries(root: Path, prefix: str) -> set[str]:
    """The names of everything below a folder that is not a folder; the folder's own where it is not one."""
    if not (root / prefix).is_dir():
        return {prefix} if os.path.lexists(root / prefix) else set()
    found = set()
    for folder, _, files in os.walk(root / prefix, followlinks=True):
        place = Path(folder).relative_to(root).as_posix()
        found |= {f"{place}/{name}" for name in files}
    return found
