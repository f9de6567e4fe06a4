"""Automation: a sensor on landing, the daily schedule, a weekly backfill, and a sensor that reports failed runs."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import dagster as dg

from refold.dagster.failures import failure_report, repair_reports
from refold.dagster.resource import EngineResource
from refold.project import Project
from refold.seal.cadence import Daily
from refold.seal.refusal import joined
from refold.storage.objects import canonical_json, sha256_hex

_SENSOR_SECONDS = 60
_BACKFILL_DAYS = 7


def build_sensors(project: Project, daily: Any) -> list[dg.SensorDefinition]:
    """The landing sensor, which requests the job `daily`, and the run-failure sensor."""

    @dg.sensor(
        name="landing",
        job=daily,
        minimum_interval_seconds=_SENSOR_SECONDS,
        description="Seals and rebuilds a day once its landing is complete: marked by _SUCCESS in the folder of every "
        f"log, or {project.cadence.grace_hours} hours after its end. Later objects enter the next day's snapshot. "
        "A tick fails where landing cannot be read.",
    )
    def landing(context: dg.SensorEvaluationContext, engine: EngineResource) -> dg.SensorResult:
        opened = engine.open(project)
        sealer = opened.sealing.sealer()
        due, tags = opened.sealing.due(engine.now(), sealer), sealer.e_tags()
        if not due and sealer.stopped:  # else the runs fail
            raise joined(list(sealer.stopped.values()))
        if not due:
            return dg.SensorResult(skip_reason="Nothing new in landing is complete.")
        # The run key depends on the objects found, so that a day is requested again once its objects were corrected.
        requests = [
            dg.RunRequest(run_key=f"{key}-{_digest([[name, tags.get(name, '')] for name in names])}", partition_key=key)
            for key, names in due.items()
        ]
        return dg.SensorResult(run_requests=requests)

    @dg.run_failure_sensor(name="run_failed", description="Logs what an operator needs when a run has failed.")
    def run_failed(context: dg.RunFailureSensorContext) -> None:
        context.log.error(failure_report(context))

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="served_wrongly",
        description="Logs as an error what readers were served and was not proven, where a run published it again.",
    )
    def served_wrongly(context: dg.RunStatusSensorContext) -> None:
        for text in repair_reports(context.instance, context.dagster_run.run_id):
            context.log.error(text)

    return [landing, run_failed, served_wrongly]


def _digest(value: Any) -> str:
    return sha256_hex(canonical_json(value))[:16]


def build_schedules(project: Project, *, daily: Any, weekly: Any, served: Any) -> list[dg.ScheduleDefinition]:
    """The daily rebuild after the grace, a weekly backfill of seven snapshots, and the hourly check of what is served.

    `daily`, `weekly` and `served` are their jobs.
    """
    cadence = project.cadence
    hour = cadence.grace_hours % 24

    @dg.schedule(
        name="daily_rebuild",
        job=daily,
        cron_schedule=f"0 {hour} * * *",
        description="Seals, builds, proves, publishes and releases the day whose grace has just ended.",
    )
    def daily_rebuild(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        yield from _requests("daily", cadence, [_closed(cadence, context.scheduled_execution_time)])

    @dg.schedule(
        name="weekly_backfill",
        job=weekly,
        cron_schedule=f"30 {hour} * * 0",
        description=f"Builds and proves the last {_BACKFILL_DAYS} snapshots again. Nothing is published.",
    )
    def weekly_backfill(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        last = _closed(cadence, context.scheduled_execution_time)
        days = [last - dt.timedelta(days=n) for n in reversed(range(_BACKFILL_DAYS))]
        yield from _requests(f"weekly-{last}", cadence, days)

    verified = dg.ScheduleDefinition(
        name="hourly_verification",
        job=served,
        cron_schedule="45 * * * *",
        description="Reads back what readers see of every sink and compares it with its proof.",
    )
    return [daily_rebuild, weekly_backfill, verified]


def _closed(cadence: Daily, now: dt.datetime) -> dt.date:
    """The last day whose time and grace are over."""
    return (now - dt.timedelta(days=1, hours=cadence.grace_hours)).date()


def _requests(name: str, cadence: Daily, days: list[dt.date]) -> Iterator[dg.RunRequest | dg.SkipReason]:
    inside = [day.isoformat() for day in days if cadence.contains(day.isoformat())]
    if not inside:
        until = f"to {cadence.end - dt.timedelta(days=1)}" if cadence.end else "on"
        yield dg.SkipReason(f"This project's snapshots run from {cadence.start} {until}; {days[-1]} is outside.")
    for key in inside:
        yield dg.RunRequest(run_key=f"{name}-{key}", partition_key=key)
