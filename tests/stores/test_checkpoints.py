"""Checkpoints as base and changes, thinned with age: less is stored, and what comes back is the same."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.stock import stock
from refold import Daily, Project, relation, text
from refold.canonical.encoding import encode_rows
from refold.errors import Damaged
from refold.rebuild import rebuild_all
from refold.repair.garbage import remove_unreferenced
from refold.storage.records import write_record
from refold.stores.checkpoint import StateRecord, record_name
from refold.stores.state import State, replace_rows
from refold.stores.thinning import keeps_rows
from refold.types import int64
from tests.support import Shop, digests, flip, levels, moved, verify_reference

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
DAYS = [f"2026-01-{day:02d}" for day in range(1, 32)] + [f"2026-02-{day:02d}" for day in range(1, 10)]
PRODUCTS = 20


@relation(reads=[stock], key=["product_id"], returns={"product_id": text(), "twice": int64()})
def twice() -> str:
    """Twice the units on hand."""
    return "SELECT product_id, 2 * level AS twice FROM stock"


def land(shop: Shop, day: str) -> None:
    """Every product on the first day, then two of them a day."""
    number = DAYS.index(day)
    moving = range(PRODUCTS) if number == 0 else (number % PRODUCTS, (7 * number) % PRODUCTS)
    shop.land(
        f"dt={day}/a.jsonl", *[moved(f"{day} {n}", f"product {n:02d}", 1 + number) for n in dict.fromkeys(moving)]
    )


def expected_levels(through: str) -> dict[str, int]:
    """The units on hand, counted by hand."""
    found = {f"product {n:02d}": 1 for n in range(PRODUCTS)}
    for number in range(1, DAYS.index(through) + 1):
        for n in dict.fromkeys((number % PRODUCTS, (7 * number) % PRODUCTS)):
            found[f"product {n:02d}"] += 1 + number
    return found


LONG = Project("long", Daily(dt.date(2026, 1, 1)), [stock, twice])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Forty days of stock and a relation over it, built and proven at each."""
    shop = Shop(tmp_path_factory.mktemp("built"), LONG)
    for day in DAYS:
        land(shop, day)
    rebuild_all(shop.engine())
    return shop


@pytest.fixture
def long(built: Shop, tmp_path: Path) -> Shop:
    """A copy of it to change."""
    shutil.copytree(built.root, tmp_path / "shop")
    return Shop(tmp_path / "shop", LONG)


def records(shop: Shop, store=stock) -> list[StateRecord]:
    engine = shop.engine()
    return [engine.builder.require(store, snapshot) for snapshot in engine.chain]


def thin(shop: Shop) -> int:
    """What `refold prune --apply` does to checkpoints, with every object old enough."""
    engine = shop.engine()
    done = engine.thinner.apply(engine.thinner.plan(NOW))
    remove_unreferenced(engine.objects, dt.datetime.now(dt.UTC) + dt.timedelta(days=2))
    return done


def test_most_checkpoints_store_only_what_changed_since_a_base(long: Shop):
    found = records(long)
    bases = {record.base.name for record in found}
    assert len(bases) < len(found) / 4
    for record in found:
        rows = pq.read_table(long.store / record.changes.name).num_rows if record.changes else 0
        assert rows <= PRODUCTS
        assert record.changes_since_base <= PRODUCTS
    stored = sum(path.stat().st_size for path in (long.store / "states/stock/changes").iterdir())
    whole = next((long.store / "states/stock/rows").iterdir()).stat().st_size
    assert stored < len(found) * whole


def test_all_changes_since_a_base_add_up_to_at_most_the_rows_of_the_state(long: Shop):
    for before, after in pairwise(records(long)):
        assert after.changes_since_base <= after.rows
        if after.base == before.base and after.changes != before.changes:
            added = pq.read_table(long.store / after.changes.name).num_rows
            assert after.changes_since_base == before.changes_since_base + added


def test_every_checkpoint_gives_back_the_state_of_its_day(long: Shop):
    engine = long.engine()
    for snapshot in engine.chain:
        rows = engine.rows(stock, snapshot)
        found = dict(zip(rows["product_id"].to_pylist(), rows["level"].to_pylist(), strict=True))
        assert found == expected_levels(snapshot.key)


def test_the_same_objects_are_written_at_once_and_day_by_day(long: Shop, tmp_path: Path):
    slowly = Shop(tmp_path / "slowly", long.project, long.landing)
    for day in DAYS:
        engine = slowly.engine()
        assert len(list(engine.sealing.seal(day))) == 1
        for store in LONG.in_order:
            engine.build(store, engine.chain.get(day))
    assert slowly.files("states") == long.files("states")


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_changes_cost_a_longer_fold_and_come_back(long: Shop, damage):
    sound = long.files("states")
    last = next(record for record in reversed(records(long)) if record.changes)
    damage(long.store / last.changes.name)
    engine = long.engine()
    with pytest.raises(Damaged, match="changes"):
        engine.builder.checkpoints.state(stock, last)
    rebuild_all(long.engine())
    assert long.files("states") == sound


def test_a_damaged_base_takes_all_its_checkpoints_with_it_and_they_come_back(long: Shop):
    sound = long.files("states")
    flip(long.store / records(long)[-1].base.name)
    rebuild_all(long.engine())
    assert long.files("states") == sound


def test_changes_of_another_day_whose_hash_was_made_to_fit_are_found_by_the_digest(long: Shop):
    found = [record for record in records(long) if record.changes]
    last = replace(found[-1], changes=found[-2].changes)
    engine = long.engine()
    write_record(engine.objects, record_name(last.store, last.code_version, last.inputs), asdict(last))
    with pytest.raises(Damaged, match="expected state digest"):
        engine.builder.checkpoints.state(stock, last)


def test_thinning_keeps_the_recent_past_and_ever_fewer_before(long: Shop):
    before = {record.inputs for record in records(long)}
    assert thin(long) > 0
    kept = [snapshot.ordinal for snapshot, r in zip(long.engine().chain, records(long), strict=True) if not r.thinned]
    assert kept == [ordinal for ordinal in range(len(DAYS)) if keeps_rows(ordinal, len(DAYS) - 1)]
    assert {record.inputs for record in records(long)} == before
    assert thin(long) == 0


def test_after_thinning_digests_proofs_and_past_states_are_the_same(long: Shop):
    before = digests(long.engine())
    thin(long)
    engine = long.engine()
    assert digests(engine) == before
    for snapshot in engine.chain:
        for store in engine.project.stores:
            engine.prover.require(store, snapshot)
        rows = engine.rows(stock, snapshot)
        expected = expected_levels(snapshot.key)
        assert dict(zip(rows["product_id"].to_pylist(), rows["level"].to_pylist(), strict=True)) == expected
        doubled = engine.rows(engine.project.store("twice"), snapshot)
        assert doubled["twice"].to_pylist() == [2 * level for _, level in sorted(expected.items())]
    for _, verdicts in engine.prove_history("stock_events", engine.chain.get()):
        assert all(verdict.passed for verdict in verdicts.values())
    assert verify_reference(engine, engine.chain.get()) == []
    assert levels(engine) == expected_levels(DAYS[-1])


def test_a_thinned_checkpoint_that_is_built_again_is_the_object_it_was(long: Shop):
    whole = long.files("states")
    thin(long)
    engine = long.engine()
    for snapshot in engine.chain:
        for store in engine.project.in_order:
            engine.build(store, snapshot)
    assert long.files("states") == whole


def test_a_rebuild_after_thinning_leaves_thinned_checkpoints_alone(long: Shop):
    thin(long)
    thinned = long.files("states")
    rebuild_all(long.engine())
    assert long.files("states") == thinned
    assert thin(long) == 0


def test_the_newest_built_checkpoint_is_kept_where_the_log_has_gone_on(long: Shop):
    for day in range(10, 28):
        long.land(f"dt=2026-02-{day:02d}/a.jsonl", moved(f"late {day}", "product 00", 1))
    engine = long.engine()
    for _ in engine.sealing.seal():
        pass
    last_built = engine.chain.get(DAYS[-1])
    thin(long)
    assert not long.engine().builder.require(stock, last_built).thinned


def test_what_a_thinned_store_no_longer_needs_is_removed_and_nothing_else(long: Shop):
    thin(long)
    named = {stored.name for store in (stock, twice) for r in records(long, store) for stored in r.objects}
    there = {name for name in long.files("states") if not name.endswith(".json")}
    assert there == named


def test_checkpoints_of_another_code_version_are_thinned_after_an_age(long: Shop):
    raised = long.declared(stores=[stock, replace(twice, version=2)]).engine()
    plan = raised.thinner.plan(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))
    assert {each.record.store for each in plan} == {"stock"}
    plan = raised.thinner.plan(dt.datetime.now(dt.UTC) + dt.timedelta(days=1))
    old = [each.record for each in plan if each.record.store == "twice"]
    assert {record.code_version for record in old} == {twice.code_version}
    assert len(old) == len(raised.chain)


KEYS = st.lists(st.text("abc", max_size=2), unique=True, max_size=6)


@given(KEYS, KEYS)
def test_replacing_rows_is_a_dictionary_update(old: list[str], new: list[str]):
    schema = pa.schema([("k", pa.string()), ("n", pa.int64())])
    base = pa.table({"k": old, "n": list(range(len(old)))}, schema=schema)
    changes = pa.table({"k": new, "n": [100 + n for n in range(len(new))]}, schema=schema)
    table, places, hashes = replace_rows(base, changes, ["k"])
    expected = dict(zip(old, range(len(old)), strict=True)) | {k: 100 + n for n, k in enumerate(new)}
    assert dict(zip(table["k"].to_pylist(), table["n"].to_pylist(), strict=True)) == expected
    assert table["k"].to_pylist() == [*old, *[k for k in new if k not in old]]
    assert [table["k"][int(place)].as_py() for place in places] == new
    assert hashes.tolist() == encode_rows([table["k"]]).hashes().tolist()


def test_a_state_knows_what_changed_since_its_base(long: Shop):
    engine = long.engine()
    record = next(r for r in reversed(records(long)) if r.changes)
    state = engine.builder.checkpoints.state(stock, record)
    changed = pq.read_table(long.store / record.changes.name)
    assert state.changed().to_pylist() == changed.to_pylist()
    assert state.changed_count == len(changed)
    state.begin_changes()
    assert state.changed_count == 0
    assert State(stock).changed_count == 0
