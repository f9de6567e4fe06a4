"""Other shops' data, declared in a few lines: Northwind's inventory, and products with naughty names."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections import Counter
from enum import Enum, IntEnum
from pathlib import Path
from typing import NamedTuple

from refold import Daily, Log, Project, Sql, enum, fold, int64, reject, text, timestamp
from refold.rebuild import rebuild_all
from refold.testing import assert_replay_equal
from tests.support import Shop, digests


class Kind(Enum):
    ADD = "add"
    REMOVE = "remove"


class Level(NamedTuple):
    level: int = 0


inventory = Log(
    "inventory",
    key="product_id",
    event_id="event_id",
    columns={
        "event_id": text(),
        "product_id": text(),
        "quantity": int64(1),
        "event_type": enum(Kind),
        "occurred_at": timestamp(),
    },
)


class Why(IntEnum):
    TOO_FEW = 1


@fold(inventory, version=1, sinks=[Sql("on_hand")])
def on_hand(row: Level, event):
    """Units on hand."""
    if event.event_type == Kind.ADD:
        return row._replace(level=row.level + event.quantity)
    if event.quantity > row.level:
        return reject(Why.TOO_FEW)
    return row._replace(level=row.level - event.quantity)


def _published(tmp_path: Path, events: Path, day: str) -> list[tuple[str, int]]:
    """Land one file, rebuild, and read the table as its readers do."""
    shop = Shop(tmp_path, Project("other", Daily(dt.date.fromisoformat(day)), [on_hand]))
    target = shop.landing / "inventory" / f"dt={day}" / events.name
    target.parent.mkdir(parents=True)
    target.write_bytes(events.read_bytes())
    rebuild_all(shop.engine())
    assert shop.engine().quarantine() == []
    connection = sqlite3.connect(shop.root / "refold.db")
    rows = connection.execute("SELECT product_id, level FROM on_hand").fetchall()
    connection.close()
    return rows


def test_northwind_has_the_expected_units_on_hand(tmp_path: Path, shared_data: Path):
    folder = shared_data / "northwind_ledger"
    expected = json.loads((folder / "expected.json").read_text())
    rows = _published(tmp_path, folder / "events.jsonl", "2006-03-22")
    assert dict(rows) == expected["stock"]
    assert sum(level for _, level in rows) == expected["total"]


def test_northwind_delivered_day_by_day_equals_full_replay(shared_data: Path):
    folder = shared_data / "northwind_ledger"
    days: dict[str, list[str]] = {}
    for line in (folder / "events.jsonl").read_text().splitlines():
        days.setdefault(json.loads(line)["occurred_at"][:10], []).append(line)
    rows = assert_replay_equal(on_hand, days)
    expected = json.loads((folder / "expected.json").read_text())["stock"]
    assert {row["product_id"]: row["level"] for row in rows} == expected


def test_naughty_names_stay_themselves_byte_for_byte(tmp_path: Path, shared_data: Path):
    folder = shared_data / "naughty"
    expected = json.loads((folder / "expected.json").read_text())
    names = [json.loads(line)["product_id"] for line in (folder / "events.jsonl").read_text().split("\n") if line]
    rows = _published(tmp_path, folder / "events.jsonl", "2020-01-01")
    assert len(rows) == expected["distinct_ids_bytewise"]
    assert {product.encode(): level for product, level in rows} == Counter(name.encode() for name in names)
    assert {product: level for product, level in rows if level > 1} == expected["repeated"]
    assert sum(product == "" for product, _ in rows) == expected["empty_ids"]


def test_a_landing_partitioned_by_its_source_keeps_its_partitions(tmp_path: Path):
    """A key is where the landing's own partitions put it, and which partition that is changes no row."""
    events = [f'{{"event_id": "{n}", "product_id": "{"ab"[n % 2]}", "quantity": 1, "event_type": "add", '
              f'"occurred_at": "2026-01-01T00:00:00Z"}}\n' for n in range(6)]  # fmt: skip
    shop = Shop(tmp_path, Project("other", Daily(dt.date(2026, 1, 1)), [on_hand]))
    for partition in (0, 3):
        folder = shop.landing / "inventory" / "dt=2026-01-01" / f"partition={partition}"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_text("".join(events[partition // 3 :: 2]))
    head = rebuild_all(shop.engine())
    assert list(head.logs["inventory"].ends) == [3, 0, 0, 3]
    rows = shop.engine().rows(on_hand, head).to_pylist()
    assert [(row["product_id"], row["level"], row["log_partition"]) for row in rows] == [("a", 3, 0), ("b", 3, 3)]
    assert len(digests(shop.engine())) == 1
