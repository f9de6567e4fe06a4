"""Stores of versions keep the writes that no other has seen, in whatever order they arrive, and resolve them alike."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import (
    Log,
    TieBreak,
    binary,
    boolean,
    conflicts,
    date,
    decimal,
    enum,
    int64,
    latest_by_key,
    latest_by_version,
    text,
    timestamp,
    version_vector,
)
from refold.errors import DeclarationError
from refold.testing import assert_replay_equal
from refold.testing.merging import assert_merge, assert_order_does_not_matter
from tests.support import line


class Op(Enum):
    WRITE = "w"
    DELETE = "d"


log = Log(
    "writes",
    key="k",
    event_id="id",
    columns={
        "id": int64(),
        "k": text(),
        "op": enum(Op),
        "v": version_vector(),
        "n": int64(),
        "t": text(null=True),
        "money": decimal(20, 4, null=True),
        "at": timestamp(null=True),
        "day": date(null=True),
        "raw": binary(null=True),
        "flag": boolean(null=True),
    },
)
KEPT = ["n", "t", "money", "at", "day", "raw", "flag"]
GONE = ("op", Op.DELETE)


class High(NamedTuple):
    n: int = 0


def highest(one: High, other):
    """The higher of two."""
    if other.n > one.n:
        return one._replace(n=other.n)
    return one


def added(one: High, other):
    """Not idempotent."""
    return one._replace(n=(one.n + other.n) % 1000)


def first(one: High, other):
    """Takes the first, and reads the other in vain."""
    if other.n == one.n:
        return one._replace(n=other.n)
    return one._replace(n=one.n)


class Longest(NamedTuple):
    t: str | None = None


def longest(one: Longest, other):
    """The longer text, of equals the greater, and any text rather than none; interpreted."""
    if other.t is None:
        return one
    if one.t is None or (len(other.t), other.t) > (len(one.t), one.t):
        return one._replace(t=other.t)
    return one


tied = latest_by_version(
    log, "tied", version=1, by="v", columns=KEPT, resolve=TieBreak("money", "at", "t"), delete_when=GONE
)
merged = latest_by_version(log, "merged", version=1, by="v", columns=["n"], resolve=highest, delete_when=GONE)
spoken = latest_by_version(log, "spoken", version=1, by="v", columns=["t"], resolve=longest, seen={"b": 2})
STORES = [tied, merged, spoken]


def write(number: int, vector: Mapping[str, int], n: int = 0, key: str = "k", **more: Any) -> dict[str, Any]:
    return {"id": number, "k": key, "op": "w", "v": vector, "n": n} | more


def unseen(writes: Sequence[Mapping[str, Any]]) -> set[int]:
    """The ids of the writes that no other has seen, by the definition."""
    return {
        one["id"]
        for one in writes
        if not any(
            other["v"] != one["v"] and all(other["v"].get(p, 0) >= c for p, c in one["v"].items()) for other in writes
        )
    }


WRITES = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from(["k", "l"]),
            "op": st.sampled_from(["w", "w", "w", "d"]),
            "v": st.dictionaries(st.sampled_from(["a", "b", "é"]), st.integers(1, 3), min_size=1, max_size=3),
            "n": st.integers(0, 3),
            "t": st.sampled_from([None, "", "x\u0000", "né", '"']),
            "money": st.sampled_from([None, "0.0001", "-12.5", "12.5"]),
            "at": st.sampled_from([None, "2026-01-01T00:00:00Z", "0001-01-01T00:00:00.000001Z"]),
            "day": st.sampled_from([None, "0001-01-01", "2026-02-03"]),
            "raw": st.sampled_from([None, "AA==", ""]),
            "flag": st.sampled_from([None, True, False]),
        }
    ),
    min_size=1,
    max_size=9,
).map(lambda writes: [{"id": number, **each} for number, each in enumerate(writes)])


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
def test_the_order_of_deliveries_does_not_matter(store):
    @settings(max_examples=25, deadline=None)
    @given(WRITES)
    def holds(writes):
        assert_order_does_not_matter(store, writes, orders=6)

    holds()


def test_every_order_of_a_few_writes_gives_one_digest():
    writes = [
        write(1, {"a": 1}, 1),
        write(2, {"b": 1}, 2),
        write(3, {"a": 1, "c": 1}, 3),
        write(4, {"a": 2, "b": 1}, 4),
    ]
    assert len({assert_order_does_not_matter(merged, order, orders=1) for order in permutations(writes)}) == 1


@settings(max_examples=60, deadline=None)
@given(WRITES)
def test_the_sides_are_the_writes_that_no_other_has_seen(writes):
    rows = {row["k"]: row for row in folded(tied, writes)[0]}
    for key, row in rows.items():
        mine = [each for each in writes if each["k"] == key]
        sides = [each for each in mine if each["id"] in unseen(mine)]
        kept = json.loads(row["sides"]) if row["sides"] else [{"version": row["v"], "deleted": row["deleted"]}]
        expected = {(json.dumps(each["v"], sort_keys=True), each["op"] == "d") for each in sides}
        assert {(json.dumps(json.loads(e["version"]), sort_keys=True), e["deleted"]) for e in kept} == expected
        assert row["deleted"] == all(each["op"] == "d" for each in sides)


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
def test_rows_and_outcomes_are_those_of_the_reference(store):
    @settings(max_examples=40, deadline=None)
    @given(WRITES, st.integers(0, 9))
    def holds(writes, cut):
        plain, outcomes = store.plain_fold(), []
        for event in decoded(writes).to_pylist():
            outcomes.append(tuple(map(int, plain.apply(event["k"], event | {"log_partition": 0, "log_offset": 0}))))
        rows, found = folded(store, writes, cut)
        assert found == outcomes
        assert rows == [
            {"k": row["k"], **{name: plain.values(row["k"])[name] for name in row if name != "k"}} for row in rows
        ]

    holds()


def decoded(writes: Sequence[Mapping[str, Any]]) -> pa.Table:
    found = log.decoder.decode("a.jsonl", b"".join(map(line, writes)), log.columns)
    assert not found.bad
    return found.rows


def folded(store, writes, cut: int = 0) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """The rows by key after writes, in two parts, and outcome and reason of each write."""
    events, keys = decoded(writes), sorted({each["k"] for each in writes})
    codes = np.array([keys.index(each["k"]) for each in writes])
    rows, outcomes = pa.concat_tables([store.row_before.select(store.folded_columns)] * len(keys)), []
    for part in (slice(0, cut), slice(cut, len(writes))):
        result = store.fold(rows, codes[part], events[part], np.ones(len(codes[part]), dtype=np.bool_))
        rows = result.rows
        outcomes += zip(result.outcomes.tolist(), result.reasons.tolist(), strict=True)
    return [{"k": key, **row} for key, row in zip(keys, rows.to_pylist(), strict=True)], outcomes


def test_conflicts_have_both_sides_and_the_decision():
    left = {"t": "left", "money": "1.5", "at": "2026-01-01T00:00:00Z", "day": "2026-01-01", "raw": "AA==", "flag": True}
    writes = [
        write(1, {"a": 1}, 1, **left),
        write(2, {"b": 1}, 2**62, t="right\u0000", money="2.5"),
        write(3, {"a": 1, "b": 1, "c": 1}, 3, key="l"),
    ]
    table = conflicts(tied)
    one, other = assert_replay_equal(table, {"2026-01-01": writes})
    assert (one["v"], one["money"], one["raw"], one["day"], one["taken"]) == (
        '{"a":1}', Decimal("1.5000"), b"\x00", dt.date(2026, 1, 1), False,
    )  # fmt: skip
    assert one["at"] == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert (other["v"], other["n"], other["t"], other["taken"]) == ('{"b":1}', 2**62, "right\x00", True)
    assert {(row["decided_n"], row["resolved_by"]) for row in (one, other)} == {(2**62, "the greatest money, at, t")}
    later = [write(4, {"a": 2, "b": 1}, 9)]
    assert assert_replay_equal(table, {"2026-01-01": writes, "2026-01-02": later}) == []


def test_a_merge_is_checked_by_its_laws():
    tie = latest_by_version(log, "tie", version=1, by="v", columns=["n", "t"], resolve=TieBreak("t"))
    for store in (tie, merged, spoken):
        assert_merge(store, examples=40)
    sums = latest_by_version(log, "sums", version=1, by="v", columns=["n"], resolve=added)
    with pytest.raises(AssertionError, match="Store 'sums': the merge function added is not idempotent"):
        assert_merge(sums, examples=40)
    firsts = latest_by_version(log, "firsts", version=1, by="v", columns=["n"], resolve=first)
    with pytest.raises(AssertionError, match="the merge function first is not commutative"):
        assert_merge(firsts, examples=40)


def test_a_policy_that_is_not_a_function_of_the_set_is_found():
    """The store of the last write, which is what order decides, parts."""
    last = latest_by_key(log, "last", version=1, columns={"n": log.columns["n"]})
    with pytest.raises(AssertionError, match="Store 'last' keeps"):
        assert_order_does_not_matter(last, [write(1, {"a": 1}, 1), write(2, {"b": 1}, 2)])


def test_a_merge_compiles_as_a_rule_does():
    assert merged.versions.resolver.rule.compile()
    assert spoken.account().because


def test_retired_producers_leave_vectors_and_lose_no_write():
    """What is above `seen` is a write that not all have seen, and stays."""
    store = latest_by_version(log, "s", version=1, by="v", columns=["n"], resolve=TieBreak("n"), seen={"old": 3})
    (row,), _ = folded(store, [write(1, {"old": 2, "a": 1}), write(2, {"old": 3, "a": 2})])
    assert (row["v"], row["sides"]) == ('{"a":2}', None)
    (row,), _ = folded(store, [write(1, {"old": 4}), write(2, {"a": 2})])
    assert (row["v"], len(json.loads(row["sides"]))) == ('{"a":2,"old":4}', 2)


def test_vectors_are_read_from_objects_and_texts_and_refused_with_a_reason():
    vectors = [
        {"b": 1, "a": 2, "c": 0},
        '{"b": 1, "a": 2}',
        {"a": -1},
        {"a": 1.5},
        {},
        "a:1",
        {"a": "1"},
        7,
        None,
        {"a": 2**63},
    ]
    columns = {"v": version_vector(producers_max=2)}
    raw = b"".join(line({"v": each}) for each in [*vectors, {"a": 1, "b": 1, "c": 1}]) + b'{"v":{"a":1,"a":1}}\n'
    found = log.decoder.decode("a.jsonl", raw, columns)
    assert found.rows["v"].to_pylist() == ['{"a":2,"b":1}'] * 2
    assert [(each.number, each.reason) for each in found.bad] == [
        *((number, "not-a-version") for number in (3, 4, 5, 6, 7)), (8, "wrong-type"), (9, "missing"),
        (10, "not-a-version"), (11, "out-of-range"), (12, "not-a-version"),
    ]  # fmt: skip
    assert found.bad[8].detail == (
        "Column v: expected a JSON object of counters from 1 by producer, of at most 2 producers, found 3 producers."
    )


def test_every_fault_of_a_declaration_is_named():
    with pytest.raises(DeclarationError) as error:
        latest_by_version(log, "s", version=1, by="n", columns=["n", "x"], resolve=longest, seen={"a": 0})
    mine = [fault.split(";")[0] for fault in error.value.faults]
    assert mine[:4] == [
        "column 'x' is not declared in log 'writes'",
        "by names 'n', which is int64",
        "column 'n' is kept in any case, or its name is taken",
        "seen of 'a' is 0",
    ]
    assert mine[4].endswith("(longest): the event has no column t")
