"""The operator's jobs in Dagster: repair, rollback and prune do as the commands, and record what they change."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from tests.dagster.house import House, checks_of, damage, day, levels, reasons
from tests.dagster.test_served import _change_a_cell, _materialized


@pytest.fixture
def built(house: House) -> House:
    assert house.rebuild().success
    return house


def run(house: House, job: str, op: str, **config: Any) -> dg.ExecuteInProcessResult:
    return house.run(job, config={"ops": {op: {"config": config}}})


def materialized(result: dg.ExecuteInProcessResult) -> list[str]:
    events = [event for event in result.all_events if event.is_step_materialization]
    return [event.asset_key.to_user_string() for event in events if event.asset_key is not None]


class TestRepair:
    def test_publishes_again_just_what_differs_and_says_what_it_was(self, built: House):
        before = built.versions()
        _change_a_cell(built)
        result = run(built, "repair", "repair_stores")
        assert result.success, reasons(result)
        assert levels(built)["rug"] == 0
        assert materialized(result) == ["sql/levels"]
        table = _materialized(built, "sql/levels")["differed, and was made again"]
        assert [(row.data["expected"], row.data["found"]) for row in table.records] == [("0", "999")]
        assert built.versions() == before, "the content is what it was"

    def test_of_what_is_sound_changes_nothing(self, built: House):
        files = built.shop.files()
        result = run(built, "repair", "repair_stores")
        assert result.success
        assert materialized(result) == []
        assert built.shop.files() == files

    def test_makes_a_damaged_state_again_and_proves_it(self, built: House):
        damage(built, "levels", day(5))
        result = run(built, "repair", "repair_stores")
        assert result.success, reasons(result)
        assert checks_of(result)["state/levels", "full_replay", day(5)]
        assert "state/levels" in materialized(result)
        assert run(built, "repair", "repair_stores").get_asset_check_evaluations() == []

    def test_fails_where_the_log_itself_is_damaged(self, built: House):
        segment = next((built.shop.store / "logs/stock_events/segments").rglob("*.parquet"))
        segment.write_bytes(segment.read_bytes()[:-20] + b"x" * 20)
        result = run(built, "repair", "repair_stores")
        assert not result.success
        assert segment.name in reasons(result)


class TestRollback:
    def test_serves_the_release_before_and_records_it(self, house: House):
        for key in (day(1), day(2)):
            assert house.rebuild(through=key).success
        newest = levels(house)
        result = run(house, "rollback", "roll_back")
        assert result.success, reasons(result)
        assert materialized(result) == ["release"]
        metadata = _materialized(house, "release")
        assert (metadata["served snapshot"].value, metadata["release number"].value) == (day(1), 3)
        assert levels(house) != newest
        assert run(house, "rollback", "roll_back", release=2).success
        assert levels(house) == newest

    def test_of_the_only_release_fails_and_says_why(self, built: House):
        result = run(built, "rollback", "roll_back")
        assert not result.success
        assert "release" in reasons(result)


def test_prune_says_what_it_would_do_and_does_it_when_told(house: House):
    for key in (day(1), day(2), day(3)):
        assert house.rebuild(through=key).success
    files = house.shop.files()
    keeping = {"keep": 1, "older_than_days": 0.0}

    def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
        (output,) = [event for event in result.all_events if event.is_successful_output]
        return {name: value.value for name, value in output.step_output_data.metadata.items()}

    planned = told(run(house, "prune", "prune_versions", **keeping))
    assert planned["applied"] is False
    assert planned["versions to be given up"] == 6, "two days before, in three sinks"
    assert house.shop.files() == files
    served = levels(house)
    done = told(run(house, "prune", "prune_versions", apply=True, **keeping))
    assert done["versions dropped"] == planned["versions to be given up"]
    assert house.shop.files() != files
    assert levels(house) == served
    assert told(run(house, "prune", "prune_versions", **keeping))["versions to be given up"] == 0
