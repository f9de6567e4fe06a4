"""The kind of store that keeps the last or newest event's columns of each key; a delete leaves a tombstone.

What it keeps and how events change it is in `refold.stores.kinds.latest_fold`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.errors import DeclarationError
from refold.landing.typed_rows import changes_of
from refold.log.declaration import POSITION, Log
from refold.rules.fingerprint import fingerprint_text
from refold.rules.outcome import FoldResult
from refold.sinks.base import Sink
from refold.sinks.expectations import Expectation
from refold.stores.declaration import DELETED, Account, Folded, Work, repeats_text
from refold.stores.kinds.latest_fold import NOT_NEWER, DeleteWhen, Latest, Presence
from refold.stores.kinds.newest import Ties
from refold.stores.kinds.plain import PlainFold, PlainLatest, admitted
from refold.types import ColumnKind, ColumnType, Schema, describe, member_text

_ORDERED = (
    ColumnKind.INT64,
    ColumnKind.TIMESTAMP,
    ColumnKind.DATE,
    ColumnKind.DECIMAL,
    ColumnKind.TEXT,
    ColumnKind.BINARY,
)


@dataclass(frozen=True, eq=False, kw_only=True)
class LatestStore(Folded):
    """A store that keeps the columns of the last or newest event per key; a delete leaves a tombstone in the state."""

    picked: Schema
    latest: Latest

    @property
    def values(self) -> Schema:
        """The picked columns, nullable, because a tombstone has no values; and what says which event gave them."""
        types = {**self.log.columns, **POSITION}
        orders = {name: types[source] for name, source in self.latest.orders.items()}
        return {name: replace(column, null=True) for name, column in {**self.picked, **orders}.items()}

    @property
    def deletes(self) -> bool:
        """Always: a key whose events were all conflicts has a row too, and no values to publish."""
        return True

    @property
    def columns_read(self) -> Sequence[str]:
        """The picked columns, the one that marks deletes, and those of the order."""
        return list(dict.fromkeys([*self.picked, *self._deciding]))

    @property
    def _deciding(self) -> Sequence[str]:
        when = self.latest.delete_when
        return [*([when.column] if when else []), *self.latest.order_by]

    @property
    def code_version(self) -> str:
        """The declared version and the fingerprint of the declaration."""
        read = describe({name: self.log.columns[name] for name in (*self.log.key_columns, *self.columns_read)})
        when = self.latest.delete_when
        parts = ["latest", read, *self.log.key_columns, describe(self.picked), repr(when and when.form)]
        if self.latest.order_by:
            parts.append(f"order {list(self.latest.order_by)} {self.latest.ties}")
        if self.latest.unchanged != _placeholders(self.log, self.picked, None):
            parts.append(f"unchanged {sorted(self.latest.unchanged.items())}")
        return f"{self.version}-{fingerprint_text(*parts)[:12]}"

    @property
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Every column comes from the column of the same name; what deletes and what orders decides on all."""
        deciding = [(self.log.name, name) for name in self._deciding]
        return {name: list(dict.fromkeys([(self.log.name, name), *deciding])) for name in self.columns}

    @property
    def row_before(self) -> pa.Table:
        """No values, and deleted."""
        return pa.table({**{n: pa.nulls(1, column.arrow) for n, column in self.values.items()}, DELETED: [True]})

    @property
    def reasons(self) -> Mapping[int, str]:
        """Why an event is ignored, where the order is declared."""
        return {NOT_NEWER: "NOT_NEWER"} if self.latest.order_by else {}

    def fold(
        self, rows: pa.Table, codes: npt.NDArray[np.int64], events: pa.Table, live: npt.NDArray[np.bool_]
    ) -> FoldResult:
        """The values of each key's last or newest live event in place of its row's."""
        return self.latest.fold(rows, codes, events, live)

    def plain_fold(self) -> PlainFold:
        """The same from a sorted list of the events of each key."""
        when, picked = self.latest.delete_when, self.picked
        filled = {name: ("", source) for name, source in self.latest.row_order.items()}
        for column in self.latest.unchanged:
            filled |= {name: (column, source) for name, source in self.latest.order_of(column).items()}
        return PlainLatest(
            self.name,
            [name for name in picked if name not in filled],
            (when.column, when.values) if when else None,
            {n: t.encode() if picked[n].kind is ColumnKind.BINARY else t for n, t in self.latest.unchanged.items()},
            self.latest.order_by,
            self.latest.ties,
            filled,
        )

    @property
    def declared(self) -> Mapping[str, object]:
        """The picked columns, what deletes a key, the order, and placeholders."""
        when, latest = self.latest.delete_when, self.latest
        order = {"order_by": list(latest.order_by), "ties": str(latest.ties)} if latest.order_by else {}
        unchanged = {"unchanged": dict(latest.unchanged)} if latest.unchanged else {}
        form = when and when.form
        return {"kind": "latest", "columns": describe(self.picked), "delete_when": form, **order, **unchanged}

    @property
    def work(self) -> Work:
        """Always by columns."""
        return Work.BY_COLUMNS

    def account(self) -> Account:
        """Which event of each key is kept, and what deletes it."""
        latest = self.latest
        when = [str(latest.delete_when)] if latest.delete_when else []
        order = [f"{', '.join(latest.order_by)}, equals: {latest.ties}"] if latest.order_by else []
        unchanged = [f"{name}: {text!r}" for name, text in latest.unchanged.items()]
        which = f"The newest event of each key by {order[0]}" if order else "The last event of each key"
        how = f"{which}, by columns; there is no rule to compile"
        how += "".join(f"; {text} deletes the key" for text in when)
        how += "".join(f"; {text} keeps the value before" for text in unchanged)
        return Account(
            how=f"{how}.",
            fingerprint_of={
                "columns read": [f"{n} {self.log.columns[n]}" for n in (*self.log.key_columns, *self.columns_read)],
                "key": list(self.log.key_columns),
                "columns kept": [f"{name} {kind}" for name, kind in self.picked.items()],
                "delete_when": when,
                **({"order_by": order} if order else {}),
                **({"unchanged": unchanged} if unchanged else {}),
            },
            repeats=repeats_text("the row's values", self.log),
        )


def latest_by_key(
    log: Log,
    name: str,
    *,
    version: int,
    columns: Schema,
    delete_when: tuple[str, object] | None = None,
    order_by: str | Sequence[str] = (),
    ties: Ties = Ties.REFUSE,
    unchanged: str | Mapping[str, str] | None = None,
    sinks: Sequence[Sink] = (),
    expect: Sequence[Expectation] = (),
    owner: str | None = None,
    description: str = "",
) -> LatestStore:
    """Declare a store that holds `columns` per key as the last event gave them, or the newest by a declared order.

    Args:
        delete_when: the event column and what deletes a key: a value such as `("op", Op.DELETE)` or `("gone", True)`,
            several in a list, None for null, or `NOT_NULL` for any value, as in `("deleted_at", NOT_NULL)`.
        order_by: the event columns, never null, that say which of a key's events is newest, whenever they arrive: a
            version, a source position, an event time; text is compared byte for byte. Several are compared one after
            the other. An older event, a delete too, changes nothing and is `ignored`. Without any, the order is that
            of the log: log partition, then offset.
        ties: what happens where an event equals the newest before it in all columns of `order_by`: refused as an
            error, or the first or the last of them in the log counts.
        unchanged: the text that means "as it was" in text and binary columns; by column if some have another or
            none. By default that of the log's decoder, as `Debezium` has one; `{}` for none. An event with it keeps
            the value before; where there is none it is an error.

    Folding raises EventRefused at an event that is refused. Raises DeclarationError with every fault at once.
    """
    order = (order_by,) if isinstance(order_by, str) else tuple(order_by)
    faults = [
        f"column {c!r} is {t} here and {log.columns.get(c, 'not declared')} in log {log.name!r}"
        for c, t in columns.items()
        if c not in log.columns or str(replace(log.columns[c], null=True)) != str(replace(t, null=True))
    ]
    when, wrong = delete_condition(log, delete_when) if delete_when else (None, [])
    faults += [*wrong, *_order_faults(log, order, ties), *_placeholder_faults(columns, order, unchanged)]
    placeholders = {n: t for n, t in _placeholders(log, columns, unchanged).items() if n not in order}
    latest = Latest(tuple(columns), when, order, Ties(ties), placeholders)
    taken = {*columns, *log.columns, *POSITION, DELETED}
    faults += [
        f"its state needs a column {n!r}, which is taken" for n in latest.orders if n not in order and n in taken
    ]
    if faults:
        raise DeclarationError(f"Store {name!r}", faults)
    return LatestStore(
        name=name,
        version=version,
        columns={**{name: log.columns[name] for name in log.key_columns}, **columns, **POSITION},
        key=log.key_columns,
        sinks=tuple(sinks),
        expect=tuple(expect),
        owner=owner or log.owner,
        description=description,
        log=log,
        picked=dict(columns),
        latest=latest,
    )


def delete_condition(log: Log, declared: tuple[str, object]) -> tuple[DeleteWhen | None, list[str]]:
    """What deletes a key, and what is wrong with its declaration."""
    name, wanted = declared
    column = log.columns.get(name)
    if column is None:
        return None, [f"delete_when names {name!r}, which is not a declared column of log {log.name!r}"]
    if isinstance(wanted, Presence):
        never = [] if column.null else [f"delete_when is any {name!r}, and column {name!r} is never null ({column})"]
        return DeleteWhen(name, None), never
    values = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    admits = f"a value of {name!r}, {column}" + (f": {', '.join(column.values)}" if column.values else "")
    faults = [
        f"delete_when is {name!r} = {value}; expected {admits}" for value in values if not admitted(column, value)
    ]
    if not values:
        faults.append(f"delete_when has no value of {name!r}")
    return DeleteWhen(name, tuple(map(_stored, values))), faults


def _stored(value: Any) -> Any:
    """A value as segments give it back."""
    if isinstance(value, Enum):
        return member_text(value)
    return value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else value


def _order_faults(log: Log, order: Sequence[str], ties: Ties) -> list[str]:
    faults = [] if order or ties is Ties.REFUSE else [f"ties is {ties!r} without order_by"]
    for name in dict.fromkeys(order):
        column = log.columns.get(name)
        if column is None:
            faults.append(f"order_by names {name!r}, which is not a declared column of log {log.name!r}")
        elif column.null or column.kind not in _ORDERED:
            faults.append(f"order_by {name!r} is {column}; expected {', '.join(_ORDERED)}, not null")
        if name in log.key_columns:
            faults.append(f"order_by {name!r} is of the key, and equal for all its events")
        if list(order).count(name) > 1:
            faults.append(f"order_by names {name!r} more than once")
    return faults


def _placeholder_faults(columns: Schema, order: Sequence[str], unchanged: str | Mapping[str, str] | None) -> list[str]:
    if isinstance(unchanged, Mapping):
        return [
            f"unchanged names {name!r}; expected a text or binary column that is kept, and not in order_by"
            for name in unchanged
            if name not in columns or not _can_have_placeholder(columns[name]) or name in order
        ]
    if unchanged is not None and not any(map(_can_have_placeholder, columns.values())):
        return [f"unchanged is {unchanged!r}, and no column that is kept is text or binary"]
    return []


def _can_have_placeholder(column: ColumnType) -> bool:
    return column.kind in (ColumnKind.TEXT, ColumnKind.BINARY)


def _placeholders(log: Log, columns: Schema, unchanged: str | Mapping[str, str] | None) -> dict[str, str]:
    """The placeholder of each column that can have one; by default that of the log's decoder, if any."""
    if isinstance(unchanged, Mapping):
        return dict(unchanged)
    text = unchanged if unchanged is not None else getattr(changes_of(log.decoder), "placeholder", None)
    return {} if text is None else {name: text for name, kind in columns.items() if _can_have_placeholder(kind)}
