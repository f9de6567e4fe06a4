"""Refold as the benchmarks call it: the one file to change when the engine's calls change.

It holds the project that is measured, which is the shop's log and stock view over more log partitions, and one
function for each thing that is done with an engine. `benchmarks.ours` says what is timed and what is prepared.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assets.logs import stock_events
from assets.stock import stock
from benchmarks.answer import Answer, Levels
from benchmarks.dataset import PARTITIONS
from benchmarks.generate import day_key
from refold import Daily, JsonLines, Project, Sql
from refold.config import Settings
from refold.engine import Engine
from refold.landing.decoder import Decoded, Decoder
from refold.log.snapshot import Snapshot
from refold.rebuild import rebuild_all
from refold.sinks.base import Content
from refold.types import Schema, arrow_schema


@dataclass(frozen=True)
class ParquetLanding:
    """Landing that is Parquet and has the declared columns: a quick way to seal what is not what is measured."""

    suffixes: tuple[str, ...] = (".parquet",)
    unit: str = "row"

    def encode(self, raws: Sequence[bytes]) -> bytes:
        """Fails where there is a bad record, since none is ever made."""
        assert not raws
        return b""

    def decode(self, name: str, data: bytes, columns: Schema, key: Sequence[str] = ()) -> Decoded:
        """The rows as they are."""
        rows = (
            pq.ParquetFile(pa.BufferReader(data)).read(list(columns)).select(list(columns)).cast(arrow_schema(columns))
        )
        return Decoded(rows, np.arange(1, len(rows) + 1), [])


def project(decoder: Decoder | None = None) -> Project:
    """Stock alone; the same log whatever its landing is, so that one snapshot may be Parquet and the next JSON."""
    log = replace(stock_events, partitions=PARTITIONS, decoder=decoder or ParquetLanding())
    return Project("benchmark", Daily(dt.date(2020, 1, 1)), [replace(stock, log=log, sinks=(Sql("stock_view"),))])


def open_engine(
    store: Path, landing: Path, *, json: bool = False, database: str = "", memory_limit_mb: int | None = None
) -> Engine:
    """An engine over folders."""
    settings = Settings(str(landing), str(store), database or f"sqlite:///{store}.db", store / "search")
    if memory_limit_mb is not None:
        settings = replace(settings, memory_limit_mb=memory_limit_mb)
    return Engine(project(JsonLines() if json else None), settings, now=dt.datetime.now(dt.UTC))


def land(events: Iterator[pa.Table], landing: Path, number: int) -> None:
    """Write tables as the Parquet landing of one day."""
    folder = landing / "stock_events" / f"dt={day_key(number)}"
    folder.mkdir(parents=True, exist_ok=True)
    for place, table in enumerate(events):
        pq.write_table(table, folder / f"part-{place:05d}.parquet", compression="lz4")


def seal(engine: Engine) -> Snapshot:
    """Seal all that has landed; the newest snapshot."""
    for _ in engine.sealing.seal():
        pass
    return engine.chain.get()


def rebuild(engine: Engine) -> Snapshot:
    """Fold all snapshots from offset 0: state, ledger, digests, checkpoints."""
    snapshot = engine.chain.get()
    for _ in engine.fold_history("stock_events", snapshot, fresh=True):
        pass
    return snapshot


def build(engine: Engine) -> Snapshot:
    """Build the newest snapshot from the nearest checkpoint."""
    snapshot = engine.chain.get()
    engine.build(engine.project.store("stock"), snapshot)
    return snapshot


def verify(engine: Engine) -> Snapshot:
    """Compare what is built with full replay and exact deduplication, and keep the proof. Raises AssertionError."""
    snapshot = engine.chain.get()
    verdict = engine.prover.prove(engine.project.store("stock"), snapshot)
    assert verdict.passed, f"replay found {verdict.differences[:3]}"
    return snapshot


def is_built(engine: Engine) -> bool:
    """Whether the newest snapshot has a state."""
    return engine.builder.find(engine.project.store("stock"), engine.chain.get()) is not None


def publish(engine: Engine) -> int:
    """Publish the newest snapshot to its SQL table and read it back; the number of rows."""
    store = engine.project.store("stock")
    return engine.publisher.publish(store, store.sinks[0], engine.chain.get()).rows


def content(engine: Engine) -> Content:
    """What `publish` gives to the sink."""
    return engine.publisher.content(engine.project.store("stock"), engine.chain.get())


def load(engine: Engine, what: Content) -> int:
    """The part of publishing that loads the rows."""
    store = engine.project.store("stock")
    engine.publisher.target(store, store.sinks[0]).publish(what)
    return len(what.rows)


def published_rows(engine: Engine) -> pa.Table:
    """The rows that are published."""
    return engine.rows(engine.project.store("stock"), engine.chain.get())


def answer(engine: Engine) -> Answer:
    """The answer as built at the newest snapshot."""
    store, snapshot = engine.project.store("stock"), engine.chain.get()
    rows, record = engine.rows(store, snapshot), engine.builder.require(store, snapshot)
    counts = {name: record.outcomes[name] for name in ("applied", "rejected", "duplicate")}
    return Levels(rows["product_id"].to_pylist(), rows["level"].to_pylist(), **counts).answer()


def whole_history(project: Project, folder: Path, landing: Path) -> int:
    """Rebuild a project's whole history without an orchestrator; the number of snapshots."""
    settings = Settings(str(landing), str(folder / "store"), f"sqlite:///{folder / 'refold.db'}", folder / "search")
    engine = Engine(project, settings, now=dt.datetime.now(dt.UTC))
    rebuild_all(engine)
    return len(engine.chain)
