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
from hypothesis import given, settings
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
        if event["delivery"] == Delivery.CONFLICT:
            continue
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


@settings(deadline=None, max_examples=120)
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


def delivered(*events: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """Events of one key, a snapshot each."""
    usual = {"k": "x", "version": 1, "at": START, "tag": "", "day": START.date(), "price": Decimal(1), "raw": b""}
    usual |= {"op": "w", "gone": None, "gone_at": None, "bio": None, "photo": None, "n": 0}
    usual |= {"delivery": Delivery.FIRST, "partition": 0, "cut": True}
    return snapshots([{**usual, **event} for event in events])


def row_of(store: LatestStore, *events: Mapping[str, Any]) -> dict[str, Any]:
    state, _ = folded(store, delivered(*events), kept=False)
    (row,) = state.table.to_pylist()
    return row


BY_VERSION = _store(["version"], delete=("op", Op.DELETE))


def test_an_older_delete_deletes_nothing_and_an_older_write_brings_nothing_back():
    write, delete = {"version": 2, "n": 7}, {"version": 3, "op": "d"}
    assert row_of(BY_VERSION, write, {**delete, "version": 1})["n"] == 7
    for late in ([delete, write], [write, delete], [delete, write, {"version": -5}]):
        row = row_of(BY_VERSION, *late)
        assert (row["deleted"], row["n"], row["version"]) == (True, None, 3)
    assert row_of(BY_VERSION, delete, write, {"version": 4, "n": 8})["n"] == 8
    _, outcomes = folded(BY_VERSION, delivered(delete, write), kept=True)
    assert outcomes == [(Outcome.APPLIED, 0), (Outcome.IGNORED, 1)]
    assert BY_VERSION.reasons == {1: "NOT_NEWER"}


def test_equal_orders_are_refused_with_both_events_or_decided_by_position():
    one, other = {"version": 5, "n": 1}, {"version": 5, "n": 2}
    for between in ([], [{"version": 4, "n": 9}]):
        cuts = delivered(one, *between, other)
        later = f"offset {len(between) + 1} .log_seq {len(between) + 1}"
        with pytest.raises(EventRefused, match=rf"'latest' cannot take the event at .*{later}, k 'x'.*log_seq 0.*5"):
            folded(_store(["version"]), cuts, kept=False)
        assert row_of(_store(["version"], Ties.FIRST), one, *between, other)["n"] == 1
        assert row_of(_store(["version"], Ties.LAST), one, *between, other)["n"] == 2
    assert row_of(_store(["version"]), {"version": 6, "n": 3}, {"version": 5}, {"version": 5})["n"] == 3


def test_a_placeholder_keeps_the_value_before_and_is_refused_where_there_is_none():
    store = _store([], delete=("op", Op.DELETE), unchanged={"bio": SAME})
    assert row_of(store, {"bio": "long"}, {"bio": SAME, "n": 2})["bio"] == "long"
    assert row_of(store, {"bio": None}, {"bio": SAME, "n": 2})["bio"] is None
    for before in ([], [{"bio": "long"}, {"op": "d", "bio": SAME}]):
        with pytest.raises(EventRefused, match=r"log_seq \d, k 'x'.*placeholder '\(as it was\)' in column 'bio'"):
            folded(store, delivered(*before, {"bio": SAME}), kept=False)


def test_a_value_that_arrives_after_its_placeholder_is_taken_by_its_own_order():
    """The update of version 3 left `bio` as version 2 made it, which is delivered last."""
    store = _store(["version"], delete=("op", Op.DELETE), unchanged={"bio": SAME})
    first, made, left = {"version": 1, "bio": "old"}, {"version": 2, "bio": "new", "n": 2}, {"version": 3, "bio": SAME}
    row = row_of(store, first, {**left, "n": 3}, made)
    assert (row["bio"], row["n"], row["version"], row["version_of_bio"]) == ("new", 3, 3, 2)


def test_bytes_of_a_placeholder_keep_the_value_before():
    store = _store([], unchanged={"photo": SAME})
    assert row_of(store, {"photo": b"\xff"}, {"photo": SAME.encode()})["photo"] == b"\xff"


def test_the_placeholder_of_the_decoder_counts_unless_another_is_declared():
    columns = {"id": int64(), "k": text(), "bio": text(null=True), "n": int64()}
    debezium = Log("d", key="k", event_id="id", columns=columns, decoder=Debezium({"id": ("source.lsn",)}))
    kept = {"bio": text(null=True), "n": int64()}
    versions = {}
    for unchanged in (None, {}, "-", {"bio": "__debezium_unavailable_value"}):
        store = latest_by_key(debezium, "s", version=1, columns=kept, unchanged=unchanged)
        versions[store.code_version] = dict(store.latest.unchanged)
    assert list(versions.values()) == [{"bio": "__debezium_unavailable_value"}, {}, {"bio": "-"}]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"order_by": "nothing"}, "order_by names 'nothing', which is not a declared column"),
        ({"order_by": "gone_at"}, r"order_by 'gone_at' is timestamp\?; expected .* not null"),
        ({"order_by": "op"}, "order_by 'op' is enum; expected int64, timestamp, date, decimal, text, binary"),
        ({"order_by": "k"}, "order_by 'k' is of the key"),
        ({"order_by": ["at", "at"]}, "order_by names 'at' more than once"),
        ({"ties": Ties.LAST}, "without order_by"),
        ({"delete_when": ("nothing", 1)}, "delete_when names 'nothing'"),
        ({"delete_when": ("version", True)}, "'version' = True; expected a value of 'version', int64"),
        ({"delete_when": ("version", None)}, "'version' = None; expected a value"),
        ({"delete_when": ("op", "d")}, "'op' = d; expected a value of 'op', enum: w, d, p"),
        ({"delete_when": ("op", [])}, "has no value of 'op'"),
        ({"delete_when": ("at", NOT_NULL)}, "'at' is never null"),
        ({"unchanged": {"n": "x"}}, "unchanged names 'n'; expected a text or binary column"),
        ({"unchanged": {"tag": "x"}}, "unchanged names 'tag'; expected a text or binary column that is kept"),
        ({"unchanged": "x", "columns": {"n": int64()}}, "no column that is kept is text or binary"),
    ],
)
def test_declarations_that_cannot_work_are_refused(changes: dict[str, Any], fault: str):
    with pytest.raises(DeclarationError, match=fault):
        latest_by_key(log, "latest", **{"version": 1, "columns": KEPT, **changes})


def test_documents_join_what_is_published_and_not_what_orders_it():
    other = latest_by_key(log, "other", version=1, columns={"tag": text()}, order_by="version")
    joined = documents("joined", left=BY_VERSION, right=other)
    assert list(joined.columns) == ["k", *KEPT, "tag"]
