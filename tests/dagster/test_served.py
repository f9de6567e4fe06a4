"""What is served against its proof, in Dagster: found by checks and jobs, and told where a run published it again."""

from __future__ import annotations

import sqlite3
from typing import Any

import dagster as dg
import pytest

from refold.dagster.failures import repair_reports
from refold.dagster.metadata import WAS_WRONG
from tests.dagster.house import NOT_NEGATIVE, House, checks_of, day, levels, reasons, small_project

WRONG = ("sql/levels", "served", None)


@pytest.fixture
def built(house: House) -> House:
    assert house.rebuild().success
    return house


def _change_a_cell(house: House) -> None:
    """Change what readers of the view see of the rug."""
    with sqlite3.connect(house.shop.root / "refold.db") as connection:
        found = connection.execute("SELECT rows_table, version FROM refold_release WHERE table_name = 'levels'")
        table, version = found.fetchone()
        update = f"UPDATE \"{table}\" SET level = 999 WHERE product_id = 'rug' AND refold_version = ?"
        assert connection.execute(update, [version]).rowcount == 1
    connection.close()
    assert levels(house)["rug"] == 999


def _failed(result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    return [found for found in result.get_asset_check_evaluations() if not found.passed]


def _materialized(house: House, name: str) -> dict[str, Any]:
    record = house.instance.fetch_materializations(dg.AssetKey.from_user_string(name), limit=1).records[0]
    assert record.asset_materialization is not None
    return dict(record.asset_materialization.metadata)


class TestAChangedCell:
    @pytest.mark.parametrize("job", ["verify", "verify_served"])
    def test_fails_the_jobs_by_cell(self, built: House, job: str):
        _change_a_cell(built)
        result = built.run(job)
        assert not result.success
        (found,) = _failed(result)
        assert (found.asset_key.to_user_string(), found.check_name) == WRONG[:2]
        assert found.severity is dg.AssetCheckSeverity.ERROR
        assert "key 'rug', column level: expected 0, found 999" in (found.description or "")
        table = found.metadata["differences"]
        assert isinstance(table, dg.TableMetadataValue)
        assert [record.data["found"] for record in table.records] == ["999"]
        assert levels(built)["rug"] == 999, "a check changes nothing"

    @pytest.mark.parametrize("again", ["rebuild_history", "rebuild_snapshot"])
    def test_is_published_again_and_told_in_the_run_its_metadata_and_an_alert(self, built: House, again: str):
        _change_a_cell(built)
        result = built.rebuild() if again == "rebuild_history" else built.run(again, day(5))
        assert result.success, reasons(result)
        assert levels(built)["rug"] == 0
        assert checks_of(result)[WRONG]
        table = _materialized(built, "sql/levels")[WAS_WRONG]
        (row,) = [record.data for record in table.records]
        assert (row["expected"], row["found"], row["published again"]) == ("0", "999", "yes")
        assert WAS_WRONG not in _materialized(built, "delta/levels")
        (alert,) = repair_reports(built.instance, result.run_id)
        assert alert.startswith("sql/levels served what was not proven") and "expected 0, found 999" in alert
        warnings = [e.user_message for e in built.instance.all_logs(result.run_id) if e.level == 30]
        assert any("column level: expected 0, found 999" in text for text in warnings)

    def test_is_logged_by_the_sensor(self, built: House, capfd: pytest.CaptureFixture[str]):
        _change_a_cell(built)
        result = built.run("rebuild_snapshot", day(5))
        sensor = built.defs.resolve_sensor_def("served_wrongly")
        context = dg.build_run_status_sensor_context(
            sensor_name="served_wrongly",
            dagster_event=result.get_run_success_event(),
            dagster_instance=built.instance,
            dagster_run=result.dagster_run,
        )
        sensor(context)
        assert "expected 0, found 999" in capfd.readouterr().err

    def test_of_a_store_whose_rule_has_changed_warns_and_is_replaced_by_the_newer_release(self, built: House):
        _change_a_cell(built)
        later = built.declared(small_project(refuses=False, expectations=[NOT_NEGATIVE]))
        assert not later.run("verify_served").success
        assert later.run("prove_snapshot", day(6)).success
        result = later.run("rebuild_snapshot", day(6))
        (found,) = [each for each in _failed(result) if each.check_name == "served"]
        assert found.severity is dg.AssetCheckSeverity.WARN
        table = _materialized(built, "sql/levels")[WAS_WRONG]
        assert [record.data["published again"] for record in table.records] == ["no: the next release replaces it"]


def test_nothing_is_wrong_before_the_first_release(house: House):
    result = house.run("verify_served")
    assert result.success, reasons(result)
    assert {found.description for found in result.get_asset_check_evaluations()} == {"Nothing is released yet."}
