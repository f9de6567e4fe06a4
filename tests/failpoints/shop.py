"""A shop small enough to be rebuilt some hundred times: two logs, three stores, and a sink of every kind. Not a test.

What readers must find is told here by plain loops over the records that are landed, so that it owes nothing to Refold.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from refold import (
    BulkNdjson,
    Daily,
    Delta,
    Log,
    Project,
    QuarantineLimits,
    Sql,
    Tantivy,
    enum,
    fold,
    int64,
    latest_by_key,
    reject,
    relation,
    text,
)
from refold.config import Settings
from refold.engine import Engine
from refold.project import Project as AnyProject
from refold.sinks.expectations import expect

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04")
PRODUCTS = ("bolt", "nail", "screw")
NOW = dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)
DATABASE_FILE = "data/refold.db"
SQLITE = f"sqlite:///{DATABASE_FILE}"
"""All places are told relative to the folder of the shop, so that a copy of it is the same shop elsewhere."""

TOO_MANY = 5_000
"""A quantity that is no event under the first declaration and one under the second."""


class Move(Enum):
    ADD = "add"
    REMOVE = "remove"


class Why(IntEnum):
    SHORT = 1


class Level(NamedTuple):
    level: int = 0


class Count(NamedTuple):
    level: int = 0
    moves: int = 0


LIMITS = QuarantineLimits(share_max=0.9, records_max=100)
inventory = Log(
    "inventory",
    key="product",
    event_id="id",
    columns={"id": text(), "product": text(), "quantity": int64(1, 1_000), "move": enum(Move)},
    partitions=2,
    quarantine=LIMITS,
)
prices = Log(
    "prices",
    key="product",
    event_id="id",
    columns={"id": text(), "product": text(), "price": int64(1, 1_000)},
    partitions=1,
    quarantine=LIMITS,
)


def _project(inventory: Log, *, wide: bool = False) -> AnyProject:
    """The project over a declaration of the log; `wide` has one column more."""
    bounds = [expect("column_values_to_be_between", column="level", min_value=0)]
    if wide:

        @fold(inventory, version=2, sinks=[Sql("stock"), Delta("levels")], expect=bounds)
        def stock(row: Count, event):
            """Units on hand, and how many events moved them."""
            if event.move == Move.REMOVE and event.quantity > row.level:
                return reject(Why.SHORT)
            units = event.quantity if event.move == Move.ADD else -event.quantity
            return row._replace(level=row.level + units, moves=row.moves + 1)

    else:

        @fold(inventory, version=1, sinks=[Sql("stock"), Delta("levels")], expect=bounds)
        def stock(row: Level, event):
            """Units on hand."""
            if event.move == Move.REMOVE and event.quantity > row.level:
                return reject(Why.SHORT)
            units = event.quantity if event.move == Move.ADD else -event.quantity
            return row._replace(level=row.level + units)

    offers = latest_by_key(
        prices,
        "offers",
        version=1,
        columns={"price": int64(1, 1_000)},
        sinks=[Sql("offers"), BulkNdjson("offers"), Tantivy("offers_index")],
    )

    @relation(
        reads=[stock.ledger],
        key=["product"],
        returns={"product": text(), "moved": int64(), "refused": int64()},
        sinks=[Sql("turnover"), Delta("turnover")],
    )
    def turnover() -> str:
        """Units moved and events refused, by product."""
        return """
            SELECT product,
                   coalesce(sum(quantity) FILTER (WHERE outcome = 'applied'), 0) AS moved,
                   count(*) FILTER (WHERE outcome = 'rejected') AS refused
            FROM stock_ledger GROUP BY product
        """

    return Project("failpoints", Daily(dt.date(2026, 1, 1)), [stock, offers, turnover])


PLAIN = _project(inventory)
RETRYING = _project(replace(inventory, columns={**inventory.columns, "quantity": int64(1, 10_000)}))
WIDE = _project(inventory, wide=True)
PROJECTS = {"plain": PLAIN, "retrying": RETRYING, "wide": WIDE}


def moves(day: int) -> list[dict[str, Any]]:
    """What lands of the inventory on a day: added, some removed, too much removed, a repeat, and what is no event."""
    found = []
    for place, product in enumerate(PRODUCTS):
        found.append({"id": f"{day} {product} +", "product": product, "quantity": 10 * day + place + 5, "move": "add"})
        found.append({"id": f"{day} {product} -", "product": product, "quantity": day + 1, "move": "remove"})
    found.append({"id": f"{day} short", "product": "bolt", "quantity": 999, "move": "remove"})
    found.append({"id": "0 bolt +", "product": "bolt", "quantity": 5, "move": "add"})
    found.append({"id": f"{day} many", "product": "nail", "quantity": TOO_MANY, "move": "add"})
    return found


def changes(day: int) -> list[dict[str, Any]]:
    """What lands of the prices on a day."""
    return [{"id": f"{day} {product}", "product": product, "price": 100 * (day + 1)} for product in PRODUCTS[: day + 2]]


def land(root: Path) -> None:
    """Write the landing of all days."""
    for day, name in enumerate(DAYS):
        for log, records in (("inventory", moves(day)), ("prices", changes(day))):
            path = root / "landing" / log / f"dt={name}" / "a.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(json.dumps(record) + "\n" for record in records))


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
        product, units = event["product"], event["quantity"] if event["move"] == "add" else -event["quantity"]
        short = level.setdefault(product, 0) + units < 0
        level[product] += 0 if short else units
        count[product] = count.get(product, 0) + (0 if short else 1)
        moved[product] = moved.get(product, 0) + (0 if short else abs(units))
        refused[product] = refused.get(product, 0) + short
    price = {change["product"]: change["price"] for each in range(day + 1) for change in changes(each)}
    more = {product: {"moves": count[product]} if wide else {} for product in level}
    return {
        "stock": [{"product": product, "level": level[product], **more[product]} for product in sorted(level)],
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
        folder = Path.cwd()
        return Engine(PROJECTS[self.project], Settings("landing", "store", self.database, folder / "store" / "search"))


POSITION = ("log_partition", "log_offset", "log_seq")


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as `answers` tells them: by product, without the position of the last event."""
    kept = [{name: value for name, value in row.items() if name not in POSITION} for row in rows]
    return sorted(kept, key=lambda row: row["product"])
