"""Binds a query to empty tables of its inputs when it is declared, so that its faults are known before there are rows.

DuckDB parses and binds; this module compares the columns that result with those declared, and gives every fault with
its line in the query. What a query must not depend on is found by `refold.stores.sql_purity`. Rows are computed by
`refold.stores.relating`, over tables of the same types.
"""

from __future__ import annotations

import atexit
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import duckdb
import pyarrow as pa

from refold.stores.sql_purity import (
    Node,
    QueryFault,
    bare_names,
    chooses_among_ties,
    impurities,
    refused_before_binding,
)
from refold.types import ColumnKind, ColumnType, Schema

_SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}

_SQL_TYPES = {
    ColumnKind.INT64: "BIGINT",
    ColumnKind.TEXT: "VARCHAR",
    ColumnKind.ENUM: "VARCHAR",
    ColumnKind.DATE: "DATE",
    ColumnKind.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    ColumnKind.BOOLEAN: "BOOLEAN",
    ColumnKind.BINARY: "BLOB",
    ColumnKind.RATIO: "DOUBLE",
    ColumnKind.VERSION_VECTOR: "VARCHAR",
}
_SIGNED = ("BIGINT", "HUGEINT", "INTEGER", "SMALLINT", "TINYINT")
_INTEGERS = (*_SIGNED, *(f"U{name}" for name in _SIGNED))
_FLOATS = ("DOUBLE", "FLOAT")
_FITTING: Mapping[ColumnKind, Sequence[str]] = {
    ColumnKind.INT64: (*_INTEGERS, "DECIMAL"),
    ColumnKind.TEXT: ("VARCHAR", "ENUM", "JSON"),
    ColumnKind.ENUM: ("VARCHAR", "ENUM"),
    ColumnKind.VERSION_VECTOR: ("VARCHAR", "JSON"),
    ColumnKind.DECIMAL: (*_INTEGERS, "DECIMAL"),
    ColumnKind.RATIO: (*_INTEGERS, *_FLOATS, "DECIMAL"),
}
_ROUNDED = "a float; compute it in exact types"
_LOCAL = "a time without a zone; add AT TIME ZONE with the zone it is in"
_HINTS = {
    (ColumnKind.TIMESTAMP, "TIMESTAMP"): _LOCAL,
    (ColumnKind.DATE, "TIMESTAMP"): "an instant without its zone; CAST it to DATE",
    (ColumnKind.DATE, "TIMESTAMP WITH TIME ZONE"): "an instant; CAST it to DATE for the day in UTC, "
    "or CAST(… AT TIME ZONE 'Europe/Berlin' AS DATE) for the day there",
    **{(kind, name): _ROUNDED for kind in (ColumnKind.INT64, ColumnKind.DECIMAL) for name in _FLOATS},
}  # fmt: skip


@dataclass(frozen=True)
class BoundQuery:
    """What is known of a query once it is bound: the columns it reads of each table, and its faults."""

    reads: Mapping[str, Sequence[str]]
    faults: Sequence[QueryFault]


def bind(sql: str, tables: Mapping[str, pa.Schema], returns: Schema) -> BoundQuery:
    """Bind a query to empty tables of these types, and compare its result with the declared columns."""
    faults = [QueryFault(text) for text in _alike(tables, returns)]
    if faults:
        return BoundQuery({}, faults)
    tree = _parsed(sql)
    faults = _error_of(tree) or refused_before_binding(tree)
    if faults:
        return BoundQuery({}, [*faults, *_unquoted(tree, sql, tables)])
    try:
        with cursor_over(tables) as cursor:
            return _bound(cursor, sql, tree, tables, returns)
    except duckdb.Error as error:
        return BoundQuery({}, [QueryFault(str(error).partition("\n")[0])])


def _bound(
    cursor: duckdb.DuckDBPyConnection, sql: str, tree: Node, tables: Mapping[str, pa.Schema], returns: Schema
) -> BoundQuery:
    names = [name for schema in tables.values() for name in schema.names]
    plan = _answered(cursor, "json_serialize_plan", sql)
    if faults := _error_of(plan):
        return BoundQuery({}, [*faults, *impurities(tree, {}, list(tables), names)])
    found = cursor.execute(f"DESCRIBE {sql}").fetchall()
    cursor.execute(f"DESCRIBE {as_table(sql)}")
    faults = [fault for fault in bare_names(tree) if _is_function(cursor, fault.text, tables)]
    faults = [QueryFault(f"it reads {name}, which depends on more than its inputs", at) for name, at in faults]
    faults += impurities(tree, plan, list(tables), names)
    faults += [QueryFault(text) for text in _misfits(returns, [(str(name), str(kind)) for name, kind, *_ in found])]
    return BoundQuery(_reads(tree, plan, tables), faults)


def as_table(sql: str, columns: str = "*") -> str:
    """A query that reads columns of another's result."""
    return f"SELECT {columns} FROM (\n{sql}\n) AS result"


def ties_of(sql: str) -> list[str]:
    """What in a query takes one of the rows that tie, in words."""
    return chooses_among_ties(_parsed(sql))


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever is in it.

    >>> quoted("at")
    '"at"'
    """
    return '"' + name.replace('"', '""') + '"'


def named(column: str) -> str:
    """A column's name behind a table's, in quotes where SQL needs them.

    >>> named("level"), named("unit price")
    ('level', '"unit price"')
    """
    return column if column.isidentifier() else quoted(column)


def named_table(table: str) -> str:
    """A table's name, in quotes where SQL needs them.

    >>> named_table("stock"), named_table("order")
    ('stock', '"order"')
    """
    return quoted(table) if _is_reserved(table) else named(table)


@cache
def _is_reserved(name: str) -> bool:
    """Whether a name is a word of SQL that names no table or column without quotes."""
    categories = "keyword_category IN ('reserved', 'type_function')"
    found = _connection().execute(
        f"SELECT 1 FROM duckdb_keywords() WHERE {categories} AND keyword_name = ?", [name.lower()]
    )
    return bool(found.fetchall())


def sql_type(column: ColumnType) -> str:
    """The type of a declared column in DuckDB."""
    is_decimal = column.kind is ColumnKind.DECIMAL
    return f"DECIMAL({column.precision}, {column.scale})" if is_decimal else _SQL_TYPES[column.kind]


def connect(settings: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    """A database in memory that reaches no files, network or variables of Python, and shows instants in UTC."""
    connection = duckdb.connect(":memory:", config={**_SETTINGS, **settings})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    atexit.register(_connection.cache_clear)  # a connection that outlives the interpreter makes DuckDB report a leak
    return connect({"threads": "1"})


def _cursor() -> duckdb.DuckDBPyConnection:
    """A connection of its own to the database that binds, so that its temporary tables are its own."""
    cursor = _connection().cursor()
    cursor.execute("SET TimeZone = 'UTC'")
    return cursor


def cursor_over(tables: Mapping[str, pa.Schema]) -> duckdb.DuckDBPyConnection:
    """A connection with empty tables of these types; the caller closes it. Raises duckdb.Error."""
    cursor = _cursor()
    for name, schema in tables.items():
        columns = ", ".join(f"{quoted(field.name)} {sql_type_of(field.type)}" for field in schema)
        cursor.execute(f"CREATE TEMP TABLE {quoted(name)} ({columns})")
    return cursor


@cache
def _parsed(sql: str) -> Node:
    with _cursor() as cursor:
        return _answered(cursor, "json_serialize_sql", sql)


def _answered(cursor: duckdb.DuckDBPyConnection, function: str, sql: str) -> Node:
    (answer,) = cursor.execute(f"SELECT {function}(?)", [sql]).fetchall()[0]
    found: Node = json.loads(answer)
    return found


def _is_function(cursor: duckdb.DuckDBPyConnection, name: str, tables: Mapping[str, pa.Schema]) -> bool:
    """Whether a name without a table is a function without parentheses, such as `current_date`, and not a column."""
    if all(name.lower() in map(str.lower, schema.names) for schema in tables.values()):
        return False
    return not _answered(cursor, "json_serialize_plan", f"SELECT {quoted(name)}")["error"]


def _error_of(answer: Node) -> list[QueryFault]:
    if not answer["error"]:
        count = len(answer.get("statements") or answer.get("plans") or ())
        return [] if count == 1 else [QueryFault(f"it has {count} statements; a relation is one SELECT")]
    if answer["error_message"].startswith(("Only SELECT", "Cannot plan")):
        return [QueryFault("it is not one SELECT whose columns its text determines; PIVOT needs IN (…)")]
    place = answer.get("position")
    lines = [line.strip().rstrip(":;!") for line in answer["error_message"].splitlines()]
    return [QueryFault("; ".join(filter(None, lines)), int(place) if place is not None else None)]


def _unquoted(tree: Node, sql: str, tables: Mapping[str, pa.Schema]) -> Iterator[QueryFault]:
    """Columns whose names are words of SQL, and which a query that cannot be parsed may have without quotes."""
    words = set(re.findall(r'(?<!["\w])\w+(?!["\w])', sql.lower()))
    names = sorted({name for schema in tables.values() for name in schema.names if name.lower() in words})
    reserved = [quoted(name) for name in names if _is_reserved(name)]
    if tree["error"] and reserved:
        yield QueryFault(f"write the columns {' and '.join(reserved)} in quotes: their names are words of SQL")


def _alike(tables: Mapping[str, pa.Schema], returns: Schema) -> Iterator[str]:
    """Names that differ by case alone, which DuckDB takes for one."""
    yield from (f"its inputs {names} differ by case alone, and SQL takes them for one" for names in _by_case(tables))
    for name, schema in tables.items():
        for names in _by_case(schema.names):
            yield f"columns {names} of {name} differ by case alone, and SQL takes them for one; no relation can read it"
    yield from (f"its columns {names} differ by case alone, and SQL takes them for one" for names in _by_case(returns))


def _by_case(names: Iterable[str]) -> list[str]:
    found = dict[str, list[str]]()
    for name in names:
        found.setdefault(name.lower(), []).append(name)
    return [" and ".join(map(repr, each)) for each in found.values() if len(each) > 1]


def _misfits(returns: Schema, found: Sequence[tuple[str, str]]) -> Iterator[str]:
    for name, column in returns.items():
        kinds = [kind for other, kind in found if other.lower() == name.lower()]
        if len(kinds) != 1:
            names = ", ".join(repr(other) for other, _ in found)
            yield f"expected one column {name!r}, found {len(kinds)}; its query gives {names}"
        elif why := _misfit(column, kinds[0]):
            yield f"column {name!r} is declared {column} and computed as {kinds[0]}{why}"


def _misfit(column: ColumnType, computed: str) -> str:
    """Why a computed type does not fit a declared one; "" where it does."""
    base, _, digits = computed.partition("(")
    if computed in ('"NULL"', "NULL"):
        return "" if column.null else ", but is not declared null=True"
    fitting = _FITTING.get(column.kind, (_SQL_TYPES.get(column.kind, ""),))
    if computed.endswith("]") or base not in fitting:
        hint = _HINTS.get((column.kind, computed))
        return f", {hint}" if hint else f"; expected {sql_type(column)}"
    scale = int(digits.rstrip(")").split(",")[1]) if base == "DECIMAL" else 0
    kept = column.scale if column.kind is ColumnKind.DECIMAL else 0
    if column.kind is not ColumnKind.RATIO and scale > (kept or 0):
        return f", which has more digits after the point than {column}; round it in the query"
    return ""


def _reads(tree: Node, plan: Node, tables: Mapping[str, pa.Schema]) -> dict[str, Sequence[str]]:
    """The columns that a query reads of each table, in their order; the first where it counts rows alone.

    All of them where the query names columns by their place in a table.
    """
    by_place = {name.lower() for name in _renamed(tree)}
    places: dict[str, set[int]] = {name.lower(): set() for name in tables}
    for table, indexes in _scans(plan):
        places[table.lower()] |= set(indexes)
    found = dict[str, Sequence[str]]()
    for name, schema in tables.items():
        read = [field for place, field in enumerate(schema.names) if place in places[name.lower()]]
        found[name] = schema.names if name.lower() in by_place else read or schema.names[:1]
    return found


def _renamed(tree: object) -> Iterator[str]:
    if isinstance(tree, dict):
        if tree.get("type") == "BASE_TABLE" and tree.get("column_name_alias"):
            yield tree["table_name"]
        tree = list(tree.values())
    for value in tree if isinstance(tree, list) else ():
        yield from _renamed(value)


def _scans(plan: object) -> Iterator[tuple[str, list[int]]]:
    if isinstance(plan, dict):
        data = plan.get("function_data")
        if plan.get("type") == "LOGICAL_GET" and isinstance(data, dict) and "table" in data:
            yield data["table"], [each["index"] for each in plan["column_indexes"]]
        plan = list(plan.values())
    for value in plan if isinstance(plan, list) else ():
        yield from _scans(value)


def sql_type_of(kind: pa.DataType) -> str:
    """The type in DuckDB of a column of a table of Arrow."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_timestamp(kind):
        return _SQL_TYPES[ColumnKind.TIMESTAMP]
    return {
        pa.int64(): "BIGINT",
        pa.string(): "VARCHAR",
        pa.date32(): "DATE",
        pa.bool_(): "BOOLEAN",
        pa.binary(): "BLOB",
        pa.float64(): "DOUBLE",
    }[kind]
