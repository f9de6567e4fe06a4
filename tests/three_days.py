"""A small shop to damage: what its tests and fixtures share. Not a test."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from pathlib import Path
from typing import Any

from assets.daily_movement import daily_movement
from assets.product_catalog import product_catalog
from assets.stock import stock
from refold import Daily, Project
from refold.rebuild import rebuild_all
from refold.storage.records import record_bytes
from tests.support import Shop, changed, moved

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
LAST = DAYS[-1]
SMALL = Project("small", Daily(dt.date(2026, 1, 1)), [stock, product_catalog, daily_movement])


def three_days(root: Path) -> Shop:
    """Three days, of which two are released; the third is sealed, built and proven."""
    shop = Shop(root, SMALL)
    for number, day in enumerate(DAYS):
        events = [moved(f"{number}-{n}", f"product {n}", 10 + n) for n in range(6)]
        events += [moved(f"{number}-{n} out", f"product {n}", -3) for n in range(6)]
        again = [moved("0-1", "product 1", 11)] if number else []
        shop.land(f"dt={day}/a.jsonl", *again, *events, moved(f"{number} too much", "product 2", -999))
        shop.land(f"product_changes/dt={day}/a.jsonl", changed(number, "u", "product 1", f"Product of {day}", "1.5"))
    rebuild_all(shop.engine(), DAYS[1])
    engine = shop.engine()
    for _ in engine.sealing.seal():
        pass
    for store in SMALL.in_order:
        engine.build(store, engine.chain.get())
        assert engine.prover.prove(store, engine.chain.get()).passed
    return shop


def what_readers_see(shop: Shop) -> list[tuple[object, ...]]:
    """The rows of the view of stock."""
    connection = sqlite3.connect(shop.root / "refold.db")
    rows = connection.execute("SELECT * FROM stock_view ORDER BY product_id").fetchall()
    connection.close()
    return rows


def layout_of(shop: Shop, key: str) -> tuple[Path, dict[str, Any]]:
    """The one layout of a snapshot: its name, and the objects it names by log."""
    (path,) = (shop.store / "layouts").glob(f"{key}-*/*.json")
    return path, json.loads(path.read_bytes())["body"]["logs"]


def write_layout(path: Path, logs: dict[str, Any]) -> None:
    """Have a layout name other objects, with its own hash right."""
    body = json.loads(path.read_bytes())["body"]
    path.write_bytes(record_bytes(body | {"logs": logs}))
