"""The job that rebuilds the whole history in one pass: every partition its own version, checks, and right staleness."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from tests.dagster.conftest import land_five_days
from tests.dagster.house import (
    NOT_NEGATIVE,
    House,
    checks_of,
    damage,
    day,
    falsify,
    levels,
    reasons,
    small_project,
)
from tests.dagster.test_runs import SINKS, STATES
from tests.support import Shop, digests, moved

DAYS = [day(n) for n in range(1, 6)]
PARTITIONED = ("log/stock_events", *STATES)


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, dg.ExecuteInProcessResult]]:
    house = House(Shop(tmp_path_factory.mktemp("rebuilt"), small_project(expectations=[NOT_NEGATIVE])))
    land_five_days(house.shop)
    yield house, house.rebuild()


class TestOnePass:
    def test_leaves_every_partition_with_its_own_version(self, rebuilt: tuple[House, dg.ExecuteInProcessResult]):
        house, result = rebuilt
        assert result.success, reasons(result)
        versions = house.versions()
        assert versions.keys() == {(name, key) for name in PARTITIONED for key in DAYS} | {
            (name, None) for name in (*SINKS, "release")
        }
        for name in PARTITIONED:
            assert len({versions[name, key] for key in DAYS}) == 4, "the fourth day has no events"

    def test_leaves_every_partition_with_its_own_check_results(self, rebuilt: tuple[House, dg.ExecuteInProcessResult]):
        _, result = rebuilt
        names = {"log/stock_events": "structure", "state/levels": "full_replay", "state/movement": "full_replay"}
        expected = {(asset, name, key) for asset, name in names.items() for key in DAYS}
        expected |= {("log/stock_events", "landing", DAYS[-1])}
        expected |= {(name, "served", None) for name in ("sql/levels", "delta/levels", "delta/movement")}
        assert checks_of(result) == dict.fromkeys([*expected, ("sql/levels", "expectations", None)], True)

    def test_leaves_nothing_stale(self, rebuilt: tuple[House, dg.ExecuteInProcessResult]):
        assert rebuilt[0].stale(*DAYS) == set()

    def test_says_what_was_computed_from_what(self, rebuilt: tuple[House, dg.ExecuteInProcessResult]):
        house, _ = rebuilt
        versions = house.versions()
        key = dg.AssetKey(["state", "movement"])
        for record in house.instance.fetch_materializations(key, limit=10).records:
            tags = record.asset_materialization.tags
            for source in ("state/levels", "log/stock_events"):
                assert tags[f"dagster/input_data_version/{source}"] == versions[source, record.partition_key]
                assert int(tags[f"dagster/input_event_pointer/{source}"]) > 0

    def test_shows_outcomes_and_columns_with_every_partition(self, rebuilt: tuple[House, dg.ExecuteInProcessResult]):
        house, _ = rebuilt
        filters = dg.AssetRecordsFilter(dg.AssetKey(["state", "levels"]), asset_partitions=[day(3)])
        (record,) = house.instance.fetch_materializations(filters, limit=1).records
        metadata = record.asset_materialization.metadata
        shown = {name: metadata[name].value for name in metadata if name.startswith("events")}
        assert shown == {
            "events applied": 1,
            "events rejected": 1,
            "events duplicate": 0,
            "events conflict": 0,
            "events ignored": 0,
            "events applied so far": 3,
            "events rejected so far": 2,
            "events duplicate so far": 1,
            "events conflict so far": 0,
            "events ignored so far": 0,
        }
        lineage = metadata["dagster/column_lineage"].value.deps_by_column
        assert {dep.column_name for dep in lineage["level"]} == {"event_type", "quantity"}

    def test_the_newest_states_and_the_sinks_show_their_first_rows(
        self, rebuilt: tuple[House, dg.ExecuteInProcessResult]
    ):
        house, _ = rebuilt
        engine = house.engine
        levels = engine.rows(house.shop.project.store("levels"), engine.chain.get())
        expected = [{"product_id": row["product_id"], "level": row["level"]} for row in levels.to_pylist()[:5]]
        for path in (["state", "levels"], ["sql", "levels"]):
            (record,) = house.instance.fetch_materializations(dg.AssetKey(path), limit=1).records
            rows = record.asset_materialization.metadata["first rows by key"].records
            assert [{name: row.data[name] for name in ("product_id", "level")} for row in rows] == expected


def test_rows_that_must_not_be_in_dagster_are_not_shown(house: House):
    hiding = replace(house, rows_shown=0)
    assert hiding.rebuild().success
    for path in (["state", "levels"], ["sql", "levels"]):
        (record,) = hiding.instance.fetch_materializations(dg.AssetKey(path), limit=1).records
        assert "first rows by key" not in record.asset_materialization.metadata


def test_again_it_changes_nothing(house: House):
    assert house.rebuild().success
    versions, files = house.versions(), house.shop.files()
    assert house.rebuild().success
    assert house.versions() == versions
    assert house.shop.files() == files
    assert house.stale(*DAYS) == set()


def test_one_pass_gives_the_versions_that_day_by_day_gives(house: House, tmp_path: Path):
    daily = House(Shop(tmp_path / "daily", house.shop.project, house.shop.landing))
    for key in DAYS:
        result = daily.run("rebuild_snapshot", key)
        assert result.success, reasons(result)
    assert house.rebuild().success
    versions = [
        {place: version for place, version in each.versions().items() if place[0] != "release"}
        for each in (daily, house)
    ]
    assert versions[0] == versions[1]
    assert digests(daily.engine) == digests(house.engine)
    assert levels(daily) == levels(house)
    assert daily.rebuild().success, "one pass over what was built day by day"
    assert daily.stale(*DAYS) == set()


def test_a_late_object_changes_the_next_day_alone(house: House):
    assert house.rebuild().success
    before = house.versions()
    house.shop.land(f"dt={day(2)}/late.jsonl", moved("8", "lamp", -7))
    house.shop.land(f"dt={day(6)}/a.jsonl", moved("9", "rug", 3))
    result = house.rebuild()
    assert result.success, reasons(result)
    after = house.versions()
    changed = {place for place in after if before.get(place) != after[place]}
    assert changed == {(name, day(6)) for name in PARTITIONED} | {(name, None) for name in (*SINKS, "release")}
    assert house.stale(*DAYS, day(6)) == set()
    assert levels(house) == {"lamp": 0, "rug": 3}
    filters = dg.AssetRecordsFilter(dg.AssetKey(["log", "stock_events"]), asset_partitions=[day(6)])
    (record,) = house.instance.fetch_materializations(filters, limit=1).records
    late = record.asset_materialization.metadata["late objects"].value
    assert late == f"- `stock_events/dt={day(2)}/late.jsonl`"


class TestAnotherRule:
    def test_makes_what_it_computes_stale_and_then_what_rests_on_it(self, house: House):
        assert house.rebuild().success
        changed = house.declared(small_project(refuses=False))
        own = {("state/levels", key) for key in DAYS} | {("sql/levels", None), ("delta/levels", None)}
        assert changed.stale(*DAYS) == own

        assert changed.materialize("state/levels", key=day(3)).success
        rests = {("state/movement", day(3))}
        assert changed.stale(*DAYS) == (own - {("state/levels", day(3))}) | rests

        assert changed.rebuild().success
        assert changed.stale(*DAYS) == set()
        assert levels(changed) == {"lamp": 0, "rug": -1}

    def test_changes_nothing_that_is_served_before_it_is_proven(self, house: House):
        assert house.rebuild().success
        changed = house.declared(small_project(refuses=False))
        assert not changed.materialize("sql/levels").success
        assert levels(house) == {"lamp": 7, "rug": 0}


class TestDamage:
    def test_of_a_checkpoint_is_mended_on_the_way(self, house: House):
        assert house.rebuild().success
        before = house.versions()
        damage(house, "levels", day(2))
        result = house.rebuild()
        assert result.success, reasons(result)
        assert all(checks_of(result).values())
        assert house.versions() == before

    def test_that_replay_alone_can_see_stops_before_publishing_and_is_shown_where_it_is(self, house: House):
        assert house.rebuild().success
        served = house.engine.releaser.current()
        falsify(house, "levels", day(2), day(1))
        result = house.rebuild()
        assert not result.success
        failed = {place for place, passed in checks_of(result).items() if not passed}
        assert failed == {("state/levels", "full_replay", day(2))}
        assert f"'levels' at snapshot {day(2)} is not equal to full replay:\n  - state" in reasons(result)
        assert "fresh: true" in reasons(result)
        assert not [event for event in result.get_asset_materialization_events() if event.asset_key.path[0] == "sql"]
        assert house.engine.releaser.current() == served

    def test_that_replay_alone_can_see_is_mended_by_folding_from_offset_0(self, house: House):
        assert house.rebuild().success
        before = house.versions()
        falsify(house, "levels", day(2), day(1))
        result = house.rebuild(fresh=True)
        assert result.success, reasons(result)
        assert house.versions() == before

    def test_of_a_segment_is_found_by_the_check_of_the_log(self, house: House):
        assert house.rebuild().success
        engine = house.engine
        segment = engine.chain.layout(engine.chain.get(day(2)), "stock_events").segments[0].name
        path = house.shop.store / segment
        path.write_bytes(path.read_bytes()[:-9])
        result = house.rebuild()
        assert not result.success
        assert {key for (_, _, key), passed in checks_of(result).items() if not passed} == {day(2)}
        assert f"The object {segment} in" in reasons(result)


def test_an_empty_landing_is_told(house: House, tmp_path: Path):
    bare = House(Shop(tmp_path / "bare", house.shop.project))
    bare.shop.landing.mkdir(parents=True)
    result = bare.rebuild()
    assert not result.success
    assert "holds no data folders" in reasons(result)


def test_it_goes_as_far_as_it_is_told(house: House):
    assert house.rebuild(through=day(2)).success
    assert house.engine.chain.head.key == day(2)
    assert levels(house) == {"lamp": 6, "rug": 0}
