"""The little shop: what moves in and out of stock, what is asked for it, and the stores over both.

Small enough to be rebuilt some hundred times. Each test room names the stores it needs and their sinks; the log is a
parameter too, since rooms differ in what they take for an event. Rooms that test this project's own stores declare
nothing and use `tests.support` instead.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from refold import (
    ConflictLimits,
    Daily,
    Log,
    Project,
    QuarantineLimits,
    enum,
    fold,
    ignore,
    int64,
    latest_by_key,
    reject,
    relation,
    text,
)
from refold.sinks.base import Sink
from refold.stores.declaration import Store

START = dt.date(2026, 1, 1)
DAYS = tuple((START + dt.timedelta(days=n)).isoformat() for n in range(5))


class Kind(Enum):
    ADD = "add"
    REMOVE = "remove"
    DROP = "drop"


class Why(IntEnum):
    INSUFFICIENT_STOCK = 1


class Level(NamedTuple):
    level: int = 0


LIMITS = QuarantineLimits(share_max=1.0, records_max=10**6)
ANY_CONFLICTS = ConflictLimits(records_max=10**6)
moves = Log(
    "moves",
    key="product",
    event_id="id",
    columns={"id": text(), "product": text(), "quantity": int64(1, 1000), "kind": enum(Kind)},
    partitions=2,
    quarantine=LIMITS,
    conflicts=ANY_CONFLICTS,
)
prices = Log(
    "prices",
    key="product",
    event_id="id",
    columns={"id": text(), "product": text(), "price": int64(1, 1000)},
    partitions=1,
    quarantine=LIMITS,
    conflicts=ANY_CONFLICTS,
)


def on_hand(row: Level, event: Any):
    """Units on hand of one product; a removal below zero is rejected, a drop is ignored."""
    match event.kind:
        case Kind.ADD:
            return row._replace(level=row.level + event.quantity)
        case Kind.REMOVE if event.quantity > row.level:
            return reject(Why.INSUFFICIENT_STOCK)
        case Kind.DROP:
            return ignore()
    return row._replace(level=row.level - event.quantity)


def little(
    sinks: Mapping[str, Sequence[Sink]],
    *,
    moves: Log = moves,
    rule: Callable[..., Any] = on_hand,
    version: int = 1,
    expect: Iterable[Any] = (),
    more: Callable[..., Sequence[Store]] = lambda *_: (),
) -> Project:
    """The shop with the stores that `sinks` names, in this order: `on_hand`, `last_move`, `offers`, `turnover`.

    Args:
        sinks: the sinks of each store, by name.
        moves: the log of moves, declared otherwise.
        rule: the rule of `on_hand`, a function of that name.
        version: the version of that rule.
        expect: what is expected of `on_hand`.
        more: makes further stores from those of `sinks`.
    """
    stock = fold(moves, version=version, sinks=sinks["on_hand"], expect=list(expect))(rule)
    made: dict[str, Store] = {"on_hand": stock}
    if "last_move" in sinks:
        made["last_move"] = latest_by_key(
            moves,
            "last_move",
            version=1,
            columns={name: column for name, column in moves.columns.items() if name in ("quantity", "note")},
            delete_when=("kind", Kind.DROP),
            sinks=sinks["last_move"],
        )
    if "offers" in sinks:
        columns = {"price": prices.columns["price"]}
        made["offers"] = latest_by_key(prices, "offers", version=1, columns=columns, sinks=sinks["offers"])
    if "turnover" in sinks:
        made["turnover"] = _turnover(stock, sinks["turnover"])
    return Project("little", Daily(START), [*made.values(), *more(*made.values())])


def _turnover(on_hand: Any, sinks: Sequence[Sink]) -> Store:
    @relation(
        reads=[on_hand.ledger],
        key=["product"],
        returns={"product": text(), "moved": int64(), "refused": int64()},
        sinks=sinks,
    )
    def turnover() -> str:
        """Units moved and events refused, by product."""
        return """
            SELECT product,
                   coalesce(sum(quantity) FILTER (WHERE outcome = 'applied'), 0) AS moved,
                   count(*) FILTER (WHERE outcome = 'rejected') AS refused
            FROM on_hand_ledger GROUP BY product
        """

    return turnover


def move(event_id: str, product: str, quantity: int, **more: Any) -> dict[str, Any]:
    """An event of `moves`: units added, or removed where the quantity is negative."""
    kind = Kind.ADD if quantity > 0 else Kind.REMOVE
    return {"id": event_id, "product": product, "quantity": abs(quantity), "kind": kind.value, **more}


def land(landing: Path, log: str, day: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write the one landing object of a log and day."""
    path = landing / log / f"dt={day}" / "a.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
