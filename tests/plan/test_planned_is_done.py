"""What is planned is what is done: a plan beside the rebuild that follows it, counted at work."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from refold.errors import FixInput, NotFound
from refold.plan.decisions import plan_rebuild
from tests.plan.house import START, agree, day, land_day, project, rebuilt
from tests.support import Shop, moved


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Four days have landed, the third of them empty."""
    shop = Shop(tmp_path, project())
    for number in (1, 2, 4):
        land_day(shop, number)
    return shop


def test_a_first_rebuild_does_everything_as_planned(shop: Shop) -> None:
    """Every key is sealed, every event folded by every store, every sink written, and the estimate is exact here."""
    plan, done = agree(shop)
    assert done.sealed == [day(n) for n in (1, 2, 3, 4)]
    assert done.folded == {"levels": 18, "newest": 18, "names": 1}
    assert [fold.reasons for fold in plan.folds] == [["never built"]] * 3
    assert sum(d.logs["stock_events"].events for d in plan.days) == 18
    assert not plan.nothing_to_do


def test_when_all_is_done_there_is_nothing_to_do(shop: Shop) -> None:
    """The plan shows that, and the rebuild writes nothing new."""
    rebuilt(shop)
    plan, done = agree(shop)
    assert plan.nothing_to_do
    assert (done.sealed, done.folded, done.computed, done.proofs, done.sinks, done.released) == (
        [],
        {},
        0,
        0,
        [],
        False,
    )


def test_a_new_day_is_all_that_is_folded(shop: Shop) -> None:
    """One key is sealed, and only its events are read."""
    rebuilt(shop)
    land_day(shop, 5, events=9)
    plan, done = agree(shop)
    assert done.folded == {"levels": 9, "newest": 9, "names": 1}
    assert plan.folds[0].reasons == [f"snapshot {day(5)} to be sealed"]
    assert plan.changed_sinks == ["Sql/levels", "Delta/levels", "Sql/names", "Delta/movement"]


def test_a_late_object_enters_with_the_next_day_once_that_is_over(shop: Shop) -> None:
    """Landed late, it is planned as part of the key that takes it in, whether or not that key has a folder."""
    rebuilt(shop)
    shop.land(f"dt={day(1)}/late.jsonl", moved("late", "p1", 4))
    evening = replace(shop, now=dt.datetime.combine(START + dt.timedelta(days=4), dt.time(20), dt.UTC))
    plan, _ = agree(evening)
    assert plan.nothing_to_do
    assert [str(each.why) for each in plan.waiting] == ["it landed late"]
    _, done = agree(shop)
    assert (done.sealed, done.objects) == ([day(5)], 1)
    shop.land(f"dt={day(1)}/later.jsonl", moved("later", "p1", 4))
    land_day(shop, 6)
    _, done = agree(shop)
    assert (done.sealed, done.objects) == ([day(6)], 2)


def test_days_without_events_are_sealed_and_published_and_not_folded(shop: Shop) -> None:
    """Their content is the parent's, but the versions in the sinks are of the new snapshot."""
    rebuilt(shop)
    plan, done = agree(shop, day(6))
    assert done.sealed == [day(5), day(6)]
    assert done.folded == {}
    assert done.computed == 0
    assert plan.changed_sinks == done.sinks != []


def test_a_changed_rule_is_folded_from_the_first_event_and_the_plan_names_both_versions(shop: Shop) -> None:
    """The stores beside it are left alone; what reads it is computed again."""
    rebuilt(shop)
    before = shop.project.store("levels").code_version
    other = Shop(shop.root, project(changed_rule=True))
    plan, done = agree(other)
    assert done.folded == {"levels": 18}
    assert done.computed == 3
    (reason,) = plan.folds[0].reasons
    assert before in reason and other.project.store("levels").code_version in reason


def test_a_damaged_checkpoint_is_foreseen_and_named(shop: Shop) -> None:
    """The fold continues from the checkpoint before it."""
    rebuilt(shop)
    engine = shop.engine()
    record = engine.builder.require(shop.project.store("levels"), engine.chain.get(day(2)))
    path = shop.store / record.objects[0].name
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)
    plan, done = agree(shop)
    assert "damaged" in plan.folds[0].reasons[0]
    assert path.name in plan.folds[0].reasons[0]
    assert done.folded["levels"] in (12, 18)


def test_a_missing_record_is_folded_again(shop: Shop) -> None:
    """Of one store and one snapshot; the plan names the snapshot."""
    rebuilt(shop)
    engine = shop.engine()
    snapshot = engine.chain.get(day(2))
    store = shop.project.store("newest")
    record = engine.builder.require(store, snapshot)
    (shop.store / f"states/newest/{store.code_version}/{record.inputs[:40]}.json").unlink()
    plan, done = agree(shop)
    assert done.folded == {"newest": 12}
    assert day(2) in plan.folds[1].reasons[0]


def test_a_fresh_rebuild_folds_all_and_computes_nothing_that_stands(shop: Shop) -> None:
    """Every event is folded again, to the same records; relations over them are the same."""
    rebuilt(shop)
    plan, done = agree(shop, fresh=True)
    assert done.folded == {"levels": 18, "newest": 18, "names": 1}
    assert done.computed == 0
    assert not plan.nothing_to_do


def test_a_sink_that_lost_its_versions_is_written_again(shop: Shop) -> None:
    """No other sink is; readers see the same release."""
    rebuilt(shop)
    (shop.root / "refold.db").unlink()
    plan, done = agree(shop)
    assert done.sinks == ["Sql/levels", "Sql/names"] == plan.changed_sinks


def test_a_thinned_history_goes_on_from_a_checkpoint_that_has_its_rows(tmp_path: Path) -> None:
    """A new day on a thinned history folds only that day; with a missing record the fold begins earlier."""
    shop = Shop(tmp_path, project())
    for number in range(1, 25):
        land_day(shop, number, events=3)
    rebuilt(shop)
    engine = shop.engine()
    engine.thinner.apply(engine.thinner.plan(dt.datetime(2030, 1, 1, tzinfo=dt.UTC)))
    land_day(shop, 25, events=3)
    plan, done = agree(shop)
    assert done.folded["levels"] == 3
    assert done.computed == len(plan.relations[0].computed) == 1  # thinned results stay so
    snapshot = shop.engine().chain.get(day(7))
    record = shop.engine().builder.require(shop.project.store("levels"), snapshot)
    version = shop.project.store("levels").code_version
    (shop.store / f"states/levels/{version}/{record.inputs[:40]}.json").unlink()
    plan, done = agree(shop)
    assert done.folded["levels"] > 3 * 19


def test_a_lost_proof_is_planned_to_be_made_again(shop: Shop) -> None:
    """Nothing is folded; replay proves again what it always replays."""
    rebuilt(shop)
    shutil.rmtree(shop.store / "proofs" / "levels")
    plan, done = agree(shop)
    assert done.proofs == 3
    assert not plan.nothing_to_do
    assert done.folded == {}


def test_a_rebuild_through_an_older_key_leaves_what_is_served(shop: Shop) -> None:
    """Its sinks are written where they lack that version, and nothing is released."""
    rebuilt(shop)
    plan, done = agree(shop, day(2))
    assert plan.release == ""
    assert "newer" in plan.note
    assert not done.released


def test_what_a_rebuild_refuses_a_plan_refuses(shop: Shop, tmp_path: Path) -> None:
    """A key outside the cadence, and a landing that holds nothing."""
    with pytest.raises(FixInput):
        plan_rebuild(shop.engine(), "2020-01-01")
    with pytest.raises(NotFound):
        plan_rebuild(Shop(tmp_path / "none", project()).engine())
