"""What a relation's query reads, told by sqlglot: the columns it mentions, and the lineage of its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage

from refold.stores.declaration import LedgerOf, Relation


def input_columns(relation: Relation) -> dict[str, list[str]]:
    """The column names of each input of a relation, by its name in SQL."""
    found = {}
    for source in relation.reads:
        if isinstance(source, LedgerOf):
            log = source.store.log
            dated = ["event_date"] if log.event_time else []
            position = ["log_partition", "log_offset", "log_seq"]
            found[source.name] = [*log.columns, *dated, *position, "outcome", "reason", "source_object", "source_line"]
        else:
            found[source.name] = list(source.columns)
    return found


@cache
def mentioned_columns(sql: str) -> frozenset[str] | None:
    """The names of all columns a query mentions; None where it has a star, so that all are needed."""
    try:
        tree = parse_one(sql, dialect="duckdb")
    except SqlglotError:
        return None
    if any(not isinstance(star.parent, exp.Count) for star in tree.find_all(exp.Star)):
        return None
    joined = {name.name for join in tree.find_all(exp.Join) for name in join.args.get("using") or ()}
    return frozenset({column.name for column in tree.find_all(exp.Column)} | joined)


def column_lineage(relation: Relation) -> Mapping[str, Sequence[tuple[str, str]]]:
    """For each column the sorted (input, column) pairs it is computed from; empty where sqlglot cannot tell."""
    schema = {name: dict.fromkeys(columns, "VARCHAR") for name, columns in input_columns(relation).items()}
    return {column: _leaves(relation, column, schema) for column in relation.columns}


def _leaves(relation: Relation, column: str, schema: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    try:
        root = lineage(column, relation.sql, schema=schema, dialect="duckdb")
    except SqlglotError:
        return []
    found = set()
    for node in root.walk():
        if isinstance(node.expression, exp.Table) and node.expression.name in schema:
            found.add((node.expression.name, node.name.split(".")[-1].strip('"')))
    return sorted(found)
