"""The little shop with five sinks, whose every row tells its day, so that a mix of two days is seen at once.

On day n (from 0) every product gets n + 1 units, so `last_move.quantity` is n + 1 and `on_hand.level` the sum so far.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from refold import BulkNdjson, Delta, Project, Sql, Tantivy, open_release
from refold.release.releaser import Releaser
from refold.release.retention import Pruner
from refold.sinks.base import Target
from tests import shop
from tests.support import Shop, seal_and_prove

DAYS = shop.DAYS[:4]
PRODUCTS = ("bolt", "nail", "nut", "screw", "washer")
NOW = dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)
PROJECT = shop.little(
    {
        "on_hand": [Sql("on_hand"), Delta("levels")],
        "last_move": [Sql("last_move"), BulkNdjson("moves"), Tantivy("moves_index")],
    }
)
on_hand, last_move = PROJECT.stores


@dataclass(frozen=True)
class Little(Shop):
    """The project in a folder, or with its tables in another database; search sinks are in the store."""

    project: Project = PROJECT
    search: str = "store/search"

    def releaser(self, now: dt.datetime = NOW) -> Releaser:
        engine = self.engine()
        return Releaser(self.project, engine.objects, engine.prover, engine.publisher, clock=lambda: now)

    def pruner(self, now: dt.datetime = NOW) -> Pruner:
        return Pruner(self.project, self.releaser(now), self.engine().publisher, clock=lambda: now)

    def release(self, day: int, now: dt.datetime = NOW, **options: bool):
        return self.releaser(now).release(self.engine().chain.get(DAYS[day]), **options)

    def publish(self, *days: int) -> None:
        engine = self.engine()
        for day in days:
            for store in self.project.in_order:
                for sink in store.sinks:
                    engine.publisher.publish(store, sink, engine.chain.get(DAYS[day]))

    def targets(self) -> Iterator[tuple[str, str, Target]]:
        """Store, title of the sink, target."""
        engine = self.engine()
        for store in self.project.stores:
            for sink in store.sinks:
                yield store.name, f"{type(sink).__name__}/{sink.name}", engine.publisher.target(store, sink)

    def released(self) -> dict[str, int | None]:
        """The day that each sink shows by itself, by title."""
        versions = {title: target.released() for _, title, target in self.targets()}
        return {title: None if v is None else int(v.partition("-")[0]) for title, v in versions.items()}

    def held(self) -> dict[str, list[int]]:
        """The days whose versions each sink holds."""
        return {title: [int(v.partition("-")[0]) for v in target.versions()] for _, title, target in self.targets()}


def build(root: Path) -> Little:
    """Land, seal, fold and prove all days; nothing is published."""
    little = Little(root)
    for number, day in enumerate(DAYS):
        events = [shop.move(f"{day} {product}", product, number + 1) for product in PRODUCTS]
        shop.land(little.landing, "moves", day, events)
    seal_and_prove(little.engine())
    return little


def day_of(levels: list[int], quantities: list[int]) -> int:
    """The one day that rows of both stores are of; an AssertionError where they are a mix."""
    (quantity,), (level,) = set(quantities), set(levels)
    assert len(levels) == len(quantities) == len(PRODUCTS)
    assert level == quantity * (quantity + 1) // 2, f"a mix: level {level}, quantity {quantity}"
    return quantity - 1


def database(little: Little) -> sa.Engine:
    """The database as its readers connect to it, with transactions that see one moment."""
    url = little.database_url.replace("postgresql://", "postgresql+psycopg2://")
    options = {"isolation_level": "REPEATABLE READ"} if url.startswith("postgresql") else {}
    return sa.create_engine(url, poolclass=sa.NullPool, **options)


def shown(engine: sa.Engine) -> tuple[int, set[str]]:
    """The day that one transaction over both views sees, in three statements, and the releases its rows tell."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        levels = list(connection.scalars(sa.text("SELECT level FROM on_hand")))
        numbers = set(connection.scalars(sa.text("SELECT release FROM refold_release")))
        quantities = list(connection.scalars(sa.text("SELECT quantity FROM last_move")))
        connection.rollback()
    return day_of(levels, quantities), numbers


def read_whole(little: Little) -> tuple[int, int]:
    """The number of the pointer and the day that all sinks of its release are of."""
    opened = open_release(str(little.store), database=little.database_url)
    quantities = opened.sql("last_move")["quantity"].to_pylist()
    days = {
        day_of(opened.sql("on_hand")["level"].to_pylist(), quantities),
        day_of(opened.delta("levels")["level"].to_pylist(), opened.documents("moves")["quantity"].to_pylist()),
        opened.search("moves_index", "bolt")[0].document["quantity"] - 1,
        DAYS.index(opened.snapshot),
    }
    assert len(days) == 1, f"a mix of days in release {opened.number}: {days}"
    return opened.number, days.pop()
