"""Forecasts: a plan with what it is expected to take on this machine, and what it took in the end.

`refold plan` shows a forecast; `foreseen` makes one, lets a rebuild run, and keeps prediction and outcome side by side
(`refold.plan.runs`), from which the next one learns. The clock and the memory of the process are read here, for reports
alone: nothing that is folded, proven, stored or served knows of them, and no fault in here fails a rebuild.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from refold.base.progress import Timings
from refold.engine import Engine
from refold.log.snapshot import Snapshot
from refold.plan.calibration import calibrate
from refold.plan.decisions import Plan, plan_rebuild
from refold.plan.rates import COLD, MEMORY, ONCE, Rates, learn
from refold.plan.runs import Measured, Outcome, read_outcomes, record
from refold.plan.workload import Step, memory_of, steps_of
from refold.rebuild import rebuild_all

T = TypeVar("T")
_log = logging.getLogger("refold")
_begun: set[str] = set()
"""The kinds of work that this process has done, and need not import and load for again."""


@dataclass(frozen=True)
class Forecast:
    """A plan and what it is expected to take.

    Attributes:
        steps: each with its seconds.
        memory: what decides on the peak, in millions.
        base_mb: what the process has before it begins.
        basis: what the rates come from, in words.
    """

    plan: Plan
    steps: Sequence[tuple[Step, float]]
    memory: Mapping[str, float]
    base_mb: float
    peak_mb: float
    basis: str
    rates: Rates

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return sum(seconds for _, seconds in self.steps)


@dataclass(frozen=True)
class Known:
    """The rates of this machine, and what they come from, in words."""

    rates: Rates
    basis: str


def known_rates(*, may_calibrate: bool) -> Known:
    """The rates learnt from what was recorded on this machine; where there is nothing, calibrate if that is allowed."""
    outcomes = read_outcomes()
    runs = sum(outcome.via != "calibration" for outcome in outcomes)
    calibrated = ""
    if not outcomes and may_calibrate:
        try:
            outcomes = [calibrate()]
        except OSError as error:
            _log.warning("This machine could not be measured: %s.", error)
        else:
            record(outcomes[0])
    if outcomes and not runs:
        calibrated = f"calibrated in {outcomes[0].seconds:.1f} s"
    rates = learn(observation for outcome in outcomes for observation in outcome.observations)
    recorded = f"from {runs} recorded run{'s' * (runs != 1)}"
    return Known(rates, recorded if runs else calibrated or "of another machine; `refold plan` measures this one")


def forecast(
    engine: Engine, plan: Plan, known: Known, *, base_mb: float, in_new_process: bool, extra: Sequence[Step] = ()
) -> Forecast:
    """What a plan is expected to take, in a process of its own or in this one; `extra` are steps around a rebuild."""
    done = set() if in_new_process else set(_begun)
    steps, expected = [*steps_of(engine, plan), *extra], list[tuple[Step, float]]()
    cold = "fold" not in done
    for step in steps:
        busy = any(step.work.values())
        whole = replace(step, work={**step.work, ONCE: float(busy), COLD: float(busy and step.kind not in done)})
        if busy:
            done.add(step.kind)
        expected.append((whole, known.rates.predict(whole.kind, whole.work)))
    memory = {**memory_of(engine, plan, steps), ONCE: 1.0, COLD: float(cold)}
    peak = base_mb + known.rates.predict(MEMORY, memory)
    return Forecast(plan, expected, memory, base_mb, peak, known.basis, known.rates)


def foreseen(
    engine: Engine, through: str | None = None, *, fresh: bool = False, report: Callable[[str], None]
) -> Snapshot:
    """`rebuild_all` with a forecast before and its outcome kept after; `report` is given one line about both.

    Raises what `rebuild_all` raises, and nothing of its own.
    """
    base, peak_before = resident_mb(), peak_mb()
    expected = attempt("A forecast", lambda: _expected(engine, through, fresh, base))
    timings, started = Timings(), time.perf_counter()
    snapshot = rebuild_all(engine, through, fresh=fresh, timings=timings)
    seconds = time.perf_counter() - started
    if expected is not None:
        peak = peak_mb() if peak_mb() > peak_before else None
        attempt("The outcome", lambda: report(told(keep(engine, expected, timings, seconds, peak, "command"))))
    return snapshot


def _expected(engine: Engine, through: str | None, fresh: bool, base: float) -> Forecast:
    plan = plan_rebuild(engine, through, fresh=fresh, thorough=False)
    return forecast(engine, plan, known_rates(may_calibrate=False), base_mb=base, in_new_process=False)


def attempt(what: str, work: Callable[[], T]) -> T | None:
    """What some work about a rebuild gives; None, and a warning, where it fails, since a rebuild must not."""
    try:
        return work()
    except Exception as error:  # whatever is wrong with a forecast, the rebuild is right and says what is wrong with it
        _log.warning("%s could not be made: %s: %s", what, type(error).__name__, error)
        return None


def keep(engine: Engine, expected: Forecast, timings: Timings, seconds: float, peak: float | None, via: str) -> Outcome:
    """Set a forecast beside what came, and append both to what this machine remembers."""
    begun(step.kind for step, _ in expected.steps)
    settled = {step.name: step.work for step in steps_of(engine, expected.plan.settled(engine))}
    steps = [
        Measured(step.name, step.kind, {**step.work, **settled.get(step.name, {})}, round(predicted, 6),
                 _rounded(timings.seconds.get(step.name)))
        for step, predicted in expected.steps
    ]  # fmt: skip
    grown = max(0.0, peak - expected.base_mb) if peak is not None else None
    steps.append(Measured(MEMORY, MEMORY, expected.memory, expected.peak_mb - expected.base_mb, grown))
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    outcome = Outcome(via, at, engine.project.name, expected.plan.through, expected.basis, round(expected.seconds, 3),
                      round(seconds, 3), round(expected.peak_mb, 1), _rounded(peak), steps)  # fmt: skip
    record(outcome)
    return outcome


def begun(kinds: Iterable[str]) -> None:
    """Remember that this process has done some kinds of work."""
    _begun.update(kinds)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def sentences(expected: Forecast) -> list[str]:
    """What the table does not say: whether there is anything to do, time and memory, sinks, the release."""
    made = expected.plan
    told = []
    if made.nothing_to_do:
        told.append("Nothing to do: all is sealed, built, proven, published and released. A rebuild would check again.")
    told.append(
        f"Expected: {seconds_text(expected.seconds)}, peak memory {expected.peak_mb:,.0f} MB; rates: {expected.basis}."
    )
    told.append(f"Sinks that change: {', '.join(made.changed_sinks) or 'none'}.")
    told.append(f"A release would be made: {made.release}." if made.release else "What is served stays as it is.")
    return [*told, *([made.note] if made.note else [])]


def told(outcome: Outcome) -> str:
    """Prediction and outcome as one line."""
    peak = ""
    if outcome.peak_mb is not None:
        peak = f"; peak memory {outcome.peak_mb:,.0f} MB, predicted {outcome.predicted_peak_mb:,.0f}"
    return (
        f"Predicted {seconds_text(outcome.predicted_seconds)}, took {seconds_text(outcome.seconds)} "
        f"({outcome.error_percent:+.0f} %){peak}. Rates: {outcome.basis}."
    )


def seconds_text(seconds: float) -> str:
    """Seconds as people say them.

    >>> seconds_text(0.042), seconds_text(3.21), seconds_text(75), seconds_text(4000)
    ('0.04 s', '3.2 s', '75 s', '67 min')
    """
    if seconds >= 600:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 60 else f"{seconds:.0f} s"


def bytes_text(size: int) -> str:
    """Bytes as people say them.

    >>> bytes_text(900), bytes_text(123_456), bytes_text(7_654_321)
    ('900 B', '123 kB', '7.7 MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 1e3:,.0f} kB" if size >= 1_000 else f"{size} B"


def peak_mb() -> float:
    """The most memory that this process ever had, in MB."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found / (1e6 if sys.platform == "darwin" else 1e3)


def resident_mb() -> float:
    """The memory that this process has now, in MB; where the system does not say, the most that it ever had."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 -- no file on a disk
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return peak_mb()
