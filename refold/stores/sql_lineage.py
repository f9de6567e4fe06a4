"""What a query reads, found by sqlglot in its text: the columns it mentions, and the lineage of its results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage

Tables = Mapping[str, Sequence[str]]
"""The column names of every table a query may read."""


_READS_BY_SHAPE = re.compile(r"\b(natural|positional|columns|pivot|unpivot|describe|summarize)\b", re.IGNORECASE)
_IMPURE = {
    "currentdate", "currentdatetime", "currenttime", "currenttimestamp", "currentuser", "localtime", "localtimestamp",
    "rand", "random", "uuid",
    "current_date", "current_setting", "current_time", "current_timestamp", "current_user", "gen_random_uuid",
    "get_current_time", "get_current_timestamp", "getenv", "getvariable", "nextval", "currval", "now", "setseed",
    "today", "transaction_timestamp", "txid_current", "uuidv4", "uuidv7", "version",
}  # fmt: skip


@cache
def mentioned_columns(sql: str) -> frozenset[str] | None:
    """The lower-case names of all columns a query may read; None where that is unknown, so that all are needed.

    A star, a join by common names, or a table used as a value reads columns without naming them.

    >>> sorted(mentioned_columns("SELECT a, count(*) FROM t JOIN u USING (k) GROUP BY a"))
    ['a', 'k']
    """
    try:
        tree = parse_one(sql, dialect="duckdb")
    except SqlglotError:
        return None
    if _READS_BY_SHAPE.search(sql) or any(not isinstance(s.parent, exp.Count) for s in tree.find_all(exp.Star)):
        return None
    columns = {column.name.lower() for column in tree.find_all(exp.Column)}
    tables = {table.alias_or_name.lower() for table in tree.find_all(exp.Table, exp.Subquery, exp.CTE)}
    joined = {name.name.lower() for join in tree.find_all(exp.Join) for name in join.args.get("using") or ()}
    return None if columns & tables else frozenset(columns | joined)


@cache
def impurities(sql: str) -> tuple[str, ...]:
    """What in a query depends on more than its inputs: clock, chance, settings, samples; sqlglot's names, sorted.

    >>> impurities("SELECT now() AS t, random() AS r FROM x")
    ('now', 'rand')
    """
    try:
        tree = parse_one(sql, dialect="duckdb")
    except SqlglotError:
        return ()
    called = {_function_name(call) for call in tree.find_all(exp.Func, exp.Anonymous)}
    named = {column.name.lower() for column in tree.find_all(exp.Column) if not column.table}
    found = (called & _IMPURE) | (named & {"current_date", "current_timestamp", "current_time", "current_user"})
    if any(True for _ in tree.find_all(exp.TableSample)):
        found = found | {"tablesample"}
    return tuple(sorted(found))


def _function_name(call: exp.Func | exp.Anonymous) -> str:
    return call.name.lower() if isinstance(call, exp.Anonymous) else type(call).__name__.lower()


def column_lineage(sql: str, columns: Sequence[str], tables: Tables) -> dict[str, list[tuple[str, str]]]:
    """For each result column the sorted (table, column) pairs it is computed from; empty where that is unknown.

    >>> column_lineage("SELECT max(n) AS top FROM t", ["top"], {"t": ["k", "n"]})
    {'top': [('t', 'n')]}
    """
    schema = {name: dict.fromkeys(names, "VARCHAR") for name, names in tables.items()}
    return {column: _leaves(sql, column, schema) for column in columns}


def _leaves(sql: str, column: str, schema: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    try:
        root = lineage(column, sql, schema=schema, dialect="duckdb")
    except SqlglotError:
        return []
    found = set()
    for node in root.walk():
        if isinstance(node.expression, exp.Table) and node.expression.name in schema:
            found.add((node.expression.name, node.name.split(".")[-1].strip('"')))
    return sorted(found)
