"""A cache in Redis or Valkey: every version whole under one key, and one key that says which version readers see.

For a sink `Cache("prices")` the server holds

- `refold:prices:v:<version>`: a hash with one field a row, named by its key as search documents are, whose value is the
  row as JSON; and the field `` (no name) with the columns and the number of rows. A version is built under a name of
  its own and renamed when it is whole, so that it is there or not: also where the server evicts or expires keys;
- `refold:prices:released`: the version that readers see, and its lineage;
- `refold:prices:b:…`: a version that is being built, which expires an hour after its publisher was killed;
- `refold:fence`: where there are leases, the highest fencing token that wrote to this server.

A release of several caches of one server is one transaction. It is watched: where anything that it rests on changes
between the look and the write, it looks again. Readers use `CachedRows`, which tells a row that does not exist from a
cache that is cold. What is lost (an eviction, an expiry, an empty server) is published again from the proven state by
`refold rebuild` or `refold repair`.

The server is one primary, not a cluster, whose keys a transaction cannot span. A failover may lose the last writes,
which are found and repaired like any other drift.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from refold.errors import Conflict, Damaged, DeclarationError, NotFound
from refold.sinks.base import Content, Move, Sink, SinkFault, Target, no_version, require_columns
from refold.sinks.cache_server import CacheServer
from refold.sinks.connections import Connections
from refold.sinks.values import documents, from_documents, readable_documents, require_storable
from refold.storage.objects import canonical_json
from refold.types import Schema, describe

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_BUILDING_SECONDS = 3600
_FAULTS_MAX = 100
_FIELDS_AT_ONCE = 5000

Fenced = Callable[[str], AbstractContextManager[int | None]]
"""Holds a write to the lease of publishing, where there are leases, and gives its token."""


@dataclass(frozen=True)
class Cache(Sink):
    """The cache `cache` on the server that a connection names: `REFOLD_CONNECTION_CACHE=redis://host:6379/0`.

    Attributes:
        cache: its name.
        ttl_seconds: how long what is served may be read after it was last published or released; then the cache is
            cold. None for ever.
        former_ttl_seconds: how long a version is kept after another one replaced it; None until a prune. A version
            that has expired cannot be rolled back to before it is published again.
        server: the name of the connection.

    >>> Cache("prices").name
    'prices'
    """

    cache: str
    ttl_seconds: int | None = None
    former_ttl_seconds: int | None = None
    server: str = "cache"
    kind: ClassVar[str] = "cache"
    label: ClassVar[str] = "cache"

    def __post_init__(self) -> None:
        faults = []
        if not _NAME.fullmatch(self.cache):
            faults.append(f"a cache's name matches {_NAME.pattern}")
        for name in ("ttl_seconds", "former_ttl_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and seconds < 1:
                faults.append(f"{name} is {seconds}, expected at least 1")
        if faults:
            raise DeclarationError(f"Cache({self.cache!r})", faults)

    @property
    def name(self) -> str:
        """The name of the cache."""
        return self.cache

    @property
    def connection(self) -> str:
        """The name of the connection."""
        return self.server

    def open(self, connections: Connections, store: str, key: Sequence[str], columns: Schema) -> CacheTarget:
        """The cache on its server, which is not contacted yet. Raises DeclarationError, FixInput."""
        return CacheTarget(self, CacheServer(connections.url(self.server)), columns, connections.fenced)

    def by_hand(self, place: str) -> str:
        """The command to run."""
        return f"Run DEL refold:{self.cache}:released; for {place}."

    def release_together(self, moves: Sequence[Move], confirm: Callable[[], None] = lambda: None) -> None:
        """Release several caches, in one transaction for all of one server. Raises NotFound for an unknown version."""
        groups: dict[str, list[tuple[CacheTarget, str, Mapping[str, str]]]] = {}
        for target, version, lineage in moves:
            assert isinstance(target, CacheTarget), f"{target.place} is not a cache"
            groups.setdefault(target.server.url, []).append((target, version, lineage))
        for group in groups.values():
            _release_all(group, confirm)


def version_key(cache: str, version: str) -> str:
    """The key of a version."""
    return f"refold:{cache}:v:{version}"


def pointer_of(cache: str) -> str:
    """The key that says which version readers see."""
    return f"refold:{cache}:released"


class CacheTarget(Target):
    """One cache's versions."""

    def __init__(self, sink: Cache, server: CacheServer, columns: Schema, fenced: Fenced) -> None:
        self.sink, self.server, self.fenced = sink, server, fenced
        self._columns = dict(columns)
        self.pointer = pointer_of(sink.cache)

    @property
    def place(self) -> str:
        """The keys and their server, secrets masked."""
        return f"cache {self.sink.cache} in {self.server.place}"

    def key_of(self, version: str) -> str:
        """The key of a version."""
        return version_key(self.sink.cache, version)

    def publish(self, content: Content) -> None:
        """Build the version under another key, then rename it. Raises FixInput, Unavailable, Fenced."""
        require_storable(content, self.place)
        building = f"refold:{self.sink.cache}:b:{content.version}:{os.urandom(8).hex()}"
        fields = [("", _meta_of(content)), *documents(content)]
        self.server.load(building, fields, _FIELDS_AT_ONCE, _BUILDING_SECONDS)

        def rename(transaction: Any) -> None:
            served = self.released_in(transaction.get(self.pointer)) == content.version
            transaction.multi()
            transaction.persist(building)
            transaction.rename(building, self.key_of(content.version))
            if served and self.sink.ttl_seconds is not None:
                transaction.expire(self.key_of(content.version), self.sink.ttl_seconds)

        self._write(rename, self.pointer, what=f"version {content.version}")

    def read(self, version: str | None = None) -> pa.Table:
        """The rows of a version. Raises NotFound, FixInput, Damaged, Unavailable."""
        sought = version if version is not None else self.released()
        if sought is None:
            raise NotFound(no_version(self.place, None))
        fields = self._fields(sought)
        meta = self._meta(sought, fields.pop(b"", None))
        require_columns(self.place, sought, meta["columns"], describe(self._columns))
        if len(fields) != meta["rows"]:
            raise Damaged(
                f"Version {sought} of {self.place} has {len(fields)} rows, expected {meta['rows']}.",
                remedy="Publish it again; `refold repair` does.",
            )
        try:
            return from_documents(fields.values(), self._columns)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, pa.ArrowException) as error:
            raise Damaged(
                f"Version {sought} of {self.place} has a row that cannot be read: {error}.",
                remedy="Publish it again; `refold repair` does.",
            ) from error

    def release(self, version: str, lineage: Mapping[str, str]) -> None:
        """Name the version that readers see. Raises NotFound, Unavailable, Fenced."""
        _release_all([(self, version, lineage)])

    def released(self) -> str | None:
        """The version that readers see; None where it was lost or has expired, since they find nothing then."""
        version = self.released_in(self.server.run(lambda client: client.get(self.pointer)))
        if version is None or not self.server.run(lambda client: client.hexists(self.key_of(version), "")):
            return None
        return version

    def released_in(self, value: bytes | None) -> str | None:
        """The version that the value of the pointer names. Raises Damaged."""
        if value is None:
            return None
        try:
            return str(json.loads(value)["version"])
        except (ValueError, KeyError, TypeError) as error:
            remedy = "Release again; `refold repair` does."
            raise Damaged(f"{self.pointer} in {self.server.place} names no version.", remedy=remedy) from error

    def versions(self) -> list[str]:
        """The versions that are there."""
        return sorted(key.removeprefix(self.key_of("")) for key in self.server.keys(self.key_of("*")))

    def drop(self, version: str) -> None:
        """Remove a version. Raises Conflict if it is released."""

        def unlink(transaction: Any) -> None:
            if self.released_in(transaction.get(self.pointer)) == version:
                raise Conflict(f"{self.place} serves the version {version}.", remedy="Release another one first.")
            transaction.multi()
            transaction.unlink(self.key_of(version))

        self._write(unlink, self.pointer, what=f"that version {version} is dropped")

    def withdraw(self, confirm: Callable[[], None] = lambda: None) -> str:
        """Remove the key that says which version readers see."""

        def unlink(transaction: Any) -> None:
            if transaction.get(self.pointer) is not None:
                confirm()
            transaction.multi()
            transaction.unlink(self.pointer)

        self._write(unlink, self.pointer, what="that it is withdrawn")
        return ""

    def faults(self, content: Content, lineage: Mapping[str, str] | None = None) -> list[SinkFault]:
        """What is wrong with a version, row by row: every field that is not, byte for byte, what publishing writes."""
        if content.version not in self.versions():
            return [SinkFault(self.place, f"version {content.version}", "none that is whole")]
        found, expected = self._fields(content.version), dict(documents(content))
        stored = {name.decode(errors="backslashreplace"): value for name, value in found.items() if name}
        differing = sorted(name for name in expected.keys() | stored.keys() if expected.get(name) != stored.get(name))
        where = f"{self.place}, version {content.version}"
        faults = [
            SinkFault(f"{where}, key {name}", _shown(expected.get(name)), _shown(stored.get(name)))
            for name in differing[:_FAULTS_MAX]
        ]
        if len(differing) > _FAULTS_MAX:
            more = f"{len(differing) - _FAULTS_MAX} more keys that differ"
            faults.append(SinkFault(where, f"{len(expected)} rows", more))
        if found.get(b"") != _meta_of(content):
            faults.append(SinkFault(where, _shown(_meta_of(content)), _shown(found.get(b""))))
        return faults + (self._release_faults(content.version, lineage) if lineage is not None else [])

    def _release_faults(self, version: str, lineage: Mapping[str, str]) -> list[SinkFault]:
        value = self.server.run(lambda client: client.get(self.pointer))
        expected = _served(version, lineage)
        if value == expected:
            return []
        return [SinkFault(f"{self.pointer} in {self.server.place}", _shown(expected), _shown(value))]

    def salvage(self, version: str, *, served: bool) -> pa.Table | None:
        """The rows that can still be read."""
        fields = self._fields(version)
        return readable_documents([value for name, value in fields.items() if name], self._columns)

    def _fields(self, version: str) -> dict[bytes, bytes]:
        return self.server.fields(self.key_of(version), _FIELDS_AT_ONCE)

    def _meta(self, version: str, value: bytes | None) -> dict[str, Any]:
        if value is None:
            raise NotFound(no_version(self.place, version))
        try:
            meta = json.loads(value)
            assert isinstance(meta["columns"], str) and isinstance(meta["rows"], int)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            remedy = "Publish it again; `refold repair` does."
            raise Damaged(f"Version {version} of {self.place} has no readable columns.", remedy=remedy) from error
        return dict(meta)

    def _write(self, work: Callable[[Any], None], *watched: str, what: str) -> None:
        with self.fenced(f"{what} of {self.place}") as token:
            self.server.transaction(work, watched, token)


def _release_all(
    moves: Sequence[tuple[CacheTarget, str, Mapping[str, str]]], confirm: Callable[[], None] = lambda: None
) -> None:
    """Release caches of one server in one transaction."""
    first = moves[0][0]

    def move(transaction: Any) -> None:
        before = [target.released_in(transaction.get(target.pointer)) for target, _, _ in moves]
        for target, version, _ in moves:
            if not transaction.hexists(target.key_of(version), ""):
                raise NotFound(no_version(target.place, version))
        confirm()
        transaction.multi()
        for (target, version, lineage), former in zip(moves, before, strict=True):
            transaction.set(target.pointer, _served(version, lineage))
            _expire(transaction, target.key_of(version), target.sink.ttl_seconds)
            if former is not None and former != version and target.sink.former_ttl_seconds is not None:
                transaction.expire(target.key_of(former), target.sink.former_ttl_seconds)

    watched = [key for target, version, _ in moves for key in (target.pointer, target.key_of(version))]
    with first.fenced(f"what {first.place} serves") as token:
        first.server.transaction(move, watched, token)


def _meta_of(content: Content) -> bytes:
    return canonical_json({"columns": describe(content.columns), "rows": content.rows.num_rows})


def _expire(transaction: Any, key: str, seconds: int | None) -> None:
    if seconds is None:
        transaction.persist(key)
    else:
        transaction.expire(key, seconds)


def _served(version: str, lineage: Mapping[str, str]) -> bytes:
    return canonical_json({"lineage": dict(lineage), "version": version})


def _shown(value: bytes | None) -> str:
    return "none" if value is None else value.decode(errors="backslashreplace")[:500]
