"""The little project that the machine works on, declared twice: once interpreted, once compiled.

One log with two log partitions; a rule store that rejects and ignores, a latest-by-key store that deletes, and a
relation over the ledger of one and the states of both. Sinks: three views in one SQLite database, one bulk export.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from enum import Enum, IntEnum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from refold import (
    BulkNdjson,
    Daily,
    Log,
    Project,
    QuarantineLimits,
    Sql,
    enum,
    fold,
    ignore,
    int64,
    latest_by_key,
    reject,
    relation,
    text,
)
from refold.config import Settings
from refold.engine import Engine
from refold.storage.objects import ObjectStore, OpenStore
from refold.storage.wrappers import WrapperStore, wrapped
from refold.stores.kinds.rule import RuleStore
from refold.stores.relating import RelationRunner
from tests.machine.model import PARTITIONS

START = dt.date(2026, 1, 1)
VIEWS = {"stock": "stock_view", "last_move": "last_view"}
"""The SQL view of each store that has one."""

SINKS = {"Sql/stock_view": "stock", "Sql/last_view": "last_move", "BulkNdjson/tally_docs": "tally"}
"""The store behind each sink, by title."""


class Kind(Enum):
    ADD = "add"
    REMOVE = "remove"
    DROP = "drop"


class Why(IntEnum):
    INSUFFICIENT_STOCK = 1


class Level(NamedTuple):
    level: int = 0


moves = Log(
    "moves",
    key="product",
    event_id="id",
    columns={"id": text(), "product": text(), "quantity": int64(1, 1000), "kind": enum(Kind)},
    partitions=PARTITIONS,
    quarantine=QuarantineLimits(share_max=1.0, records_max=10**6),
)


def stock(row: Level, event: Any):
    """Units on hand of one product; a removal below zero is rejected, a drop is ignored."""
    match event.kind:
        case Kind.ADD:
            return row._replace(level=row.level + event.quantity)
        case Kind.REMOVE if event.quantity > row.level:
            return reject(Why.INSUFFICIENT_STOCK)
        case Kind.DROP:
            return ignore()
    return row._replace(level=row.level - event.quantity)


def _project(name: str) -> Project:
    on_hand = fold(moves, version=1, sinks=[Sql("stock_view")])(stock)
    last_move = latest_by_key(
        moves,
        "last_move",
        version=1,
        columns={"quantity": int64(1, 1000)},
        delete_when=("kind", Kind.DROP),
        sinks=[Sql("last_view")],
    )

    @relation(
        reads=[on_hand.ledger, on_hand, last_move],
        key=["product", "outcome"],
        returns={"product": text(), "outcome": text(), "events": int64(), "units": int64(), "level": int64(),
                 "last": int64(null=True)},
        sinks=[BulkNdjson("tally_docs")],
    )  # fmt: skip
    def tally() -> str:
        """Events and units by product and outcome, beside the product's level and its last quantity."""
        return """
            SELECT l.product, l.outcome, count(*) AS events, sum(l.quantity) AS units, max(s.level) AS level,
                   max(m.quantity) AS last
            FROM stock_ledger l JOIN stock s ON s.product = l.product LEFT JOIN last_move m ON m.product = l.product
            GROUP BY l.product, l.outcome
        """

    return Project(name, Daily(START), [on_hand, last_move, tally])


INTERPRETED, COMPILED = _project("interpreted"), _project("compiled")
_runner = RelationRunner()


def compile_rules() -> None:
    """Load the compiled rule; the interpreted project has a rule of its own, which stays as it is."""
    for store in COMPILED.folded:
        if isinstance(store, RuleStore):
            assert store.rule.compile(), store.rule.interpreted_because


class Shop:
    """The project in a folder, opened anew as often as needed.

    `wrap` makes of every store the one that the engine is given; mutants make a broken one of it.
    """

    wrap: Callable[[ObjectStore], ObjectStore] = WrapperStore

    def __init__(self, root: Path) -> None:
        self.root = root
        self.landing, self.store, self.database = root / "landing", root / "store", root / "refold.db"
        (self.landing / moves.name).mkdir(parents=True)
        self.settings = Settings(str(self.landing), str(self.store), f"sqlite:///{self.database}", root / "search")

    def engine(self, compiled: bool = False, open_store: OpenStore = ObjectStore.open) -> Engine:
        """A new engine, which knows what is stored and nothing else, as one in another process.

        Two things are shared with the others, because making them takes most of the time: DuckDB's connections, which
        keep nothing between queries, and a store's connected sinks, for as long as the engine lives.
        """
        engine = Engine(COMPILED if compiled else INTERPRETED, self.settings, wrapped(self.wrap, open_store))
        engine.builder.runner = _runner
        engine.publisher.target = cache(engine.publisher.target)  # type: ignore[method-assign]
        return engine
