"""One relation on its way through history: its partial aggregates, and the partitions in which something changed.

A run visits snapshots and collects what its query has to read for each; then the query runs for all of them at once.
The build and the proof of a relation are two runs, which begin elsewhere and take the rows of their inputs in different
orders (`refold.incremental.history`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.canonical.encoding import Hashes
from refold.canonical.hash_table import HashTable
from refold.errors import RuleError
from refold.incremental.inputs import Input, Keyed
from refold.stores.kinds.relation import Relation
from refold.stores.relating import AT, RelationRunner
from refold.stores.row_orders import RowOrder
from refold.stores.state import KeyedRows, Result, hashes_by
from refold.types import Schema

if TYPE_CHECKING:
    from refold.stores.incremental_query import IncrementalQuery
    from refold.stores.sql_partials import Partial

_ALL = "__all"
_NONE = np.zeros(0, dtype=np.uint64)


class PartialRows(KeyedRows):
    """Partial aggregates by group."""

    def __init__(self, partial: Partial, table: pa.Table) -> None:
        """`table` has the columns of `partial.cumulated` without the boundary."""
        self._fields = _keyed(table).schema
        super().__init__({}, list(partial.groups) or [_ALL], _keyed(table))

    def schema_of(self, columns: Schema) -> pa.Schema:
        """The columns of the first table."""
        return self._fields


def _keyed(table: pa.Table) -> pa.Table:
    """Partial aggregates with a column that is the key where there are no groups."""
    return table.append_column(_ALL, pa.array(np.zeros(len(table), dtype=np.int64)))


@dataclass(frozen=True)
class Boundary:
    """What a query reads for one snapshot: the partitions that changed since the last, None for all, and their rows."""

    partitions: HashTable | None
    rows: Mapping[str, pa.Table]


@dataclass
class RelationRun:
    """The inputs of a relation at the snapshot that was visited last, and what its query has to read since it ran.

    `order` arranges the rows that partial aggregates are computed from.
    """

    relation: Relation
    runner: RelationRunner
    inputs: Mapping[str, Input]
    order: RowOrder
    rows_waiting: int = 0
    _partials: dict[str, Keyed] = field(default_factory=dict)
    _slices: dict[str, list[pa.Table]] = field(default_factory=dict)
    _pending: list[Hashes] = field(default_factory=list)
    _changed: bool = False

    @property
    def query(self) -> IncrementalQuery:
        """How its query is maintained."""
        return self.relation.incremental

    def restart(self, *, computed: bool, partials: Mapping[str, pa.Table]) -> None:
        """Begin where these partial aggregates are known, by name, and the result is `computed` or not."""
        named = {partial.name: partial for partial in self.query.partials}
        self._partials = {name: Keyed(PartialRows(named[name], table)) for name, table in partials.items()}
        self._slices, self._pending, self._changed = {}, [], not computed

    def carried(self) -> dict[str, pa.Table]:
        """The partial aggregates at the snapshot that was visited last, by name; the same rows in the same order."""
        return {name: each.rows.ordered().drop_columns([_ALL]) for name, each in self._partials.items()}

    def prepare(self, partial: Partial, events: pa.Table, starts: Sequence[int]) -> None:
        """Compute the partial aggregates of the next snapshots from those before and the events that they add.

        `starts` has for each snapshot the place of its first event in `events`, and at the end that behind the last;
        events before the first start are of the snapshots before. Raises RuleError where an event has a value for which
        an aggregate cannot be computed.
        """
        numbers = np.repeat(np.arange(-1, len(starts) - 1), np.diff([0, *starts]))
        numbered = _read(self.relation, partial.ledger, events).append_column(AT, pa.array(numbers))
        try:
            tables = {"new": self.runner.table({partial.ledger: numbered}, partial.of_events(AT), self.order)}
        except duckdb.Error as error:
            raise RuleError(
                f"Relation {self.relation.name!r} has no partial aggregates of {partial.ledger}: {str(error).strip()}",
                remedy="Correct the value or the query.",
            ) from error
        known = self._partials.get(partial.name)
        if known is not None:
            rows = known.rows.table
            tables["old"] = rows.append_column(AT, pa.array(np.full(len(rows), -1))).select(tables["new"].column_names)
        every = " UNION ALL ".join(f"FROM {name}" for name in sorted(tables))
        table = self.runner.table(tables, f"{partial.cumulated(f'({every})', AT)} ORDER BY {AT}", self.order)
        bounds = np.searchsorted(table[AT].to_numpy(), np.arange(-1, len(starts)))
        before, *slices = [table.drop_columns([AT]).slice(a, b - a) for a, b in pairwise(bounds.tolist())]
        if known is None:
            self._partials[partial.name] = Keyed(PartialRows(partial, before))
        self._slices[partial.name] = slices

    def visit(self, place: int, *, complete: bool) -> Boundary | None:
        """Go on to a snapshot, to which the inputs were followed; `place` is its among those that were prepared.

        Returns what the query has to read there; None where nothing changed, or the inputs are not `complete`.
        """
        for name, slices in self._slices.items():
            self._partials[name].changed = ()
            if len(slices[place]):
                self._partials[name].upsert(_keyed(slices[place]))
        for name, by in self.query.by.items():
            for table in self._input(name).changed:
                self._changed = self._changed or len(table) > 0
                if by and len(table):
                    self._pending.append(hashes_by(table, by))
        if not self._changed or not complete:
            return None
        partitions = HashTable(np.unique(np.concatenate([_NONE, *self._pending]))) if self.query.partition else None
        rows = {name: self._rows(name, partitions) for name in self.query.by}
        self._pending, self._changed = [], False
        self.rows_waiting += sum(map(len, rows.values()))
        return Boundary(partitions, rows)

    def _input(self, name: str) -> Input:
        return self._partials.get(name) or self.inputs[name]

    def _rows(self, name: str, partitions: HashTable | None) -> pa.Table:
        """What the query reads of a table, of some partitions or of all."""
        found = self._input(name)
        table = found.whole() if partitions is None else found.within(partitions, self.query.by[name])
        return table if name in self._partials else _read(self.relation, name, table)

    def results(self, boundaries: Sequence[Boundary], order: RowOrder) -> Iterator[pa.Table]:
        """What the query gives at each of some boundaries, over rows in an order.

        Raises RuleError at the first boundary where a value does not fit its column or a key repeats.
        """
        self.rows_waiting = 0
        try:
            tables = iter(self._at_once(boundaries, order)) if self.query.partition and boundaries else None
        except RuleError:
            tables = None  # run one by one, so that the error is raised at its boundary
        for each in boundaries:
            yield next(tables) if tables else self.runner.run(self.relation, each.rows, order, self.query.sql)

    def _at_once(self, boundaries: Sequence[Boundary], order: RowOrder) -> list[pa.Table]:
        inputs = {
            name: pa.concat_tables(_numbered(each.rows[name], place) for place, each in enumerate(boundaries))
            for name in self.query.by
        }
        table = self.runner.run_at(self.relation, inputs, order, self.query.at_sql)
        bounds = np.searchsorted(table[AT].to_numpy(), np.arange(len(boundaries) + 1))
        rows = table.drop_columns([AT])
        return [rows.slice(a, b - a) for a, b in pairwise(bounds.tolist())]

    def take(self, result: Result, boundary: Boundary, table: pa.Table) -> None:
        """Put what the query gave at a boundary into a result."""
        within: npt.NDArray[np.bool_] = np.ones(len(result), dtype=np.bool_)
        if boundary.partitions is not None:
            within = boundary.partitions.find(result.hashes_by(self.query.partition)) >= 0
        result.replace(within, table)


def _read(relation: Relation, name: str, table: pa.Table) -> pa.Table:
    """The columns of a source that the query reads."""
    return table.select(list(relation.columns_read_of[name]))


def _numbered(table: pa.Table, place: int) -> pa.Table:
    return table.append_column(AT, pa.array(np.full(len(table), place, dtype=np.int64)))
