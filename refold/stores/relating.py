"""Relations: SQL over ledgers and stores at one or many snapshots, run so that its result can be checked.

DuckDB computes; types, keys and nulls are ours. Because engines call `row_number` or `arg_max` deterministic that are
not where rows tie, a result counts as proven only when it comes out the same over other orders of rows
(`refold.stores.row_orders`) and other numbers of threads. Timestamps are instants (TIMESTAMP WITH TIME ZONE).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import DeclarationError, RuleError
from refold.stores.kinds.relation import Relation
from refold.stores.row_orders import STORED, RowOrder
from refold.stores.sql_binding import as_table, connect, quoted, sql_type
from refold.stores.state import key_hashes, sort_by
from refold.types import ColumnKind, ColumnType, arrow_schema

AT = "__at"
"""The column with the number of the snapshot, where a query runs for many of them at once."""


class RelationRunner:
    """Runs relations, one at a time, on in-memory connections that reach neither files nor network."""

    def __init__(self) -> None:
        self._connections: dict[tuple[int, bool], duckdb.DuckDBPyConnection] = {}

    def run(
        self, relation: Relation, inputs: Mapping[str, pa.Table], order: RowOrder | None = None, sql: str = ""
    ) -> pa.Table:
        """The result of a relation over its inputs by name: declared columns and types, sorted by key.

        `order` arranges the rows of every input, by default as they are stored. `sql` is run instead of the relation's
        query.

        Raises:
            DeclarationError: the query does not run.
            RuleError: a value does not fit its column, the key repeats, or a null is where none may be.
        """
        result = self._result(relation, _typed(relation, sql or relation.sql), inputs, order or STORED)
        return _checked(relation, result, relation.key)

    def run_at(self, relation: Relation, inputs: Mapping[str, pa.Table], order: RowOrder, sql: str) -> pa.Table:
        """The results of a query for many boundaries, whose numbers are in the column `__at` of inputs and result.

        Sorted by boundary and key. Raises as `run` does.
        """
        result = self._result(relation, _typed(relation, sql, AT), inputs, order)
        return _checked(relation, result, (AT, *relation.key))

    def table(self, inputs: Mapping[str, pa.Table], sql: str, order: RowOrder = STORED) -> pa.Table:
        """The result of any query over tables by name. Raises duckdb.Error."""
        connection = self._connection(order)
        try:
            for name, table in inputs.items():
                connection.register(name, order.of(table))
            return connection.sql(sql).to_arrow_table()
        finally:
            for name in inputs:
                connection.unregister(name)

    def _result(self, relation: Relation, sql: str, inputs: Mapping[str, pa.Table], order: RowOrder) -> pa.Table:
        try:
            return self.table(inputs, sql, order)
        except (duckdb.OutOfRangeException, duckdb.ConversionException) as error:
            raise RuleError(
                f"Relation {relation.name!r} computed a value that its column cannot hold: {str(error).strip()}",
                remedy="Declare a wider column, or correct the query.",
            ) from error
        except duckdb.Error as error:
            raise DeclarationError(f"Relation {relation.name!r}", [str(error).strip()]) from error

    def _connection(self, order: RowOrder) -> duckdb.DuckDBPyConnection:
        place = (order.threads, order.keeps_insertion_order)
        if place not in self._connections:
            more = {"threads": str(order.threads), "preserve_insertion_order": str(order.keeps_insertion_order).lower()}
            self._connections[place] = connect(more)
        return self._connections[place]


def _typed(relation: Relation, sql: str, *more: str) -> str:
    columns = [
        *(f"CAST({quoted(name)} AS {sql_type(column)}) AS {quoted(name)}" for name, column in relation.columns.items()),
        *map(quoted, more),
    ]
    return as_table(sql, ", ".join(columns))


def _checked(relation: Relation, result: pa.Table, key: Sequence[str]) -> pa.Table:
    """A result in the declared types, nulls allowed, sorted by a key. Raises RuleError."""
    fields = {field.name: field.with_nullable(True) for field in arrow_schema(relation.columns)}
    table = result.cast(pa.schema([fields.get(field.name, field) for field in result.schema]))
    for place, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):  # -0.0 equals 0.0, and so must their bytes
            table = table.set_column(place, field, pc.add(table[field.name], 0.0))
    table = sort_by(table, key)
    _check(relation, table, key)
    return table


def _check(relation: Relation, table: pa.Table, key: Sequence[str]) -> None:
    for name, column in relation.columns.items():
        if not column.null and table[name].null_count:
            raise RuleError(
                f"Relation {relation.name!r} gave {table[name].null_count} nulls in {name!r}, declared {column}.",
                remedy="Declare it null=True, or coalesce in the query.",
            )
        _check_values(relation, table, name, column)
    if len(np.unique(key_hashes(table, key))) == len(table):
        return
    groups = table.select(list(key)).group_by(list(key)).aggregate([([], "count_all")])
    if len(groups) != len(table):
        counts = groups["count_all"].to_pylist()
        twice = groups.slice(next(i for i, n in enumerate(counts) if n > 1), 1).drop(["count_all"]).to_pylist()[0]
        raise RuleError(
            f"Relation {relation.name!r} gave {len(table)} rows for {len(groups)} keys; one that repeats is {twice}.",
            remedy="Group by the declared key, or declare the key the rows have.",
        )


def _check_values(relation: Relation, table: pa.Table, name: str, column: ColumnType) -> None:
    """Raises RuleError where a value is not among those that its declared type admits."""
    values = table[name]
    if column.kind is ColumnKind.INT64:
        wrong = pc.or_(pc.less(values, column.minimum), pc.greater(values, column.maximum))
    elif column.kind is ColumnKind.ENUM:
        wrong = pc.invert(pc.is_in(values, pa.array(column.values, pa.string())))
    elif column.kind is ColumnKind.TEXT and not column.empty:
        wrong = pc.equal(values, "")
    else:
        return
    bad = table.filter(pc.and_(pc.is_valid(values), pc.fill_null(wrong, False)))
    if len(bad):
        row = bad.slice(0, 1).to_pylist()[0]
        raise RuleError(
            f"Relation {relation.name!r} gave {name}={row[name]!r} for key {[row[each] for each in relation.key]}, "
            f"which {name!r}, declared {column}, does not admit; {len(bad)} rows are like it.",
            remedy="Widen the declared column, or correct the query.",
        )
