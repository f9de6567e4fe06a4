"""A race: one counter removes five units, another adds ten, and two consumers hear of them in different orders.

`python race.py` shows what becomes of the two views without a common order, and with the log of Refold.
"""

import datetime as dt
import json
import sys
import tempfile
from enum import Enum, IntEnum
from pathlib import Path
from typing import NamedTuple

from refold import Daily, Log, Numbered, Project, enum, fold, int64, reject, text
from refold.config import Settings
from refold.engine import Engine


class Movement(Enum):
    """What an event does."""

    ADD = "add"
    REMOVE = "remove"


class Why(IntEnum):
    """Why a movement is refused."""

    INSUFFICIENT_STOCK = 1


movements = Log(
    "movements",
    key="product",
    event_id="id",
    columns={
        "id": text(),
        "product": text(),
        "counter": text(),
        "number": int64(1),
        "kind": enum(Movement),
        "units": int64(1),
    },
    numbered=Numbered("counter", "number"),
)


class Stock(NamedTuple):
    """A product of which nothing is there yet."""

    level: int = 0


@fold(movements, version=1)
def stock(row: Stock, event):
    """Units on hand. A removal that would go below zero is rejected."""
    if event.kind == Movement.ADD:
        return row._replace(level=row.level + event.units)
    if event.units > row.level:
        return reject(Why.INSUFFICIENT_STOCK)
    return row._replace(level=row.level - event.units)


PROJECT = Project("race", Daily(dt.date(2026, 1, 1)), [stock])

A = {"id": "a1", "product": "lamp", "counter": "A", "number": 1, "kind": "remove", "units": 5}
B = {"id": "b1", "product": "lamp", "counter": "B", "number": 1, "kind": "add", "units": 10}
ORDERS = {"one": (A, B), "other": (B, A)}


def heard(events: tuple[dict, ...]) -> int:
    """The level that a consumer without a log comes to: it applies events as it hears of them."""
    level = 0
    for event in events:
        if event["kind"] == "add":
            level += event["units"]
        elif event["units"] <= level:
            level -= event["units"]
    return level


def engine_in(root: Path, landing: Path) -> Engine:
    """A consumer with a store of its own, which reads that landing."""
    settings = Settings(str(landing), str(root / "store"), f"sqlite:///{root / 'refold.db'}", root / "search")
    return Engine(PROJECT, settings, now=dt.datetime(2030, 1, 1, tzinfo=dt.UTC))


def logged(root: Path) -> dict[str, tuple[int, str, dict[str, str]]]:
    """By consumer the level, the digest of the view, and the outcome of each event; both read one log.

    The counters land their events, each in an object of its own; the consumers see these appear in different orders.
    """
    found = {}
    for consumer, order in ORDERS.items():
        landing = root / consumer / "landing"
        folder = landing / "movements" / "dt=2026-01-01"
        folder.mkdir(parents=True)
        for event in order:
            (folder / f"{event['counter']}.jsonl").write_text(json.dumps(event) + "\n")
        engine = engine_in(root / consumer, landing)
        for _ in engine.sealing.seal():
            pass
        snapshot = engine.chain.get()
        record = engine.build(stock, snapshot)
        assert engine.prover.prove(stock, snapshot).passed
        (row,) = engine.rows(stock, snapshot).to_pylist()
        ledger = engine.builder.ledger_rows(stock, snapshot).to_pylist()
        outcomes = {each["id"]: each["reason"] or each["outcome"] for each in ledger}
        found[consumer] = (row["level"], record.state_digest, outcomes)
    return found


def main() -> None:
    """Show both."""
    without = {consumer: heard(order) for consumer, order in ORDERS.items()}
    sys.stdout.write(f"Without a common order: {without}\n")
    with tempfile.TemporaryDirectory() as folder:
        for consumer, (level, digest, outcomes) in logged(Path(folder)).items():
            sys.stdout.write(f"With the log, {consumer}: {level}, digest {digest[:12]}, {outcomes}\n")


if __name__ == "__main__":
    main()
