"""Forecasts of a rebuild, recorded with its outcome, on the command line and in Dagster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster import DagsterEventType

from refold.cli.main import cli
from refold.plan.decisions import plan_rebuild
from refold.plan.forecast import forecast, foreseen
from refold.plan.runs import Via, read_runs, runs_file
from refold.rebuild import rebuild_all
from tests.dagster.house import House
from tests.plan.house import day, land_day, project
from tests.support import Shop


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of each test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Three days have landed."""
    shop = Shop(tmp_path, project())
    for number in (1, 2, 3):
        land_day(shop, number)
    return shop


def outputs(result: dg.ExecuteInProcessResult, op: str) -> dict[str, dg.MetadataValue]:
    """The metadata of the output of an op."""
    (event,) = (e for e in result.all_events if e.event_type is DagsterEventType.STEP_OUTPUT and e.step_key == op)
    return dict(event.step_output_data.metadata)


def test_a_rebuild_records_its_prediction_and_what_it_took(shop: Shop):
    lines: list[str] = []
    snapshot = foreseen(shop.engine(), report=lines.append)
    assert snapshot.key == day(3)
    (run,) = read_runs()
    assert (run.via, run.project, run.through) == (Via.COMMAND, "small", day(3))
    took = [stage.took for stage in run.stages]
    assert None not in took
    assert sum(took) <= run.seconds
    assert lines[0].startswith("Predicted ") and "took" in lines[0]
    seal = run.stages[0]
    assert (seal.work["events"], seal.work["objects"], seal.work["keys"]) == (20, 5, 3)
    engine = shop.engine()
    plan = plan_rebuild(engine)
    assert forecast(engine, plan, [run], Via.COMMAND, base_mb=100).basis == "from 1 recorded run"
    seen = replace(run, peak_mb=321.0)  # a process that was larger before sees no peak of its own
    assert forecast(engine, plan, [seen], Via.COMMAND, base_mb=100).peak_mb == 321.0


def test_what_is_stored_is_the_same_with_a_forecast_and_without(shop: Shop, tmp_path: Path):
    foreseen(shop.engine(), report=lambda _: None)
    other = Shop(tmp_path / "other", project(), shop.landing)
    rebuild_all(other.engine())
    names = ("snapshots", "logs", "states", "layouts")
    assert [shop.files(name) for name in names] == [other.files(name) for name in names]


@pytest.mark.parametrize("fault", ["plan_rebuild", "record", "read_runs", "stages_of"])
def test_a_forecast_that_fails_fails_no_rebuild(
    shop: Shop, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault in the forecast")

    monkeypatch.setattr(f"refold.plan.forecast.{fault}", broken)
    assert foreseen(shop.engine(), report=lambda _: None).key == day(3)
    assert "a fault in the forecast" in caplog.text
    assert shop.engine().releaser.current().snapshot == day(3)


def test_a_damaged_cache_is_reported_and_new_runs_are_recorded(shop: Shop, caplog: pytest.LogCaptureFixture):
    runs_file().parent.mkdir(parents=True)
    runs_file().write_bytes(b"\x00damaged\n" * 3)
    foreseen(shop.engine(), report=lambda _: None)
    assert "3 of 3 lines" in caplog.text
    assert len(read_runs()) == 1


def test_more_work_is_expected_to_take_longer(shop: Shop):
    seconds = []
    for through in (day(1), day(2), day(3)):
        engine = shop.engine()
        plan = plan_rebuild(engine, through)
        seconds.append(forecast(engine, plan, [], Via.COMMAND, base_mb=100).seconds)
    assert seconds == sorted(set(seconds))


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def here(self, shop: Shop, monkeypatch: pytest.MonkeyPatch):
        """The command finds the shop from the working folder and the environment."""
        (shop.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.plan.house:PROJECT"\n')
        monkeypatch.chdir(shop.root)
        monkeypatch.setenv("REFOLD_LANDING", str(shop.landing))
        monkeypatch.setenv("REFOLD_STORE", str(shop.store))
        monkeypatch.setenv("REFOLD_DATABASE", shop.settings.database)

    def run(self, *arguments: str) -> str:
        result = CliRunner().invoke(cli, list(arguments))
        assert result.exit_code == 0, result.output
        return result.stdout

    def test_shows_stages_reasons_seconds_memory_and_sinks(self):
        shown = " ".join(self.run("plan").split())
        assert "levels: never built" in shown
        assert "Expected: " in shown and "peak memory" in shown
        assert "Sinks that change: Sql/levels, Delta/levels, Sql/names, Delta/movement." in shown
        assert "A release would be made: nothing was released yet." in shown

    def test_says_that_there_is_nothing_to_do(self, shop: Shop):
        assert "took" in self.run("rebuild")
        assert "Nothing to do" in self.run("plan")
        assert "Nothing to do" not in self.run("plan", "--fresh")
        land_day(shop, 4)
        assert "Nothing to do" not in self.run("plan")
        assert "Nothing to do" in self.run("plan", "--through", day(3))

    def test_prints_the_same_as_json(self):
        found = json.loads(self.run("plan", "--json"))
        assert (found["snapshots_to_seal"], found["landing_objects"], found["events_to_fold"]) == (3, 5, 38)
        assert found["expected_seconds"] == pytest.approx(sum(s["expected_seconds"] for s in found["steps"]), abs=0.01)

    def test_shows_earlier_predictions_and_outcomes(self):
        assert "0 rebuilds on this machine" in self.run("plan", "--history")
        self.run("rebuild")
        shown = self.run("plan", "--history")
        assert "1 rebuilds on this machine" in shown and "%" in shown
        assert len(json.loads(self.run("plan", "--history", "--json"))) == 1


class TestDagster:
    def test_shows_the_plan_first_and_what_the_run_took_last(self, shop: Shop):
        house = House(shop)
        result = house.rebuild()
        assert result.success
        plan, outcome = outputs(result, "plan"), outputs(result, "outcome")
        assert "| fold stock_events | **does** | 18 |" in plan["plan"].value
        assert "never built" in plan["plan"].value
        assert plan["sinks that change"].value == "Sql/levels, Delta/levels, Sql/names, Delta/movement"
        assert outcome["prediction and outcome"].value.startswith("Predicted ")
        assert "| replay stock_events |" in outcome["steps"].value
        (kept,) = read_runs()
        assert kept.via is Via.DAGSTER
        assert sum(stage.took for stage in kept.stages) == pytest.approx(kept.seconds, abs=0.01)

    def test_says_that_an_up_to_date_project_has_nothing_to_do(self, shop: Shop):
        house = House(shop)
        house.rebuild()
        assert "Nothing to do" in outputs(house.rebuild(), "plan")["plan"].value

    def test_a_plan_that_fails_fails_no_run(self, shop: Shop, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("refold.dagster.planning.plan_rebuild", lambda *_, **__: 1 / 0)
        result = House(shop).rebuild()
        assert result.success
        assert "plan" not in outputs(result, "plan")
        assert read_runs() == []
