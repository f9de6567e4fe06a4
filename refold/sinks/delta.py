"""Delta Lake tables in the object store: data files written unseen, made visible by one commit.

For a sink `Delta("daily_movement")` the store holds

- `delta/daily_movement/<version>/*.parquet`: the data files of every version that is kept. Readers of the table see
  only the files that its log lists, so a version is unseen until a commit lists its files;
- `delta/daily_movement/_delta_log/`: the log, one commit a release, with the lineage in the commit;
- `sinks/delta/daily_movement/<version>.json`: which files a version has, written last, so that a version without
  it is not whole;
- `sinks/delta/daily_movement/commits/<n>.json`: a copy of each of Refold's own commits, so that a log that others
  damaged is noticed and restored. Checkpoints of the log are the Delta library's own.

Any reader of Delta tables (pandas, Polars, Spark, Trino) sees the old or the new version, never a mix. Releasing an
older version lists its files again, as they are kept until `drop`; so **no other tool may vacuum the table**.
Withdrawing removes the log, so that readers find no table; a commit without files would show them an empty one.
Types are Delta's own: long, string, decimal(p, s), date, timestamp (UTC, µs), boolean, binary, double.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Literal, TypedDict, cast
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from refold.base.outside import printable
from refold.errors import AccessDenied, Conflict, Damaged, DeclarationError, FixInput, NotFound, Unavailable
from refold.sinks.base import (
    Content,
    Sink,
    SinkFault,
    Target,
    no_version,
    repeated_but_for_case,
    require_columns,
    unlike,
    versions_below,
)
from refold.sinks.connections import Connections
from refold.sinks.delta_log import DeltaLog, is_of, transactions_of
from refold.sinks.values import require_storable
from refold.storage.failures import DENIED, explained, system_error
from refold.storage.objects import ObjectStore, sha256_hex
from refold.storage.records import read_record, write_record
from refold.storage.shapes import has_shape
from refold.storage.sink_names import delta_folder, sink_records_folder
from refold.types import Schema, arrow_schema, describe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_COLUMN_FORBIDDEN = re.compile(r"[ ,;{}()\n\t=]")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f\x7f]")
_ROWS_A_FILE = 1_000_000
_ATTEMPTS_MAX = 5
_UNREADABLE = (DeltaError, OSError, pa.ArrowException, ValueError, KeyError)
"""What the libraries raise for a log or a data file that cannot be read."""


class _File(TypedDict):
    path: str
    rows: int
    sha256: str
    size_bytes: int


class _Record(TypedDict):
    columns: str
    files: list[_File]
    schema: str
    store: str
    version: str


@dataclass(frozen=True)
class Delta(Sink):
    """A Delta table at `<store>/delta/<table>`.

    >>> Delta("daily_movement").name
    'daily_movement'
    """

    table: str
    kind: ClassVar[str] = "delta"
    label: ClassVar[str] = "Delta table"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.table):
            raise DeclarationError(f"Delta({self.table!r})", [f"a table's name matches {_NAME.pattern}"])

    @property
    def name(self) -> str:
        """The name of the table's folder."""
        return self.table

    def open(self, connections: Connections, store: str, key: Sequence[str], columns: Schema) -> DeltaTarget:
        """The table in the object store. Raises DeclarationError where it cannot hold the columns."""
        faults = [
            f"the column name {n!r} holds one of ' ,;{{}}()=', tab or newline"
            for n in columns
            if _COLUMN_FORBIDDEN.search(n)
        ]
        faults += repeated_but_for_case(columns)
        location = connections.objects.location
        if location is None:
            faults.append("a store in memory cannot be read by others; use a folder or a bucket")
        elif escapes := _ESCAPE.findall(location):
            found = ", ".join(map(printable, escapes))
            faults.append(f"the path of the store has {found}, which Delta Lake takes for something else; use another")
        if faults:
            raise DeclarationError(f"{self} of store {store}", faults)
        return DeltaTarget(self.table, connections, columns)

    def by_hand(self, place: str) -> str:
        """The folder to delete."""
        return f"Delete the folder {place}/_delta_log."


class DeltaTarget(Target):
    """One Delta table and the versions kept in its folder."""

    def __init__(self, table: str, connections: Connections, columns: Schema) -> None:
        objects = connections.objects
        self._objects: ObjectStore = objects
        self._folder = delta_folder(table)
        self._url = f"{objects.location}/{self._folder}"
        self._records = sink_records_folder("delta", table)
        self._place = f"{objects.url.rstrip('/')}/{self._folder}"
        self._log = DeltaLog(objects, f"{self._folder}/_delta_log", f"{self._records}/commits")
        self._columns = dict(columns)

    @property
    def place(self) -> str:
        """The folder or URL of the table, secrets masked; for example `DeltaTable(place).to_pandas()`."""
        return self._place

    def publish(self, content: Content) -> None:
        """Write a version's files and then its record. Raises FixInput where a value cannot be stored."""
        require_storable(content, self.place)
        parts = _parquet_files(content.rows)
        # Named after their bytes: a file that a commit lists must never change, not even where another library
        # version writes the same rows as other bytes, because the log holds its size.
        tag = sha256_hex("".join(map(sha256_hex, parts)).encode())[:16]
        files: list[_File] = []
        for index, data in enumerate(parts):
            path = f"{content.version}/{tag}-{index:05d}.parquet"
            self._objects.put(f"{self._folder}/{path}", data)
            rows = min(_ROWS_A_FILE, content.rows.num_rows - index * _ROWS_A_FILE)
            files.append({"path": path, "rows": rows, "sha256": sha256_hex(data), "size_bytes": len(data)})
        record: _Record = {
            "columns": describe(content.columns),
            "files": files,
            "schema": _schema(content.columns),
            "store": content.store,
            "version": content.version,
        }
        self._objects.sync(self._folder)
        write_record(self._objects, self._record_name(content.version), record)

    def read(self, version: str | None = None) -> pa.Table:
        """The rows of a version's files, or of the table as any reader sees it. Raises NotFound, FixInput, Damaged."""
        schema = arrow_schema(self._columns)
        if version is None:
            table = self._table()
            released = self.released()
            if table is None or released is None:
                raise NotFound(no_version(self.place, None))
            require_columns(self.place, released, self._record(released)["columns"], describe(self._columns))
            try:
                return table.to_pyarrow_table().select(schema.names).cast(schema)
            except _UNREADABLE as error:
                remedy = "Publish the version again; `refold repair` does."
                raise Damaged(f"{self.place} lists a file that cannot be read: {error}.", remedy=remedy) from error
        record = self._record(version)
        require_columns(self.place, version, record["columns"], describe(self._columns))
        names = [(f"{self._folder}/{file['path']}", file["sha256"]) for file in record["files"]]
        parts = [pq.read_table(io.BytesIO(self._objects.get_checked(*name))) for name in names]
        return pa.concat_tables(parts).cast(schema)

    def release(self, version: str, lineage: Mapping[str, str]) -> None:
        """Commit a version's files in place of those listed now. Raises NotFound, Conflict, Unavailable."""
        self.release_if(version, lineage, lambda: None)

    def release_if(self, version: str, lineage: Mapping[str, str], confirm: Callable[[], None]) -> None:
        """Commit on top of the version of the table that was there before `confirm`, and on no other.

        Every release makes a commit that carries its number, so that a commit of an earlier one fails after it.
        """
        record = self._record(version)
        self._log.drop_empty()
        for _ in range(_ATTEMPTS_MAX):
            table = self._table()
            confirm()
            shown = table is not None and self._shows(table, record) and is_of(table, lineage)
            if table is not None and shown and self._log.keep(table.version()):
                return
            try:
                self._commit(table, record, lineage)
            except CommitFailedError:
                continue
            except (DeltaError, OSError) as error:
                # Two first releases at once: the loser finds a table where it found none a moment ago.
                if table is None and self._table() is not None:
                    continue
                failed, code = f"{self.place} did not take the commit", system_error(error)
                if code is None:
                    raise Unavailable(f"{failed}: {_flat(error)}.", remedy="Release again.") from error
                with explained(failed):
                    raise OSError(code, _flat(error)) from None
            return
        raise Conflict(f"{self.place} was committed to by others {_ATTEMPTS_MAX} times.", remedy="Release again.")

    def released(self) -> str | None:
        """The version whose files the table lists; None also where another tool has rewritten them."""
        table = self._table()
        if table is None:
            return None
        versions = {path.partition("/")[0] for path in _listed(table)}
        version = versions.pop() if len(versions) == 1 else None
        return version if version is not None and self._objects.exists(self._record_name(version)) else None

    def withdraw(self, confirm: Callable[[], None] = lambda: None) -> str:
        """Remove the table's log, without which readers find no table. Raises FixInput where Refold never committed."""
        if not self._log.exists():
            return ""
        if not self._log.is_ours():
            raise FixInput(f"{self.place} is a table that Refold did not make.")
        confirm()
        self._log.remove()
        return ""

    def versions(self) -> list[str]:
        """The versions that have a record."""
        found = [info.name.removeprefix(f"{self._records}/") for info in self._objects.list(self._records)]
        return sorted(name.removesuffix(".json") for name in found if "/" not in name)

    def begun(self) -> list[str]:
        """The versions of which there is a record or a file."""
        return sorted({*self.versions(), *versions_below(self._objects, self._folder)})

    def drop(self, version: str) -> None:
        """Delete a version's record and then its files. Raises Conflict if readers see one of them."""
        prefix = f"{version}/"
        table = self._table()
        if table is not None and any(path.startswith(prefix) for path in _listed(table)):
            raise Conflict(f"{self.place} shows the version {version}.", remedy="Release another one first.")
        self._objects.delete(self._record_name(version))
        self._objects.sync()
        for info in self._objects.list(f"{self._folder}/{version}"):
            self._objects.delete(info.name)

    def _commit(self, table: DeltaTable | None, record: _Record, lineage: Mapping[str, str]) -> None:
        metadata = {f"refold.{name}": value for name, value in sorted(lineage.items())}
        metadata |= {"refold.store": record["store"], "refold.version": record["version"]}
        schema = DeltaSchema.from_json(record["schema"])
        added = [
            AddAction(f["path"], f["size_bytes"], {}, 0, True, json.dumps({"numRecords": f["rows"]}))
            for f in record["files"]
        ]
        # Without retries of its own the commit fails where the log has moved on, and the loop above looks again.
        properties = CommitProperties(
            custom_metadata=metadata, max_commit_retries=0, app_transactions=transactions_of(lineage)
        )
        if table is None:
            self._log.forget()  # copies of a table that was removed whole
            create_table_with_add_actions(self._url, schema, added, mode="error", commit_properties=properties)
        else:
            # Readers of the log's changes see none where the files are those that are listed.
            shown = self._shows(table, record)
            actions: list[AddAction | RemoveAction] = [] if shown else [*added]
            mode: Literal["append", "overwrite"] = "append" if shown else "overwrite"
            table.create_write_transaction(actions, mode, schema, commit_properties=properties)
        self._log.keep(0 if table is None else table.version() + 1, replace=True)

    def faults(self, content: Content, lineage: Mapping[str, str] | None = None) -> list[SinkFault]:
        """What is wrong with a version's record and files, and with `lineage` with the table's log. See the base."""
        try:
            record = self._record(content.version)
        except (NotFound, Damaged) as error:
            found = [
                SinkFault(self._record_name(content.version), f"the record of version {content.version}", str(error))
            ]
        else:
            found = self._file_faults(record, content)
        if lineage is None:
            return found
        found += self._log.faults()
        try:
            table, released = self._table(), self.released()
        except Damaged as error:
            return found or [SinkFault(self.place, "a table that can be read", str(error))]
        if released != content.version:
            listed = sorted(_listed(table)) if table is not None else []
            text = f"it lists {', '.join(listed) or 'no files'}"
            found.append(SinkFault(self.place, f"the table to list the files of version {content.version}", text))
        expected = _schema(content.columns)
        if table is not None and table.schema().to_json() != expected:
            found.append(SinkFault(f"{self.place}, schema", expected, table.schema().to_json()))
        return found

    def _file_faults(self, record: _Record, content: Content) -> list[SinkFault]:
        found = []
        for file in record["files"]:
            name = f"{self._folder}/{file['path']}"
            try:
                sha256 = f"sha256 {sha256_hex(self._objects.get(name))}"
            except NotFound:
                sha256 = "none"
            if sha256 != f"sha256 {file['sha256']}":
                found.append(SinkFault(name, f"sha256 {file['sha256']}", sha256))
        expected = {"columns": describe(content.columns), "store": content.store, "rows": content.rows.num_rows}
        recorded = {
            "columns": record["columns"],
            "store": record["store"],
            "rows": sum(f["rows"] for f in record["files"]),
        }
        return found + unlike(self._record_name(content.version), expected, recorded)

    def salvage(self, version: str, *, served: bool) -> pa.Table | None:
        """The rows of a version's files as they are, or of the table as readers see it."""
        schema = arrow_schema(self._columns)
        with suppress(Damaged, *_UNREADABLE):  # then perhaps the files can still be read
            table = self._table() if served and self.released() in (None, version) else None
            if table is not None:
                return table.to_pyarrow_table().select(schema.names).cast(schema)
        try:
            names = [f"{self._folder}/{file['path']}" for file in self._record(version)["files"]]
            parts = [pq.read_table(io.BytesIO(self._objects.get(name))) for name in names]
            return pa.concat_tables(parts).cast(schema)
        except (NotFound, Damaged, *_UNREADABLE):
            return None

    def mend(self, content: Content) -> None:
        """Put back the commits of which there are copies; files are put back by publishing, listings by releasing."""
        self._log.restore()

    def _shows(self, table: DeltaTable, record: _Record) -> bool:
        listed = _listed(table) == {file["path"] for file in record["files"]}
        return listed and table.schema().to_json() == record["schema"]

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(self._url)
        except TableNotFoundError:
            return None
        except _UNREADABLE as error:
            if system_error(error) in DENIED:
                raise AccessDenied(f"Access denied to the log of {self.place}: {_flat(error)}.") from error
            remedy = "Check that the store answers; `refold repair` puts the table's log back."
            raise Damaged(f"The log of {self.place} cannot be read: {_flat(error)}.", remedy=remedy) from error

    def _record_name(self, version: str) -> str:
        return f"{self._records}/{version}.json"

    def _record(self, version: str) -> _Record:
        name = self._record_name(version)
        body = read_record(self._objects, name)
        if body is None:
            raise NotFound(no_version(self.place, version))
        if body.get("version") != version or not has_shape(body, _Record):
            raise Damaged(f"The record {name} is not that of version {version}.", remedy="Publish it again.")
        return cast(_Record, body)


def _flat(error: Exception) -> str:
    """The library's text on one line, without its colours and arrows."""
    return " ".join(re.sub(r"\x1b\[\d*m|\u21b3", "", str(error)).split())


def _schema(columns: Schema) -> str:
    return str(DeltaSchema.from_arrow(arrow_schema(columns)).to_json())


def _listed(table: DeltaTable) -> set[str]:
    """The paths, relative to the table, of the files that readers see."""
    return {unquote(path) for path in pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()}


def _parquet_files(rows: pa.Table) -> list[bytes]:
    """The rows as Parquet files of at most a million rows; no rows are one file, so that each commit removes one.

    Two commits that only add would both succeed, and readers would see both versions.
    """
    files = []
    for start in range(0, max(rows.num_rows, 1), _ROWS_A_FILE):
        buffer = io.BytesIO()
        pq.write_table(rows.slice(start, _ROWS_A_FILE), buffer, compression="zstd")
        files.append(buffer.getvalue())
    return files
