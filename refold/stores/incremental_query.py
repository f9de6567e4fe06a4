"""How a relation's query can be maintained from the changes of its inputs, and why not where it cannot.

Two means, each by itself or both: what a block aggregates over a ledger is kept as partial aggregates
(`refold.stores.sql_partials`), and only the partitions of the result in which something changed are computed again
(`refold.stores.sql_partition`). A query that allows neither is computed whole at every snapshot. Nothing is run here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import duckdb
import pyarrow as pa
from sqlglot import exp
from sqlglot.optimizer.scope import traverse_scope

from refold.stores.sql_binding import cursor_over, sql_type, sql_type_of
from refold.stores.sql_partials import Partial, Rewriting, with_partials
from refold.stores.sql_partition import at_every_boundary, partition_of
from refold.stores.sql_tree import Kind, Refusal, Refused, parsed, text_of
from refold.types import ColumnKind, Schema, arrow_schema

_WIDENED = {"BIGINT": {"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"}}


@dataclass(frozen=True)
class IncrementalQuery:
    """How a query is maintained.

    Attributes:
        sql: the query to run: as written, or over partial aggregates.
        at_sql: the same over rows of many boundaries, each with its number in `__at`; "" without a partition.
        partials: the partial aggregates that take the place of ledgers.
        partition: the key columns of the result that make a partition, each with the type that its values are hashed
            in; empty where all of the result is computed at every snapshot.
        by: for every table of `sql`, its columns that hold the partition's values, in the order of `partition`.
        refusals: what is computed whole, or from all events of a partition, and why.
    """

    sql: str
    at_sql: str
    partials: tuple[Partial, ...]
    partition: tuple[pa.Field, ...]
    by: Mapping[str, tuple[pa.Field, ...]]
    refusals: tuple[Refusal, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it can be maintained."""
        return not self.partials and not self.partition

    @property
    def how(self) -> str:
        """How its history is computed and why not otherwise, for people."""
        if self.is_whole:
            return f"It is computed whole at every snapshot, because of {self._because}."
        kept = ", ".join(partial.ledger for partial in self.partials)
        parts = [f"partial aggregates of {kept} are kept"] if kept else []
        if self.partition:
            names = ", ".join(field.name for field in self.partition)
            parts.append(f"only the rows of {names} whose inputs changed are computed again")
        limits = f" Not more, because of {self._because}." if self.refusals else ""
        return f"From snapshot to snapshot {' and '.join(parts)}.{limits}"

    @property
    def _because(self) -> str:
        return "; ".join(map(str, self.refusals))


def incremental_query(
    sql: str, tables: Mapping[str, pa.Schema], ledgers: Sequence[str], computed: Sequence[str], returns: Schema,
    key: Sequence[str],
) -> IncrementalQuery:  # fmt: skip
    """How a query over tables of these types, whose result has these columns and key, is maintained.

    `ledgers` are the tables to which rows are only added, `computed` those that relations compute.
    """
    try:
        if computed:
            raise Refused(Kind.INPUT, f"it reads {', '.join(computed)}, which are relations themselves")
        names = {name: list(schema.names) for name, schema in tables.items()}
        _require_free(names, returns)
        return _maintained(sql, names, tables, ledgers, returns, key)
    except Refused as error:
        return IncrementalQuery(sql, "", (), (), {}, (error.refusal,))
    except duckdb.Error as error:
        text = str(error).partition("\n")[0]
        return IncrementalQuery(sql, "", (), (), {}, (Refusal(Kind.SYNTAX, f"it cannot be rewritten: {text}"),))


def _maintained(
    sql: str, names: dict[str, list[str]], tables: Mapping[str, pa.Schema], ledgers: Sequence[str], returns: Schema,
    key: Sequence[str],
) -> IncrementalQuery:  # fmt: skip
    found, types = _rewritten(parsed(sql, names), tables, ledgers)
    partition = _fitting(
        partition_of(found.tree, {name: list(each) for name, each in types.items()}), types, returns, key
    )
    fields = {field.name: field for field in arrow_schema(returns)}
    actual = {table.lower(): {column.lower(): column for column in columns} for table, columns in names.items()}
    by = {}
    for table in _tables_of(found.tree, found.partials, tables):
        low = table.lower()
        columns = [actual.get(low, {}).get(partition[name][low], partition[name][low]) for name in partition]
        by[table] = tuple(pa.field(c, fields[name].type) for c, name in zip(columns, partition, strict=True))
    refusals = list(found.refusals)
    if not partition:
        why = f"no column of its key ({', '.join(key)}) comes unchanged from all of its inputs"
        refusals.append(Refusal(Kind.PARTITION, why))
    return IncrementalQuery(
        sql=text_of(found.tree) if found.partials else sql,
        at_sql=text_of(at_every_boundary(found.tree)) if partition else "",
        partials=tuple(found.partials),
        partition=tuple(pa.field(name, fields[name].type) for name in partition),
        by=by,
        refusals=tuple(refusals),
    )


_Types = dict[str, dict[str, str]]


def _rewritten(tree: exp.Query, tables: Mapping[str, pa.Schema], ledgers: Sequence[str]) -> tuple[Rewriting, _Types]:
    """The query over partial aggregates, and the types of the columns of all tables, names in lower case."""
    with cursor_over(tables) as cursor:

        def type_of(expression: str, table: str) -> str:
            return str(cursor.execute(f"DESCRIBE SELECT {expression} FROM {table}").fetchall()[0][1])

        known = {name.lower() for name in ledgers}
        found = with_partials(tree, known, functions("aggregate"), functions("scalar"), type_of)
        types = {
            name.lower(): {field.name.lower(): sql_type_of(field.type) for field in schema}
            for name, schema in tables.items()
        }
        for each in found.partials:
            described = cursor.execute(f"DESCRIBE {each.of_events()}").fetchall()
            types[each.name] = {str(name): str(kind) for name, kind, *_ in described}
    return found, types


def _fitting(
    partition: Mapping[str, Mapping[str, str]], types: _Types, returns: Schema, key: Sequence[str]
) -> dict[str, Mapping[str, str]]:
    """The columns of a partition that are of the key, and of which equal values are equal in every table."""
    found = dict[str, Mapping[str, str]]()
    for name in key:
        by, declared = partition.get(name.lower()), returns[name]
        kinds = [types[table][column] for table, column in (by or {}).items()]
        fits = all(kind == sql_type(declared) or kind in _WIDENED.get(sql_type(declared), ()) for kind in kinds)
        if by and fits and declared.kind is not ColumnKind.RATIO:
            found[name] = by
    return found


def _require_free(tables: Mapping[str, Sequence[str]], returns: Schema) -> None:
    names = [*returns, *(name for columns in tables.values() for name in columns)]
    taken = sorted({name for name in names if name.startswith("__")})
    if taken:
        raise Refused(Kind.SYNTAX, f"columns whose names begin with two underscores: {', '.join(taken)}")


def _tables_of(tree: exp.Query, partials: Sequence[Partial], tables: Mapping[str, pa.Schema]) -> list[str]:
    """The tables that a tree reads, by their declared names, and the partial aggregates."""
    sources = [source for scope in traverse_scope(tree) for source in scope.sources.values()]
    used = {source.name for source in sources if isinstance(source, exp.Table)}
    names = [*tables, *(partial.name for partial in partials)]
    return [name for name in names if name.lower() in used]


@cache
def functions(kind: str) -> frozenset[str]:
    """The names of the engine's functions of a kind, "aggregate" or "scalar", in lower case."""
    with cursor_over({}) as cursor:
        found = cursor.execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = ?", [kind])
        return frozenset(str(name).lower() for (name,) in found.fetchall())
