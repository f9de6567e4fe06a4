"""Values and types that must not depend on whether a query is rewritten."""

from __future__ import annotations

import math

import duckdb
import pytest

from refold import ratio, relation, text
from refold.stores.relating import RelationRunner
from refold.stores.sql_tree import parsed, text_of
from refold.types import arrow_schema
from tests.relations.house import newest


@relation(reads=[newest], key=["k"], returns={"k": text(), "r": ratio()})
def nothing_below():
    """A zero below zero."""
    return "SELECT 'a' AS k, CAST('-0.0' AS DOUBLE) AS r FROM (SELECT count(*) FROM newest)"


def test_a_zero_has_one_sign_since_its_bytes_are_stored_and_its_digest_has_none() -> None:
    """Else what changes add up to could be stored with other bytes than the whole result."""
    empty = arrow_schema(newest.columns).empty_table()
    (row,) = nothing_below.compute(RelationRunner(), {"newest": empty}).to_pylist()
    assert math.copysign(1, row["r"]) == 1


@pytest.mark.parametrize(("written", "kind"), [(".5", "DECIMAL(1,1)"), ("-.50", "DECIMAL(2,2)"), (".5e1", "DOUBLE")])
def test_a_literal_keeps_its_type_where_the_query_is_rewritten(written: str, kind: str) -> None:
    """As DuckDB has it for the query as written."""
    query = f"SELECT {written} AS a FROM one"
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE one AS SELECT 1 AS b")
        for sql in (query, text_of(parsed(query, {"one": ["b"]}))):
            assert connection.sql(f"SELECT typeof(a) FROM ({sql})").fetchall() == [(kind,)]
