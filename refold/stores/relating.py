"""Relations: SQL over ledgers and stores at one snapshot, run so that its result can be checked.

DuckDB computes; types, keys and nulls are ours. Because engines call `first` or `row_number` deterministic that are
not, a result counts as proven only when it comes out the same over permuted rows and another number of threads.
Time zones do not enter: timestamps are UTC without zone inside a query.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import numpy as np
import pyarrow as pa

from refold.errors import DeclarationError, RuleError
from refold.stores.kinds.relation import Relation
from refold.stores.sql_lineage import impurities
from refold.stores.state import sort_by
from refold.types import ColumnKind, ColumnType, arrow_schema

_SQL_TYPES = {
    "int64": "BIGINT",
    "text": "VARCHAR",
    "enum": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "boolean": "BOOLEAN",
    "binary": "BLOB",
    "ratio": "DOUBLE",
}
_SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


class RelationRunner:
    """Runs relations, one at a time, on in-memory connections that reach neither files nor network."""

    def __init__(self) -> None:
        self._connections: dict[int, duckdb.DuckDBPyConnection] = {}

    def run(self, relation: Relation, inputs: Mapping[str, pa.Table], *, permuted: bool = False) -> pa.Table:
        """The result of a relation over its inputs by name: declared columns and types, sorted by key.

        `permuted` shuffles the rows of every input (by a fixed permutation) and uses another number of threads.

        Raises:
            DeclarationError: the query does not run, is not pure, or its columns are not those declared.
            RuleError: a value does not fit its column, the key repeats, or a null is where none may be.
        """
        _refuse_impure(relation)
        connection = self._connection(threads=2 if permuted else 1)
        try:
            for name, table in inputs.items():
                connection.register(name, _without_zone(_permuted(table) if permuted else table))
            _refuse_floats(relation, connection.sql(relation.sql))
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
        table = sort_by(_with_zone(relation, result), relation.key)
        _check(relation, table)
        return table

    def _connection(self, threads: int) -> duckdb.DuckDBPyConnection:
        if threads not in self._connections:
            connection = duckdb.connect(":memory:", config={**_SETTINGS, "threads": str(threads)})
            connection.execute("SET TimeZone = 'UTC'")
            self._connections[threads] = connection
        return self._connections[threads]


def _refuse_impure(relation: Relation) -> None:
    found = impurities(relation.sql)
    if found:
        faults = [f"its query calls {name}, which depends on more than its inputs" for name in found]
        raise DeclarationError(f"Relation {relation.name!r}", [*faults, "time and chance must come from the events"])


def _refuse_floats(relation: Relation, query: duckdb.DuckDBPyRelation) -> None:
    """A float that is cast to an exact type was rounded somewhere on the way."""
    types = dict(zip(query.columns, map(str, query.types), strict=True))
    exact = [name for name, column in relation.columns.items() if column.kind in (ColumnKind.INT64, ColumnKind.DECIMAL)]
    faults = [
        f"column {name!r} is declared {relation.columns[name]} and computed as {types[name]}; compute it in exact types"
        for name in exact
        if types.get(name) in ("DOUBLE", "FLOAT")
    ]
    if faults:
        raise DeclarationError(f"Relation {relation.name!r}", faults)


def _typed(relation: Relation) -> str:
    columns = ", ".join(
        f'CAST("{name}" AS {_sql_type(column)}) AS "{name}"' for name, column in relation.columns.items()
    )
    return f"SELECT {columns} FROM (\n{relation.sql}\n) AS result"


def _sql_type(column: ColumnType) -> str:
    return (
        f"DECIMAL({column.precision}, {column.scale})" if column.kind is ColumnKind.DECIMAL else _SQL_TYPES[column.kind]
    )


def _permuted(table: pa.Table) -> pa.Table:
    return table.take(pa.array(np.random.default_rng(0).permutation(len(table))))


def _without_zone(table: pa.Table) -> pa.Table:
    fields = [
        pa.field(f.name, pa.timestamp("us")) if pa.types.is_timestamp(f.type) else f.with_nullable(True)
        for f in table.schema
    ]
    return table.cast(pa.schema(fields))


def _with_zone(relation: Relation, table: pa.Table) -> pa.Table:
    nullable = pa.schema([f.with_nullable(True) for f in arrow_schema(relation.columns)])
    return table.cast(nullable)


def _check(relation: Relation, table: pa.Table) -> None:
    for name, column in relation.columns.items():
        if not column.null and table[name].null_count:
            raise RuleError(
                f"Relation {relation.name!r} gave {table[name].null_count} nulls in {name!r}, declared {column}.",
                remedy="Declare it null=True, or coalesce in the query.",
            )
    keys = table.select(list(relation.key))
    groups = keys.group_by(list(relation.key)).aggregate([([], "count_all")])
    if len(groups) != len(table):
        counts = groups["count_all"].to_pylist()
        twice = groups.slice(next(i for i, n in enumerate(counts) if n > 1), 1).to_pylist()[0]
        raise RuleError(
            f"Relation {relation.name!r} gave {len(table)} rows for {len(groups)} keys; one that repeats is {twice}.",
            remedy="Group by the declared key, or declare the key the rows have.",
        )
