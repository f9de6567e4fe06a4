"""Order of changes: a case from public reports, and late deliveries through landing, proofs and explanations."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from enum import Enum
from pathlib import Path

import pytest

from refold import Daily, Debezium, Log, Project, Ties, documents, enum, int64, latest_by_key, text
from refold.diff.compare import Comparer
from refold.diff.shadow import Shadow
from refold.errors import EventRefused
from refold.explain.computation import explain
from refold.stores.kinds.latest import LatestStore
from refold.testing import assert_replay_equal
from tests.support import Shop, copy_landing, seal_and_prove, verify_reference


class Op(Enum):
    CREATE = "c"
    READ = "r"
    UPDATE = "u"
    DELETE = "d"


LOG = Log(
    "t",
    key="id",
    event_id="lsn",
    columns={"lsn": int64(), "id": int64(), "name": text(null=True), "bio": text(null=True), "op": enum(Op)},
    decoder=Debezium({"lsn": ("source.lsn",)}),
)
KEPT = {"name": text(null=True), "bio": text(null=True)}
PLACEHOLDER = "__debezium_unavailable_value"


def people(**changes: object) -> LatestStore:
    return latest_by_key(LOG, "people", version=1, columns=KEPT, delete_when=("op", Op.DELETE), **changes)


BY_LSN = people(order_by="lsn")


def envelope(lsn: int, op: str, name: str, bio: str | None = None, key: int = 1) -> dict[str, object]:
    row = {"id": key, "name": name, "bio": bio}
    sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return {**sides, "op": op, "source": {"lsn": lsn}}


@pytest.mark.parametrize("store", [people(), BY_LSN])
def test_an_unchanged_long_value_is_kept(shared_data: Path, tmp_path: Path, store: LatestStore) -> None:
    landing = shared_data / "field" / "toast_placeholder" / "landing"
    if not landing.is_dir():
        pytest.skip(f"{landing} is not there")
    shop = Shop(tmp_path, Project("field", Daily(dt.date(2023, 5, 29)), [store]))
    copy_landing(landing, shop.landing)
    engine = shop.engine()
    seal_and_prove(engine)
    rows = engine.rows(store, engine.chain.get()).select(["id", "name", "bio"]).to_pylist()
    assert rows == [{"id": 1, "name": "anna", "bio": "long text long text long text "}]
    assert verify_reference(engine, engine.chain.get()) == []


DAYS = {
    "2026-01-01": [envelope(1, "c", "ann", "a"), envelope(5, "u", "eve", PLACEHOLDER), envelope(2, "c", "bo", key=2)],
    "2026-01-02": [envelope(4, "c", "dora", "d"), envelope(3, "d", "ann"), envelope(9, "d", "bo", key=2)],
    "2026-01-03": [envelope(8, "u", "bob", key=2), envelope(7, "r", "cy", key=3), envelope(6, "c", "old", key=3)],
}
"""Key 1: 5 left the long value as the create 4 made it, which arrives later. Key 2: deleted by 9 before 8 arrives."""
RIGHT = [{"id": 1, "name": "eve", "bio": "d"}, {"id": 3, "name": "cy", "bio": None}]


def test_deliveries_out_of_order_come_to_what_was_meant_day_by_day_and_in_one_pass() -> None:
    assert assert_replay_equal(BY_LSN, DAYS) == RIGHT
    ops = latest_by_key(LOG, "ops", version=1, columns={"op": enum(Op)}, order_by="lsn")
    found = assert_replay_equal(documents("both", left=BY_LSN, right=ops, how="left"), DAYS)
    assert found == [{**row, "op": op} for row, op in zip(RIGHT, ["u", "r"], strict=True)]


def shop_of(root: Path, days: dict[str, list[dict[str, object]]], *stores: LatestStore) -> Shop:
    shop = Shop(root, Project("people", Daily(dt.date(2026, 1, 1)), stores))
    for day, events in days.items():
        shop.land(f"t/dt={day}/a.jsonl", *events)
    return shop


def test_an_explanation_shows_which_event_gave_the_row_and_which_came_too_late(tmp_path: Path) -> None:
    engine = shop_of(tmp_path, DAYS, BY_LSN).engine()
    seal_and_prove(engine)
    head = engine.chain.get()
    assert verify_reference(engine, head) == []
    steps = list(engine.explainer.why(BY_LSN, ["1"], head))
    assert [(step.event["lsn"], step.outcome, step.reason, step.after["bio"]) for step in steps] == [
        (1, "applied", None, "a"),
        (5, "applied", None, "a"),
        (4, "applied", None, "d"),
        (3, "ignored", "NOT_NEWER", "d"),
    ]
    assert (steps[-1].after["lsn"], steps[-1].after["lsn_of_bio"]) == (5, 4)
    gone = list(engine.explainer.why(BY_LSN, ["2"], head))
    assert [(step.event["lsn"], step.outcome, step.after.get("deleted", False)) for step in gone] == [
        (2, "applied", False),
        (9, "applied", True),
        (8, "ignored", True),
    ]
    how = explain(engine.project, BY_LSN).how
    assert how.startswith("The newest event of each key by lsn, equals: refuse, by columns")
    assert f"op = 'd' deletes the key; name: {PLACEHOLDER!r} keeps the value before" in how
    assert set(BY_LSN.lineage["bio"]) == {("t", "bio"), ("t", "op"), ("t", "lsn")}


def test_a_refused_event_is_named_with_its_place_in_landing_and_leaves_nothing_built(tmp_path: Path) -> None:
    log = replace(LOG, event_id=("lsn", "op"))
    tied = latest_by_key(log, "people", version=1, columns=KEPT, order_by="lsn")
    days = {"2026-01-01": [envelope(1, "c", "ann")], "2026-01-02": [envelope(1, "u", "anna")]}
    engine = shop_of(tmp_path, days, tied).engine()
    list(engine.sealing.seal())
    with pytest.raises(EventRefused) as refused:
        engine.build(tied, engine.chain.get())
    for part in (
        "Store 'people' cannot take the event at log partition",
        "(log_seq 1, id 1, landing t/dt=2026-01-02/a.jsonl:1)",
        "log_seq 0, has the same order (lsn 1)",
        "declare ties=Ties.FIRST or Ties.LAST",
        "`refold log show t ",
    ):
        assert part in str(refused.value)
    assert engine.builder.find(tied, engine.chain.get()) is None
    decided = latest_by_key(log, "people", version=1, columns=KEPT, order_by="lsn", ties=Ties.LAST)
    assert decided.code_version != tied.code_version
    rows = shop_of(tmp_path, days, decided).engine()
    rows.build(decided, rows.chain.get())
    assert rows.rows(decided, rows.chain.get())["name"].to_pylist() == ["anna"]


def test_two_orders_are_compared_over_the_same_log_with_the_first_event_at_which_they_part(tmp_path: Path) -> None:
    engine = shop_of(tmp_path, {**DAYS, "2026-01-01": DAYS["2026-01-01"][:1]}, BY_LSN).engine()
    list(engine.sealing.seal())
    head = engine.chain.get()
    sides = [
        Shadow(label, engine.objects, engine.chain, head, {"people": store})
        for label, store in (("old", people()), ("new", BY_LSN))
    ]
    (found,) = Comparer(engine.chain, head, *sides).compare(["people"], 10)
    assert [(c.kind, c.key["id"], c.cells["name"]) for c in found.rows.changes] == [
        ("added", 1, (None, "dora")),
        ("removed", 2, ("bob", None)),
        ("changed", 3, ("old", "cy")),
    ]
    (outcomes,) = found.outcomes
    assert outcomes.first is not None
    assert (outcomes.first.event["lsn"], outcomes.first.new.outcome) == (3, "ignored (NOT_NEWER)")


class OfOneVersion(LatestStore):
    """Says that its order is in no fingerprint."""

    @property
    def code_version(self) -> str:
        return "1-of-one-version"


def test_a_state_by_another_order_fails_its_proof_at_the_event_that_it_took_for_newer(tmp_path: Path) -> None:
    log = replace(LOG, event_id=("lsn", "op"))
    first, last = (
        OfOneVersion(**vars(latest_by_key(log, "people", version=1, columns=KEPT, order_by="lsn", ties=ties)))
        for ties in (Ties.FIRST, Ties.LAST)
    )
    days = {
        "2026-01-01": [envelope(1, "c", "ann"), envelope(2, "c", "bo", key=2)],
        "2026-01-02": [envelope(1, "u", "a")],
    }
    engine = shop_of(tmp_path, days, first).engine()
    list(engine.sealing.seal())
    engine.build(first, engine.chain.get())
    engine = shop_of(tmp_path, {}, last).engine()
    verdict = engine.prover.prove(last, engine.chain.get())
    found = verdict.divergence
    assert not verdict.passed and found is not None
    assert (found.event["lsn"], found.key, found.stored_outcome, found.right_outcome) == (
        *(1, 1),
        *("ignored (reason 1)", "applied"),
    )
    assert (found.snapshot, found.stored["name"], found.right["name"]) == ("2026-01-02", "ann", "a")
