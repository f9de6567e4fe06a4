"""The kind of store that keeps the last event's columns of each key; a delete leaves a tombstone in the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import DeclarationError
from refold.log.declaration import POSITION, Log
from refold.log.reader import plain
from refold.rules.fingerprint import fingerprint_text
from refold.rules.outcome import FoldResult
from refold.sinks.base import Sink
from refold.sinks.expectations import Expectation
from refold.stores.declaration import DELETED, Account, Folded, Work, repeats_text
from refold.stores.kinds.plain import PlainFold, PlainLatest
from refold.types import Schema, describe, member_text


@dataclass(frozen=True, eq=False, kw_only=True)
class LatestStore(Folded):
    """A store that keeps the last event's columns per key; a delete leaves a tombstone in the state."""

    picked: Schema
    delete_when: tuple[str, str] | None = None

    @property
    def values(self) -> Schema:
        """The picked columns, nullable, because a tombstone has no values."""
        return {name: replace(column, null=True) for name, column in self.picked.items()}

    @property
    def deletes(self) -> bool:
        """Always: a key whose events were all conflicts has a row too, and no values to publish."""
        return True

    @property
    def columns_read(self) -> Sequence[str]:
        """The picked columns and the one that marks deletes."""
        extra = [self.delete_when[0]] if self.delete_when and self.delete_when[0] not in self.picked else []
        return [*self.picked, *extra]

    @property
    def code_version(self) -> str:
        """The declared version and the fingerprint of the declaration."""
        read = describe({name: self.log.columns[name] for name in (*self.log.key_columns, *self.columns_read)})
        parts = ["latest", read, *self.log.key_columns, describe(self.picked), repr(self.delete_when)]
        return f"{self.version}-{fingerprint_text(*parts)[:12]}"

    @property
    def lineage(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Every column comes from the column of the same name; a delete decides on all."""
        deciding = [(self.log.name, self.delete_when[0])] if self.delete_when else []
        return {name: [(self.log.name, name), *deciding] for name in self.columns}

    @property
    def row_before(self) -> pa.Table:
        """No values, and deleted."""
        return pa.table({**{n: pa.nulls(1, column.arrow) for n, column in self.values.items()}, DELETED: [True]})

    def fold(
        self, rows: pa.Table, codes: npt.NDArray[np.int64], events: pa.Table, live: npt.NDArray[np.bool_]
    ) -> FoldResult:
        """The values of each key's last live event in place of its row's."""
        places = np.flatnonzero(live)
        last = np.full(len(rows), -1, dtype=np.int64)
        last[codes[places]] = places
        needed = events.select(list(self.columns_read)).take(pa.array(np.where(last < 0, 0, last)))
        picked = self._picked(pa.table({name: plain(needed[name]) for name in needed.column_names}))
        choose = pa.array(np.where(last < 0, np.arange(len(rows)), len(rows) + np.arange(len(rows))))
        after = pa.concat_tables([rows, picked.cast(rows.schema)]).take(choose)
        applied = np.zeros(len(events), dtype=np.uint8)
        return FoldResult(after, applied, applied, interpreted=False)

    def _picked(self, events: pa.Table) -> pa.Table:
        """The values that events give their keys; a delete gives nulls and the mark."""
        deletes: pa.ChunkedArray | pa.Array = pa.array(np.zeros(len(events), dtype=np.bool_))
        if self.delete_when is not None:
            column, value = self.delete_when
            deletes = pc.fill_null(pc.equal(events[column], value), False)
        columns = {n: pc.if_else(deletes, pa.scalar(None, events[n].type), events[n]) for n in self.values}
        return pa.table({**columns, DELETED: deletes})

    def plain_fold(self) -> PlainFold:
        """The last event, kept in a dictionary."""
        return PlainLatest(list(self.values), self.delete_when)

    @property
    def declared(self) -> Mapping[str, object]:
        """The picked columns and what deletes a key."""
        return {"kind": "latest", "columns": describe(self.picked), "delete_when": self.delete_when}

    @property
    def work(self) -> Work:
        """Always by columns."""
        return Work.BY_COLUMNS

    def account(self) -> Account:
        """The last event of each key, and what deletes it."""
        when = [f"{self.delete_when[0]} = {self.delete_when[1]!r}"] if self.delete_when else []
        deletes = "".join(f"; {text} deletes the key" for text in when)
        return Account(
            how=f"The last event of each key, by columns; there is no rule to compile{deletes}.",
            fingerprint_of={
                "columns of the log": [f"{name} {kind}" for name, kind in self.log.columns.items()],
                "key": list(self.log.key_columns),
                "columns kept": [f"{name} {kind}" for name, kind in self.picked.items()],
                "delete_when": when,
            },
            repeats=repeats_text("the row's values", self.log),
        )


def latest_by_key(
    log: Log,
    name: str,
    *,
    version: int,
    columns: Schema,
    delete_when: tuple[str, Enum] | None = None,
    sinks: Sequence[Sink] = (),
    expect: Sequence[Expectation] = (),
    owner: str | None = None,
    description: str = "",
) -> LatestStore:
    """Declare a store that holds the last event's `columns` per key.

    Args:
        delete_when: the event column and the value that deletes a key, such as `("op", Op.DELETE)`.

    Raises DeclarationError where a column is unknown or of another type than the log's.
    """
    faults = [
        f"column {c!r} is {t} here and {log.columns.get(c, 'not declared')} in log {log.name!r}"
        for c, t in columns.items()
        if c not in log.columns or str(replace(log.columns[c], null=True)) != str(replace(t, null=True))
    ]
    if delete_when and member_text(delete_when[1]) not in getattr(log.columns.get(delete_when[0]), "values", ()):
        faults.append(
            f"delete_when is {delete_when[0]!r} = {delete_when[1]}; expected an enum column of {log.name!r} and one "
            "of its members"
        )
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
        delete_when=(delete_when[0], member_text(delete_when[1])) if delete_when else None,
    )
