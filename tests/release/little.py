"""A project of two stores and five sinks whose every row tells its day, so that a mix of two days is seen at once.

On day n (from 0) every product gets n + 1 units, so `last_move.quantity` is n + 1 and `on_hand.level` the sum so far.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from refold import (
    BulkNdjson,
    Daily,
    Delta,
    Log,
    Project,
    Sql,
    Tantivy,
    enum,
    fold,
    int64,
    latest_by_key,
    open_release,
    text,
)
from refold.config import Settings
from refold.engine import Engine
from refold.release.releaser import Releaser
from refold.release.retention import Pruner
from refold.sinks.base import Target
from refold.storage.objects import ObjectStore, OpenStore

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04")
PRODUCTS = ("bolt", "nail", "nut", "screw", "washer")
NOW = dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)


class Kind(Enum):
    ADD = "add"


class Level(NamedTuple):
    level: int = 0


inventory = Log(
    "inventory",
    key="product_id",
    event_id="event_id",
    columns={"event_id": text(), "product_id": text(), "quantity": int64(1), "kind": enum(Kind)},
)


@fold(inventory, version=1, sinks=[Sql("on_hand"), Delta("levels")])
def on_hand(row: Level, event):
    """Units on hand."""
    return row._replace(level=row.level + event.quantity)


last_move = latest_by_key(
    inventory,
    "last_move",
    version=1,
    columns={"quantity": int64(1)},
    sinks=[Sql("last_move"), BulkNdjson("moves"), Tantivy("moves_index")],
)

PROJECT = Project("little", Daily(dt.date(2026, 1, 1)), [on_hand, last_move])


@dataclass(frozen=True)
class Little:
    """The project in a folder, or with its tables in another database."""

    root: Path
    database: str = ""
    project: Project = PROJECT
    open_store: OpenStore = ObjectStore.open

    @property
    def store(self) -> str:
        return str(self.root / "store")

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.root / 'refold.db'}"

    def engine(self) -> Engine:
        """A new engine, like one in another process."""
        settings = Settings(str(self.root / "landing"), self.store, self.database_url, self.root / "store" / "search")
        return Engine(self.project, settings, self.open_store)

    def declared(self, *stores) -> Little:
        return replace(self, project=replace(self.project, stores=list(stores)))

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
        folder = root / "landing" / "inventory" / f"dt={day}"
        folder.mkdir(parents=True)
        events = [
            {"event_id": f"{day} {product}", "product_id": product, "quantity": number + 1, "kind": "add"}
            for product in PRODUCTS
        ]
        (folder / "a.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    engine = little.engine()
    for _ in engine.seal():
        pass
    for _ in engine.fold_history("inventory", engine.chain.get()):
        pass
    for _, verdicts in engine.prove_history("inventory", engine.chain.get()):
        assert all(verdict.passed for verdict in verdicts.values())
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
    opened = open_release(little.store, database=little.database_url)
    quantities = opened.sql("last_move")["quantity"].to_pylist()
    days = {
        day_of(opened.sql("on_hand")["level"].to_pylist(), quantities),
        day_of(opened.delta("levels")["level"].to_pylist(), opened.documents("moves")["quantity"].to_pylist()),
        opened.search("moves_index", "bolt")[0].document["quantity"] - 1,
        DAYS.index(opened.snapshot),
    }
    assert len(days) == 1, f"a mix of days in release {opened.number}: {days}"
    return opened.number, days.pop()
