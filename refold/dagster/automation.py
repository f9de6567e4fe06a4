"""What runs by itself: a sensor on landing, the daily schedule, a scheduled backfill, and word of failed runs."""

import datetime as dt
from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from refold.dagster.resource import EngineResource
from refold.errors import RefoldError
from refold.project import Project
from refold.storage import canonical_json, sha256_hex

_SENSOR_SECONDS = 60
_BACKFILL_DAYS = 7


def build_sensors(project: Project, daily: UnresolvedAssetJobDefinition) -> list[dg.SensorDefinition]:
    """The landing sensor and the run-failure sensor."""

    @dg.sensor(
        name="landing",
        job=daily,
        minimum_interval_seconds=_SENSOR_SECONDS,
        description="Seals and rebuilds a day once its landing is complete: marked by _SUCCESS, or past its grace.",
    )
    def landing(context: dg.SensorEvaluationContext, engine: EngineResource) -> dg.SensorResult:
        try:
            due = engine.open(project).due(dt.datetime.now(dt.UTC))
        except RefoldError as error:
            return dg.SensorResult(skip_reason=f"Landing cannot be sealed: {error}")
        if not due:
            return dg.SensorResult(skip_reason="Nothing new in landing is complete.")
        requests = [
            dg.RunRequest(run_key=f"{key}-{sha256_hex(canonical_json(names))[:16]}", partition_key=key)
            for key, names in due.items()
        ]
        return dg.SensorResult(run_requests=requests)

    @dg.run_failure_sensor(name="run_failed", description="Logs what an operator needs when a run has failed.")
    def run_failed(context: dg.RunFailureSensorContext) -> None:
        context.log.error(failure_report(context))

    return [landing, run_failed]


def failure_report(context: dg.RunFailureSensorContext) -> str:
    """Which run failed, on which partition, at which steps, with what, and what to do."""
    run = context.dagster_run
    lines = [
        f"Run {run.run_id} of job {run.job_name} failed"
        + (f" for snapshot {run.tags['dagster/partition']}" if "dagster/partition" in run.tags else "")
        + f": {context.failure_event.message}"
    ]
    for event in context.get_step_failure_events():
        failure = event.step_failure_data
        described = failure.user_failure_data.description if failure.user_failure_data else None
        lines.append(
            f"  step {event.step_key}: {described or (failure.error.message if failure.error else 'no message')}"
        )
    lines.append(f"  What is served has not changed. Open it with: dagster run {run.run_id} in the UI under Runs.")
    return "\n".join(lines)


def build_schedules(project: Project, daily: UnresolvedAssetJobDefinition) -> list[dg.ScheduleDefinition]:
    """The daily rebuild after the grace, and a weekly backfill of the last seven snapshots."""
    hour = project.cadence.grace_hours

    nightly = dg.build_schedule_from_partitioned_job(
        daily,
        name="daily_rebuild",
        hour_of_day=hour % 24,
        minute_of_hour=0,
        description="Seals, builds, proves, publishes and releases the day that has passed.",
    )

    @dg.schedule(
        name="weekly_backfill",
        job=daily,
        cron_schedule=f"30 {hour % 24} * * 0",
        description=f"Builds and proves the last {_BACKFILL_DAYS} snapshots again.",
    )
    def weekly_backfill(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        day = context.scheduled_execution_time.date()
        keys = [(day - dt.timedelta(days=n)).isoformat() for n in range(_BACKFILL_DAYS, 0, -1)]
        inside = [key for key in keys if project.cadence.contains(key)]
        if not inside:
            yield dg.SkipReason(f"No snapshot of this project lies between {keys[0]} and {keys[-1]}.")
        for key in inside:
            yield dg.RunRequest(run_key=f"weekly-{day}-{key}", partition_key=key)

    return [nightly, weekly_backfill]  # type: ignore[list-item]
