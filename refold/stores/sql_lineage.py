"""What a query reads, told by sqlglot from its text: the columns it mentions, and the lineage of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage

Tables = Mapping[str, Sequence[str]]
"""The column names of every table a query may read."""


@cache
def mentioned_columns(sql: str) -> frozenset[str] | None:
    """The names of all columns a query mentions; None where it has a star, so that all are needed.

    >>> sorted(mentioned_columns("SELECT a, count(*) FROM t JOIN u USING (k) GROUP BY a"))
    ['a', 'k']
    """
    try:
        tree = parse_one(sql, dialect="duckdb")
    except SqlglotError:
        return None
    if any(not isinstance(star.parent, exp.Count) for star in tree.find_all(exp.Star)):
        return None
    joined = {name.name for join in tree.find_all(exp.Join) for name in join.args.get("using") or ()}
    return frozenset({column.name for column in tree.find_all(exp.Column)} | joined)


def column_lineage(sql: str, columns: Sequence[str], tables: Tables) -> dict[str, list[tuple[str, str]]]:
    """For each result column the sorted (table, column) pairs it is computed from; empty where it cannot be told.

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
