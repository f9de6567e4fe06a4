"""How long it takes, and how little is read, to find where a fold went wrong in a log of millions of events.

Generates a landing, seals and folds it in a temporary folder, then folds again from one snapshot on with one slip and
saves what comes of it, so that every hash and every record fits. The comparison and the locating are timed, and every
byte that is read is counted. `python -m benchmarks.divergence --events 10000000 > docs/divergence.md` writes the page.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from hashlib import md5
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold import Daily, Log, Project, enum, fold, int64, reject, text
from refold.config import Settings
from refold.dedup.deliveries import Delivery
from refold.engine import Engine
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.proof.divergence import Divergence, Mark, Replayed
from refold.proof.locate import Locator
from refold.proof.prover import Prover, Verdict
from refold.rules.outcome import Outcome
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import CountingStore
from refold.stores.building import Builder, deliveries_of
from refold.stores.declaration import Folded
from refold.stores.folding import columns_to_read, fold_events
from refold.stores.ledger import LedgerPart
from refold.stores.state import State

START = dt.date(2026, 1, 1)


class Kind(Enum):
    """What an event does to stock."""

    ADD = "add"
    REMOVE = "remove"


class Why(IntEnum):
    """Why an event is refused."""

    TOO_FEW = 1


class Level(NamedTuple):
    """Units on hand."""

    level: int = 0


movements = Log(
    "movements",
    key="product_id",
    event_id="event_id",
    columns={"event_id": text(), "product_id": text(), "quantity": int64(1), "kind": enum(Kind)},
)


@fold(movements, version=1)
def levels(row: Level, event):
    """Units on hand of one product; a removal that would go below zero is rejected."""
    match event.kind:
        case Kind.ADD:
            return row._replace(level=row.level + event.quantity)
        case Kind.REMOVE if event.quantity > row.level:
            return reject(Why.TOO_FEW)
    return row._replace(level=row.level - event.quantity)


@dataclass(frozen=True)
class Places:
    """A generated log in a folder: how many events, snapshots and products."""

    folder: Path
    events: int
    snapshots: int
    products: int = 20_000

    def engine(self) -> Engine:
        """A new engine, which knows what is stored and nothing else."""
        project = Project("divergence", Daily(START), [levels])
        store = str(self.folder / "store")
        return Engine(
            project,
            Settings(str(self.folder / "landing"), store, "sqlite://", self.folder / "search"),
            now=dt.datetime.now(dt.UTC),
        )


def land(places: Places, seed: int = 1) -> None:
    """Write the landing: one object per snapshot, one event in 200 delivered again from the snapshot before."""
    rng, before, first = np.random.default_rng(seed), None, 0
    sizes = np.diff(np.linspace(0, places.events, places.snapshots + 1).astype(np.int64))
    for number, size in enumerate(sizes.tolist()):
        again = size // 200 if before is not None else 0
        table = _events(rng, first, size - again, places.products)
        first += size - again
        if before is not None and again:
            table = pa.concat_tables([before.take(pa.array(rng.integers(0, len(before), again))), table])
        day = START + dt.timedelta(days=number)
        folder = places.folder / "landing" / "movements" / f"dt={day}"
        folder.mkdir(parents=True)
        (folder / "part.jsonl").write_bytes(_lines(table))
        before = table


def _events(rng: np.random.Generator, first: int, count: int, products: int) -> pa.Table:
    kinds = np.array(["add", "remove"])[(rng.random(count) < 0.45).astype(np.int64)]
    return pa.table(
        {
            "event_id": [str(UUID(bytes=md5(b"%d" % n).digest())) for n in range(first, first + count)],
            "product_id": np.char.add("p", rng.integers(0, products, count).astype(str)),
            "quantity": rng.integers(1, 30, count).astype(str),
            "kind": kinds,
        }
    )


def _lines(table: pa.Table) -> bytes:
    parts = ['{"event_id":"', table["event_id"], '","product_id":"', table["product_id"], '","quantity":',
             table["quantity"], ',"kind":"', table["kind"], '"}\n']  # fmt: skip
    joined = pc.binary_join_element_wise(*(p if isinstance(p, str) else p.combine_chunks() for p in parts), "")
    if isinstance(joined, pa.ChunkedArray):
        joined = joined.combine_chunks()
    return b"".join(chunk.encode() for chunk in joined.to_pylist())


def build(places: Places) -> None:
    """Seal and fold everything; nothing is proven yet."""
    engine = places.engine()
    for _ in engine.sealing.seal():
        pass
    for _ in engine.fold_history("movements", engine.chain.get()):
        pass


@dataclass
class Fold:
    """One snapshot on its way into a state, for a slip to change: events in the order of the ledger."""

    state: State
    events: pa.Table
    deliveries: np.ndarray


Slip = Callable[[Fold, int], tuple[State, LedgerPart]]
"""Folds a snapshot with a slip at the event of a place; returns the state and the ledger part that it would leave."""


def lost(fold: Fold, place: int) -> tuple[State, LedgerPart]:
    """The event never reached the rule, and was counted as applied."""
    rest = np.delete(np.arange(len(fold.events)), place)
    part = fold_events(fold.state, fold.events.take(pa.array(rest)), fold.deliveries[rest])
    return fold.state, LedgerPart(np.insert(part.outcomes, place, 0), np.insert(part.reasons, place, 0))


def twice(fold: Fold, place: int) -> tuple[State, LedgerPart]:
    """The event was folded twice in a row, and counted once."""
    more = np.insert(np.arange(len(fold.events)), place, place)
    part = fold_events(fold.state, fold.events.take(pa.array(more)), fold.deliveries[more])
    return fold.state, LedgerPart(np.delete(part.outcomes, place), np.delete(part.reasons, place))


def refused(fold: Fold, place: int) -> tuple[State, LedgerPart]:
    """The event was rejected, where the rule applies it."""
    state, part = lost(fold, place)
    part.outcomes[place], part.reasons[place] = Outcome.REJECTED, Why.TOO_FEW
    return state, part


def repeat_taken(fold: Fold, place: int) -> tuple[State, LedgerPart]:
    """The event was delivered before and was taken for a new one."""
    deliveries = fold.deliveries.copy()
    deliveries[place] = Delivery.FIRST
    return fold.state, fold_events(fold.state, fold.events, deliveries)


def row_missing(fold: Fold, place: int) -> tuple[State, LedgerPart]:
    """The checkpoint that was resumed had no row for the event's key."""
    keep = pc.not_equal(fold.state.table["product_id"], fold.events["product_id"][place])
    return _from(fold, fold.state.table.filter(keep))


def row_changed(fold: Fold, place: int) -> tuple[State, LedgerPart]:
    """The checkpoint that was resumed had another level for a key without an event in this snapshot."""
    level = fold.state.table["level"].to_numpy().copy()
    level[_idle(fold)[0]] += 1_000_000
    return _from(fold, fold.state.table.set_column(1, "level", pa.array(level)))


def _idle(fold: Fold) -> np.ndarray:
    busy = pc.is_in(fold.state.table["product_id"], fold.events["product_id"].combine_chunks())
    return np.flatnonzero(~busy.to_numpy())


def _from(fold: Fold, table: pa.Table) -> tuple[State, LedgerPart]:
    state = State(fold.state.store, table, np.arange(len(table)))
    return state, fold_events(state, fold.events, fold.deliveries)


SLIPS: Mapping[str, tuple[Slip, str]] = {
    "an event lost": (lost, "events"),
    "an event folded twice": (twice, "events"),
    "an event decided otherwise": (refused, "rule"),
    "a repeat taken for new": (repeat_taken, "deduplication"),
    "a row missing in the checkpoint resumed": (row_missing, "checkpoint"),
}
"""Slips by name, each with the cause that is to be found; every one has a first wrong offset."""


class Falsifier:
    """Folds a log wrongly from one snapshot on, and saves what comes of it."""

    def __init__(self, places: Places, ordinal: int) -> None:
        self._engine = places.engine()
        self._snapshots = self._engine.chain.through(self._engine.chain.get().key)
        self._ordinal = ordinal
        self._before = self._engine.builder.require(levels, self._snapshots[ordinal - 1])

    def choose(self, slip: Slip) -> int:
        """A place at which a slip changes a row: in the middle of the snapshot."""
        fold = self._fold()
        table = fold.state.table
        part = fold_events(fold.state, fold.events, fold.deliveries)
        outcome = Outcome.DUPLICATE if slip is repeat_taken else Outcome.APPLIED
        wanted = part.outcomes == outcome
        if slip is row_missing:  # the first event of a key with a level of its own, which a removal leaves above zero
            held = table.filter(pc.greater(table["level"], 30))["product_id"].combine_chunks()
            names = fold.events["product_id"].combine_chunks()
            firsts = np.unique(names.dictionary_encode().indices.to_numpy(), return_index=True)[1]
            wanted &= pc.is_in(names, held).to_numpy(zero_copy_only=False) & np.isin(np.arange(len(names)), firsts)
        places = np.flatnonzero(wanted)
        return int(places[len(places) // 2])

    def falsify(self, slip: Slip, place: int) -> Mapping[str, int]:
        """Fold with the slip and go on from it to the end; returns the position of the event."""
        engine, fold, record = self._engine, self._fold(), self._before
        row = fold.events.slice(place, 1).to_pylist()[0]
        state, part = slip(fold, place)
        for snapshot in self._snapshots[self._ordinal :]:
            cut = snapshot.cut("movements")
            if snapshot is not self._snapshots[self._ordinal]:
                part = fold_events(state, *self._events(snapshot))
            record = engine.builder.checkpoints.save_state(state, cut, part, record)
        return {name: row[name] for name in ("log_partition", "log_offset", "log_seq")}

    def _fold(self) -> Fold:
        state = self._engine.builder.checkpoints.state(levels, self._before)
        return Fold(state, *self._events(self._snapshots[self._ordinal]))

    def _events(self, snapshot: Snapshot) -> tuple[pa.Table, np.ndarray]:
        reader = LogReader(self._engine.objects, self._engine.chain, movements)
        events = reader.events(snapshot, columns_to_read(levels))
        return events, deliveries_of(reader, snapshot)


class MeasuringLocator(Locator):
    """A locator that notes how long it takes and what is read meanwhile."""

    def __init__(self, objects: CountingStore, chain: SnapshotChain, builder: Builder) -> None:
        super().__init__(objects, chain, builder)
        self._counting = objects
        self.seconds, self.bytes_read, self.reads = 0.0, 0, Counter[str]()

    def locate(self, store: Folded, marks: Sequence[Mark], replayed: Replayed) -> Divergence | None:
        """Where a store and its replay part."""
        counting = self._counting
        started, before, reads = time.perf_counter(), counting.bytes_read, counting.reads.copy()
        found = super().locate(store, marks, replayed)
        self.seconds, self.bytes_read = time.perf_counter() - started, counting.bytes_read - before
        self.reads = counting.reads - reads
        return found


@dataclass(frozen=True)
class Measured:
    """One comparison with its locating, in seconds and bytes."""

    slip: str
    verdict: Verdict
    position: Mapping[str, int]
    comparison_seconds: float
    locating_seconds: float
    log_bytes: int
    bytes_after: int
    names_after: Collection[str]

    @property
    def share(self) -> float:
        """The bytes read after the comparison, as a share of the log's."""
        return self.bytes_after / self.log_bytes

    @property
    def exact(self) -> bool:
        """Whether exactly the position of the slip was named."""
        found = self.verdict.divergence
        return found is not None and found.exact and self.position.items() <= dict(found.event or {}).items()


def compare(places: Places, slip: str, position: Mapping[str, int]) -> Measured:
    """Compare the newest state with full replay as another process would, and measure it."""
    objects = CountingStore(ObjectStore.open(str(places.folder / "store")))
    chain = SnapshotChain(objects)
    builder = Builder(objects, chain)
    locator = MeasuringLocator(objects, chain, builder)
    started = time.perf_counter()
    verdict = Prover(objects, chain, builder, locator).prove(levels, chain.get())
    seconds = time.perf_counter() - started - locator.seconds
    log_bytes = sum(info.size_bytes for info in objects.list("logs/movements/segments"))
    return Measured(slip, verdict, position, seconds, locator.seconds, log_bytes, locator.bytes_read,
                    locator.reads)  # fmt: skip


def run(places: Places) -> Iterator[Measured]:
    """First what is right, then every slip in its own snapshot, the latest first: each is folded over those before."""
    yield compare(places, "none", {})
    for number, (name, (slip, _)) in enumerate(SLIPS.items()):
        falsifier = Falsifier(places, places.snapshots * (len(SLIPS) - number) // (len(SLIPS) + 1))
        position = falsifier.falsify(slip, falsifier.choose(slip))
        yield compare(places, name, position)


_ROW = "| {slip} | {comparison:.1f} s | {locating:.2f} s | {after:,} | {share:.2%} | {cause} | {exact} |"
_PAGE = """# Finding where a fold went wrong

One slip at a time was folded into a log, in the middle of a snapshot, and everything after it was folded on from there,
so that every hash and every record fits. Then the newest state was compared with full replay from offset 0.

- events: {events:,} in {snapshots} snapshots, so checkpoints are {apart:.2%} of the log apart; {products:,} keys
- segments of the log: {log_bytes:,} bytes
- machine: {cores} cores, Python {python}
- comparison: full replay from offset 0, every ledger part, every record, and the newest rows
- locating: all that is read and done after the comparison, until the first wrong offset has a name

| slip | comparison | locating | bytes read after | share of the log | cause found | exact offset |
|---|---|---|---|---|---|---|
{rows}

`python -m benchmarks.divergence --events {events} --snapshots {snapshots}` writes this page; it is seeded.
"""


def page(places: Places, found: Sequence[Measured]) -> str:
    """The results as Markdown."""
    rows = [
        _ROW.format(
            slip=each.slip,
            comparison=each.comparison_seconds,
            locating=each.locating_seconds,
            after=each.bytes_after,
            share=each.share,
            cause=each.verdict.divergence.cause if each.verdict.divergence else "equal",
            exact=("yes" if each.exact else "no") if each.position else "–",
        )
        for each in found
    ]
    return _PAGE.format(
        events=places.events,
        snapshots=places.snapshots,
        apart=1 / places.snapshots,
        products=places.products,
        log_bytes=found[0].log_bytes,
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        rows="\n".join(rows),
    )


def main() -> None:
    """Generate, build, falsify, compare, and print the page; what it is at goes to standard error."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--snapshots", type=int, default=128)
    parser.add_argument("--products", type=int, default=20_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refold-divergence-") as folder:
        places, started, found = Places(Path(folder), given.events, given.snapshots, given.products), time.time(), []
        for step in (land, build):
            step(places)
            sys.stderr.write(f"{step.__name__}: {time.time() - started:.0f} s\n")
        for each in run(places):
            found.append(each)
            sys.stderr.write(f"{time.time() - started:.0f} s, {each.slip}: {each.verdict.divergence}\n")
        sys.stdout.write(page(places, found))


if __name__ == "__main__":
    main()
