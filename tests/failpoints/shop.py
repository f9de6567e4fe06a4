"""The little shop with a sink of every kind, under four declarations. Not a test.

What readers must find is computed here by plain loops over the landed records, without anything of Refold.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from refold import BulkNdjson, Delta, Log, Project, Sql, Tantivy, expect, int64, reject
from refold.config import Settings
from refold.engine import Engine
from tests import shop
from tests.shop import Kind, Why, move
from tests.support import LONG_AFTER

DAYS = shop.DAYS[:4]
PRODUCTS = ("bolt", "nail", "screw")
NOW = dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)
DATABASE_FILE = "data/refold.db"
SQLITE = f"sqlite:///{DATABASE_FILE}"
"""All places are relative to the folder of the shop, so that a copy of it is the same shop elsewhere."""

TOO_MANY = 5_000
"""A quantity that is no event under the first declaration and one under the second."""


class Count(NamedTuple):
    level: int = 0
    moves: int = 0


def on_hand(row: Count, event: Any):
    """Units on hand, and how many events moved them."""
    if event.kind == Kind.REMOVE and event.quantity > row.level:
        return reject(Why.INSUFFICIENT_STOCK)
    units = event.quantity if event.kind == Kind.ADD else -event.quantity
    return row._replace(level=row.level + units, moves=row.moves + 1)


BOUNDS = [expect("column_values_to_be_between", column="level", min_value=0)]


def _project(moves: Log = shop.moves, **rule: Any) -> Project:
    sinks = {
        "on_hand": [Sql("on_hand"), Delta("levels")],
        "offers": [Sql("offers"), BulkNdjson("offers"), Tantivy("offers_index")],
        "turnover": [Sql("turnover"), Delta("turnover")],
    }
    return shop.little(sinks, moves=moves, expect=BOUNDS, **rule)


PROJECTS = {
    "plain": _project(),
    "retrying": _project(replace(shop.moves, columns={**shop.moves.columns, "quantity": int64(1, 10_000)})),
    "wide": _project(rule=on_hand, version=2),
    "leased": _project(),
    "fewer": shop.little({"on_hand": [Sql("on_hand")], "turnover": [Delta("turnover")]}, expect=BOUNDS),
}
"""`retrying` takes quantities that `plain` does not; `leased` is `plain` under leases; `wide` has one column more;
`fewer` has lost sinks."""


def moves(day: int) -> list[dict[str, Any]]:
    """What lands of the moves on a day: added, some removed, too much removed, a repeat, and what is no event."""
    found = []
    for place, product in enumerate(PRODUCTS):
        found.append(move(f"{day} {product} +", product, 10 * day + place + 5))
        found.append(move(f"{day} {product} -", product, -day - 1))
    found.append(move(f"{day} short", "bolt", -999))
    found.append(move("0 bolt +", "bolt", 5))
    found.append(move(f"{day} many", "nail", TOO_MANY))
    return found


def changes(day: int) -> list[dict[str, Any]]:
    """What lands of the prices on a day."""
    return [{"id": f"{day} {product}", "product": product, "price": 100 * (day + 1)} for product in PRODUCTS[: day + 2]]


def land(root: Path) -> None:
    """Write the landing of all days."""
    for day, name in enumerate(DAYS):
        shop.land(root / "landing", "moves", name, moves(day))
        shop.land(root / "landing", "prices", name, changes(day))


Contents = Mapping[str, list[dict[str, Any]]]
"""The rows of each store, sorted by product."""


def answers(day: int, *, wide: bool = False, retried_from: int | None = None) -> Contents:
    """What the stores hold at the end of a day.

    `retried_from` is the day from which on records are events that were none when they landed; those of the days
    before are then taken in first.
    """
    seen: set[str] = set()
    level: dict[str, int] = {}
    count: dict[str, int] = {}
    moved: dict[str, int] = {}
    refused: dict[str, int] = {}
    for event in _taken(day, retried_from):
        if event["id"] in seen:
            continue
        seen.add(event["id"])
        product, units = event["product"], event["quantity"] if event["kind"] == "add" else -event["quantity"]
        short = level.setdefault(product, 0) + units < 0
        level[product] += 0 if short else units
        count[product] = count.get(product, 0) + (0 if short else 1)
        moved[product] = moved.get(product, 0) + (0 if short else abs(units))
        refused[product] = refused.get(product, 0) + short
    price = {change["product"]: change["price"] for each in range(day + 1) for change in changes(each)}
    more = {product: {"moves": count[product]} if wide else {} for product in level}
    return {
        "on_hand": [{"product": product, "level": level[product], **more[product]} for product in sorted(level)],
        "offers": [{"product": product, "price": price[product]} for product in sorted(price)],
        "turnover": [
            {"product": product, "moved": moved[product], "refused": refused[product]} for product in sorted(moved)
        ],
    }


def _taken(day: int, retried_from: int | None) -> Iterator[Mapping[str, Any]]:
    for each in range(day + 1):
        if each == retried_from:
            yield from (event for before in range(each) for event in moves(before) if event["quantity"] == TOO_MANY)
        retrying = retried_from is not None and each >= retried_from
        yield from (event for event in moves(each) if event["quantity"] < TOO_MANY or retrying)


@dataclass(frozen=True)
class Shop:
    """The shop in the working folder, under one of its declarations."""

    project: str = "plain"
    database: str = SQLITE

    def engine(self) -> Engine:
        """A new engine, like one in another process."""
        settings = Settings("landing", "store", self.database, Path.cwd() / "store" / "search")
        if self.project == "leased":  # for so long that nothing is renewed while a stage works
            settings = replace(settings, leases="store", lease_seconds=600.0)
        return Engine(PROJECTS[self.project], settings, now=LONG_AFTER)


POSITION = ("log_partition", "log_offset", "log_seq")


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as `answers` tells them: by product, without the position of the last event."""
    kept = [{name: value for name, value in row.items() if name not in POSITION} for row in rows]
    return sorted(kept, key=lambda row: row["product"])
