"""What runs by itself, evaluated at given times, and what an operator reads when a run has failed."""

from __future__ import annotations

import datetime as dt
import socket
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.plan.objects import StepFailureData

from assets.logs import stock_events
from assets.stock import stock
from refold import Daily, Folders, Hourly, Project
from refold.dagster.assets import raised
from refold.dagster.failures import failure_report, failure_texts
from refold.errors import (
    Conflict,
    Damaged,
    DeclarationError,
    FixInput,
    RefoldError,
    RefusedLanding,
    Unavailable,
    Unproven,
)
from tests.dagster.house import START, House, damage, day
from tests.support import Shop, moved


def asked(house: House, time: str) -> dict[str, str] | str:
    """What the landing sensor asks for at a time: run keys by snapshot, or why it skips."""
    house_now = house.places(time=time)
    sensor = house.defs.resolve_sensor_def("landing")
    with dg.build_sensor_context(
        instance=house.instance, repository_def=house.defs.get_repository_def(), resources={"engine": house_now}
    ) as context:
        tick = sensor.evaluate_tick(context)
    requests = {request.partition_key: request.run_key for request in tick.run_requests}
    return requests or str(tick.skip_message)


def mark(house: House, number: int) -> None:
    (house.shop.landing / "stock_events" / f"dt={day(number)}" / "_SUCCESS").touch()


LATER = "2026-01-20T00:00:00+00:00"


class TestTheLandingSensor:
    def test_asks_for_days_that_are_over_and_past_their_grace(self, house: House):
        assert [*asked(house, "2026-01-03T01:59:00+00:00")] == [day(1)]
        assert [*asked(house, "2026-01-03T02:00:00+00:00")] == [day(1), day(2)]
        assert [*asked(house, LATER)] == [day(n) for n in range(1, 6)]

    def test_waits_for_a_day_that_may_still_fill(self, house: House):
        told = asked(house, "2026-01-01T23:00:00+00:00")
        assert str(told).startswith("Nothing new in landing is complete.")
        assert f"stock_events/dt={day(5)}/ (1 object) waits: it is in the future." in told

    def test_takes_a_marked_day_at_once(self, house: House):
        mark(house, 1)
        assert [*asked(house, "2026-01-01T23:00:00+00:00")] == [day(1)]

    def test_does_not_pass_over_an_incomplete_day(self, house: House):
        mark(house, 1)
        mark(house, 3)
        assert [*asked(house, "2026-01-01T23:00:00+00:00")] == [day(1)]

    def test_is_silent_when_all_is_sealed(self, house: House):
        assert house.rebuild().success
        assert asked(house, "2026-01-06T00:00:00+00:00") == "Nothing new in landing is complete."

    def test_asks_for_the_next_day_when_an_object_comes_late(self, house: House):
        assert house.rebuild().success
        house.shop.land(f"dt={day(2)}/late.jsonl", moved("8", "lamp", -7))
        assert [*asked(house, LATER)] == [day(6)]

    def test_asks_once_for_what_it_found_and_again_when_that_was_mended(self, house: House):
        path = house.shop.land(f"dt={day(1)}/a.jsonl", "{broken")
        first = asked(house, "2026-01-02T02:00:00+00:00")
        assert asked(house, "2026-01-02T02:00:00+00:00") == first
        path.write_text("mended, with other bytes under the same name\n")
        again = asked(house, "2026-01-02T02:00:00+00:00")
        assert first.keys() == again.keys()
        assert first != again

    def test_fails_where_it_cannot_read_landing(self, house: House):
        house.shop.land(f"dt={day(1)}/notes.txt", "not an event")
        with pytest.raises(RefusedLanding, match=r"dt=2026-01-01/notes\.txt"):
            asked(house, LATER)
        gone = House(house.shop.__class__(house.shop.root / "nowhere", house.shop.project))
        with pytest.raises(FixInput, match="Expected a folder at"):
            asked(gone, LATER)

    @pytest.mark.parametrize("time", ["2026-01-01T23:00", "2026-01-03T01:59", "2026-01-03T02:00", "2026-01-05T12:00"])
    @pytest.mark.parametrize("marked", [(), (1,), (1, 2, 3)])
    def test_agrees_with_the_command_at_any_time(self, house: House, time: str, marked: tuple[int, ...]):
        """The same keys are sealed by a rebuild at that time, and the schedule names none before it is over."""
        for number in marked:
            mark(house, number)
        house.shop.land(f"dt={day(19)}/ahead.jsonl", moved("8", "lamp", 7))
        requested = asked(house, f"{time}:00+00:00")
        at = dt.datetime.fromisoformat(f"{time}:00+00:00")
        sealed = [each.snapshot.key for each in replace(house.shop, now=at).engine().sealing.seal()]
        assert sealed == ([*requested] if isinstance(requested, dict) else [])

    def test_a_run_does_not_seal_a_day_that_is_not_over(self, house: House):
        early = house.declared(house.shop.project)
        early.time = "2026-01-02T01:59:00+00:00"
        result = early.run("prove_snapshot", day(1))
        assert not result.success
        assert "is sealed after 2026-01-02 02:00 UTC" in "\n".join(failure_texts(result.all_events))

    def test_asks_for_runs_that_succeed(self, house: House):
        for key in asked(house, "2026-01-03T02:00:00+00:00"):
            assert house.run("rebuild_snapshot", key).success
        assert house.engine.releaser.current().snapshot == day(2)


class TestSchedules:
    def at(self, house: House, name: str, time: str) -> list[str] | str:
        schedule = house.defs.resolve_schedule_def(name)
        with dg.build_schedule_context(
            instance=house.instance,
            repository_def=house.defs.get_repository_def(),
            scheduled_execution_time=dt.datetime.fromisoformat(time),
        ) as context:
            tick = schedule.evaluate_tick(context)
        return [request.partition_key for request in tick.run_requests] or str(tick.skip_message)

    def test_the_daily_one_takes_the_day_whose_grace_has_ended(self, house: House):
        assert self.at(house, "daily_rebuild", "2026-01-02T02:00:00+00:00") == [day(1)]
        assert self.at(house, "daily_rebuild", "2026-01-21T02:00:00+00:00") == [day(20)]

    def test_a_grace_of_more_than_a_day_waits_longer(self, house: House):
        slow = house.declared(house.shop.project.with_cadence(Daily(START, grace_hours=30)))
        assert self.at(slow, "daily_rebuild", "2026-01-03T06:00:00+00:00") == [day(1)]

    @pytest.mark.parametrize("time", ["2026-01-01T02:00:00+00:00", "2026-01-22T02:00:00+00:00"])
    def test_the_daily_one_skips_outside_the_cadence(self, house: House, time: str):
        assert "This project's snapshots run from 2026-01-01 to 2026-01-20" in self.at(house, "daily_rebuild", time)

    def test_the_weekly_one_takes_seven_days_inside_the_cadence(self, house: House):
        assert self.at(house, "weekly_backfill", "2026-01-11T02:30:00+00:00") == [day(n) for n in range(4, 11)]
        assert self.at(house, "weekly_backfill", "2026-01-04T02:30:00+00:00") == [day(1), day(2), day(3)]
        assert "is outside" in self.at(house, "weekly_backfill", "2026-02-15T02:30:00+00:00")

    def test_hours_have_partitions_and_a_schedule_of_their_own(self, tmp_path: Path):
        layout = Folders("dt={date}/hour={hour}")
        stores = [replace(stock, log=replace(stock_events, layout=layout))]
        house = House(Shop(tmp_path, Project("hours", Hourly(dt.datetime(2026, 1, 1, 22, tzinfo=dt.UTC)), stores)))
        house.shop.land("stock_events/dt=2026-01-01/hour=23/a.jsonl", moved("1", "lamp", 7))
        assert [*asked(house, "2026-01-02T00:14:00+00:00")] != ["2026-01-01T22"]
        assert [*asked(house, "2026-01-02T00:15:00+00:00")] == ["2026-01-01T22", "2026-01-01T23"]
        assert self.at(house, "hourly_rebuild", "2026-01-02T00:15:00+00:00") == ["2026-01-01T23"]
        assert "is outside" in self.at(house, "hourly_rebuild", "2026-01-01T22:15:00+00:00")
        assert house.run("rebuild_snapshot", "2026-01-01T23").success
        assert house.engine.releaser.current().snapshot == "2026-01-01T23"
        schedules = {each.name: each.cron_schedule for each in house.defs.get_repository_def().schedule_defs}
        assert schedules["hourly_rebuild"] == "15 * * * *"

    def test_a_cadence_without_a_start_is_refused(self, house: House):
        with pytest.raises(DeclarationError, match="the partitions in Dagster begin there"):
            _ = house.declared(house.shop.project.with_cadence(Daily())).defs

    def test_they_run_at_the_end_of_the_grace(self, house: House):
        schedules = {each.name: each.cron_schedule for each in house.defs.get_repository_def().schedule_defs}
        assert schedules == {
            "daily_rebuild": "0 2 * * *",
            "weekly_backfill": "30 2 * * 0",
            "hourly_verification": "45 * * * *",
        }


class TestAFailedRun:
    def report(self, house: House, result: dg.ExecuteInProcessResult) -> str:
        (event,) = [e for e in result.all_events if e.event_type == dg.DagsterEventType.RUN_FAILURE]
        with dg.build_run_status_sensor_context(
            sensor_name="run_failed",
            dagster_instance=house.instance,
            dagster_run=result.dagster_run,
            dagster_event=event,
        ) as context:
            return failure_report(context.for_run_failure())

    def test_is_told_with_its_snapshot_steps_and_words(self, house: House):
        house.shop.land(f"dt={day(1)}/b.jsonl.gz", b"")
        broken = house.shop.landing / "stock_events" / f"dt={day(1)}" / "b.jsonl.gz"
        broken.write_bytes(broken.read_bytes()[:-6])
        result = house.run("rebuild_snapshot", day(1))
        report = self.report(house, result)
        assert f"Run {result.run_id} of job rebuild_snapshot failed for snapshot {day(1)}" in report
        assert "step seal: " in report
        assert "b.jsonl.gz" in report
        assert "Traceback" not in report

    def test_is_told_with_the_check_that_stopped_it(self, house: House):
        assert house.rebuild().success
        damage(house, "levels", day(5))
        result = house.run("verify")
        report = self.report(house, result)
        assert "check full_replay of state/levels: checkpoint at snapshot" in report

    def test_is_logged_by_its_sensor(self, house: House):
        sensor = house.defs.resolve_sensor_def("run_failed")
        assert isinstance(sensor, dg.RunStatusSensorDefinition)
        assert sensor.default_status == dg.DefaultSensorStatus.STOPPED

    def test_is_told_from_its_first_cause(self):
        try:
            try:
                raise ValueError("the cause")
            except ValueError as error:
                raise RuntimeError("around it") from error
        except RuntimeError as error:
            from dagster._utils.error import serializable_error_info_from_exc_info

            info = serializable_error_info_from_exc_info((type(error), error, error.__traceback__))
        event = dg.DagsterEvent(
            "STEP_FAILURE", "job", step_key="s", event_specific_data=StepFailureData(error=info, user_failure_data=None)
        )
        assert failure_texts([event]) == ["s: ValueError: the cause"]


class TestRetries:
    @pytest.mark.parametrize("error", [Conflict("a race"), Unavailable("no answer")])
    def test_are_asked_for_where_trying_again_can_mend_it(self, error: RefoldError):
        assert isinstance(raised(error), dg.RetryRequested)

    @pytest.mark.parametrize("error", [FixInput("a setting"), Unproven("no proof"), Damaged("a byte")])
    def test_are_not_asked_for_otherwise(self, error: RefoldError):
        found = raised(error)
        assert isinstance(found, dg.Failure)
        assert (found.allow_retries, found.description) == (False, str(error))


class TestADatabaseThatDoesNotAnswer:
    @pytest.fixture
    def silent(self, house: House, monkeypatch: pytest.MonkeyPatch) -> House:
        """The house with a PostgreSQL URL that nobody answers at, and no waiting between tries."""
        pytest.importorskip("psycopg2")
        monkeypatch.setattr("refold.dagster.assets.RETRY_DELAY_SECONDS", 0)
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        house.database = f"postgresql+psycopg2://shop:hunter2@127.0.0.1:{port}/shop?sslpassword=hunter3"
        return house

    def test_is_tried_again_and_its_password_is_shown_nowhere(self, silent: House, capfd: pytest.CaptureFixture[str]):
        assert silent.run("prove_snapshot", day(1)).success
        result = silent.run("publish_newest", config={"loggers": {"console": {"config": {"log_level": "DEBUG"}}}})
        assert not result.success
        retried = {event.step_key for event in result.all_events if event.is_step_up_for_retry}
        assert retried == {"sql__levels"}

        shown = "\n".join(map(repr, silent.instance.all_logs(result.run_id))) + repr(result.dagster_run)
        told = "\n".join(failure_texts(result.all_events))
        assert "shop:***@127.0.0.1" in told
        for text in (shown, told, "".join(capfd.readouterr())):
            assert "hunter" not in text


def test_each_sink_each_state_and_sealing_have_a_pool_of_their_own(house: House):
    graph = house.defs.resolve_asset_graph()
    pools = {key.to_user_string(): graph.get(key).pools for key in graph.materializable_asset_keys}
    assert pools == {
        "log/stock_events": {"seal"},
        "state/levels": {"state_levels"},
        "state/movement": {"state_movement"},
        "sql/levels": {"sql_levels"},
        "delta/levels": {"delta_levels"},
        "delta/movement": {"delta_movement"},
        "release": {"release"},
    }
