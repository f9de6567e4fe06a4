"""Object storage by URL: read, write once, list. Everything Refold keeps is an object behind this door.

Two kinds of write exist, and both are safe to repeat: `put` for objects named after their content, and `create`
for objects that may be written only once, ever. A pointer that moves is a series of `create`s with rising numbers,
which is a compare-and-swap on every store, also on a local folder. Nothing here knows what the objects mean.
"""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, unquote_to_bytes, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import LocalStore, MemoryStore, from_url

from refold.errors import Conflict, Damaged, FixInput, NotFound, RefoldError, Unavailable

if TYPE_CHECKING:
    from obstore.store import RetryConfig

_NAMED = ("postgres", "abfs", "adl")
"""Schemes in which what stands alone before an @ is a name: of a user, of a container."""

_SECRET = re.compile(r"(?is)([\w.%-]*(?:pass|pwd|secret|token|sig|sas|credential|key|auth)[\w.%-]*=)(.*)")
_MISNAMED = (InvalidPathError, ValueError)
_MISSING = (NotFoundError, FileNotFoundError)
_REFUSED = (NotSupportedError, NotImplementedError, UnknownConfigurationKeyError)
_FORBIDDEN = (PermissionDeniedError, UnauthenticatedError, PermissionError)
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EDQUOT,
    errno.EINTR,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_RETRIES: RetryConfig = {"max_retries": 5, "retry_timeout": dt.timedelta(seconds=15)}
"""An address that refuses is given up in about three seconds; the library's own ten attempts take a minute and more.

Only this, no client options: given ones make the library forget those of the environment, such as AWS_ALLOW_HTTP.
"""


def mask_url(url: str) -> str:
    """The URL with passwords, lone tokens and secret query values replaced by `***`, fit to be shown.

    Rather too much is hidden than too little: all up to the last @ after a user's colon, wherever a driver ends it.

    >>> mask_url("postgresql://ann:hunter2@db/shop?sslpassword=x&connect_timeout=3")
    'postgresql://ann:***@db/shop?sslpassword=***&connect_timeout=3'
    >>> mask_url("postgresql://ann@db/shop"), mask_url("https://token@host/x"), mask_url("sqlite:////tmp/x.db")
    ('postgresql://ann@db/shop', 'https://***@host/x', 'sqlite:////tmp/x.db')
    """
    place = re.split("[?#]", url, maxsplit=1)[0]
    shown = place + "&".join(_without_secret(pair) for pair in url[len(place) :].split("&"))
    scheme, mark, rest = shown.partition("://")
    return scheme + mark + _without_userinfo(scheme, rest) if mark else shown


def _without_secret(pair: str) -> str:
    name, mark, value = pair.partition("=")
    if mark and _SECRET.search(unquote_plus(name) + mark):
        return f"{name}={_hidden(value)}"
    return _SECRET.sub(lambda found: found[1] + _hidden(found[2]), pair)


def _hidden(value: str) -> str:
    # What looks like a query can be part of a password; its @ stays, so that all before it is hidden with it.
    return "@***" if "@" in value else "***"


def _without_userinfo(scheme: str, rest: str) -> str:
    named = scheme.lower().startswith(_NAMED)
    found = re.match(r"(?s)([^:/]*):.*@", rest)
    if found:
        user = found[1] if named or "@" not in found[1] else "***"
        return f"{user}:***@{rest[found.end() :]}"
    return rest if named else re.sub(r"^[^/]*@", "***@", rest)


def local_path(url: str) -> Path | None:
    """The absolute path that a plain path or a `file:` URL means; None for the URL of a remote store.

    A plain path is taken as it is, a URL is percent-decoded.

    >>> local_path("file:///tmp/two%20words/"), local_path("s3://bucket/store")
    (PosixPath('/tmp/two words'), None)

    Raises:
        FixInput: it is a file URL of another host, a relative one, or one with a query; or it can be no path.
    """
    try:
        if url.lower().startswith("file:"):
            path = Path(_path_of_file_url(url))
        elif "://" in url:
            return None
        else:
            path = Path(url).expanduser()
        resolved = path.resolve()
        os.fsencode(resolved).decode()
    except (OSError, RuntimeError, ValueError) as error:
        remedy = "Give an absolute path, in UTF-8."
        raise FixInput(f"Expected the path of a folder, found {mask_url(url)!r}: {error}.", remedy=remedy) from None
    return resolved


def _path_of_file_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc.lower() not in ("", "localhost") or not parts.path.startswith("/") or re.search(r"[?#\t\r\n]", url):
        raise FixInput(
            f"Expected a local folder as file:///absolute/path, found {mask_url(url)}.",
            remedy="Give a path of this machine, with %23 for # and %3F for ?, or a plain path without file://.",
        )
    return os.fsdecode(unquote_to_bytes(parts.path))


@contextmanager
def _telling(failed: str, *, opening: bool = False) -> Iterator[None]:
    """Turn whatever the storage library and the system raise into a repair note that begins with what failed.

    Without the cause: its text may show the whole URL, and a page of the library's insides.
    """
    try:
        yield
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        raise _told(error, failed, opening) from None


def _told(error: Exception, failed: str, opening: bool) -> RefoldError:
    found = _first_line(error)
    kind, expected, remedy = _judged(error, found, opening)
    return kind(f"{failed}: expected {expected}, found: {found}", remedy=remedy)


def _judged(error: Exception, found: str, opening: bool) -> tuple[type[RefoldError], str, str]:
    """The kind of error, what was expected, and the remedy."""
    local = isinstance(error, OSError) or "LocalFileSystem" in found
    code = error.errno if isinstance(error, OSError) else _system_error(found)
    told: tuple[type[RefoldError], str, str]
    if isinstance(error, _MISNAMED) and not opening:
        told = FixInput, "names in UTF-8 without control characters", "Rename the object that is named here."
    elif isinstance(error, _FORBIDDEN):
        told = FixInput, "to be let in", "Check credentials and rights."
    elif isinstance(error, _REFUSED):
        told = FixInput, "a store that can do this", "Use a local folder, s3://, gs:// or az://."
    elif isinstance(error, _MISSING):
        told = FixInput, "it to exist", "Check the path, or the name of the bucket."
    elif local and code in _PASSING:
        told = Unavailable, "a store that works", "Try again once it does."
    elif local:
        told = FixInput, "a folder that can be used", "Check the path, what stands there and the rights on it."
    elif opening:
        remedy = "Check the URL, and the settings of its kind of store (AWS_…, GOOGLE_…, AZURE_…)."
        told = FixInput, "a local path, s3://, gs:// or az://", remedy
    else:
        told = Unavailable, "a store that answers", "Check address, network and credentials, then try again."
    return told


def _first_line(error: Exception) -> str:
    """The library's own sentence without its insides, secrets masked; the whole of a name that has line breaks."""
    text = str(error).partition("\n\nDebug source:")[0]
    if isinstance(error, _MISNAMED):
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    first = (text.splitlines() or [type(error).__name__])[0].rstrip(" .")
    return re.sub(r"\S+://\S+", lambda url: mask_url(url[0]), first)[:400] + "."


def _system_error(text: str) -> int | None:
    found = re.search(r"\(os error (\d+)\)", text)
    return int(found[1]) if found else None


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


class ObjectStore:
    """A folder of objects behind a URL: a local path, `file://`, `s3://`, `gs://`, `az://` or `memory://`."""

    def __init__(self, url: str, store: Any, root: Path | None) -> None:
        self.url = mask_url(url)
        self.root = root
        self._store = store

    @classmethod
    def open(cls, url: str, *, must_exist: bool = False) -> ObjectStore:
        """Open a store; a missing local folder is made, or refused where it `must_exist`.

        A remote store is not asked yet. In every method below, Unavailable says that it does not answer, and FixInput
        that a name, a path, the URL or the rights must change.

        Raises:
            NotFound: the local folder does not exist and must.
            FixInput: the URL is none of a store, or the local folder cannot be made.
        """
        if url.startswith("memory://"):
            return cls(url, MemoryStore(), None)
        root = local_path(url)
        with _telling(f"Cannot open {mask_url(url)}", opening=True):
            if root is None:
                return cls(url, from_url(url, retry_config=_RETRIES), None)
            if must_exist and not root.is_dir():
                what = "a file" if root.exists() else "none"
                raise NotFound(f"Expected a folder at {root}, found {what}.", remedy="Check the path or the setting.")
            root.mkdir(parents=True, exist_ok=True)
            return cls(str(root), LocalStore(root), root)

    def get(self, name: str) -> bytes:
        """The bytes of an object. Raises NotFound."""
        with _telling(f"Cannot read {name} in {self.url}"):
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except _MISSING as error:
                raise NotFound(f"Expected the object {name} in {self.url}, found none.") from error

    def map(self, name: str) -> bytes | memoryview:
        """The bytes of an object, in a local folder mapped into memory, so that only what is looked at is read.

        Raises Damaged where it is missing.
        """
        try:
            if self.root is None:
                return self.get(name)
            with (self.root / name).open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (NotFound, OSError, ValueError) as error:
            raise Damaged(f"The object {name} in {self.url} cannot be read: {error}.") from error

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

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Parts of an object, given as (start, size in bytes). Raises NotFound, Damaged where it is too short."""
        with _telling(f"Cannot read {name} in {self.url}"):
            try:
                starts, sizes = [start for start, _ in ranges], [size for _, size in ranges]
                found = [
                    memoryview(part) for part in obstore.get_ranges(self._store, name, starts=starts, lengths=sizes)
                ]
            except _MISSING as error:
                raise NotFound(f"Expected the object {name} in {self.url}, found none.") from error
        return found

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole, replacing it; for names that determine their content, so a rerun changes nothing."""
        with _telling(f"Cannot write {name} in {self.url}"):
            obstore.put(self._store, name, data)

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist yet. Raises Conflict where it does; the loser has changed nothing."""
        with _telling(f"Cannot write {name} in {self.url}"):
            try:
                obstore.put(self._store, name, data, mode="create")
            except (AlreadyExistsError, FileExistsError) as error:
                raise Conflict(
                    f"The object {name} in {self.url} was written by somebody else first.",
                    remedy="Read it and go on from there.",
                ) from error

    def exists(self, name: str) -> bool:
        """Whether an object of that name exists."""
        with _telling(f"Cannot look for {name} in {self.url}"):
            try:
                obstore.head(self._store, name)
            except _MISSING:
                return False
            return True

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        with _telling(f"Cannot remove {name} in {self.url}"), suppress(*_MISSING):
            obstore.delete(self._store, name)

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """All objects below a folder, sorted by the bytes of their names, whatever order the store lists in."""
        with _telling(f"Cannot list {prefix or 'objects'} in {self.url}"):
            found = [
                ObjectInfo(meta["path"], meta["size"], (meta["e_tag"] or "").strip('"'), meta["last_modified"])
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
