"""A log that grows after it was sealed: old events have nulls, and only stores that read the column fold again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import Daily, Log, Project, Sql, decimal, enum, fold, int64, latest_by_key, relation, text
from refold.engine import Engine
from refold.errors import Damaged, DeclarationError, RuleError
from refold.log.compaction import Compactor, MergeLimits
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot
from refold.plan.decisions import plan_rebuild
from refold.proof.reference import reference
from refold.rebuild import rebuild_all
from refold.repair.repair_objects import repair_objects
from refold.storage.names import ObjectKind, kind_of
from refold.types import ColumnType
from tests import shop
from tests.shop import DAYS
from tests.support import Shop, copy_landing, seal_and_prove

BEFORE = {"id": text(), "product": text(), "quantity": int64(0, 1000), "price": decimal(8, 2)}
AFTER = {
    "note": text(null=True), "id": text(), "product": text(null=False), "count": int64(null=True),
    "quantity": int64(0, 10**6, null=True), "price": decimal(12, 2, null=True),
}  # fmt: skip


def _log(columns: Mapping[str, ColumnType]) -> Log:
    return Log("moves", key="product", event_id="id", columns=columns, partitions=2, conflicts=shop.ANY_CONFLICTS)


class Units(NamedTuple):
    seen: int = 0


def _project(columns: Mapping[str, ColumnType]) -> Project:
    log = _log(columns)

    @fold(log, version=1, sinks=[Sql("seen")])
    def seen(row: Units, event: Any):
        return row._replace(seen=row.seen + len(event.id))

    picked = {"price": decimal(8, 2)} if columns is BEFORE else {"price": AFTER["price"], "note": AFTER["note"]}
    last = latest_by_key(log, "last", version=1, columns=picked)
    quiet = latest_by_key(log, "quiet", version=1, columns={"id": text()})

    @relation(reads=[seen.ledger], key=["product"], returns={"product": text(), "events": int64()})
    def events() -> str:
        return "SELECT product, count(*) AS events FROM seen_ledger GROUP BY product"

    return Project("grown", Daily(shop.START), [seen, last, quiet, events])


def _land(house: Shop, days: Sequence[Sequence[Mapping[str, Any]]], first: int = 0) -> None:
    for number, records in enumerate(days, first):
        shop.land(house.landing, "moves", DAYS[number], records)


def _event(identity: str, product: str, **more: Any) -> dict[str, Any]:
    return {"id": identity, "product": product, "quantity": 1, "price": "1.50", **more}


OLD_DAYS = [[_event("a", "cup"), _event("b", "pot", price="2.25")], [_event("c", "cup"), _event("a", "cup")]]
NEW_DAYS = [
    [_event("d", "cup", note="new", price=None), _event("b", "pot", price="2.25"), _event("c", "cup", note="later")],
    [_event("e", "pot", quantity=None, count=7, price="1234567890.12")],
]


@pytest.fixture
def grown(tmp_path: Path) -> Shop:
    """Two days sealed and rebuilt before the log grew, and two after."""
    house = Shop(tmp_path, _project(BEFORE))
    _land(house, OLD_DAYS)
    rebuild_all(house.engine(), DAYS[1])
    house = replace(house, project=_project(AFTER))
    _land(house, NEW_DAYS, 2)
    return house


def test_states_are_those_of_a_log_that_was_declared_so_from_the_beginning(grown: Shop, tmp_path: Path):
    whole = Shop(tmp_path / "whole", grown.project, landing_folder=grown.landing)
    for house in (grown, whole):
        rebuild_all(house.engine(), DAYS[3])
    assert _states(grown.engine()) == _states(whole.engine())
    rows = {row["product"]: row for row in grown.engine().rows(grown.project.store("last"), _last(grown)).to_pylist()}
    assert (rows["cup"]["note"], rows["cup"]["price"]) == ("new", None)
    assert str(rows["pot"]["price"]) == "1234567890.12"


def _last(house: Shop) -> Snapshot:
    return house.engine().chain.get()


def _states(engine: Engine) -> dict[str, tuple[str, str]]:
    """The digests of every state and ledger; identities of snapshots differ with the declarations at sealing."""
    return {
        f"{snapshot.key} {store.name}": (record.state_digest, record.ledger_digest)
        for snapshot in engine.chain
        for store in engine.project.stores
        if (record := engine.builder.find(store, snapshot)) is not None
    }


def test_what_was_sealed_keeps_its_identity_and_only_stores_that_read_the_column_are_folded_again(grown: Shop):
    before = [snapshot.id for snapshot in grown.engine().chain]
    plan = plan_rebuild(grown.engine(), DAYS[3])
    starts = {each.store.name: each.start for each in plan.folds}
    assert starts == {"seen": 2, "last": 0, "quiet": 2}
    rebuild_all(grown.engine(), DAYS[3])
    assert [snapshot.id for snapshot in grown.engine().chain][:2] == before


def test_a_delivery_from_before_is_a_duplicate_without_the_column_and_a_conflict_with_it(grown: Shop):
    rebuild_all(grown.engine(), DAYS[3])
    seen = grown.project.store("seen")
    ledger = grown.engine().builder.ledger_rows(seen, _last(grown)).to_pylist()
    later = {row["id"]: row["outcome"] for row in ledger if DAYS[2] in row["source_object"]}
    assert later == {"d": "applied", "b": "duplicate", "c": "conflict"}


def test_the_log_is_whole_and_the_reference_agrees(grown: Shop):
    rebuild_all(grown.engine(), DAYS[3])
    engine = grown.engine()
    assert [found for _, findings in engine.verify_log("moves", _last(grown)) for found in findings] == []
    assert all(v.passed for v in engine.compare_with_reference(grown.project.folded, _last(grown)))
    compactor = Compactor(engine.objects, engine.chain, grown.project.log("moves"), MergeLimits(files_min=2))
    assert compactor.apply(compactor.plan()).damaged == []
    found = _states(grown.engine())
    rebuild_all(grown.engine(), DAYS[3], fresh=True)
    assert _states(grown.engine()) == found
    engine = grown.engine()
    assert [found for _, findings in engine.verify_log("moves", _last(grown)) for found in findings] == []


def test_segments_from_before_and_after_are_sealed_again_from_landing(grown: Shop):
    rebuild_all(grown.engine(), DAYS[3])
    before = grown.files()
    for name in before:
        if kind_of(name) is ObjectKind.SEGMENT:
            (grown.store / name).unlink()
    assert repair_objects(grown.engine, grown.engine().audit_objects()) == []
    assert grown.files() == before


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({**BEFORE, "note": text()}, "column 'note' was added and may not be null"),
        ({n: c for n, c in BEFORE.items() if n != "quantity"}, "column 'quantity' was dropped"),
        ({**BEFORE, "quantity": text()}, "column 'quantity' was int64 and is declared text"),
        ({**BEFORE, "price": decimal(7, 2)}, r"column 'price' was decimal\(8, 2\) and is declared decimal\(7, 2\)"),
        ({**BEFORE, "price": decimal(12, 4)}, r"column 'price' was decimal\(8, 2\) and is declared decimal\(12, 4\)"),
    ],
)
def test_anything_else_is_refused_by_column(tmp_path: Path, columns: Mapping[str, ColumnType], fault: str):
    house = Shop(tmp_path, _project(BEFORE))
    _land(house, OLD_DAYS)
    list(house.engine().sealing.seal())
    other = Project(
        "other", Daily(shop.START), [latest_by_key(_log(columns), "one", version=1, columns={"id": text()})]
    )
    _land(house, [NEW_DAYS[0]], 2)
    with pytest.raises(DeclarationError, match=f"{fault}(.|\n)*may gain columns that may be null"):
        list(replace(house, project=other).engine().sealing.seal())


@pytest.mark.parametrize(
    "columns",
    [
        {**BEFORE, "note": text()},
        {**BEFORE, "quantity": text()},
        {**BEFORE, "price": decimal(12, 4)},
        {n: c for n, c in BEFORE.items() if n != "quantity"},
    ],
)
def test_every_command_that_reads_events_refuses_such_a_declaration(
    tmp_path: Path, columns: Mapping[str, ColumnType]
) -> None:
    """And takes nothing for damage. A column that was dropped does not keep the others from being read."""
    house = Shop(tmp_path, _project(BEFORE))
    _land(house, OLD_DAYS)
    seal_and_prove(house.engine())
    before = house.files()
    other = Project(
        "other", Daily(shop.START), [latest_by_key(_log(columns), "one", version=1, columns={"id": text()})]
    )
    engine = replace(house, project=other).engine()
    with pytest.raises(DeclarationError, match="may gain columns that may be null"):
        list(engine.verify_log("moves", engine.chain.get()))
    events = LogReader(engine.objects, engine.chain, engine.project.log("moves")).events
    if len(columns) < len(BEFORE):
        assert len(events(engine.chain.get())) == 2
    else:
        with pytest.raises(DeclarationError, match="may gain columns that may be null"):
            events(engine.chain.get())
    assert house.files() == before


class Both(Enum):
    ADD = "add"
    REMOVE = "remove"


class Fewer(Enum):
    ADD = "add"


def _net(kinds: type[Enum], key: str = "product") -> Project:
    columns = {"id": text(), "product": text(), "kind": enum(kinds)}
    log = Log("moves", key=key, event_id="id", columns=columns, partitions=1)
    add = kinds["ADD"]

    @fold(log, version=1)
    def net(row: Units, event: Any):
        return row._replace(seen=row.seen + (1 if event.kind == add else 2))

    return Project("net", Daily(shop.START), [net])


def test_an_event_whose_enum_member_is_gone_is_named_by_the_fold_and_by_the_reference(tmp_path: Path):
    house = Shop(tmp_path, _net(Both))
    _land(house, [[{"id": "a", "product": "cup", "kind": "add"}, {"id": "b", "product": "cup", "kind": "remove"}]])
    seal_and_prove(house.engine())
    engine = replace(house, project=_net(Fewer)).engine()
    net, head = engine.project.store("net"), engine.chain.get()
    for run in (
        lambda: engine.builder.build(net, head),
        lambda: list(reference(engine.objects, engine.chain, net.log, [net], head)),
    ):
        with pytest.raises(RuleError, match=r"log partition 0, offset 1 (.|\n)*'remove'|'remove'(.|\n)*offset 1 "):
            run()


def test_a_state_by_another_key_is_not_read(tmp_path: Path):
    """Where log partitions do not show the change of key, the columns of the state do."""
    house = Shop(tmp_path, _net(Both))
    _land(house, [[{"id": "a", "product": "cup", "kind": "add"}], [{"id": "b", "product": "cup", "kind": "remove"}]])
    seal_and_prove(house.engine())
    engine = replace(house, project=_net(Both, key="id")).engine()
    for day in DAYS[:2]:
        with pytest.raises(Damaged, match="its key is not id; it has product, seen"):
            engine.rows(engine.project.store("net"), engine.chain.get(day))


def test_null_is_not_forbidden_again(tmp_path: Path):
    house = Shop(tmp_path, _project(AFTER))
    _land(house, OLD_DAYS)
    list(house.engine().sealing.seal())
    _land(house, [NEW_DAYS[0]], 2)
    with pytest.raises(
        DeclarationError, match=r"column 'note' was dropped(.|\n)*'quantity' was int64\? and is declared"
    ):
        list(replace(house, project=_project(BEFORE)).engine().sealing.seal())


IDS, PRODUCTS = st.sampled_from("abcdef"), st.sampled_from(["cup", "pot"])
EVENTS = st.lists(st.builds(_event, IDS, PRODUCTS, quantity=st.integers(0, 2)), max_size=5)


@settings(max_examples=8, deadline=None)
@given(days=st.lists(EVENTS, min_size=2, max_size=4), at=st.integers(1, 3))
def test_growing_at_any_day_gives_the_same_states(
    tmp_path_factory: pytest.TempPathFactory, days: list[list[dict[str, Any]]], at: int
):
    root = tmp_path_factory.mktemp("house")
    house = Shop(root, _project(BEFORE))
    _land(house, days)
    whole = Shop(root / "whole", _project(AFTER), landing_folder=house.landing)
    last = DAYS[len(days) - 1]
    rebuild_all(house.engine(), DAYS[min(at, len(days)) - 1])
    house = replace(house, project=_project(AFTER))
    for each in (house, whole):
        rebuild_all(each.engine(), last)
    assert _states(house.engine()) == _states(whole.engine())


def test_a_column_added_on_the_second_day_is_null_on_the_first(shared_data: Path, tmp_path: Path):
    """From a public report, in which the sealed log could no longer be read."""
    folder = shared_data / "field" / "added_column" / "landing"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    columns = {"n": int64(), "id": int64(), "price": decimal(10, 2)}

    def project(columns: Mapping[str, ColumnType]) -> Project:
        log = Log("t", key="id", event_id="n", columns=columns)
        latest = latest_by_key(
            log, "latest", version=1, columns={n: c for n, c in columns.items() if n not in ("n", "id")}
        )
        return Project("field", Daily(dt.date(2026, 7, 1)), [latest])

    house = Shop(tmp_path, project(columns))
    copy_landing(folder, house.landing)
    rebuild_all(house.engine(), "2026-07-01")
    house = replace(house, project=project({**columns, "category": text(null=True)}))
    rebuild_all(house.engine(), "2026-07-03")
    rows = house.engine().rows(house.project.store("latest"), _last(house)).to_pylist()
    assert [(row["id"], str(row["price"]), row["category"]) for row in rows] == [
        (1, "9.90", "lamps"),
        (2, "3.00", None),
    ]
    ledger = house.engine().builder.ledger_rows(house.project.folded[0], _last(house)).to_pylist()
    assert {row["n"]: row["category"] for row in ledger} == {1: None, 2: None, 3: "lamps"}
