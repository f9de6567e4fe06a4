"""Column lineage of relations: which input columns each result column is computed from, read from the query by sqlglot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp
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
