"""Running many schedules: batches with seeds of their own, over several processes, and the page that tells the result.

A batch is one run of Hypothesis over `BATCH` schedules. Its seed follows from the seed of the whole and its number, so
that a failing one is run again alone, by the command that a failure prints.
"""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machine.keeping import Tally
from tests.machine.machine import Machine, prepare

BATCH = 250
STEPS = 16
PAGE = Path(__file__).parents[2] / "docs" / "schedules.md"
_LIBRARIES = ("hypothesis", "numpy", "pyarrow", "numba", "duckdb", "obstore", "SQLAlchemy")

BOUNDED = settings(
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"""What all runs share: no memory of earlier runs, no limit on the time of one schedule, one failure at a time."""


@dataclass
class Result:
    """What some schedules came to; `failure` is the text of the first one that failed."""

    schedules: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    failure: str = ""

    def add(self, other: Result) -> None:
        """Take in another result."""
        self.schedules += other.schedules
        self.steps += other.steps
        self.failure = self.failure or other.failure


def run_batch(whole_seed: int, number: int, size: int, *, shrink: bool = True) -> Result:
    """Run one batch in this process."""
    prepare()
    machine = type("Machine", (Machine,), {"tally": Tally()})
    seed(whole_seed * 1_000_003 + number)(machine)
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    started, failure = time.perf_counter(), ""
    try:
        run_state_machine_as_test(machine, settings=settings(BOUNDED, max_examples=size, phases=phases))
    except Exception:  # whatever a schedule ends in is what is sought
        failure = f"{traceback.format_exc()}\nRun it again: {command(whole_seed, number, size)}\n"
    return Result(machine.tally.schedules, machine.tally.steps, time.perf_counter() - started, failure)


def run_alone(whole_seed: int, number: int, size: int) -> Result:
    """Run one batch in a process of its own.

    Hypothesis draws from the constants of all modules that are loaded, so that a seed gives the same schedules only
    where the same ones are.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run_batch, whole_seed, number, size).result()


def command(whole_seed: int, number: int, size: int) -> str:
    """The command that runs one batch again."""
    return f"python -m tests.machine --seed {whole_seed} --schedules {size} --batch {number}"


def run_all(schedules: int, whole_seed: int, workers: int, minutes_max: float) -> Iterator[Result]:
    """Run batches until there are enough schedules, one fails or the time is over; yields the sum so far.

    The batches that are under way at the end are waited for, so it ends within one batch's time after that.
    """
    started, total = time.perf_counter(), Result()
    sizes = [min(BATCH, schedules - start) for start in range(0, schedules, BATCH)]
    ahead = iter(zip(count(), sizes))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(run_batch, whole_seed, *each) for each in islice(ahead, workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                total.add(each.result())
                total.seconds = time.perf_counter() - started
                yield total
            over = bool(total.failure) or total.seconds > 60 * minutes_max
            running |= _more(pool, whole_seed, ahead, 0 if over else len(done))


def _more(
    pool: ProcessPoolExecutor, whole_seed: int, ahead: Iterator[tuple[int, int]], number: int
) -> set[Future[Result]]:
    return {pool.submit(run_batch, whole_seed, *each) for each in islice(ahead, number)}


def write_page(result: Result, asked: int, whole_seed: int, workers: int, page: Path = PAGE) -> None:
    """Write the result as a page of the documentation."""
    steps = sum(result.steps.values())
    facts = {
        "schedules": f"{result.schedules:,} of {asked:,} asked for",
        "steps": f"{steps:,}",
        "failures": "1, told below" if result.failure else "0",
        "seed": str(whole_seed),
        "seconds": f"{result.seconds:,.0f} with {workers} workers on {os.cpu_count()} cores",
        "schedules a second": f"{result.schedules / result.seconds:.1f}",
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{n} {_version(n)}" for n in _LIBRARIES)]),
    }
    lines = [
        "# Random schedules",
        "",
        "A state machine (`tests/machine/`) draws schedules of landing, work, crashes and damage. After every step,",
        "what is stored and served is held against full replay, the plain reference, and a model in a few lines of",
        "Python that knows nothing of Refold. This page is written by the run itself:",
        "",
        f"    python -m tests.machine --schedules {asked} --seed {whole_seed} --workers {workers}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
        f"A schedule has up to {STEPS} steps, and a quarter of them ends with an undisturbed rebuild. A step that is",
        "*crashed* was ended by an exception at one of its writes, and its engine thrown away; one that is *refused*",
        "ended with the error that the model foresaw, or with one about damage that still stood. After each of them",
        "everything must hold.",
        "",
        "| step | times |",
        "|---|---:|",
        *(f"| {kind} | {number:,} |" for kind, number in sorted(result.steps.items())),
    ]
    if result.failure:
        lines += ["", "## The failure", "", "```", result.failure.strip(), "```"]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
