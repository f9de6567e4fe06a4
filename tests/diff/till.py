"""The declarations of a till, and what it sold. Not a test.

Declared as text, and not by `tests.shop`: tests edit and commit it, and the commit must be loaded by itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

from refold.config import Settings
from refold.engine import Engine
from tests.support import LONG_AFTER

PYPROJECT = '[tool.refold]\nproject = "till:PROJECT"\n'

OLD = '''
"""The till."""

import datetime as dt
from enum import Enum, IntEnum
from typing import NamedTuple

from refold import Daily, Log, Project, Sql, Delta, date, documents, enum, fold, int64, latest_by_key, reject, relation
from refold import text, timestamp


class Kind(Enum):
    IN = "in"
    OUT = "out"


class Why(IntEnum):
    TOO_MANY = 1


class Level(NamedTuple):
    level: int = 0


moves = Log(
    "moves",
    key="item",
    event_id="id",
    event_time="at",
    columns={"id": text(), "item": text(), "units": int64(1), "kind": enum(Kind), "at": timestamp()},
)


@fold(moves, version=1, sinks=[Sql("on_hand")])
def on_hand(row: Level, event):
    """Units on hand."""
    if event.kind == Kind.IN:
        return row._replace(level=row.level + event.units)
    if event.units > row.level:
        return reject(Why.TOO_MANY)
    return row._replace(level=row.level - event.units)


last_move = latest_by_key(moves, "last_move", version=1, columns={"units": int64(1)})


@relation(
    reads=[on_hand.ledger],
    key=["event_date"],
    returns={"event_date": date(), "applied": int64()},
    sinks=[Delta("per_day")],
)
def per_day():
    """Moves that were applied."""
    return "SELECT event_date, count(*) FILTER (outcome = 'applied') AS applied FROM on_hand_ledger GROUP BY event_date"


search = documents("search", left=on_hand, right=last_move)

PROJECT = Project("till", Daily(dt.date(2026, 1, 1)), [on_hand, last_move, per_day, search])
'''

NEW = OLD.replace("if event.units > row.level:", "if event.units > row.level + 10:").replace(
    "moves, version=1", "moves, version=2"
)
"""The same with credit of ten units."""

FIRST = "2026-01-01"
DAYS = {
    FIRST: [("1", "nail", 20, "in"), ("2", "nail", 25, "out"), ("3", "bolt", 4, "in")],
    "2026-01-02": [("4", "nail", 8, "out"), ("5", "bolt", 99, "out"), ("3", "bolt", 4, "in")],
}
"""What moved. By the old rules 2 and 5 are refused: 12 nails are left; with credit 4 and 5 are: 5 nails are owed."""


def land(landing: Path) -> None:
    """Write what moved."""
    for day, events in DAYS.items():
        folder = landing / "moves" / f"dt={day}"
        folder.mkdir(parents=True)
        rows = [dict(zip(("id", "item", "units", "kind"), event, strict=True)) for event in events]
        lines = [
            json.dumps(row | {"at": "2026-01-01T08:00:00Z" if row["id"] == "3" else f"{day}T08:00:00Z"}) for row in rows
        ]
        (folder / "a.jsonl").write_text("".join(line + "\n" for line in lines))


def till_engine(places: Path) -> Engine:
    """The till by its old rules, over landing, store and database in a folder."""
    file = places / "till_as_it_was.py"
    file.write_text(OLD)
    module = ModuleType("till_as_it_was")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    exec(compile(OLD, str(file), "exec"), vars(module))
    settings = Settings(
        str(places / "landing"), str(places / "store"), f"sqlite:///{places / 'till.db'}", places / "store" / "search"
    )
    return Engine(module.PROJECT, settings, now=LONG_AFTER)
