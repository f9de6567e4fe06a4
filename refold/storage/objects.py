"""Object stores: the interface, and the stores that a URL opens. Everything Refold stores is an object in one of them.

There are two kinds of write, and both are safe to repeat: `put` is for objects whose name determines their content,
`create` for objects that are written only once. A moving pointer is a series of `create`s with rising numbers, which is
a compare-and-swap on every store, local folders included. Nothing here knows what the objects mean.
A local folder survives a power cut: what was put is on disk before anything is created or deleted, and
callers `sync` before they put an object that names others.
`failures` turns errors of the storage library into Refold's; `wrappers` has stores that wrap another one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from refold.errors import CommitUnknown, Conflict, Damaged, NotFound, RefoldError, Unavailable
from refold.storage.probe import require_conditions

RETRIES_MAX = 5


def sha256_hex(data: bytes | memoryview) -> str:
    """The sha256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and raw UTF-8: the form of all manifests, and of what is hashed as JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@dataclass(frozen=True)
class ObjectInfo:
    """One listed object: its name in the store, its size, and its entity tag ("" if it has none).

    `modified_at` is when it was last written according to the store, None if unknown; for housekeeping only, and not
    compared.
    """

    name: str
    size_bytes: int
    e_tag: str
    modified_at: dt.datetime | None = field(default=None, compare=False)


class OpenStore(Protocol):
    """A function that opens a store by its URL, as `ObjectStore.open` does; pass another one to wrap or replace it."""

    def __call__(self, url: str, *, must_exist: bool = False) -> ObjectStore:
        """The store behind a URL or path."""


class ObjectStore(ABC):
    """A folder of objects.

    Every method may raise Unavailable if the store does not answer, and FixInput if a name, a path, the URL or
    permissions must change.

    Attributes:
        url: the URL or path for people, with secrets masked.
        location: the URL or absolute path by which other libraries and processes find the store; None if only this
            process has it. It may contain secrets, so it is never shown.
        probe_key: what a process remembers by that the store honours conditional writes; None where that is certain.
        packed: whether parts lie together in packs, so that removing several costs as much as removing one.
    """

    url: str
    location: str | None
    probe_key: str | None = None
    packed: bool = False

    @staticmethod
    def open(url: str, *, must_exist: bool = False, retries_max: int = RETRIES_MAX) -> ObjectStore:
        """Open a local path, `file://`, `s3://`, `gs://`, `az://` or `memory://`.

        A remote store is not contacted yet.

        Args:
            url: the URL or path.
            must_exist: whether a missing local folder is an error; by default it is created.
            retries_max: how often a failed request to a remote store is repeated.

        Raises:
            NotFound: the local folder does not exist and must.
            FixInput: the URL is not that of a store, or the local folder cannot be created.
        """
        from refold.storage.opened import open_store  # noqa: PLC0415 -- its stores are object stores

        return open_store(url, must_exist=must_exist, retries_max=retries_max)

    @abstractmethod
    def get(self, name: str) -> bytes:
        """The bytes of an object. Raises NotFound."""

    def get_with_info(self, name: str) -> tuple[bytes, ObjectInfo]:
        """The bytes of an object, and the object as `list` would list it while it was read. Raises NotFound.

        A local store never waits for a pipe or device of that name, and does not find it.
        """
        data = self.get(name)
        return data, ObjectInfo(name, len(data), "")

    @abstractmethod
    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Parts of an object, given as (start, size in bytes); a part ends where the object does. Raises NotFound."""

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write a whole object, and replace it if it exists.

        For names that determine their content, so that a rerun changes nothing. Where the store is a local folder, it
        is durable only after the next `sync`, `create` or `delete`; until then a power cut leaves any part of a new
        object, and all of one that is replaced.
        """

    def put_soon(self, name: str, data: bytes) -> None:
        """Write as `put` does, at the latest with the next `sync`, `create` or `delete`, which raise what it would.

        A remote store writes several at once meanwhile, in any order; reading one waits for it. Callers `sync` before
        they end.
        """
        self.put(name, data)

    @abstractmethod
    def try_create(self, name: str, data: bytes) -> None:
        """Try to write an object that must not exist yet. Callers use `create`, which finds out what a failure means.

        What this process has put before is durable before the object exists; the object is when this returns.

        Raises:
            Conflict: the object exists. This call may have written it itself, if it repeated its request.
            Unavailable: the store did not answer; the object may be written or not.
        """

    def try_replace(self, name: str, data: bytes, e_tag: str) -> None:
        """Replace an object that must have an entity tag. Raises as `try_create` does.

        Only the probe of a store with a `probe_key` calls this; all other stores refuse.
        """
        raise written_first(name, self.url)

    def put_if(self, name: str, data: bytes, former: bytes | None) -> None:
        """Replace an object that still has the bytes `former`; None: create one that must not exist.

        For an object that is a pointer and whose bytes never come twice, so that a writer that was paused replaces
        nothing that is newer than what it read. It is durable when this returns. That it already has the new bytes is
        success; where the answer is lost, it is read back.

        Raises:
            Conflict: it has other bytes; nothing was changed.
            Unavailable: the store did not answer; the object may be written or not.
            CommitUnknown: it did not answer, neither to the write nor when the object was read back.
        """
        if former is None:
            self.create(name, data)
            return
        require_conditions(self)
        try:
            self.try_swap(name, data, former)
        except (Conflict, Unavailable) as failure:
            self._settle(name, data, failure, former)

    @abstractmethod
    def try_swap(self, name: str, data: bytes, former: bytes) -> None:
        """Replace an object whose bytes are `former`; Conflict where it has others, or there is none.

        Of several that replace the same bytes one succeeds. Callers use `put_if`, which finds out what a failure means.
        Raises as `try_create` does.
        """

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether an object of that name exists."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete an object, if it exists. What this process has put before is durable before it is gone."""

    def delete_all(self, names: Iterable[str]) -> None:
        """Delete objects as `delete` does, in order; where several lie together, with fewer requests."""
        for name in names:
            self.delete(name)

    def sync(self, folder: str = "") -> None:  # noqa: B027 -- a store that is durable when it answers
        """Wait until what this process has put below a folder is durable ("": all, and what it has deleted).

        A store in packs waits only for all; for a folder it sees to it that what is put later is durable later. Another
        remote store is durable when it answers; it waits for what was `put_soon`.
        """

    def adopt(self, folder: str) -> None:  # noqa: B027 -- likewise
        """Have the next `sync` include the files of a folder, which another library may have written."""

    @abstractmethod
    def scan(self, prefix: str) -> Iterable[ObjectInfo]:
        """All objects below a folder ("" for all), in the store's own order. Callers use `list`."""

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """All objects below a folder, sorted by the bytes of their names."""
        return sorted(self.scan(prefix), key=lambda info: info.name.encode())

    def top(self) -> Sequence[str]:
        """The first parts of all names, sorted; a folder ends in `/`."""
        heads = (info.name.partition("/") for info in self.scan(""))
        return sorted({head + slash for head, slash, _ in heads})

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist yet; that it already has exactly these bytes is success.

        If the write fails, the object is read back before anything is concluded, so a lost answer is not a conflict.
        The first call of a process probes a remote store.

        Raises:
            UnsafeStore: the store ignores the conditions of writes.
            Conflict: the object has other bytes; nothing was changed.
            Unavailable: the store did not answer, and the object does not exist. A request that is still under way may
                write it later; then a rerun succeeds or finds a Conflict.
            CommitUnknown: the store did not answer, neither to the write nor when the object was read back.
        """
        require_conditions(self)
        try:
            self.try_create(name, data)
        except (Conflict, Unavailable) as failure:
            self._settle(name, data, failure)

    def _settle(self, name: str, data: bytes, failure: RefoldError, former: bytes | None = None) -> None:
        """Find out whether a conditional write that failed was done."""
        try:
            found = self.get(name)
        except NotFound:
            raise failure from None
        except RefoldError as error:
            raise CommitUnknown(
                f"It is unknown whether {name} was written to {self.url}. {failure} Reading it back failed: {error}",
                remedy="Run again; if it was written, the next run finds it.",
            ) from error
        if found == former:
            raise failure from None
        if found != data:
            raise written_first(name, self.url) from None

    def map(self, name: str) -> bytes | memoryview:
        """The bytes of an object; a store of files maps them, so that only the parts that are used are read.

        Raises Damaged if it is missing.
        """
        try:
            return self.get(name)
        except NotFound as error:
            raise unmapped(name, self.url, error) from error

    def put_mapped(self, name: str, data: bytes) -> bytes | memoryview:
        """Write an object as `put_soon` does, and return its bytes as `map` does, so that `data` can be freed."""
        self.put_soon(name, data)
        return self._written(name, data)

    def _written(self, name: str, data: bytes) -> bytes | memoryview:
        """What `put_mapped` returns of an object that was written just now."""
        return data

    def unlisted(self, prefix: str, listed: Collection[str]) -> Sequence[str]:
        """The names of entries below a folder that are not in `listed` and cannot be read as objects, sorted.

        Only local folders can have any: broken links, pipes, and names such as `b.jsonl#1`, which the storage library
        takes for an unfinished write of its own.
        """
        return []

    def outside(self, names: Iterable[str]) -> Mapping[str, str]:
        """The paths of those objects that symbolic links take from outside the store, by name.

        Only local folders can have any. Hard links cannot be told from files.
        """
        return {}

    def shorten(self, folder: Path) -> str:
        """The path of a local folder as records contain it: relative to the store if it is inside."""
        return str(folder)

    def resolve(self, folder: str) -> Path:
        """The local folder whose path `shorten` returned."""
        return Path(folder)

    def get_checked(self, name: str, sha256: str) -> bytes:
        """The bytes of an object whose sha256 is known. Raises Damaged if it is missing or differs."""
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
        """The JSON value of an object. Raises NotFound, or Damaged if it is not JSON."""
        try:
            return json.loads(self.get(name))
        except ValueError as error:
            raise Damaged(f"The object {name} in {self.url} is not JSON: {error}.") from error


def written_first(name: str, url: str) -> Conflict:
    """What a store raises for an object that exists and must not."""
    return Conflict(
        f"The object {name} in {url} was written by another process first.", remedy="Read it and go on from there."
    )


def unmapped(name: str, url: str, error: Exception) -> Damaged:
    """What `map` raises for an object that cannot be read."""
    return Damaged(f"The object {name} in {url} cannot be read: {str(error).rstrip('.')}.")
