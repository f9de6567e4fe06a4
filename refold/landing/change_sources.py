"""Ready identities of change streams: what each tool says of a change beside its row, and what of it is unique.

`refold.log.declaration.Log.of_changes` declares a log by them. A change is identified by the table, the position in
the source's own log, the operation and the key: changes of one transaction, and all rows of one snapshot, can share a
position, and a change of key is two changes there. A row of a snapshot has the operation of a read, and the position
at which the snapshot began; so a second snapshot is other events, and the same one delivered again is not. A stream of
an event store needs nothing of this: `event_id=("stream", "version")`.

Where a position is not unique, sealing stops and lists what conflicts (`refold.dedup.conflicts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

from refold.errors import DeclarationError
from refold.landing.change_rows import ChangeRows, OldRow
from refold.landing.debezium import Debezium
from refold.landing.decoder import Decoder
from refold.landing.jsonl import LineDecoder
from refold.landing.typed_rows import TypedRows
from refold.types import ColumnType, Schema, boolean, int64, text


class ChangeOp(Enum):
    """The operation of a change, as Debezium writes it: for `delete_when=("op", ChangeOp.DELETE)`."""

    CREATE = "c"
    READ = "r"
    UPDATE = "u"
    DELETE = "d"


class MaxwellOp(Enum):
    """The operation of a change, as Maxwell writes it."""

    INSERT = "insert"
    BOOTSTRAP = "bootstrap-insert"
    UPDATE = "update"
    DELETE = "delete"


class CanalOp(Enum):
    """The operation of a change, as Canal writes it."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


class DmsOp(Enum):
    """The operation of a change, as AWS DMS writes it."""

    LOAD = "load"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True)
class ChangeSource:
    """A tool that writes changes of tables.

    Attributes:
        operations: the members of the column `op`.
        position: columns that identify a change together with `op` and the key, each with its dotted place.
        decoder: makes the decoder from the places of columns, `enveloped` and `keys_change`.
        rows: the format of landing, such as `Avro()` or `Parquet()`; JSON Lines by default.
        enveloped: whether records are wrapped as `{"schema": …, "payload": …}`, as Debezium can.
        keys_change: whether an update can change the key of a row. `replace(DMS, keys_change=False)` takes updates
            without a before image, and declares that none does: a row whose key did change would remain under both.
    """

    operations: type[Enum]
    position: Mapping[str, tuple[ColumnType, str]]
    decoder: Callable[[Mapping[str, str], bool, bool], LineDecoder]
    enveloped: bool = False
    keys_change: bool = True
    rows: TypedRows | None = None

    @property
    def columns(self) -> Schema:
        """The columns of the position."""
        return {name: column for name, (column, _) in self.position.items()}

    def decoder_of(self, places: Mapping[str, str]) -> Decoder:
        """The decoder that finds the position, and other columns in their dotted places."""
        position = {name: place for name, (_, place) in self.position.items()}
        changes = self.decoder({**places, **position}, self.enveloped, self.keys_change)
        return changes if self.rows is None else self.rows.of(changes)


_ALWAYS_SHOWN = "keys_change: only DMS can leave out which key a row had; this tool always shows a change of key"


def _debezium(places: Mapping[str, str], enveloped: bool, keys_change: bool, *, documents: bool = False) -> LineDecoder:
    if not keys_change:
        raise DeclarationError("The change source", [_ALWAYS_SHOWN])
    paths = {name: (place,) for name, place in places.items()}
    return Debezium(paths, enveloped=enveloped, documents=documents)


def _change_rows(places: Mapping[str, str], enveloped: bool, keys_change: bool, *, rows: ChangeRows) -> LineDecoder:
    faults = ["enveloped: only Debezium wraps records in schema and payload"] if enveloped else []
    if not keys_change and rows.old_row is not OldRow.KEY:
        faults.append(_ALWAYS_SHOWN)
    if faults:
        raise DeclarationError("The change source", faults)
    return replace(rows, places=tuple(places.items()), old_row=rows.old_row if keys_change else OldRow.NOTHING)


_DATABASE = {"source_db": (text(null=True), "source.db")}
_TABLE = {"source_schema": (text(null=True), "source.schema"), "source_table": (text(), "source.table")}

DEBEZIUM_MYSQL = ChangeSource(
    ChangeOp,
    {
        **_DATABASE,
        "source_table": _TABLE["source_table"],
        "source_server": (int64(null=True), "source.server_id"),
        "source_file": (text(), "source.file"),
        "source_pos": (int64(), "source.pos"),
        "source_row": (int64(), "source.row"),
    },
    _debezium,
)
"""MySQL and MariaDB by Debezium: binlog file, position of the event in it, row in the event."""

DEBEZIUM_POSTGRESQL = ChangeSource(
    ChangeOp,
    {
        **_DATABASE,
        **_TABLE,
        "source_tx": (int64(null=True), "source.txId"),
        "source_lsn": (int64(), "source.lsn"),
    },
    _debezium,
)
"""PostgreSQL by Debezium with pgoutput: transaction and LSN, which the rows of one COPY share."""

DEBEZIUM_SQLSERVER = ChangeSource(
    ChangeOp,
    {
        **_DATABASE,
        **_TABLE,
        "source_commit_lsn": (text(), "source.commit_lsn"),
        "source_change_lsn": (text(null=True), "source.change_lsn"),
        "source_event_serial": (int64(null=True), "source.event_serial_no"),
    },
    _debezium,
)
"""SQL Server by Debezium: LSN of commit and, but for snapshots, of the change, and the number of the event in it."""

DEBEZIUM_MONGODB = ChangeSource(
    ChangeOp,
    {
        **_DATABASE,
        "source_collection": (text(), "source.collection"),
        "source_ts": (int64(), "source.ts_ms"),
        "source_ord": (int64(null=True), "source.ord"),
    },
    partial(_debezium, documents=True),
)
"""MongoDB by Debezium: the second of the change and its order in it, which all changes of one transaction share.

The key is in the document: `paths={"id": "row._id.$oid"}`. Deletes need pre-images, and updates whole documents
(`capture.mode=change_streams_update_full_with_pre_image`). A document that one transaction changes twice conflicts.
"""

MAXWELL = ChangeSource(
    MaxwellOp,
    {
        "source_db": (text(), "database"),
        "source_table": (text(), "table"),
        "source_ts": (int64(), "ts"),
        "source_xid": (int64(null=True), "xid"),
        "source_xoffset": (int64(null=True), "xoffset"),
        "source_commit": (boolean(null=True), "commit"),
    },
    partial(
        _change_rows,
        rows=ChangeRows(
            "type",
            "data",
            "old",
            ("insert", "bootstrap-insert", "update"),
            "update",
            "delete",
            ("bootstrap-start", "bootstrap-complete"),
        ),
    ),
)
"""MySQL by Maxwell, with commit info: second, transaction, place in it; rows of a bootstrap have the second alone."""

CANAL = ChangeSource(
    CanalOp,
    {
        "source_db": (text(), "database"),
        "source_table": (text(), "table"),
        "source_time": (int64(), "es"),
        "source_batch": (int64(), "id"),
        "source_row": (int64(), "#"),
    },
    partial(
        _change_rows,
        rows=ChangeRows(
            "type",
            "data",
            "old",
            ("INSERT", "UPDATE"),
            "UPDATE",
            "DELETE",
            ("CREATE", "ALTER", "ERASE", "RENAME", "QUERY", "CINDEX", "DINDEX"),
            arrays=("data", "old"),
        ),
    ),
)
"""MySQL by Canal's flat messages: time, batch, and the row among those of a message. All values are texts.

A row that one batch changes twice in one millisecond, in two messages, conflicts: Canal does not show their order.
"""

DMS = ChangeSource(
    DmsOp,
    {
        "source_schema": (text(null=True), "metadata.schema-name"),
        "source_table": (text(), "metadata.table-name"),
        "source_time": (text(), "metadata.timestamp"),
        "source_tx": (int64(null=True), "metadata.transaction-id"),
        "source_record": (int64(null=True), "metadata.transaction-record-id"),
    },
    partial(
        _change_rows,
        rows=ChangeRows(
            "metadata.operation",
            "data",
            "before-image",
            ("load", "insert", "update"),
            "update",
            "delete",
            ("create-table", "drop-table", "rename-table", "add-column", "drop-column", "rename-column",
             "change-columns", "column-type-change"),
            old_row=OldRow.KEY,
        ),
    ),
)  # fmt: skip
"""AWS DMS as it writes JSON to Kinesis and Kafka: the time, and with transaction details the record in its transaction.

An update needs the before image (`BeforeImageSettings`), since DMS does not write the old key elsewhere: without it an
update is quarantined as `missing-before`, unless the declaration says that keys never change (`keys_change`).
"""
