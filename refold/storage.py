"""Object storage by URL: read, write once, list. Everything Refold keeps is an object behind this door.

Two kinds of write exist, and both are safe to repeat: `put` for objects named after their content, and `create`
for objects that may be written only once, ever. A pointer that moves is a series of `create`s with rising numbers,
which is a compare-and-swap on every store, also on a local folder. Nothing here knows what the objects mean.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, NotFoundError
from obstore.store import LocalStore, MemoryStore, from_url

from refold.errors import Conflict, Damaged, NotFound

_PASSWORD = re.compile(r"(://[^:/@]*):.*@")
_SECRET = re.compile(r"(?i)((?:[\w-]*(?:password|passwd|secret|token|signature|credential|access_key|sig))=)[^&\s]+")


def mask_url(url: str) -> str:
    """The URL with its password and secret query values replaced by `***`, fit to be shown.

    >>> mask_url("postgresql://ann:hunter2@db/shop?sslpassword=x&connect_timeout=3")
    'postgresql://ann:***@db/shop?sslpassword=***&connect_timeout=3'
    """
    place, mark, query = url.partition("?")
    return _PASSWORD.sub(r"\1:***@", place) + mark + _SECRET.sub(r"\1***", query)


def sha256_hex(data: bytes) -> str:
    """The sha256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and raw UTF-8: the form of every manifest and of every hash over one."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


@dataclass(frozen=True)
class ObjectInfo:
    """One listed object: its name below the store's root, its size, and its entity tag ("" where there is none)."""

    name: str
    size_bytes: int
    e_tag: str


class ObjectStore:
    """A folder of objects behind a URL: a local path, `file://`, `s3://`, `gs://`, `az://` or `memory://`."""

    def __init__(self, url: str, store: Any, root: Path | None) -> None:
        self.url = mask_url(url)
        self.root = root
        self._store = store

    @classmethod
    def open(cls, url: str, *, must_exist: bool = False) -> ObjectStore:
        """Open a store; a missing local folder is made, or refused where it `must_exist`.

        Raises:
            NotFound: the local folder does not exist and must.
        """
        if url.startswith("memory://"):
            return cls(url, MemoryStore(), None)
        if "://" in url and not url.startswith("file://"):
            return cls(url, from_url(url), None)
        root = Path(url.removeprefix("file://")).expanduser().resolve()
        if must_exist and not root.is_dir():
            raise NotFound(f"Expected a folder at {root}, found none.", remedy="Check the path or the setting.")
        root.mkdir(parents=True, exist_ok=True)
        return cls(str(root), LocalStore(root), root)

    def get(self, name: str) -> bytes:
        """The bytes of an object. Raises NotFound."""
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            raise NotFound(f"Expected the object {name} in {self.url}, found none.") from error

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

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole, replacing it; for names that determine their content, so a rerun changes nothing."""
        obstore.put(self._store, name, data)

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist yet. Raises Conflict where it does; the loser has changed nothing."""
        try:
            obstore.put(self._store, name, data, mode="create")
        except (AlreadyExistsError, FileExistsError) as error:
            raise Conflict(
                f"The object {name} in {self.url} was written by somebody else first.",
                remedy="Read it and go on from there.",
            ) from error

    def exists(self, name: str) -> bool:
        """Whether an object of that name exists."""
        try:
            obstore.head(self._store, name)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            obstore.delete(self._store, name)
        except (NotFoundError, FileNotFoundError):
            return

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """All objects below a folder, sorted by the bytes of their names, whatever order the store lists in."""
        found = [
            ObjectInfo(meta["path"], meta["size"], (meta["e_tag"] or "").strip('"'))
            for batch in obstore.list(self._store, prefix or None)
            for meta in batch
        ]
        return sorted(found, key=lambda info: info.name.encode())

    def get_json(self, name: str) -> Any:
        """The JSON value of an object. Raises NotFound, or Damaged where it is not JSON."""
        try:
            return json.loads(self.get(name))
        except ValueError as error:
            raise Damaged(f"The object {name} in {self.url} is not JSON: {error}.") from error
