"""A way of doing the work, and doing it once against the clock: seconds, CPU seconds, peak memory, the answer.

Importing, compiling and starting servers is start-up and not counted. `benchmarks.child` is the process around it.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.answer import Answer


def _no_start(data: Path) -> None:
    """Nothing to make ready."""


def _its_answer(found: Any) -> Answer | None:
    return found.answer() if found is not None else None


def _none_expected(started: Any) -> Answer | None:
    return None


def _no_details(found: Any) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class Program:
    """A way of doing the work.

    Attributes:
        work: (data folder, what `start` gave) -> what was found. Timed.
        start: makes ready in the same process; what it returns is handed to `work`.
        prepare: makes ready on disk, in a process of its own, before every round.
        answer: what was found -> the answer, after the clock has stopped; None where there is none to compare.
        details: what was found -> further numbers by name, such as the seconds of a part.
        expected: what `start` gave -> the answer that is right, where it is another than that of the data folder.
        end: called last with what `start` gave.
    """

    work: Callable[[Path, Any], Any]
    start: Callable[[Path], Any] = _no_start
    prepare: Callable[[Path], None] | None = None
    answer: Callable[[Any], Answer | None] = _its_answer
    details: Callable[[Any], Mapping[str, float]] = _no_details
    expected: Callable[[Any], Answer | None] = _none_expected
    end: Callable[[Any], None] = lambda started: None


def load(target: str) -> Program:
    """The program that `package.module` (its PROGRAM) or `package.module:NAME` names."""
    module, _, name = target.partition(":")
    program = getattr(importlib.import_module(module), name or "PROGRAM")
    assert isinstance(program, Program), f"{target} is a {type(program).__name__}; expected a Program."
    return program


def run(program: Program, data: Path) -> dict[str, Any]:
    """Do the work once in this process. Returns what is printed."""
    started = program.start(data)
    gc.collect()
    cpu, clock = _cpu_seconds(), time.perf_counter()
    found = program.work(data, started)
    seconds = time.perf_counter() - clock
    cpu_seconds, peak = _cpu_seconds() - cpu, peak_bytes()
    answer = program.answer(found)
    expected = program.expected(started)
    result = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": peak,
        "answer": asdict(answer) if answer is not None else None,
        "details": dict(program.details(found)),
        "expected": asdict(expected) if expected is not None else None,
    }
    program.end(started)
    return result


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_bytes() -> int:
    """The most memory this process had resident.

    Not `ru_maxrss` where /proc says it better: Linux carries the parent's size over into that of a new child.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
