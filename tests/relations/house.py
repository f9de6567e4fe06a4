"""A log and two stores to ask queries of, and their rows: with ties in every column, few or many."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import pyarrow as pa

from refold import (
    Log,
    boolean,
    decimal,
    int64,
    latest_by_key,
    ratio,
    relation,
    text,
    timestamp,
)
from refold.errors import RuleError
from refold.stores.declaration import LedgerOf, Store
from refold.stores.kinds.relation import Relation
from refold.stores.relating import RelationRunner
from refold.stores.row_orders import all_orders
from refold.types import ColumnType

moves = Log(
    "moves",
    key="k",
    event_id="id",
    event_time="ts",
    columns={
        "id": text(),
        "k": text(),
        "n": int64(null=True),
        "p": decimal(18, 4, null=True),
        "s": text(null=True),
        "b": boolean(null=True),
        "ts": timestamp(),
    },
)
newest = latest_by_key(moves, "newest", version=1, columns={"n": moves.columns["n"], "s": moves.columns["s"]})


@relation(reads=[newest], key=["k"], returns={"k": text(), "r": ratio()})
def shares():
    """A float for each key."""
    return "SELECT k, n / 3 AS r FROM newest"


SOURCES: list[Store | LedgerOf] = [newest.ledger, newest, shares]
Tables = Mapping[str, pa.Table]
runner = RelationRunner()

_START = dt.datetime(2023, 9, 20, 22, 30, tzinfo=dt.UTC)
_DAY = dt.timedelta(hours=5)


def tables(events: Sequence[tuple[str, int, str, str, int]]) -> Tables:
    """The inputs after events (key, n, price, text, hour); the newest event of a key is its state."""
    rows = [
        {"id": f"e{place}", "k": k, "n": n, "p": Decimal(p), "s": s, "b": n % 2 == 0, "ts": _START + hour * _DAY}
        | {"event_date": (_START + hour * _DAY).date(), "log_partition": 0, "log_offset": place, "log_seq": place}
        | {"source_object": "a.jsonl", "source_line": place, "outcome": "applied", "reason": None}
        for place, (k, n, p, s, hour) in enumerate(events)
    ]
    last = {row["k"]: row for row in rows}
    states = [{name: row.get(name) for name in newest.table.names} for _, row in sorted(last.items())]
    parts = [{"k": row["k"], "r": row["n"] / 3} for row in states]
    found = zip(SOURCES, (rows, states, parts), strict=True)
    return {source.name: pa.Table.from_pylist(given, source.table) for source, given in found}


TWO = tables([("a", 1, "1.5", "x", 1), ("a", 2, "2.5", "y", 1), ("b", 3, "0.1", "z", 2)])
"""Two events of one key at one time."""
_ONE, _OTHER = ("a", 1, "1.5", "x", 1), ("a", 2, "2.5", "y", 1)
SAME_ENDS = tables([_ONE, _OTHER, _OTHER, _ONE, ("b", 3, "3.5", "z", 2)])
"""Four of them, of which the first and the last are alike: the reverse begins with the same values."""
MANY = tables(
    [(f"k{n % 17:02}", n * 7919 % 101, f"{n % 13}.{n % 7}", f"s{n * 31 % 97}", n // 470) for n in range(6000)]
)
"""More than two of DuckDB's vectors, and 29 or so ties for each key and time."""


def asked(
    sql: str,
    returns: Mapping[str, ColumnType],
    key: Sequence[str] = ("k",),
    reads: Sequence[Store | LedgerOf] = SOURCES,
) -> Relation:
    """A relation with this query. Raises DeclarationError."""

    def question() -> str:
        return sql

    return relation(reads=reads, key=key, returns=returns)(question)


def is_caught(declared: Relation, rows: Tables) -> bool:
    """Whether some order of rows gives another result, or none."""
    first = _result(declared, rows)
    orders = all_orders(declared.columns_read_of, sum(map(len, rows.values())))
    return any(_result(declared, rows, order) != first for order in orders)


def _result(declared: Relation, rows: Tables, *order: object) -> object:
    compute: Callable[..., pa.Table] = declared.compute
    try:
        return compute(runner, rows, *order)
    except RuleError as error:
        return str(error)
