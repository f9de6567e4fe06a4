"""Stores of latest values by a declared order are what a query over the whole log says, however it was delivered."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refold import (
    NOT_NULL,
    Debezium,
    Log,
    Ties,
    binary,
    boolean,
    date,
    decimal,
    documents,
    enum,
    int64,
    latest_by_key,
    text,
    timestamp,
)
from refold.dedup.deliveries import Delivery
from refold.errors import DeclarationError, EventRefused
from refold.log.declaration import POSITION
from refold.rules.outcome import Outcome
from refold.stores.folding import columns_to_read, fold_events
from refold.stores.kinds.latest import LatestStore
from refold.stores.state import State, published_rows
from refold.types import arrow_schema


class Op(Enum):
    WRITE = "w"
    DELETE = "d"
    PURGE = "p"


SAME = "(as it was)"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

log = Log(
    "changes",
    key="k",
    event_id="id",
    columns={
        "id": int64(),
        "k": text(),
        "version": int64(),
        "at": timestamp(),
        "tag": text(),
        "day": date(),
        "price": decimal(9, 2),
        "raw": binary(),
        "op": enum(Op),
        "gone": boolean(null=True),
        "gone_at": timestamp(null=True),
        "bio": text(null=True),
        "photo": binary(null=True),
        "n": int64(),
    },
)
KEPT = {name: log.columns[name] for name in ("bio", "photo", "n")}
ORDERS = (["version"], ["at"], ["tag"], ["day"], ["price"], ["raw"], ["version", "tag"], ["day", "at", "version"])
DELETES = (
    (None, "false"),
    (("op", Op.DELETE), "op = 'd'"),
    (("op", [Op.DELETE, Op.PURGE]), "op IN ('d', 'p')"),
    (("gone", True), "gone"),
    (("gone", [None, True]), "gone OR gone IS NULL"),
    (("gone_at", NOT_NULL), "gone_at IS NOT NULL"),
    (("version", [1, 3]), "version IN (1, 3)"),
    (("price", Decimal("1.5")), "price = 1.5"),
    (("at", START), f"\"at\" = TIMESTAMPTZ '{START.isoformat()}'"),
)

texts = st.sampled_from(["", "a", "B", "Z", "z", "é", "\uffff", "𝄞", "aa"])
events_of_log = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from("xyz"),
            "version": st.integers(-1, 3) | st.sampled_from([-(2**63), 2**63 - 1]),
            "at": st.integers(0, 2).map(lambda n: START + dt.timedelta(microseconds=n)),
            "tag": texts,
            "day": st.integers(0, 1).map(lambda n: dt.date(2026, 1, 1 + n)),
            "price": st.sampled_from([Decimal("1.50"), Decimal("-2.00"), Decimal("10.00")]),
            "raw": texts.map(str.encode),
            "op": st.sampled_from(["w", "w", "w", "d", "p"]),
            "gone": st.sampled_from([False, False, True, None]),
            "gone_at": st.sampled_from([None, None, START]),
            "bio": st.sampled_from(["one", "two", SAME, SAME, None]),
            "photo": st.sampled_from([b"\x00", SAME.encode(), b"\xff", None]),
            "n": st.integers(0, 9),
            "delivery": st.sampled_from([Delivery.FIRST] * 6 + [Delivery.DUPLICATE, Delivery.CONFLICT]),
            "partition": st.integers(0, 1),
            "cut": st.booleans(),
        }
    ),
    min_size=1,
    max_size=14,
)
"""Events in the order of delivery; `cut` begins another snapshot."""

stores = st.builds(
    lambda order, ties, delete, unchanged: (_store(order, ties, delete[0], unchanged), delete[1]),
    st.sampled_from(ORDERS) | st.just([]),
    st.sampled_from(Ties),
    st.sampled_from(DELETES),
    st.sampled_from([{}, {"bio": SAME}, {"bio": SAME, "photo": SAME}]),
)


def _store(
    order: Sequence[str], ties: Ties = Ties.REFUSE, delete: Any = None, unchanged: Mapping[str, str] | None = None
) -> LatestStore:
    ties = ties if order else Ties.REFUSE
    return latest_by_key(
        log,
        "latest",
        version=1,
        columns=KEPT,
        order_by=order,
        ties=ties,
        delete_when=delete,
        unchanged=unchanged if unchanged is not None else {},
    )


def snapshots(events: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """The events of each snapshot as folds take them: by log partition and offset."""
    cuts: list[list[dict[str, Any]]] = [[]]
    ends = [0, 0]
    for seq, event in enumerate(events):
        if event["cut"] and cuts[-1]:
            cuts.append([])
        place = event["partition"]
        cuts[-1].append({**event, "id": seq, "log_partition": place, "log_offset": ends[place], "log_seq": seq})
        ends[place] += 1
    return [sorted(cut, key=lambda event: (event["log_partition"], event["log_offset"])) for cut in cuts]


def table_of(store: LatestStore, events: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = arrow_schema({**log.columns, **POSITION})
    table = pa.table({f.name: pa.array([e[f.name] for e in events], f.type) for f in schema})
    table = table.select([*columns_to_read(store), "log_partition"])
    for place, name in enumerate(table.column_names):
        if table[name].type in (pa.string(), pa.binary()) and place % 2:
            table = table.set_column(place, name, table[name].dictionary_encode())
    return table


def folded(store: LatestStore, cuts: Sequence[Sequence[Mapping[str, Any]]], kept: bool) -> tuple[State, list[Any]]:
    """The state and the outcomes; without `kept` each snapshot goes on from the rows alone, as from a checkpoint."""
    state, outcomes = State(store), []
    for cut in cuts:
        deliveries = np.array([event["delivery"] for event in cut], dtype=np.uint8)
        part = fold_events(state, table_of(store, cut), deliveries)
        outcomes += zip(part.outcomes.tolist(), part.reasons.tolist(), strict=True)
        state = state if kept else State(store, state.table)
    return state, outcomes


def plainly(store: LatestStore, cuts: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[dict[str, Any], list[Any]]:
    plain, outcomes, rows = store.plain_fold(), [], {}
    for event in (event for cut in cuts for event in cut):
        again = event["delivery"] != Delivery.FIRST
        outcome = (int(event["delivery"]), 0) if again else plain.apply(event["k"], event)
        outcomes.append((int(outcome[0]), outcome[1]))
        position = {name: event[name] for name in POSITION}
        rows[event["k"]] = {"k": event["k"], **plain.values(event["k"]), **position}
    return rows, outcomes


def queried(store: LatestStore, deletes: str, cuts: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[Any, ...]]:
    """The rows by a window query over all first deliveries, which knows nothing of deliveries one after the other."""
    fields = [*arrow_schema(log.columns), pa.field("turn", pa.int64())]
    firsts = [event for cut in cuts for event in cut if event["delivery"] == Delivery.FIRST]
    firsts = [{**event, "turn": turn} for turn, event in enumerate(firsts)]
    events = pa.table({f.name: pa.array([e[f.name] for e in firsts], f.type) for f in fields})
    first = store.latest.ties is Ties.FIRST
    order = ", ".join([*(f'"{n}"' for n in store.latest.order_by), "turn DESC" if first else "turn"])

    def value(name: str) -> str:
        same = f"'{SAME}'" if name == "bio" else f"'{SAME}'::BLOB"
        gives = f"({deletes}) OR {name} IS DISTINCT FROM {same}" if name in store.latest.unchanged else "true"
        return f"arg_max({{'v': {name}}}, place) FILTER ({gives})['v'] AS {name}"

    sql = f"""
        WITH placed AS (SELECT *, row_number() OVER (PARTITION BY k ORDER BY {order}) AS place FROM log_events),
        per_key AS (SELECT k, arg_max(coalesce({deletes}, false), place) AS deleted,
                    {", ".join(map(value, KEPT))} FROM placed GROUP BY k)
        SELECT k, {", ".join(KEPT)} FROM per_key WHERE NOT deleted ORDER BY k
    """
    with duckdb.connect() as connection:
        connection.register("log_events", events)
        return connection.execute(sql).fetchall()


def named(error: EventRefused) -> list[str]:
    """The events that a message names, the refused one first."""
    return re.findall(r"log_seq \d+", str(error))


@settings(deadline=None, max_examples=250)
@given(events_of_log, stores)
def test_any_delivery_gives_what_a_query_and_the_reference_say(events: list[dict[str, Any]], declared: Any):
    store, deletes = declared
    cuts = snapshots(events)
    try:
        rows, outcomes = plainly(store, cuts)
    except EventRefused as refused:
        for kept in (True, False):
            with pytest.raises(EventRefused) as found:
                folded(store, cuts, kept)
            assert named(found.value) == named(refused)
        return
    for kept in (True, False):
        state, found = folded(store, cuts, kept)
        assert {row["k"]: row for row in state.table.to_pylist()} == rows
        assert found == outcomes
    published = published_rows(store, state.table).to_pylist()
    assert [tuple(row[name] for name in ("k", *KEPT)) for row in published] == queried(store, deletes, cuts)
