"""Runs of single snapshots and single assets, in this process, on a small project and on this one."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from assets import PROJECT
from refold import Daily, expect
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import Operation
from refold.testing.faulty_store import Effect, Faults
from tests.dagster.house import START, House, Places, checks_of, damage, day, levels, reasons, small_project
from tests.support import Shop, changed, moved

STATES = ("state/levels", "state/movement")
SINKS = ("sql/levels", "delta/levels", "delta/movement")


def test_a_run_of_one_snapshot_builds_proves_publishes_and_releases_it(house: House):
    result = house.run("rebuild_snapshot", day(3))
    assert result.success, reasons(result)
    partitioned = {(name, day(3)) for name in ("log/stock_events", *STATES)}
    assert house.versions().keys() == partitioned | {(name, None) for name in (*SINKS, "release")}
    assert checks_of(result) == {
        ("log/stock_events", "structure", day(3)): True,
        ("log/stock_events", "landing", day(3)): True,
        ("state/levels", "full_replay", day(3)): True,
        ("state/movement", "full_replay", day(3)): True,
        ("sql/levels", "expectations", None): True,
        **{(name, "served", None): True for name in SINKS},
    }
    assert levels(house) == {"lamp": 6, "rug": 5}
    assert house.stale(day(3)) == set()


def test_running_it_again_changes_nothing(house: House):
    assert house.run("rebuild_snapshot", day(2)).success
    versions, files = house.versions(), house.shop.files()
    assert house.run("rebuild_snapshot", day(2)).success
    assert house.versions() == versions
    assert house.shop.files() == files
    assert house.stale(day(2)) == set()


def test_every_store_of_this_project_runs_for_one_snapshot(tmp_path: Path):
    house = House(Shop(tmp_path, PROJECT.with_cadence(Daily(START, START + dt.timedelta(days=5)))))
    house.shop.land(f"dt={day(1)}/a.jsonl", moved("1", "lamp", 10), moved("2", "rug", -1), moved("3", "lamp", -3))
    house.shop.land(f"product_changes/dt={day(1)}/a.jsonl", changed(1, "c", "lamp", "A lamp", "9.50"))
    result = house.run("rebuild_snapshot", day(1))
    assert result.success, reasons(result)
    assert all(checks_of(result).values())
    assets = house.defs.resolve_asset_graph().materializable_asset_keys
    assert {name for name, _ in house.versions()} == {asset.to_user_string() for asset in assets}
    assert house.stale(day(1)) == set()


def test_a_state_is_built_on_demand_for_a_middle_day_without_the_days_before(house: House):
    assert house.materialize("log/stock_events", key=day(3)).success
    result = house.materialize("state/levels", key=day(3))
    assert result.success, reasons(result)
    assert house.versions().keys() == {("log/stock_events", day(3)), ("state/levels", day(3))}
    rows = house.engine.rows(house.shop.project.store("levels"), house.engine.chain.get(day(3)))
    assert rows.select(["product_id", "level"]).to_pylist() == [
        {"product_id": "lamp", "level": 6},
        {"product_id": "rug", "level": 5},
    ]


def test_a_relation_alone_says_which_input_to_build_first(house: House):
    assert house.materialize("log/stock_events", key=day(1)).success
    result = house.materialize("state/movement", key=day(1))
    assert not result.success
    assert f"Build state/levels for {day(1)} first." in reasons(result)


def test_a_day_that_is_not_sealed_is_named(house: House):
    result = house.materialize("state/levels", key=day(1))
    assert not result.success
    assert f"There is no snapshot {day(1)}" in reasons(result)


def test_an_empty_day_is_its_parent_under_another_key_and_no_failure(house: House):
    assert house.run("prove_snapshot", day(3)).success
    result = house.run("prove_snapshot", day(4))
    assert result.success, reasons(result)
    versions = house.versions()
    for name in ("log/stock_events", *STATES):
        assert versions[name, day(3)] == versions[name, day(4)]
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path[0] == "log"]
    assert "No new events" in event.materialization.metadata["note"].text


class TestPublishingAlone:
    def test_refuses_a_state_without_a_passing_replay_and_takes_it_with_one(self, house: House):
        assert house.materialize("log/stock_events", key=day(2)).success
        assert house.materialize("state/levels", key=day(2), checks=False).success
        refused = house.materialize("sql/levels")
        assert not refused.success
        assert "has no passing full replay for its digest" in reasons(refused)
        assert f"Run the check full_replay of state/levels for {day(2)}." in reasons(refused)

        assert house.check("state/levels", day(2)).success
        published = house.materialize("sql/levels", "delta/levels")
        assert published.success, reasons(published)

    def test_releases_nothing_before_every_store_is_published(self, house: House):
        assert house.run("prove_snapshot", day(1)).success
        result = house.materialize("release")
        assert not result.success
        assert "publish it first" in reasons(result)
        assert house.engine.releaser.current() is None


class TestTheServedSnapshot:
    def test_is_not_moved_by_a_run_for_the_past(self, house: House):
        assert house.rebuild().success
        served, rows = house.engine.releaser.current(), levels(house)
        assert (served.snapshot, rows) == (day(5), {"lamp": 7, "rug": 0})
        result = house.run("rebuild_snapshot", day(2))
        assert result.success, reasons(result)
        assert house.engine.releaser.current() == served
        assert levels(house) == rows
        (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key.path == ["release"]]
        assert event.materialization.metadata["served snapshot"].text == day(5)

    def test_stays_where_a_run_finds_an_expectation_broken(self, house: House):
        assert house.run("rebuild_snapshot", day(1)).success
        served = house.engine.releaser.current()
        strict = house.declared(
            small_project(expectations=[expect("column_values_to_be_between", column="level", min_value=6)])
        )
        result = strict.run("rebuild_snapshot", day(3))
        assert not result.success
        assert checks_of(result)["sql/levels", "expectations", None] is False
        assert house.engine.releaser.current() == served

    def test_moves_on_where_an_expectation_only_warns(self, house: House):
        wish = expect("column_values_to_be_between", column="level", min_value=6, severity="warn")
        wishing = house.declared(small_project(expectations=[wish]))
        result = wishing.run("rebuild_snapshot", day(3))
        assert result.success, reasons(result)
        (check,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "expectations"]
        assert (check.passed, check.severity.name) == (False, "WARN")
        (failing,) = [
            value for name, value in check.metadata.items() if name.startswith("failing rows in SQL view levels")
        ]
        assert [record.data for record in failing.records] == [{"product_id": "rug", "level": 5}]
        assert wishing.engine.releaser.current().snapshot == day(3)


class TestSinksThatAreNotPartitioned:
    def test_are_fresh_though_the_cadence_goes_on_after_the_last_day_that_landed(self, house: House):
        assert house.rebuild().success
        statuses = house.statuses(day(5), day(6))
        assert {statuses[name, None] for name in (*SINKS, "release")} == {"FRESH"}
        assert {statuses[name, day(6)] for name in STATES} == {"MISSING"}


class TestVerifying:
    @pytest.fixture
    def built(self, house: House) -> House:
        assert house.rebuild().success
        return house

    def test_passes_on_the_newest_snapshot_and_records_every_check(self, built: House):
        result = built.run("verify")
        assert result.success, reasons(result)
        assert checks_of(result) == {
            ("log/stock_events", "structure", day(5)): True,
            ("state/levels", "full_replay", day(5)): True,
            ("state/movement", "full_replay", day(5)): True,
            ("sql/levels", "expectations", None): True,
            **{(name, "served", None): True for name in SINKS},
        }

    def test_takes_the_snapshot_that_a_tag_names_where_the_sinks_need_not_hold_it(self, built: House):
        result = built.run("verify", tags={"dagster/partition": day(2)})
        assert result.success, reasons(result)
        assert {partition for _, check, partition in checks_of(result) if check != "served"} == {day(2)}

    def test_fails_by_name_where_a_checkpoint_is_damaged(self, built: House):
        damage(built, "levels", day(5))
        result = built.run("verify")
        assert not result.success
        failed = [place for place, passed in checks_of(result).items() if not passed]
        assert failed == [("state/levels", "full_replay", day(5))]  # what it serves, and its ledger, are as proven
        assert "state/levels: full_replay: checkpoint at snapshot" in reasons(result)
        assert "damaged" in reasons(result)

    def test_fails_where_the_newest_snapshot_is_not_published(self, built: House):
        built.shop.land(f"dt={day(6)}/a.jsonl", moved("9", "lamp", 1))
        assert built.run("prove_snapshot", day(6)).success
        result = built.run("verify")
        assert not result.success
        assert "sql/levels: expectations:" in reasons(result)


def test_stores_are_opened_by_the_resource_and_lost_answers_fail_no_run(house: House):
    faults, opened = Faults(), set[str]()
    faults.plan(Operation.CREATE, Effect.LOSE_ANSWER, times=None)

    class Faulty(Places):
        def open_store(self, url: str, *, must_exist: bool = False) -> ObjectStore:
            opened.add(url)
            return faults.open(url, must_exist=must_exist)

    class Other(House):
        def places(self, **changes: str) -> Places:
            return Faulty(**dict(super().places(**changes)))

    result = Other(house.shop, house.instance).run("prove_snapshot", day(1))
    assert result.success and not any(event.is_step_up_for_retry for event in result.all_events)
    assert opened == {str(house.shop.landing), str(house.shop.store)}
    assert [name.partition("/")[0] for _, name, _ in faults.happened] == ["snapshots"]
