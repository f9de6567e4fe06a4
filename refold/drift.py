"""Drift: where state, ledger, sinks and full replay disagree, by object and cell, and rebuilding just that.

`refold.proof` compares what is built with replay; this module adds what is published, and mends. The log itself is
never mended: a damaged segment is named, and must come back from a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from refold.digest import DigestTree, bucket_of
from refold.engine import Engine
from refold.errors import Damaged, NotFound, RefoldError
from refold.log.snapshot import Snapshot
from refold.proof import Difference, Verdict
from refold.sinks.base import Sink
from refold.stores.declaration import Folded, Store
from refold.types import describe

_CELLS_MAX = 20


@dataclass(frozen=True)
class Drift:
    """What was found for one store at one snapshot: the verdict of replay, and per sink what differs from the state."""

    store: Store
    snapshot: Snapshot
    verdict: Verdict
    sinks: Sequence[tuple[Sink, Sequence[Difference]]]

    @property
    def differences(self) -> list[Difference]:
        """All differences, those of the state first."""
        return [*self.verdict.differences, *(d for _, found in self.sinks for d in found)]


def find_drift(engine: Engine, store: Store, snapshot: Snapshot) -> Drift:
    """Verify a store against full replay, and its sinks against the store, where they hold that snapshot's version."""
    verdict = engine.prover.prove(store, snapshot)
    sinks = []
    if verdict.record is not None:
        version = engine.publisher.version(snapshot, verdict.record)
        sinks = [(sink, list(_sink_differences(engine, store, sink, snapshot, version))) for sink in store.sinks]
    return Drift(store, snapshot, verdict, sinks)


def repair(engine: Engine, drift: Drift) -> Verdict:
    """Rebuild what differs and prove it: the store from offset 0, then the sinks that differ.

    Returns the verdict afterwards; where it has not passed, the log or the rule is at fault and no sink was touched.
    """
    verdict = drift.verdict
    if not verdict.passed:
        for needed in [*engine.inputs_of(drift.store), drift.store]:
            if isinstance(needed, Folded):
                for _ in engine.builder.fold_history([needed], drift.snapshot, fresh=True):
                    pass
            else:
                engine.builder.build(needed, drift.snapshot)
            verdict = engine.prover.prove(needed, drift.snapshot)
    if verdict.passed:
        for sink, differences in drift.sinks:
            if differences:
                engine.publisher.publish(drift.store, sink, drift.snapshot)
    return verdict


def _sink_differences(
    engine: Engine, store: Store, sink: Sink, snapshot: Snapshot, version: str
) -> Iterator[Difference]:
    target = engine.publisher.target(store, sink)
    released = target.released() == version
    try:
        found = target.read(None if released else version)
    except NotFound:
        return
    except RefoldError as error:
        yield Difference("sink", target.place, "readable content", str(error))
        return
    try:
        expected = engine.builder.published(store, snapshot)
    except Damaged:
        return  # the verdict names the damage; without a sound state there is nothing to compare with
    yield from compare_rows(f"{target.place}, version {version}", store, expected, found)


def compare_rows(where: str, store: Store, expected: pa.Table, found: pa.Table) -> Iterator[Difference]:
    """The first 20 cells and rows in which two contents of a store differ, by key; equal buckets are not looked at."""
    trees = [DigestTree.of(describe(store.columns), table, store.key) for table in (expected, found)]
    buckets = set(trees[0].differing(trees[1]))
    if not buckets:
        return
    mine, theirs = (_by_key(store, table, buckets) for table in (expected, found))
    shown = 0
    for key in sorted(mine.keys() | theirs.keys(), key=repr):
        for column, want, got in _cells(store, mine.get(key), theirs.get(key)):
            shown += 1
            if shown > _CELLS_MAX:
                return
            yield Difference("sink", f"{where}, key {', '.join(map(repr, key))}{column}", want, got)


def _by_key(store: Store, table: pa.Table, buckets: set[int]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    places = bucket_of([table[name] for name in store.key])
    inside = table.filter(pa.array([int(bucket) in buckets for bucket in places], pa.bool_()))
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in inside.to_pylist():
        rows.setdefault(tuple(row[name] for name in store.key), []).append(row)
    return rows


def _cells(
    store: Store, want: list[dict[str, Any]] | None, got: list[dict[str, Any]] | None
) -> Iterator[tuple[str, str, str]]:
    if want == got:
        return
    if want is None or got is None or len(want) != len(got):
        yield "", f"{len(want or ())} rows", f"{len(got or ())} rows"
        return
    for before, after in zip(want, got, strict=True):
        for name in store.columns:
            if before[name] != after[name]:
                yield f", column {name}", repr(before[name]), repr(after[name])
