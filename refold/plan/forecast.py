"""Forecasts: how long a plan is expected to take on this machine, and what the rebuild took in the end.

`refold plan` shows a forecast; `foreseen` makes one, runs the rebuild, and records prediction and outcome
(`refold.plan.runs`) for later forecasts. The clock and the memory of the process are read here for reports alone:
nothing that is folded, proven, stored or served depends on them, and no fault in here fails a rebuild.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from refold.base.progress import Timings
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.snapshot import Snapshot
from refold.plan.decisions import Plan, plan_rebuild
from refold.plan.rates import Measured, Rates
from refold.plan.runs import RunRecord, Via, read_runs, record
from refold.plan.workload import PlannedStage, stages_of
from refold.rebuild import rebuild_all
from refold.seal.sealing import shortened

T = TypeVar("T")
_log = logging.getLogger("refold")

_PROCESS_MB, _EXPECTATIONS_MB = 230.0, 170.0
"""Memory of imports and compiled rules, and of Great Expectations beside them."""

_SNAPSHOT_EVENT_BYTES, _LOG_EVENT_BYTES = 400, 60
"""Bytes per event of the largest snapshot while it is sealed or folded, and per event of the whole log."""


@dataclass(frozen=True)
class Forecast:
    """A plan and what it is expected to take.

    Attributes:
        stages: each with its seconds, in the order of work.
        peak_mb: the largest peak recorded for this project and what runs it; where there is none, an estimate.
        basis: where the rates come from, in words.
    """

    plan: Plan
    stages: Sequence[tuple[PlannedStage, float]]
    peak_mb: float
    basis: str

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(seconds for _, seconds in self.stages)

    def record(
        self, project: str, took: Mapping[str, float], seconds: float, peak: float | None, via: Via
    ) -> RunRecord:
        """Prediction and outcome of a run that has just ended; `took` are seconds by the names of stages."""
        stages = [
            Measured(each.name, each.kind, each.work, round(predicted, 6), took.get(each.name))
            for each, predicted in self.stages
        ]
        at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        return RunRecord(via, at, project, self.plan.through, self.basis, round(self.seconds, 3), round(seconds, 3),
                         round(self.peak_mb, 1), peak, stages)  # fmt: skip


def forecast(
    engine: Engine,
    plan: Plan,
    runs: Sequence[RunRecord],
    via: Via,
    *,
    base_mb: float,
    extra: Sequence[PlannedStage] = (),
) -> Forecast:
    """The expected time and memory of a plan.

    Args:
        runs: recorded on this machine, oldest first.
        via: what would run it; the peak of memory is that of runs by the same.
        base_mb: the memory of the process before it begins.
        extra: stages around the rebuild.
    """
    rates = Rates(stage for run in runs for stage in run.stages)
    stages = [
        (stage, rates.seconds(stage.name, stage.kind, stage.work)) for stage in [*stages_of(engine, plan), *extra]
    ]
    recorded = [run.peak_mb for run in runs if (run.project, run.via) == (engine.project.name, via)]
    known = [peak for peak in recorded if peak is not None]
    peak = max(known) if known else base_mb + _usual_growth_mb(engine, plan)
    basis = f"from {len(runs)} recorded run{'s' * (len(runs) > 1)}" if runs else "defaults, until a rebuild is recorded"
    return Forecast(plan, stages, peak, basis)


def _usual_growth_mb(engine: Engine, plan: Plan) -> float:
    snapshot = max(part.events for day in plan.days for part in day.logs.values())
    log = max(part.through for part in plan.days[-1].logs.values())
    events = snapshot * _SNAPSHOT_EVENT_BYTES + log * _LOG_EVENT_BYTES
    expects = any(store.expect and store.sinks for store in engine.project.in_order)
    return _PROCESS_MB + _EXPECTATIONS_MB * expects + events / 1e6


def foreseen(
    engine: Engine, through: str | None = None, *, fresh: bool = False, report: Callable[[str], None]
) -> Snapshot:
    """`rebuild_all` with a forecast before it and a record after it; `report` is given one line about both.

    Raises what `rebuild_all` raises, and nothing of its own.
    """
    base, peak_before = resident_mb(), peak_mb()

    def expect() -> Forecast:
        plan = plan_rebuild(engine, through, fresh=fresh, thorough=False)
        return forecast(engine, plan, read_runs(), Via.COMMAND, base_mb=base)

    expected = attempt("A forecast", expect)
    timings, started = Timings(), time.perf_counter()
    snapshot = rebuild_all(engine, through, fresh=fresh, timings=timings)
    seconds = time.perf_counter() - started
    peak = peak_mb() if peak_mb() > peak_before else None
    if expected is not None:
        attempt("A record", lambda: report(_recorded(engine, expected, timings, seconds, peak)))
    return snapshot


def _recorded(engine: Engine, expected: Forecast, timings: Timings, seconds: float, peak: float | None) -> str:
    """Record a run of the command line, with its work as it turned out to be; returns a line about it."""
    done = {stage.name: stage for stage in stages_of(engine, expected.plan.settled(engine.chain))}
    stages = [(done.get(stage.name, stage), predicted) for stage, predicted in expected.stages]
    settled = Forecast(expected.plan, stages, expected.peak_mb, expected.basis)
    run = settled.record(engine.project.name, timings.seconds, seconds, peak, Via.COMMAND)
    record(run)
    return outcome_line(run)


def attempt(what: str, work: Callable[[], T]) -> T | None:
    """The result of some work around a rebuild; None where it fails, since the rebuild must not fail.

    A warning says why, unless it is an error of Refold, which the rebuild finds and reports itself.
    """
    try:
        return work()
    except RefoldError as error:
        _log.info("%s could not be made: %s", what, error)
        return None
    except Exception as error:  # a fault here must not fail a rebuild, which reports its own errors
        _log.warning("%s could not be made: %s: %s", what, type(error).__name__, error)
        return None


def sentences(expected: Forecast) -> list[str]:
    """The lines below the table: whether there is anything to do, time and memory, sinks, the release."""
    plan = expected.plan
    found = []
    if plan.nothing_to_do:
        found.append(
            "Nothing to do: all is sealed, built, proven, published and released. A rebuild would check again."
        )
    found.append(
        f"Expected: {seconds_text(expected.seconds)}, peak memory {expected.peak_mb:,.0f} MB; rates: {expected.basis}."
    )
    found.append(f"A rebuild looks at {plan.recheck}.")
    found.append(f"Sinks that change: {', '.join(plan.changed_sinks) or 'none'}.")
    found.append(f"A release would be made: {plan.release}." if plan.release else "What is served stays as it is.")
    if plan.early:
        found.append(
            f"Sealed by name before it is over: {', '.join(plan.early)}. What lands there later enters later snapshots."
        )
    return [*found, *([plan.note] if plan.note else []), *shortened(plan.waiting)]


def outcome_line(run: RunRecord) -> str:
    """Prediction and outcome in one line."""
    peak = ""
    if run.peak_mb is not None:
        peak = f"; peak memory {run.peak_mb:,.0f} MB, predicted {run.predicted_peak_mb:,.0f}"
    return (
        f"Predicted {seconds_text(run.predicted_seconds)}, took {seconds_text(run.seconds)} "
        f"({run.error_percent:+.0f} %){peak}. Rates: {run.basis}."
    )


def seconds_text(seconds: float) -> str:
    """Seconds as a short text.

    >>> seconds_text(0.042), seconds_text(3.21), seconds_text(75), seconds_text(4000)
    ('0.04 s', '3.2 s', '75 s', '67 min')
    """
    if seconds >= 600:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 60 else f"{seconds:.0f} s"


def bytes_text(size: int) -> str:
    """Bytes as a short text.

    >>> bytes_text(900), bytes_text(123_456), bytes_text(7_654_321)
    ('900 B', '123 kB', '7.7 MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 1e3:,.0f} kB" if size >= 1_000 else f"{size} B"


def peak_mb() -> float:
    """The peak of this process's memory, in MB."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found / (1e6 if sys.platform == "darwin" else 1e3)


def resident_mb() -> float:
    """The memory that this process has now, in MB; where the system does not report it, the peak."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 -- no file on a disk
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return peak_mb()
