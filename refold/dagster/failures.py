"""Failed steps as text: for the run-failure sensor, and for the command that runs the history job."""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.execution.plan.objects import StepFailureData

from refold.dagster.metadata import WAS_WRONG
from refold.errors import RefoldError


def failure_text(failure: StepFailureData) -> str:
    """Why a step failed, from the most specific message there is; without a traceback."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    chain, error = [], failure.error
    while error is not None:
        chain.append(error.message.strip())
        error = error.cause
    own = [text.partition(": ")[2] for text in chain if text.startswith(f"{RefoldError.__module__}.")]
    return next(iter([*own, *reversed(chain)]), "no message")


def failure_report(context: dg.RunFailureSensorContext) -> str:
    """The failed run with its snapshot, its failed steps and checks with their messages, and where to look."""
    run = context.dagster_run
    partition = run.tags.get("dagster/partition")
    where = f" for snapshot {partition}" if partition else ""
    lines = [f"Run {run.run_id} of job {run.job_name} failed{where}: {context.failure_event.message}"]
    for event in context.get_step_failure_events():
        lines.append(f"  step {event.step_key}: {failure_text(event.step_failure_data)}")
    lines += [f"  check {text}" for text in _failed_checks(context.instance, run.run_id)]
    lines.append(
        f"  Readers still see the release before unless `release` succeeded. In the UI: Runs, {run.run_id[:8]}."
    )
    return "\n".join(lines)


def repair_reports(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    """For every asset that a run published again because what it served was not as proven, a report."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        event = entry.dagster_event
        found = event.materialization.metadata.get(WAS_WRONG) if event is not None else None
        if event is not None and isinstance(found, dg.TableMetadataValue):
            name = event.materialization.asset_key.to_user_string()
            yield f"{name} served what was not proven, until run {run_id[:8]} published it again:\n" + "\n".join(
                f"  {row['where']}: expected {row['expected']}, found {row['found']}"
                for row in (record.data for record in found.records)
            )


def _failed_checks(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        event = entry.dagster_event
        if event is not None and not event.asset_check_evaluation_data.passed:
            check = event.asset_check_evaluation_data
            yield f"{check.check_name} of {check.asset_key.to_user_string()}: {check.description}"


def failure_texts(events: Sequence[dg.DagsterEvent]) -> list[str]:
    """One text for each failed step among a run's events."""
    return [f"{e.step_key}: {failure_text(e.step_failure_data)}" for e in events if e.is_step_failure]
