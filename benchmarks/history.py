"""What a day costs where history is long: a landing as it is, or repeated for years, and DuckDB alone beside it.

`python -m benchmarks.history --landing FOLDER` seals, folds, replays and relates the days of a landing with the logs of
`assets`, and prints for each phase milliseconds of processor time a day; how much dearer the days of the last tenth are
than those of the second; the most memory; and bytes stored beside those of the log. `--years 1 --years 10 --events 60`
repeats the landing with other ids on later days, thinned to so many events a day. `--tree FOLDER` runs the same in
another checkout with a `.venv` of its own, in turns, and demands the same digests. `--peer` computes every relation at
the last day alone in one DuckDB over tables in memory, and demands the same rows.

Processor time counts all threads, of the user and the system.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

DAY = re.compile(r"dt=(\d{4}-\d\d-\d\d)")
PERIOD_DAYS = 182
START = dt.date(2010, 12, 1)
PHASES = ("seal", "fold", "replay", "relations")


def generate(source: Path, target: Path, days: int, events: int) -> None:
    """Repeat a landing until it has so many days, with about so many stock events on each day that has any.

    Days keep their weekday, since the period is whole weeks; ids and times are those of another period.
    """
    for log in sorted(path.name for path in source.iterdir()):
        folders = {match[1]: path for path in (source / log).iterdir() if (match := DAY.search(path.name))}
        records = {
            (dt.date.fromisoformat(day) - START).days: [
                line for file in sorted(path.iterdir()) for line in gzip.decompress(file.read_bytes()).splitlines()
            ]
            for day, path in folders.items()
        }
        mean = sum(map(len, records.values())) / max(1, len(records))
        share = min(1.0, events / mean) if log == "stock_events" else min(1.0, 4 * events / mean / 100)
        for day in range(days):
            period, within = divmod(day, PERIOD_DAYS)
            kept = [line for line in records.get(within, []) if zlib.crc32(line) < share * 2**32]
            if kept:
                folder = target / log / f"dt={START + dt.timedelta(days=day)}"
                folder.mkdir(parents=True)
                lines = b"\n".join(_later(line, period) for line in kept) + b"\n"
                (folder / "part-00000.jsonl.gz").write_bytes(gzip.compress(lines, 1, mtime=0))


def _later(line: bytes, period: int) -> bytes:
    record = json.loads(line)
    if "source" in record:
        record["source"]["lsn"] += period * 10**6
    else:
        record["event_id"] = f"{period}-{record['event_id']}"
        moved = dt.datetime.fromisoformat(record["occurred_at"]) + dt.timedelta(days=period * PERIOD_DAYS)
        record["occurred_at"] = f"{moved:%Y-%m-%dT%H:%M:%SZ}"
    return json.dumps(record).encode()


def _processor() -> float:
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def _steps(engine: Any) -> Iterator[tuple[str, Iterable[Any]]]:
    """The phases with what each yields a day; of an engine of this checkout or an older one."""
    yield "seal", engine.sealing.seal() if hasattr(engine, "sealing") else engine.seal()
    head = engine.chain.get()
    for phase, one in (("fold", engine.fold_history), ("replay", engine.prove_history)):
        for log in engine.project.logs:
            yield phase, one(log.name, head)
    yield "relations", engine.relate_history(head)


def measure(root: Path, *, peer: bool = False) -> dict[str, Any]:
    """Rebuild the landing below a folder, and return seconds of processor time after each item of each phase."""
    from dataclasses import replace  # noqa: PLC0415  # of the tree that is measured, as all below

    from assets import PROJECT  # noqa: PLC0415
    from refold import Daily  # noqa: PLC0415
    from refold.config import Settings  # noqa: PLC0415
    from refold.engine import Engine  # noqa: PLC0415

    project = replace(PROJECT, cadence=Daily(START))
    settings = Settings(str(root / "landing"), str(root / "store"), f"sqlite:///{root}/refold.db", root / "search")
    with suppress(TypeError):
        engine = Engine(project, settings)  # type: ignore[call-arg]  # older checkouts have no clock
    if "engine" not in locals():
        last = max(DAY.search(path.name)[1] for path in (root / "landing").glob("*/dt=*"))  # type: ignore[index]
        now = dt.datetime.fromisoformat(f"{last}T23:00:00+00:00") + dt.timedelta(days=1)
        engine = Engine(project, settings, now=now)
    times: dict[str, list[list[float]]] = {phase: [] for phase in PHASES}
    for phase, items in _steps(engine):
        marks = [_processor()]
        for item in items:
            marks.append(_processor())
            verdicts = item[1] if isinstance(item, tuple) and phase in ("replay", "relations") else {}
            assert all(verdict.passed for verdict in verdicts.values()), [str(v) for v in verdicts.values()]
        times[phase].append([after - before for before, after in pairwise([*marks, _processor()])])
    head = engine.chain.get()
    digests = {store.name: engine.builder.require(store, head).state_digest for store in project.stores}
    sizes = {"log": 0, "store": 0, "objects": 0}
    for path in (root / "store").rglob("*"):
        if path.is_file():
            sizes["log" if "logs" in path.parts else "store"] += path.stat().st_size
            sizes["objects"] += 1
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"days": len(engine.chain), "times": times, "digests": digests, **sizes, "memory_mb": memory}
    return {**found, "peer_s": whole(engine)} if peer else found


def whole(engine: Any) -> float:
    """Processor seconds of all relations at the last day, each query run once by DuckDB; demands Refold's rows."""
    import duckdb  # noqa: PLC0415  # of the tree that is measured

    head, seconds = engine.chain.get(), 0.0
    for relation in engine.project.relations:
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        for source in relation.reads:
            is_ledger = source.name.endswith("_ledger")
            rows = engine.builder.ledger_rows(source.store, head) if is_ledger else engine.rows(source.store, head)
            connection.register(source.name, rows)
        began = _processor()
        rows = connection.sql(relation.sql).to_arrow_table()
        seconds += _processor() - began
        expected = engine.rows(relation, head)
        order = [(name, "ascending") for name in relation.key]
        if not rows.select(expected.column_names).cast(expected.schema).sort_by(order).equals(expected.sort_by(order)):
            raise AssertionError(f"{relation.name}: DuckDB gives other rows")
    return seconds


def _measured(tree: Path, landing: Path, *more: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "landing").symlink_to(landing)
        command = [str(tree / ".venv/bin/python"), __file__, "--child", name, *more]
        environ = {**os.environ, "PYTHONPATH": str(tree)}
        began = time.perf_counter()
        done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-4000:])
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "wall_s": time.perf_counter() - began}


def _per_day(times: list[list[float]], days: int) -> float:
    return 1000 * sum(map(sum, times)) / days


def _tenth(times: dict[str, list[list[float]]], *, last: bool) -> float:
    """Milliseconds a day in the second or last tenth of all phases but relations, which yield days by the chunk."""
    total = 0.0
    for phase in PHASES[:-1]:
        for each in times[phase]:
            size = max(1, len(each) // 10)
            part = each[-size - 1 : -1] if last else each[size : 2 * size]  # the first has what runs once
            total += 1000 * sum(part) / size
    return total


def _rows(name: str, found: dict[str, Any]) -> str:
    days, times = found["days"], found["times"]
    cells = [f"{_per_day(times[phase], days):.1f}" for phase in PHASES]
    total = sum(sum(map(sum, times[phase])) for phase in PHASES)
    early, late = _tenth(times, last=False), _tenth(times, last=True)
    ratio = (found["log"] + found["store"]) / found["log"]
    return (
        f"| {name} | {days} | {' | '.join(cells)} | {1000 * total / days:.1f} | {late / early:.2f} | {total:.1f} "
        f"| {found['memory_mb']:.0f} | {found['log'] / 2**20:.1f} | {ratio:.2f} | {found['objects'] / days:.1f} |"
    )


HEADER = (
    f"| landing | days | {' | '.join(f'{phase} ms' for phase in PHASES)} | ms a day | last / second tenth | seconds "
    "| memory MB | log MB | stored / log | objects a day |\n|" + " --- |" + " --: |" * 12
)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--landing", type=Path, required="--child" not in sys.argv)
    parser.add_argument("--tree", type=Path, action="append", default=[])
    parser.add_argument("--years", type=float, action="append", default=[])
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(measure(options.child, peer=options.peer)) + "\n")
        return
    sys.stdout.write(HEADER + "\n")
    trees = [Path(__file__).parents[1], *options.tree]
    with tempfile.TemporaryDirectory() as name:
        for years in options.years or [0]:
            landing = options.landing.resolve()
            if years:
                landing = Path(name) / "landing"
                shutil.rmtree(landing, ignore_errors=True)
                generate(options.landing, landing, round(365 * years), options.events)
            for _ in range(options.rounds):
                digests = []
                for tree in trees:
                    found = _measured(tree, landing, *(["--peer"] if options.peer and tree == trees[0] else []))
                    digests.append(found["digests"])
                    label = f"{f'{years:g} years' if years else 'retail'}{'' if tree == trees[0] else f', {tree.name}'}"
                    sys.stdout.write(_rows(label, found) + "\n")
                    if "peer_s" in found:
                        sys.stdout.write(
                            f"DuckDB, every relation once, at the last day alone: {found['peer_s']:.2f} s\n"
                        )
                    sys.stdout.flush()
                assert all(each == digests[0] for each in digests), "digests differ between checkouts"


if __name__ == "__main__":
    main()
