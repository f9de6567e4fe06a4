"""The plan at the start of the history job, and at its end what the run took, as metadata of the two ops.

The ops of a run may be processes of their own, so the prediction and the seconds of every stage reach the last op
through the run's own events. Nothing here fails a run.
"""

import datetime as dt
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg
from dagster import DagsterEventType

from refold.base.outside import as_markdown
from refold.base.progress import Timings
from refold.dagster import keys
from refold.engine import Engine
from refold.plan.decisions import Plan, plan_rebuild
from refold.plan.forecast import (
    Forecast,
    attempt,
    bytes_text,
    forecast,
    outcome_line,
    peak_mb,
    resident_mb,
    seconds_text,
    sentences,
)
from refold.plan.rates import Measured
from refold.plan.runs import RunRecord, Via, measured, read_runs, record
from refold.plan.workload import PlannedStage
from refold.rebuild import Stage, StageKind

_PREDICTION = "forecast"
_STAGES = "seconds by stage"
_OUTCOME = "prediction and outcome"


def plan_metadata(engine: Engine, through: str | None, *, fresh: bool) -> dict[str, Any]:
    """What the job would do and why, and how long it would take; {} if that fails."""
    return attempt("A plan", lambda: _planned(engine, through, fresh=fresh)) or {}


def _planned(engine: Engine, through: str | None, *, fresh: bool) -> dict[str, Any]:
    base = resident_mb()
    plan = plan_rebuild(engine, through, fresh=fresh)
    expected = forecast(engine, plan, read_runs(), Via.DAGSTER, base_mb=base, extra=list(_around(engine, plan)))
    return {
        "plan": dg.MetadataValue.md(markdown(expected)),
        "expected seconds": round(expected.seconds, 2),
        "expected peak memory, MB": round(expected.peak_mb),
        "sinks that change": ", ".join(plan.changed_sinks) or "none",
        _PREDICTION: dg.MetadataValue.json(_prediction(engine, expected)),
    }


def _around(engine: Engine, plan: Plan) -> Iterator[PlannedStage]:
    """What the job does beside a rebuild: it checks the structure of the logs, and reports everything to Dagster."""
    for log in engine.project.logs:
        parts = [day.logs[log.name] for day in plan.days]
        work = {"snapshots": sum(part.events > 0 for part in parts), "events": parts[-1].through}
        stage = Stage(StageKind.STRUCTURE, log.name)
        yield PlannedStage(stage, False, ["the log is checked from offset 0"], work)
    stores = engine.project.in_order
    events = 2 * len(plan.days) * (len(engine.project.logs) + len(stores))
    events += sum(2 * len(keys.sink_groups(store)) for store in stores) + 1
    reasons = ["materializations and checks are logged"]
    yield PlannedStage(Stage(StageKind.BOOKKEEPING), False, reasons, {"starts": 1, "events": events})


def markdown(expected: Forecast) -> str:
    """A plan as a person reads it in the page of a run."""
    lines = ["| step | | events | rows | reads | expected | why |", "|---|---|--:|--:|--:|--:|---|"]
    for stage, seconds in expected.stages:
        why = as_markdown("; ".join(stage.reasons).replace("\n", " "))
        does = "**does**" if stage.due else "checks"
        size = bytes_text(stage.size_bytes) if stage.size_bytes else ""
        numbers = " | ".join(f"{n:,}" if n else "" for n in (stage.events, stage.rows))
        lines.append(f"| {stage.name} | {does} | {numbers} | {size} | {seconds_text(seconds)} | {why} |")
    return "\n".join([*lines, "", *(f"{as_markdown(sentence)}\n" for sentence in sentences(expected))])


def _prediction(engine: Engine, expected: Forecast) -> dict[str, Any]:
    """What the last op needs of a forecast, as JSON."""
    return {
        "project": engine.project.name,
        "through": expected.plan.through,
        "basis": expected.basis,
        "seconds": expected.seconds,
        "peak_mb": expected.peak_mb,
        "highest_mb": peak_mb(),
        "process": os.getpid(),
        "stages": [
            asdict(Measured(stage.name, stage.kind, stage.work, seconds, None)) for stage, seconds in expected.stages
        ],
    }


def stages_metadata(timings: Timings) -> dict[str, Any]:
    """How long the stages of one op took; nothing where it had none."""
    if not timings.seconds:
        return {}
    return {_STAGES: dg.MetadataValue.json({name: round(seconds, 6) for name, seconds in timings.seconds.items()})}


def outcome_metadata(context: dg.OpExecutionContext) -> dict[str, Any]:
    """What the run took beside its prediction, which is recorded for later plans; {} where there was no plan."""
    return attempt("A record", lambda: _outcome(context.instance, context.run_id)) or {}


def _outcome(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any] | None:
    prediction, took = None, dict[str, float]()
    for entry in instance.all_logs(run_id, of_type=DagsterEventType.STEP_OUTPUT):
        metadata = entry.get_dagster_event().step_output_data.metadata
        prediction = _json(metadata, _PREDICTION) or prediction
        took |= _json(metadata, _STAGES) or {}
    found = instance.get_run_record_by_id(run_id)
    if prediction is None or found is None or found.start_time is None:
        return None
    run = _run_record(prediction, took, time.time() - found.start_time)
    record(run)
    return {
        _OUTCOME: outcome_line(run),
        "predicted seconds": run.predicted_seconds,
        "seconds": run.seconds,
        "error, percent": round(run.error_percent, 1),
        "steps": dg.MetadataValue.md(_table(run)),
    }


def outcome_lines(events: Iterable[dg.DagsterEvent]) -> list[str]:
    """Prediction and outcome at the end of a run, for a terminal; nothing where there was no plan."""
    found = [e.step_output_data.metadata.get(_OUTCOME) for e in events if e.event_type is DagsterEventType.STEP_OUTPUT]
    return [str(each.value) for each in found if each is not None]


def _json(metadata: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = metadata.get(name)
    return value.data if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, dict) else None


def _run_record(prediction: Mapping[str, Any], took: Mapping[str, float], seconds: float) -> RunRecord:
    """A prediction with what each stage took; the time of no stage is Dagster's bookkeeping."""
    highest = peak_mb()
    seen = prediction["process"] == os.getpid() and highest > prediction["highest_mb"]
    bookkeeping = max(0.0, seconds - sum(took.values()))
    took = {**took, str(Stage(StageKind.BOOKKEEPING)): round(bookkeeping, 6)}
    stages = [measured({**stage, "took": took.get(stage["name"])}) for stage in prediction["stages"]]
    return RunRecord(
        Via.DAGSTER,
        dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        prediction["project"],
        prediction["through"],
        prediction["basis"],
        round(prediction["seconds"], 3),
        round(seconds, 3),
        round(prediction["peak_mb"], 1),
        round(highest, 1) if seen else None,
        stages,
    )


def _table(run: RunRecord) -> str:
    lines = ["| step | predicted | took |", "|---|--:|--:|"]
    for stage in run.stages:
        if stage.took is not None:
            lines.append(f"| {stage.name} | {seconds_text(stage.predicted)} | {seconds_text(stage.took)} |")
    return "\n".join(lines)
