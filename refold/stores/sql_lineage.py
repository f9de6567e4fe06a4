"""The lineage of a query's results, found by sqlglot in its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage

Tables = Mapping[str, Sequence[str]]
"""The column names of every table a query may read."""


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
