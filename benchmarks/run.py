"""Run measures: `python -m benchmarks.run --measure rebuild --events 1000000 --rounds 5`.

Every subject runs once a round, each in a process of its own, one after the other, in an order that rotates from round
to round; a subject's ratio is to the baseline of the same round, because absolute times drift twofold on a shared
machine while ratios of neighbours hold. All that give an answer must give the right one, else this ends with an error.
Results are kept as JSON beside the data, one file a measure and size; `--write` makes `docs/benchmarks.md` of all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.dataset import read_about, write_landing, write_log
from benchmarks.generate import Shape
from benchmarks.measures import MEASURES, Measure, Subject, measure
from benchmarks.report import summary, write_report

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = (
    "pyarrow",
    "numpy",
    "numba",
    "polars",
    "duckdb",
    "pyspark",
    "bytewax",
    "pathway",
    "eventsourcing",
    "dagster",
)
_WATCH_SECONDS = 0.1

Run = dict[str, Any]


class WrongAnswerError(Exception):
    """A subject gave another answer than the generator knows to be right."""


def data_folder(home: Path, kind: str, events: int, seed: int = 1) -> Path:
    """The data of a kind and size, generated where it is not there."""
    folder = home / (kind if kind == "none" else f"{kind}-{events}-{seed}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if kind == "log":
        write_log(Shape(events, seed), folder)
    elif kind == "wide":
        write_log(Shape.wide(events, seed), folder)
    elif kind == "landing":
        write_landing(Shape(events, seed), folder)
    folder.mkdir(exist_ok=True)
    return folder


def run_subject(subject: Subject, data: Path) -> Run:
    """Prepare and run one subject once. Raises CalledProcessError where it fails and WrongAnswerError."""
    prepared = _child(subject, data, "--prepare") if subject.prepares else {}
    if "missing" in prepared:
        return prepared
    run = _child(subject, data)
    expected = run.get("expected") or (read_about(data) or {}).get("answer")
    if run.get("answer") is not None and run["answer"] != expected:
        raise WrongAnswerError(f"{subject.title}: expected the answer {expected}, found {run['answer']}.")
    return run


def _child(subject: Subject, data: Path, *options: str) -> Run:
    command = [sys.executable, "-m", "benchmarks.child", subject.target, str(data), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "DO_NOT_TRACK": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    peak = _watched(process) if subject.tree else 0
    said, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, said)
    result: Run = json.loads(said.strip().splitlines()[-1])
    if peak:
        result["peak_bytes"] = max(peak, result.get("peak_bytes", 0))
        result.pop("cpu_seconds", None)  # most of it was spent in processes that are not its children
    return result


def _watched(process: subprocess.Popen[str]) -> int:
    """The most memory that a process and those below it had resident at one time, looked at ten times a second."""
    top, most = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            family = [top, *top.children(recursive=True)]
            most = max(most, sum(each.memory_info().rss for each in family))
        except psutil.Error:
            pass  # one of them has just ended
        time.sleep(_WATCH_SECONDS)
    return most


def run_rounds(subjects: Sequence[Subject], data: Path, rounds: int, seconds: float) -> Iterator[dict[str, Run]]:
    """One result a subject, round by round; no round is begun that would probably pass the time that is left."""
    began, longest = time.monotonic(), 0.0
    for number in range(rounds):
        started = time.monotonic()
        if number and started - began + longest > seconds:
            return
        turn = number % len(subjects)
        found = {subject.name: run_subject(subject, data) for subject in [*subjects[turn:], *subjects[:turn]]}
        longest = max(longest, time.monotonic() - started)
        yield found


def sizes(chosen: Measure, events: int) -> list[tuple[int, Measure]]:
    """The measure at the size asked for and, with the baseline, at the smaller sizes of subjects that need one."""
    groups: dict[int, list[Subject]] = {}
    for subject in chosen.subjects:
        groups.setdefault(min(events, subject.events_max or events), []).append(subject)
    first = chosen.subjects[0]
    return [
        (size, replace(chosen, subjects=group if group[0] is first or not chosen.baseline else [first, *group]))
        for size, group in sorted(groups.items(), reverse=True)
    ]


def run_measure(chosen: Measure, events: int, home: Path, rounds: int, seconds: float) -> list[Path]:
    """Run a measure and keep the results; returns the files. Results of an earlier run of the size are replaced."""
    written = []
    for size, part in sizes(chosen, events if chosen.data != "none" else 0):
        data = data_folder(home, part.data, size)
        results: list[dict[str, Run]] = []
        file = home / "results" / f"{part.name}-{size}.json"
        for found in run_rounds(part.subjects, data, rounds, seconds):
            results.append(found)
            body = {"measure": part.name, "events": size, "machine": machine(), "rounds": results}
            body["subjects"] = [asdict(subject) for subject in part.subjects]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(body, indent=1) + "\n")
        sys.stdout.write(summary(json.loads(file.read_text())) + "\n")
        sys.stdout.flush()
        written.append(file)
    return written


def machine() -> Mapping[str, Any]:
    """What it was measured on, and with what."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    memory = psutil.virtual_memory().total
    return {
        "date": date.today().isoformat(),  # noqa: DTZ011  # for people
        "cpus": os.cpu_count(),
        "memory_bytes": memory,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": packages,
    }


def main() -> None:
    """Run the measures that are asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", action="append", choices=[each.name for each in MEASURES], help="default: compare")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=900, help="begin no round after so many, for each size")
    parser.add_argument("--only", action="append", metavar="SUBJECT", help="these subjects, beside the baseline")
    parser.add_argument("--home", type=Path, default=ROOT / ".refold" / "benchmarks", help="where data and results are")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md from all results")
    given = parser.parse_args()
    home = given.home.resolve()
    for name in given.measure or ([] if given.write else ["compare"]):
        chosen = measure(name)
        if given.only:
            first = chosen.subjects[:1] if chosen.baseline else []
            kept = [*first, *(s for s in chosen.subjects if s.name in given.only and s not in first)]
            chosen = replace(chosen, subjects=kept)
        run_measure(chosen, given.events, home, given.rounds, given.seconds)
    if given.write:
        write_report(home / "results", ROOT / "docs")


if __name__ == "__main__":
    main()
