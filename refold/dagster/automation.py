"""Automation: a sensor on landing, the daily schedule, a weekly backfill, and a sensor that reports failed runs."""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from refold.dagster.alerts import OnFailure, raise_alert, tick_failed, tick_passed
from refold.dagster.failures import failure_report, repair_reports
from refold.dagster.resource import EngineResource
from refold.project import Project
from refold.seal.cadence import Cadence
from refold.seal.refusal import joined
from refold.seal.sealing import shortened
from refold.storage.objects import canonical_json, sha256_hex

_SENSOR_SECONDS = 60
_BACKFILL_KEYS = 7


def build_sensors(project: Project, daily: Any, alerts: Sequence[OnFailure]) -> list[dg.SensorDefinition]:
    """The landing sensor, which requests the job `daily`, and the sensors that report failed runs and repairs."""
    return [_landing_sensor(project, daily, alerts), *_report_sensors(alerts)]


def _landing_sensor(project: Project, daily: Any, alerts: Sequence[OnFailure]) -> dg.SensorDefinition:
    unit = project.cadence.unit

    @dg.sensor(
        name="landing",
        job=daily,
        minimum_interval_seconds=_SENSOR_SECONDS,
        description=f"Seals and rebuilds a snapshot once it is due: {project.cadence.grace} after the end of its "
        f"{unit}, or when it has begun and _SUCCESS marks it in every log. Later objects enter the next snapshot. "
        "A tick fails where landing cannot be read.",
    )
    def landing(context: dg.SensorEvaluationContext, engine: EngineResource) -> dg.SensorResult:
        try:
            asked = requested(engine)
        except Exception as error:
            tick_failed(context.instance, alerts, error)
            raise
        tick_passed(context.instance)
        return asked

    def requested(engine: EngineResource) -> dg.SensorResult:
        opened = engine.open(project)
        sealer = opened.sealing.sealer()
        due, tags = opened.sealing.due(sealer), sealer.e_tags()
        waiting = opened.sealing.waiting(sealer, list(due))
        if not due and sealer.stopped:  # else the runs fail
            raise joined(list(sealer.stopped.values()))
        if not due:
            wrong = shortened([each for each in waiting if not each.is_usual])
            return dg.SensorResult(skip_reason="\n".join(["Nothing new in landing is complete.", *wrong]))
        # The run key depends on the objects found, so that a day is requested again once its objects were corrected.
        requests = [
            dg.RunRequest(run_key=f"{key}-{_digest([[name, tags.get(name, '')] for name in names])}", partition_key=key)
            for key, names in due.items()
        ]
        return dg.SensorResult(run_requests=requests)

    return landing


def _report_sensors(alerts: Sequence[OnFailure]) -> list[dg.SensorDefinition]:
    """They run by default where there are alerts, since whoever declares one wants it."""
    status = dg.DefaultSensorStatus.RUNNING if alerts else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name="run_failed",
        description="Logs what an operator needs when a run has failed, and alerts by what `on_failure` names.",
        default_status=status,
    )
    def run_failed(context: dg.RunFailureSensorContext) -> None:
        report = failure_report(context)
        context.log.error(report)
        title, _, rest = report.partition("\n")
        raise_alert(alerts, title, rest)

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="served_wrongly",
        description="Logs as an error what readers were served and was not proven, where a run published it again, and "
        "alerts by what `on_failure` names.",
        default_status=status,
    )
    def served_wrongly(context: dg.RunStatusSensorContext) -> None:
        for text in repair_reports(context.instance, context.dagster_run.run_id):
            context.log.error(text)
            title, _, rest = text.partition("\n")
            raise_alert(alerts, title, rest)

    return [run_failed, served_wrongly]


def _digest(value: Any) -> str:
    return sha256_hex(canonical_json(value))[:16]


def build_schedules(project: Project, *, daily: Any, weekly: Any, served: Any) -> list[dg.ScheduleDefinition]:
    """The rebuild after each grace, a weekly backfill of seven snapshots, and the hourly check of what is served.

    `daily`, `weekly` and `served` are their jobs.
    """
    cadence = project.cadence
    minutes = cadence.grace // dt.timedelta(minutes=1)
    hour, minute = minutes // 60 % 24, minutes % 60
    each = {"day": "daily", "hour": "hourly"}[cadence.unit]

    @dg.schedule(
        name=f"{each}_rebuild",
        job=daily,
        cron_schedule=f"{minute} {hour if cadence.unit == 'day' else '*'} * * *",
        description=f"Seals, builds, proves, publishes and releases the {cadence.unit} whose grace has just ended.",
    )
    def rebuild(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        yield from _requests(each, cadence, [cadence.newest_closed(context.scheduled_execution_time)])

    @dg.schedule(
        name="weekly_backfill",
        job=weekly,
        cron_schedule=f"30 {hour} * * 0",
        description=f"Builds and proves the last {_BACKFILL_KEYS} snapshots again. Nothing is published.",
    )
    def weekly_backfill(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        last = cadence.newest_closed(context.scheduled_execution_time)
        first = cadence.key(cadence.begins(last) - (_BACKFILL_KEYS - 1) * cadence.period)
        yield from _requests(f"weekly-{last}", cadence, cadence.between(first, last))

    verified = dg.ScheduleDefinition(
        name="hourly_verification",
        job=served,
        cron_schedule="45 * * * *",
        description="Reads back what readers see of every sink and compares it with its proof.",
    )
    return [rebuild, weekly_backfill, verified]


def _requests(name: str, cadence: Cadence, keys: list[str]) -> Iterator[dg.RunRequest | dg.SkipReason]:
    inside = [key for key in keys if cadence.contains(key)]
    if not inside:
        yield dg.SkipReason(f"This project's snapshots run {cadence.range}; {keys[-1]} is outside.")
    for key in inside:
        yield dg.RunRequest(run_key=f"{name}-{key}", partition_key=key)
