"""The plan at the head of the history job, and what came of it at its end, as metadata of the two ops.

The ops of a run may be processes of their own, so what the plan said reaches the end through the run's own events, as
do the seconds of every stage. Nothing here fails a run.
"""

import datetime as dt
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from refold.base.progress import Timings
from refold.dagster import keys
from refold.engine import Engine
from refold.plan.decisions import Plan, plan_rebuild
from refold.plan.forecast import (
    Forecast,
    attempt,
    begun,
    bytes_text,
    forecast,
    known_rates,
    peak_mb,
    resident_mb,
    seconds_text,
    sentences,
    told,
)
from refold.plan.rates import MEMORY
from refold.plan.runs import Measured, Outcome, record
from refold.plan.workload import Step
from refold.rebuild import Stage, StageKind

_SAID = "forecast"
_STAGES = "seconds by stage"
_TOLD = "prediction and outcome"


def plan_metadata(engine: Engine, through: str | None, *, fresh: bool) -> dict[str, Any]:
    """What the job would do and why, how long it would take; {} if that fails."""
    return attempt("A plan", lambda: _planned(engine, through, fresh=fresh)) or {}


def _planned(engine: Engine, through: str | None, *, fresh: bool) -> dict[str, Any]:
    base = resident_mb()
    plan = plan_rebuild(engine, through, fresh=fresh)
    known = known_rates(may_calibrate=False)
    expected = forecast(engine, plan, known, base_mb=base, in_new_process=False, extra=list(_around(engine, plan)))
    return {
        "plan": dg.MetadataValue.md(markdown(expected)),
        "expected seconds": round(expected.seconds, 2),
        "expected peak memory, MB": round(expected.peak_mb),
        "sinks that change": ", ".join(plan.changed_sinks) or "none",
        _SAID: dg.MetadataValue.json(_said(engine, expected)),
    }


def _around(engine: Engine, plan: Plan) -> Iterator[Step]:
    """What the job does beside a rebuild: the structure of the logs is checked, and Dagster is told of everything."""
    for log in engine.project.logs:
        work = {"snapshots": len(plan.days), "events": plan.days[-1].logs[log.name].through}
        yield Step(
            str(Stage(StageKind.STRUCTURE, log.name)), "structure", False, ["the log is checked from offset 0"], work
        )
    stores = engine.project.in_order
    events = 2 * len(plan.days) * (len(engine.project.logs) + len(stores))
    events += sum(2 * len(keys.sink_groups(store)) for store in stores) + 1
    yield Step("bookkeeping", "dagster", False, ["materializations and checks are logged"], {"events": events})


def markdown(expected: Forecast) -> str:
    """A plan as a person reads it in the page of a run."""
    lines = ["| step | | events | rows | reads | expected | why |", "|---|---|--:|--:|--:|--:|---|"]
    for step, seconds in expected.steps:
        why = "; ".join(step.reasons).replace("|", "\\|").replace("\n", " ")
        does = "**does**" if step.due else "checks"
        size = bytes_text(step.size_bytes) if step.size_bytes else ""
        numbers = " | ".join(f"{n:,}" if n else "" for n in (step.events, step.rows))
        lines.append(f"| {step.name} | {does} | {numbers} | {size} | {seconds_text(seconds)} | {why} |")
    return "\n".join([*lines, "", *(f"{sentence}\n" for sentence in sentences(expected))])


def _said(engine: Engine, expected: Forecast) -> dict[str, Any]:
    steps = [Measured(step.name, step.kind, step.work, seconds, None) for step, seconds in expected.steps]
    grown = expected.peak_mb - expected.base_mb
    return {
        "project": engine.project.name,
        "through": expected.plan.through,
        "basis": expected.basis,
        "seconds": expected.seconds,
        "peak_mb": expected.peak_mb,
        "base_mb": expected.base_mb,
        "highest_mb": peak_mb(),
        "process": os.getpid(),
        "steps": [asdict(step) for step in [*steps, Measured(MEMORY, MEMORY, expected.memory, grown, None)]],
    }


def stages_metadata(timings: Timings) -> dict[str, Any]:
    """How long the stages of one op took; nothing where it had none."""
    if not timings.seconds:
        return {}
    return {_STAGES: dg.MetadataValue.json({name: round(seconds, 6) for name, seconds in timings.seconds.items()})}


def outcome_metadata(context: dg.OpExecutionContext) -> dict[str, Any]:
    """What the run took beside what its plan said, which is kept for later plans; none where there was no plan."""
    return attempt("The outcome", lambda: _outcome(context.instance, context.run_id)) or {}


def _outcome(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any] | None:
    said, stages = None, dict[str, float]()
    for entry in instance.all_logs(run_id, of_type=DagsterEventType.STEP_OUTPUT):
        metadata = entry.get_dagster_event().step_output_data.metadata
        said = _json(metadata, _SAID) or said
        stages |= _json(metadata, _STAGES) or {}
    found = instance.get_run_record_by_id(run_id)
    if said is None or found is None or found.start_time is None:
        return None
    seconds = time.time() - found.start_time
    outcome = outcome_of(said, stages, seconds)
    record(outcome)
    begun(step.kind for step in outcome.steps)
    return {
        _TOLD: told(outcome),
        "predicted seconds": outcome.predicted_seconds,
        "seconds": outcome.seconds,
        "error, percent": round(outcome.error_percent, 1),
        "steps": dg.MetadataValue.md(_steps(outcome)),
    }


def outcome_lines(events: Iterable[dg.DagsterEvent]) -> list[str]:
    """What the end of a run says of prediction and outcome, for a terminal; nothing where there was no plan."""
    found = [e.step_output_data.metadata.get(_TOLD) for e in events if e.event_type is DagsterEventType.STEP_OUTPUT]
    return [str(each.value) for each in found if each is not None]


def _json(metadata: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = metadata.get(name)
    return value.data if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, dict) else None


def outcome_of(said: Mapping[str, Any], stages: Mapping[str, float], seconds: float) -> Outcome:
    """A plan's words with what came; what no stage took is Dagster's bookkeeping."""
    highest = peak_mb()
    seen = said["process"] == os.getpid() and highest > said["highest_mb"]
    took = {**stages, "bookkeeping": max(0.0, seconds - sum(stages.values()))}
    if seen:
        took[MEMORY] = max(0.0, highest - said["base_mb"])
    steps = [Measured(**{**step, "took": took.get(step["name"])}) for step in said["steps"]]
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    predicted, peak = round(said["seconds"], 3), round(said["peak_mb"], 1)
    return Outcome("dagster", at, said["project"], said["through"], said["basis"], predicted,
                   round(seconds, 3), peak, round(highest, 1) if seen else None, steps)  # fmt: skip


def _steps(outcome: Outcome) -> str:
    lines = ["| step | predicted | took |", "|---|--:|--:|"]
    for step in outcome.steps:
        if step.kind != MEMORY and step.took is not None:
            lines.append(f"| {step.name} | {seconds_text(step.predicted)} | {seconds_text(step.took)} |")
    return "\n".join(lines)
