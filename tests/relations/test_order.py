"""Queries that depend on the order of rows are refused or caught; queries that do not are neither."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache

import pytest

from refold import int64, text
from refold.errors import DeclarationError
from refold.stores.kinds.relation import Relation
from refold.types import ColumnType
from tests.relations.free_queries import independent
from tests.relations.house import MANY, SAME_ENDS, TWO, asked, is_caught, tables
from tests.relations.queries import L, dependent

ROWS = {"two": TWO, "same ends": SAME_ENDS, "many": MANY}
DEPENDENT, INDEPENDENT = list(dependent()), list(independent())
DIFFERS = "another order of rows gives another result"


@cache
def _declared(sql: str, kind: ColumnType) -> Relation | str:
    try:
        return asked(sql, {"k": text(null=True), "v": kind})
    except DeclarationError as error:
        return str(error)


def _outcome(sql: str, kind: ColumnType, rows: str) -> str:
    """Why a query is refused, or that it is caught; "" where it is neither."""
    declared = _declared(sql, kind)
    if isinstance(declared, str):
        return declared
    return DIFFERS if is_caught(declared, ROWS[rows]) else ""


def test_there_are_two_hundred_of_each():
    assert len({sql for sql, *_ in DEPENDENT}) >= 200
    assert len({sql for sql, _ in INDEPENDENT}) >= 200


@pytest.mark.parametrize("rows", ROWS)
def test_a_query_that_depends_on_the_order_of_rows_is_refused_or_caught(rows: str):
    missed = [sql for sql, kind, where in DEPENDENT if rows in where and not _outcome(sql, kind, rows)]
    assert missed == []


def test_what_is_refused_is_refused_for_the_order_of_rows():
    """And not for a mistake in the query: each message is about order, floats, samples, places or review."""
    reasons = ("order", "floats", "sample", "place", "was not reviewed")
    found = {sql: _outcome(sql, kind, "two") for sql, kind, _ in DEPENDENT}
    assert {sql: why for sql, why in found.items() if why and not any(reason in why for reason in reasons)} == {}


@pytest.mark.parametrize("rows", ["same ends", "many"])
def test_a_query_that_depends_on_rows_alone_is_neither_refused_nor_caught(rows: str):
    assert {sql: why for sql, kind in INDEPENDENT if (why := _outcome(sql, kind, rows))} == {}


def test_what_is_caught_and_not_refused_is_known_to_choose_among_ties():
    """So its older snapshots are proven over two orders, and the remedy names what chooses."""
    declared = [found for sql, kind, _ in DEPENDENT if isinstance(found := _declared(sql, kind), Relation)]
    assert len(declared) > 100
    assert [relation.sql for relation in declared if not relation.takes_of_ties] == []


_LATEST = [
    f"SELECT k, arg_max(n, ts) AS v FROM {L} GROUP BY k",
    f"SELECT k, n AS v FROM {L} QUALIFY row_number() OVER (PARTITION BY k ORDER BY ts DESC) = 1",
]


@pytest.mark.parametrize("sql", _LATEST)
def test_a_choice_is_caught_where_rows_tie_with_other_values_and_only_there(sql: str):
    """Seeded inputs of a few rows; which of them are ambiguous is found from the events in plain Python."""
    chance, found = random.Random(14), Counter[bool]()
    for _ in range(60):
        events = [(chance.choice("ab"), chance.randint(1, 2), "1", "x", chance.randint(0, 5)) for _ in range(6)]
        last = {k: max(hour for key, *_, hour in events if key == k) for k, *_ in events}
        values = {k: {n for key, n, *_, hour in events if (key, hour) == (k, last[k])} for k in last}
        ambiguous = any(len(each) > 1 for each in values.values())
        found[ambiguous] += 1
        declared = _declared(sql, int64(null=True))
        assert isinstance(declared, Relation)
        assert is_caught(declared, tables(events)) == ambiguous, events
    assert min(found.values()) > 5
