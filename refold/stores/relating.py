"""Relations: SQL over ledgers and stores at one snapshot, run so that its result can be checked.

DuckDB computes; types, keys and nulls are ours. Because engines call `row_number` or `arg_max` deterministic that are
not where rows tie, a result counts as proven only when it comes out the same over other orders of rows
(`refold.stores.row_orders`) and other numbers of threads. Timestamps are instants (TIMESTAMP WITH TIME ZONE).
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import DeclarationError, RuleError
from refold.stores.kinds.relation import Relation
from refold.stores.row_orders import STORED, RowOrder
from refold.stores.sql_binding import as_table, connect, quoted, sql_type
from refold.stores.state import sort_by
from refold.types import ColumnKind, ColumnType, arrow_schema


class RelationRunner:
    """Runs relations, one at a time, on in-memory connections that reach neither files nor network."""

    def __init__(self) -> None:
        self._connections: dict[tuple[int, bool], duckdb.DuckDBPyConnection] = {}

    def run(self, relation: Relation, inputs: Mapping[str, pa.Table], order: RowOrder | None = None) -> pa.Table:
        """The result of a relation over its inputs by name: declared columns and types, sorted by key.

        `order` arranges the rows of every input, by default as they are stored.

        Raises:
            DeclarationError: the query does not run.
            RuleError: a value does not fit its column, the key repeats, or a null is where none may be.
        """
        order = order or STORED
        connection = self._connection(order)
        try:
            for name, table in inputs.items():
                connection.register(name, order.of(table))
            result = connection.sql(_typed(relation)).to_arrow_table()
        except (duckdb.OutOfRangeException, duckdb.ConversionException) as error:
            raise RuleError(
                f"Relation {relation.name!r} computed a value that its column cannot hold: {str(error).strip()}",
                remedy="Declare a wider column, or correct the query.",
            ) from error
        except duckdb.Error as error:
            raise DeclarationError(f"Relation {relation.name!r}", [str(error).strip()]) from error
        finally:
            for name in inputs:
                connection.unregister(name)
        table = sort_by(_nullable(relation, result), relation.key)
        _check(relation, table)
        return table

    def _connection(self, order: RowOrder) -> duckdb.DuckDBPyConnection:
        place = (order.threads, order.keeps_insertion_order)
        if place not in self._connections:
            more = {"threads": str(order.threads), "preserve_insertion_order": str(order.keeps_insertion_order).lower()}
            self._connections[place] = connect(more)
        return self._connections[place]


def _typed(relation: Relation) -> str:
    columns = ", ".join(
        f"CAST({quoted(name)} AS {sql_type(column)}) AS {quoted(name)}" for name, column in relation.columns.items()
    )
    return as_table(relation.sql, columns)


def _nullable(relation: Relation, table: pa.Table) -> pa.Table:
    nullable = pa.schema([f.with_nullable(True) for f in arrow_schema(relation.columns)])
    return table.cast(nullable)


def _check(relation: Relation, table: pa.Table) -> None:
    for name, column in relation.columns.items():
        if not column.null and table[name].null_count:
            raise RuleError(
                f"Relation {relation.name!r} gave {table[name].null_count} nulls in {name!r}, declared {column}.",
                remedy="Declare it null=True, or coalesce in the query.",
            )
        _check_values(relation, table, name, column)
    keys = table.select(list(relation.key))
    groups = keys.group_by(list(relation.key)).aggregate([([], "count_all")])
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
