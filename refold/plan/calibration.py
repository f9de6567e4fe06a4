"""Calibration: a small made-up project rebuilt in a temporary folder, to see how fast this machine is.

For a machine on which no rebuild was recorded yet. The same events every time; two stores, a relation and SQLite. Takes
about two seconds, and leaves what it took in `refold.plan.runs`, where it counts for less than any real run.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from refold.base.progress import Timings
from refold.config import Settings
from refold.engine import Engine
from refold.landing.jsonl import JsonLines
from refold.log.declaration import Log
from refold.plan.decisions import plan_rebuild
from refold.plan.rates import COLD, ONCE
from refold.plan.runs import Measured, Outcome
from refold.plan.workload import steps_of
from refold.project import Daily, Project
from refold.rebuild import rebuild_all
from refold.rules.outcome import reject
from refold.sinks import Sql
from refold.stores.kinds.latest import latest_by_key
from refold.stores.kinds.relation import relation
from refold.stores.kinds.rule import fold
from refold.types import date, int64, text, timestamp

_START = dt.date(2026, 1, 1)
_SIZES = ((1, 300), (3, 500), (2, 20_000))
"""Snapshots, and events of each, of the rebuilds; the first is not counted, since it imports and compiles."""

_EVENTS = Log(
    name="calibration",
    columns={"event_id": text(), "thing": text(), "amount": int64(), "at": timestamp()},
    key="thing",
    event_id="event_id",
    event_time="at",
    partitions=2,
    decoder=JsonLines(),
)


class _Why(IntEnum):
    EMPTY = 1


class _Level(NamedTuple):
    level: int = 0


@fold(_EVENTS, version=1, sinks=[Sql("calibration_level")])
def _levels(row: _Level, event):  # type: ignore[no-untyped-def]
    """Units on hand."""
    if event.amount < 0 and row.level + event.amount < 0:
        return reject(_Why.EMPTY)
    return row._replace(level=row.level + event.amount)


def _project() -> Project:
    newest = latest_by_key(_EVENTS, name="calibration_newest", columns={"amount": int64()}, version=1)

    @relation(reads=[_levels.ledger], key=["event_date"], returns={"event_date": date(), "events": int64()})
    def calibration_days() -> str:
        """Events by day."""
        return "SELECT event_date, count(*) AS events FROM _levels_ledger GROUP BY event_date"

    return Project("calibration", Daily(_START), [_levels, newest, calibration_days])


def calibrate() -> Outcome:
    """Measure first rates on this machine, in about two seconds. Raises OSError where nothing can be written."""
    started, steps, warm = time.perf_counter(), list[Measured](), False
    _levels.rule.compile()
    with tempfile.TemporaryDirectory(prefix="refold-calibration-") as folder:
        for number, (snapshots, events) in enumerate(_SIZES):
            found = _rebuild(Path(folder, str(number)), snapshots, events)
            steps += found if warm else []
            warm = True
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return Outcome(
        "calibration", at, "calibration", "", "", 0.0, round(time.perf_counter() - started, 3), 0.0, None, steps
    )


def _rebuild(root: Path, snapshots: int, events: int) -> list[Measured]:
    """What every step of one rebuild took."""
    for day in range(snapshots):
        _land(root / "landing", day, events)
    settings = Settings(str(root / "landing"), str(root / "store"), f"sqlite:///{root / 'refold.db'}", root / "search")
    engine, timings = Engine(_project(), settings), Timings()
    plan = plan_rebuild(engine, thorough=False)
    rebuild_all(engine, timings=timings)
    return [
        Measured(step.name, step.kind, {**step.work, ONCE: 1.0, COLD: 0.0}, 0.0, timings.seconds[step.name])
        for step in steps_of(engine, plan.settled(engine))
        if step.name in timings.seconds
    ]


def _land(landing: Path, day: int, events: int) -> None:
    """One day of events: a fifth of their number things, of which every fourth movement takes something away."""
    key = _START + dt.timedelta(days=day)
    folder = landing / _EVENTS.name / f"dt={key}"
    folder.mkdir(parents=True)
    lines = (
        f'{{"event_id":"{n:08x}-0000-4000-8000-{n:012x}","thing":"t{(n * 7919) % (events // 5)}",'
        f'"amount":{n % 9 - 2},"at":"{key}T10:00:00Z"}}\n'
        for n in range(day * events, (day + 1) * events)
    )
    (folder / "events.jsonl").write_text("".join(lines), encoding="utf-8")
