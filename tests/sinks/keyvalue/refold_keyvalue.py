"""A cache of rows by key, as somebody else would add it to Refold: one SQLite file per version in a folder."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from refold.errors import Conflict, Damaged, NotFound
from refold.sinks import Connections, Content, Sink, Target
from refold.sinks.base import no_version, require_columns
from refold.sinks.values import documents, from_documents, readable_documents, require_storable
from refold.storage.file_lock import locked
from refold.types import Schema, describe


@dataclass(frozen=True)
class KeyValue(Sink):
    """The cache `cache` in the folder that the connection `cache` names."""

    cache: str
    tags: tuple[str, ...] = ()
    kind: ClassVar[str] = "cache"
    label: ClassVar[str] = "key-value cache"

    @property
    def name(self) -> str:
        return self.cache

    @property
    def connection(self) -> str:
        return "cache"

    def open(self, connections: Connections, store: str, key: Sequence[str], columns: Schema) -> KeyValueTarget:
        return KeyValueTarget(connections.path(self.connection) / self.cache, columns)


class KeyValueTarget(Target):
    """The versions of one cache; `released.json` names the one that readers see."""

    def __init__(self, folder: Path, columns: Schema) -> None:
        self._folder = folder
        self._columns = dict(columns)

    @property
    def place(self) -> str:
        return str(self._folder)

    def publish(self, content: Content) -> None:
        require_storable(content, self.place)
        self._folder.mkdir(parents=True, exist_ok=True)
        number, building = tempfile.mkstemp(prefix=".building-", dir=self._folder)
        os.close(number)
        with closing(sqlite3.connect(building)) as connection, connection:
            connection.execute("CREATE TABLE meta (columns TEXT)")
            connection.execute("INSERT INTO meta VALUES (?)", [describe(content.columns)])
            connection.execute("CREATE TABLE cache (key TEXT PRIMARY KEY, document BLOB)")
            connection.executemany("INSERT INTO cache VALUES (?, ?)", documents(content))
        Path(building).replace(self._file(content.version))

    def read(self, version: str | None = None) -> pa.Table:
        sought = version or self.released()
        if sought is None or not self._file(sought).is_file():
            raise NotFound(no_version(self.place, version))
        try:
            columns, rows = self._stored(sought)
        except sqlite3.DatabaseError as error:
            raise Damaged(f"{self._file(sought)} cannot be read: {error}.", remedy="Publish it again.") from error
        require_columns(self.place, sought, columns, describe(self._columns))
        return from_documents(rows, self._columns)

    def salvage(self, version: str, *, served: bool) -> pa.Table | None:
        with suppress(sqlite3.DatabaseError):
            return readable_documents(self._stored(version)[1], self._columns)
        return None

    def _stored(self, version: str) -> tuple[str, list[bytes]]:
        with closing(sqlite3.connect(f"file:{self._file(version)}?mode=ro", uri=True)) as connection:
            (columns,) = connection.execute("SELECT columns FROM meta").fetchone()
            return columns, [document for (document,) in connection.execute("SELECT document FROM cache")]

    def release(self, version: str, lineage: Mapping[str, str]) -> None:
        self.release_if(version, lineage, lambda: None)

    def release_if(self, version: str, lineage: Mapping[str, str], confirm: Callable[[], None]) -> None:
        if not self._file(version).is_file():
            raise NotFound(no_version(self.place, version))
        with locked(self._folder / ".lock"):
            confirm()
            number, writing = tempfile.mkstemp(prefix=".building-", dir=self._folder)
            with os.fdopen(number, "w") as file:
                json.dump({"version": version, "lineage": dict(lineage)}, file)
            Path(writing).replace(self._folder / "released.json")

    def released(self) -> str | None:
        with suppress(FileNotFoundError):
            return str(json.loads((self._folder / "released.json").read_bytes())["version"])
        return None

    def withdraw(self, confirm: Callable[[], None] = lambda: None) -> str:
        if self.released() is not None:
            confirm()
            (self._folder / "released.json").unlink(missing_ok=True)
        return ""

    def versions(self) -> list[str]:
        return sorted(path.name.removesuffix(".sqlite") for path in self._folder.glob("[!.]*.sqlite"))

    def drop(self, version: str) -> None:
        if self.released() == version:
            raise Conflict(f"{self.place} serves the version {version}.", remedy="Release another one first.")
        self._file(version).unlink(missing_ok=True)

    def _file(self, version: str) -> Path:
        return self._folder / f"{version}.sqlite"
