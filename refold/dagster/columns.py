"""Columns as Dagster shows them: schemas with what each column means, and lineage down to the columns of the logs."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import dagster as dg

from refold.dagster.keys import asset_key, log_key, state_key
from refold.log.declaration import POSITION, Log
from refold.stores.declaration import Store
from refold.types import INT64_MAX, INT64_MIN, ColumnKind, ColumnType, Schema


def log_schema(log: Log) -> dg.TableSchema:
    """The columns of a log's events: position, origin, declared columns. Event ids repeat: a log keeps duplicates."""
    roles = dict.fromkeys(log.key_columns, "The key: which entity the event belongs to.")
    roles |= {name: f"{roles.get(name, '')} The event id, for deduplication.".strip() for name in log.id_columns}
    if log.event_time is not None:
        roles[log.event_time] = "When it happened."
    return dg.TableSchema([*_columns(POSITION), *_columns(_ORIGIN), *_columns(log.columns, roles)])


def store_schema(store: Store) -> dg.TableSchema:
    """The columns of a store's rows, and of its ledger where it is folded."""
    return dg.TableSchema([*sink_schema(store).columns, *(_columns(_LEDGER) if store.ledger is not None else [])])


def sink_schema(store: Store) -> dg.TableSchema:
    """The columns as published; a single key column is unique."""
    roles = dict.fromkeys(store.key, "Key." if len(store.key) == 1 else f"Part of the key ({', '.join(store.key)}).")
    if store.ledger is not None:
        roles |= {name: f"Of the key's last event: {_MEANINGS[name].lower()}" for name in POSITION}
    return dg.TableSchema(_columns(store.columns, roles, unique=store.key))


def code_reference(store: Store) -> dict[str, Any]:
    """Where the function of a store is written, as metadata that Dagster links; nothing where it has none."""
    if store.written is None:
        return {}
    code = store.written.__code__
    place = dg.LocalFileCodeReference(
        file_path=code.co_filename, line_number=code.co_firstlineno, label=f"{store.name}, as declared"
    )
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[place])}


_NONE: Mapping[str, str] = {}
_ORIGIN: Schema = {"source_object": ColumnType(ColumnKind.TEXT), "source_line": ColumnType(ColumnKind.INT64)}
_LEDGER: Schema = {
    "ledger.outcome": ColumnType(ColumnKind.TEXT),
    "ledger.reason": ColumnType(ColumnKind.TEXT, null=True),
}
_MEANINGS = {
    "log_partition": "The part of the log that holds all events of a key.",
    "log_offset": "The place in the log partition, from 0.",
    "log_seq": "The place in the order of the whole log, from 0.",
    "source_object": "The landing object it was read from.",
    "source_line": "Its line there, from 1.",
    "ledger.outcome": "The outcome of each event: applied, duplicate, rejected, conflict, ignored.",
    "ledger.reason": "Why the rule rejected it.",
}


def _columns(columns: Schema, roles: Mapping[str, str] = _NONE, unique: Sequence[str] = ()) -> list[dg.TableColumn]:
    return [
        dg.TableColumn(
            name,
            "text" if column.kind is ColumnKind.ENUM else str(column).rstrip("?"),
            description=" ".join(
                filter(None, [column.description, roles.get(name, _MEANINGS.get(name)), _values(column)])
            )
            or None,
            constraints=dg.TableColumnConstraints(nullable=column.null, unique=list(unique) == [name]),
        )
        for name, column in columns.items()
    ]


def _values(column: ColumnType) -> str:
    """The values that a column admits, if they are fewer than its type has."""
    if column.choices is not None:
        return f"One of {', '.join(column.values)}."
    if column.kind is ColumnKind.VERSION_VECTOR:
        return f"The writes of each producer that it has seen, of at most {column.maximum} producers."
    low = column.minimum if column.minimum not in (None, INT64_MIN) else None
    high = column.maximum if column.maximum not in (None, INT64_MAX) else None
    bounds = [f"at least {low:,}" if low is not None else "", f"at most {high:,}" if high is not None else ""]
    return ", ".join(filter(None, bounds)).capitalize() + "." if any(bounds) else ""


@cache
def column_lineage(store: Store) -> dg.TableColumnLineage:
    """The lineage of a store's columns, down to the columns of logs and stores it reads."""
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for column, sources in store.lineage.items():
        found = [_column(*store.origin_of(source, name)) for source, name in sources]
        deps[column] = [dg.TableColumnDep(*place) for place in dict.fromkeys(found)]
    if store.ledger is not None:
        folded = store.ledger.store
        decisive = dict.fromkeys([*folded.log.id_columns, *folded.log.key_columns, *folded.columns_read])
        deps |= {name: [dg.TableColumnDep(log_key(folded.log), column) for column in decisive] for name in _LEDGER}
    return dg.TableColumnLineage(deps)


def _column(origin: Store | Log, column: str) -> tuple[dg.AssetKey, str]:
    return asset_key(origin), column


def sink_lineage(store: Store) -> dg.TableColumnLineage:
    """A published column comes from the state's column of the same name."""
    return dg.TableColumnLineage({name: [dg.TableColumnDep(state_key(store), name)] for name in store.columns})
