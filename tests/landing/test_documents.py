"""Documents of MongoDB as Debezium writes them, JSON texts in the envelope: read as if they were objects there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refold import DEBEZIUM_MONGODB, ChangeOp, Log, int64, latest_by_key, text, timestamp
from refold.landing.debezium import Debezium
from refold.landing.decoder import Decoded, joined
from refold.rebuild import rebuild_all
from tests import shop
from tests.support import Shop

COLUMNS = {"id": text(null=True), "n": int64(null=True), "after": text(null=True), "op": text()}
PATHS = {"id": ("row._id.$oid", "row._id"), "after": ("row.after",)}

names = st.sampled_from(["_id", "n", "after", "before", "op", 'a"b', "\\", "é", "\ud83d\ude00"]) | st.text(max_size=3)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=4)
    | st.sampled_from(["after", "{}", "}{"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
documents = st.dictionaries(names, values, max_size=4)


def decoded(lines: list[bytes], *, opened: bool, enveloped: bool, fast: bool = True) -> Decoded:
    decoder = Debezium(PATHS, documents=opened, enveloped=enveloped)
    return joined(COLUMNS, decoder.pieces("a.jsonl", [b"\n".join(lines)], COLUMNS, fast=fast))


@given(
    st.lists(st.tuples(st.sampled_from("crud"), documents, documents, st.booleans(), st.booleans()), max_size=4),
    st.booleans(),
)
@example([("c", {"after": '{"before": "}{"}', "_id": {"$oid": "65"}}, {}, False, True)], True)
@settings(max_examples=200, deadline=None)
def test_a_document_in_a_text_is_read_like_the_object_it_is(
    changes: list[tuple[str, dict[str, Any], dict[str, Any], bool, bool]], enveloped: bool
) -> None:
    """Whatever it holds; the quarantine has the bytes that were landed."""
    texts, objects = [], []
    for op, after, before, has_before, ascii_only in changes:
        sides = {"before": before if has_before or op == "d" else None, "after": None if op == "d" else after}
        written = {side: None if value is None else json.dumps(value) for side, value in sides.items()}
        for lines, found in ((texts, written), (objects, sides)):
            record: dict[str, Any] = {"op": op, "source": {"after": "x", "ord": 1}, **found}
            record = {"schema": {"fields": ["after", "before"]}, "payload": record} if enveloped else record
            lines.append(json.dumps(record, ensure_ascii=ascii_only).encode(errors="replace"))
    expected = decoded(objects, opened=False, enveloped=enveloped)
    for fast in (True, False):
        found = decoded(texts, opened=True, enveloped=enveloped, fast=fast)
        assert found.rows.equals(expected.rows)
        assert found.lines.tolist() == expected.lines.tolist()
        assert [(b.number, b.reason, b.detail) for b in found.bad] == [
            (b.number, b.reason, b.detail) for b in expected.bad
        ]
        assert [b.raw for b in found.bad] == [texts[b.number - 1] for b in found.bad]


@pytest.mark.parametrize(
    "after",
    [
        '"{\\"n\\": 1}, \\"op\\": \\"d\\""',
        '"{\\"n\\": 1"',
        '"[1]"',
        '"7"',
        '""',
        '"{\\"n\\": 1} {}"',
        "7",
    ],
)
def test_what_is_not_one_whole_document_is_quarantined_as_it_was_landed(after: str) -> None:
    line = f'{{"op": "c", "after": {after}}}'.encode()
    found = decoded([line], opened=True, enveloped=False)
    assert found.rows.num_rows == 0
    assert [(bad.reason, bad.raw) for bad in found.bad] == [("wrong-type", line)]


ORDERS = Log.of_changes(
    "orders",
    DEBEZIUM_MONGODB,
    key="id",
    columns={"id": text(), "status": text(null=True), "placed": timestamp(null=True, epoch="ms")},
    paths={"id": "row._id.$oid", "placed": "row.placed.$date"},
    partitions=2,
)


def change(op: str, seconds: int, order: int, after: Any = None, before: Any = None) -> dict[str, Any]:
    """A change as Debezium's documentation of the connector shows it."""
    source = {"version": "3.0.8.Final", "connector": "mongodb", "name": "fulfillment", "ts_ms": seconds * 1000}
    source |= {"snapshot": "false", "db": "inventory", "rs": "rs0", "collection": "orders", "ord": order}
    sides = {"before": before, "after": after, "updateDescription": None}
    written = {side: None if value is None else json.dumps(value) for side, value in sides.items()}
    return {**written, "source": source, "op": op, "ts_ms": seconds * 1000 + 7, "transaction": None}


def document(number: int, status: str) -> dict[str, Any]:
    return {"_id": {"$oid": f"65{number:022}"}, "status": status, "placed": {"$date": 1_769_940_000_000 + number}}


def test_orders_of_mongodb_are_folded_with_snapshots_transactions_and_repeats(tmp_path: Any) -> None:
    """Two documents of a snapshot, and two of a transaction, share a position; one change is delivered twice."""
    columns = {"status": text(null=True), "placed": timestamp(null=True)}
    latest = latest_by_key(ORDERS, "latest", version=1, columns=columns, delete_when=("op", ChangeOp.DELETE))
    here = Shop(tmp_path, shop.little({"on_hand": []}, more=lambda *_: [latest]))
    shop.land(here.landing, "moves", shop.DAYS[0], [shop.move("0", "nail", 1)])
    changes = [
        change("r", 100, 1, document(1, "new")),
        change("r", 100, 1, document(2, "new")),
        change("c", 200, 1, document(3, "new")),
        change("u", 200, 1, document(1, "paid"), document(1, "new")),
        change("u", 200, 1, document(1, "paid"), document(1, "new")),
        change("u", 200, 2, document(1, "sent"), document(1, "paid")),
        change("d", 300, 1, None, document(2, "new")),
    ]
    shop.land(here.landing, "orders", shop.DAYS[0], changes)
    rebuild_all(here.engine(), shop.DAYS[0])
    engine = here.engine()
    rows = engine.publisher.content(latest, engine.chain.get()).rows.to_pylist()
    assert {(row["id"][-1], row["status"], row["placed"].microsecond) for row in rows} == {
        ("1", "sent", 1000),
        ("3", "new", 3000),
    }
    cut = engine.chain.get().cut("orders")
    assert (cut.events, cut.quarantined) == (7, 0)
