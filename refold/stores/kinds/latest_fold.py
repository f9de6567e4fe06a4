"""How events change the rows of a store of latest values, by columns.

Without a declared order the last event of a key decides. With one the newest does, whenever it arrives: then a state
keeps beside the values, also in tombstones, the order and the `log_seq` of the event that gave them. Where a value may
be a placeholder for "unchanged", its column has an order of its own, since an older event can still give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import EventRefused
from refold.log.reader import plain
from refold.rules.outcome import FoldResult, Outcome
from refold.stores.declaration import DELETED
from refold.stores.kinds.newest import Ints, Mask, Ties, in_turns, last_of, newer, ranks

NOT_NEWER = 1
"""The reason of an event that is ignored because the row has newer values."""

_SEQ = "log_seq"


class Presence(Enum):
    """Stands for values in `delete_when`."""

    NOT_NULL = "not null"


NOT_NULL = Presence.NOT_NULL
"""In `delete_when`: any value deletes, such as a time of deletion."""


@dataclass(frozen=True)
class DeleteWhen:
    """The column and the values that delete a key; None for any value that is not null."""

    column: str
    values: tuple[Any, ...] | None

    @property
    def form(self) -> tuple[object, ...]:
        """What enters fingerprints."""
        if self.values is not None and len(self.values) == 1 and isinstance(self.values[0], str):
            return (self.column, self.values[0])
        return (self.column, "is not null" if self.values is None else "in", *map(repr, self.values or ()))

    def __str__(self) -> str:
        if self.values is None:
            return f"{self.column} that is not null"
        return f"{self.column} = {' or '.join(map(repr, self.values))}"

    def mask(self, events: pa.Table) -> Mask:
        """Which events delete."""
        column = plain(events[self.column])
        if self.values is None:
            found = column.is_valid()
        else:
            found = pc.is_in(column, value_set=pa.array(self.values, column.type))
        return np.asarray(found.to_numpy(), dtype=np.bool_)


@dataclass(frozen=True)
class Latest:
    """What a store of latest values keeps.

    Attributes:
        names: the columns kept.
        delete_when: what deletes a key, if anything.
        order_by, ties: the columns that order events, and what happens to equals; without columns the log's order.
        unchanged: the placeholder of each kept column that can have one.
    """

    names: tuple[str, ...]
    delete_when: DeleteWhen | None = None
    order_by: tuple[str, ...] = ()
    ties: Ties = Ties.REFUSE
    unchanged: Mapping[str, str] = field(default_factory=dict)

    @property
    def row_order(self) -> dict[str, str]:
        """The state columns that say which event gave the row, each with the event column it is filled from."""
        return {**dict(zip(self.order_by, self.order_by, strict=True)), "log_seq_of_row": _SEQ} if self.order_by else {}

    def order_of(self, column: str) -> dict[str, str]:
        """The same for the event that gave the value of a column with a placeholder."""
        return {f"{name}_of_{column}": name for name in (*self.order_by, _SEQ)} if self.order_by else {}

    @property
    def orders(self) -> dict[str, str]:
        """All of them."""
        found = self.row_order
        for column in self.unchanged:
            found |= self.order_of(column)
        return found

    def fold(self, rows: pa.Table, codes: Ints, events: pa.Table, live: Mask) -> FoldResult:
        """See `refold.stores.declaration.Folded.fold`. Raises EventRefused."""
        same = {name: _equal(events[name], text) & live for name, text in self.unchanged.items()}
        if self.order_by or any(mask.any() for mask in same.values()):
            return _Fold(self, rows, codes, events, live, same).result()
        last = _last(codes, live, len(rows))
        when = self.delete_when
        needed = dict.fromkeys([*self.names, *([when.column] if when else [])])
        taken = events.select(list(needed)).take(pa.array(np.maximum(last, 0)))
        deletes = when.mask(taken) if when else np.zeros(len(rows), dtype=np.bool_)
        columns = {name: _without(taken[name], deletes) for name in self.names}
        after = _chosen(rows, pa.table({**columns, DELETED: deletes}), last)
        applied = np.zeros(len(events), dtype=np.uint8)
        return FoldResult(after, applied, applied, interpreted=False)


class _Fold:
    """A fold in which not every event decides on every column."""

    def __init__(
        self, latest: Latest, rows: pa.Table, codes: Ints, events: pa.Table, live: Mask, same: Mapping[str, Mask]
    ) -> None:
        self._latest = latest
        self._rows, self._codes, self._events, self._live = rows, codes, events, live
        self._same = same
        self._gone = rows[DELETED].to_numpy()
        when = latest.delete_when
        self._deletes = when.mask(events) if when else np.zeros(len(events), dtype=np.bool_)
        self._refused: dict[int, EventRefused] = {}

    def result(self) -> FoldResult:
        latest, order = self._latest, self._latest.row_order
        given = self._given(order, self._live)
        changed, sources = given.copy(), {name: (given, name) for name in (*latest.names, DELETED)}
        sources |= {name: (given, source) for name, source in order.items()}
        for column, same in self._same.items():
            of_column = latest.order_of(column)
            if not same.any() and self._in_step(order, of_column):
                mine = given
            else:
                mine = self._given(of_column, self._live & (self._deletes | ~same))
                self._require_values(column, given, mine)
            changed |= mine
            sources |= {column: (mine, column)} | {name: (mine, source) for name, source in of_column.items()}
        if self._refused:
            raise self._refused[min(self._refused)]
        outcomes = np.where(changed, Outcome.APPLIED, Outcome.IGNORED).astype(np.uint8)
        after = pa.table({name: self._column(name, *sources[name]) for name in self._rows.column_names})
        reasons = np.where(changed, 0, NOT_NEWER).astype(np.uint8)
        return FoldResult(after, outcomes, reasons, interpreted=False)

    def _given(self, order: Mapping[str, str], among: Mask) -> Mask:
        """The events, among some, that are the newest so far of their key; all of them where the log's order counts."""
        if not order:
            return among
        state, log = [name for name in order if order[name] != _SEQ], self._latest.order_by
        both = ranks([self._rows[name] for name in state], [plain(self._events[name]) for name in log])
        given, equal = newer(self._codes, both, among, self._latest.ties)
        if self._latest.ties is Ties.REFUSE and equal.any():
            self._refuse_tie(int(np.flatnonzero(equal)[0]), given, next(n for n in order if order[n] == _SEQ))
        return given

    def _in_step(self, order: Mapping[str, str], of_column: Mapping[str, str]) -> bool:
        """Whether rows have the values of a column from the events that gave the rows."""
        pairs = zip(order, of_column, strict=True)
        return all(self._rows[one].equals(self._rows[other]) for one, other in pairs)

    def _require_values(self, column: str, of_row: Mask, of_column: Mask) -> None:
        """Refuse the first event after which a row is there whose column nothing has given a value."""
        turns = in_turns(self._codes, self._live)
        gone = self._gone[self._codes[turns]]
        row_gone, no_value = (
            np.where(last < 0, gone, self._deletes[last])
            for last in (last_of(self._codes, turns, given) for given in (of_row, of_column))
        )
        places = turns[no_value & ~row_gone]
        if len(places):
            self._refuse(
                int(places.min()),
                f"its key has the placeholder {self._latest.unchanged[column]!r} in column {column!r}, which keeps the "
                "value before, and no event gave one.",
                "Land the events before it, leave the column out, or decide what it means by a rule.",
            )

    def _refuse_tie(self, place: int, given: Mask, seq: str) -> None:
        mine = np.flatnonzero(given[:place] & (self._codes[:place] == self._codes[place]))
        other = self._events[_SEQ][mine[-1]] if len(mine) else self._rows[seq][self._codes[place]]
        order = {name: self._events[name][place].as_py() for name in self._latest.order_by}
        self._refuse(
            place,
            f"another event of its key, log_seq {other.as_py()}, has the same order "
            f"({', '.join(f'{name} {value}' for name, value in order.items())}).",
            "Add a column to order_by that decides, or declare ties=Ties.FIRST or Ties.LAST.",
        )

    def _refuse(self, place: int, what: str, remedy: str) -> None:
        self._refused.setdefault(place, EventRefused(what, remedy=remedy, event_index=place))

    def _column(self, name: str, given: Mask, source: str) -> pa.ChunkedArray:
        last = _last(self._codes, given, len(self._rows))
        at = pa.array(np.maximum(last, 0))
        if name == DELETED:
            taken = pa.chunked_array([self._deletes]).take(at)
        else:
            taken = plain(self._events[source].take(at))
            if name not in self._latest.orders:
                taken = _without(taken, self._deletes[np.maximum(last, 0)])
        return _chosen(self._rows.select([name]), pa.table({name: taken}), last)[name]


def _equal(column: pa.ChunkedArray, placeholder: str) -> Mask:
    """Where a column of texts, or of their bytes, is a placeholder."""
    if pa.types.is_dictionary(column.type):
        found = [
            pc.index_in(pa.scalar(placeholder, column.type.value_type), chunk.dictionary) for chunk in column.chunks
        ]
        if not any(each.is_valid for each in found):
            return np.zeros(len(column), dtype=np.bool_)
    values = plain(column)
    return np.asarray(pc.fill_null(pc.equal(values, pa.scalar(placeholder, values.type)), False).to_numpy())


def _last(codes: Ints, chosen: Mask, keys: int) -> Ints:
    """The last chosen event of each key, -1 where it has none."""
    last = np.full(keys, -1, dtype=np.int64)
    places = np.flatnonzero(chosen)
    last[codes[places]] = places
    return last


def _without(values: pa.ChunkedArray, deleted: Mask) -> pa.ChunkedArray:
    values = plain(values)
    return pc.if_else(pa.array(deleted), pa.scalar(None, values.type), values)


def _chosen(rows: pa.Table, new: pa.Table, last: Ints) -> pa.Table:
    """The new rows of the keys that have a last event, the old ones of the others."""
    choose = np.where(last < 0, np.arange(len(rows)), len(rows) + np.arange(len(rows)))
    return pa.concat_tables([rows, new.select(rows.column_names).cast(rows.schema)]).take(pa.array(choose))
