"""Inspection: what a sink holds and serves, compared with the state it should hold and the release it should serve.

Rows are compared by content, cell by cell; what a sink keeps beside its rows (release rows, views, logs, records, index
files) is told by the sink itself (`refold.sinks.base.Target.faults`). Whether the state is right is
`refold.proof.prover`'s business; putting both together is `refold.repair.drift`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from refold.canonical.digest import DigestTree, bucket_of
from refold.engine import Engine
from refold.errors import Damaged, RefoldError, Unproven
from refold.log.snapshot import Snapshot
from refold.proof.prover import Difference, Differs
from refold.release.pointer import Release, title_of
from refold.sinks.base import Content, Sink, Target
from refold.stores.declaration import Store
from refold.types import describe

_CELLS_MAX = 20


def sink_differences(engine: Engine, store: Store, sink: Sink, snapshot: Snapshot) -> list[Difference]:
    """What differs in one sink from a store at a snapshot; none where it neither holds nor should hold that version.

    With what is served now, also how it is served. Writes nothing.
    """
    target = engine.publisher.target(store, sink)
    try:
        content = engine.publisher.content(store, snapshot)
    except (Damaged, Unproven):
        return []  # the verdict names it; without a sound state there is nothing to compare with
    try:
        lineage = _lineage(engine, store, sink, content.version)
        if lineage is None and content.version not in target.versions():
            return []
        found = list(_fault_differences(engine, target, content, lineage))
    except RefoldError as error:
        return [Difference(Differs.SINK, target.place, "a sink that can be read", str(error))]
    try:
        return found + list(_row_differences(target, content, lineage))
    except RefoldError as error:
        return found or [Difference(Differs.SINK, target.place, "rows that can be read", str(error))]


def mend_sink(engine: Engine, store: Store, sink: Sink, snapshot: Snapshot) -> None:
    """Put right what differs in one sink: its tables and logs, the version's content, and what it serves.

    A rerun changes nothing. Raises Unproven where the state is not proven, and FixInput where a person must act first.
    """
    target, content = engine.publisher.target(store, sink), engine.publisher.content(store, snapshot)
    target.mend(content)
    engine.publisher.publish(store, sink, snapshot)
    release, lineage = _served(engine), _lineage(engine, store, sink, content.version)
    if release is None or lineage is None:
        return
    # This sink alone, since others may lack what they should serve until they are mended in their turn.
    sink.release_together([(target, content.version, lineage)])
    if engine.releaser.pointer.number() != release.number:
        engine.releaser.roll_forward()


def earlier_differences(
    engine: Engine, besides: Snapshot, stores: Sequence[Store]
) -> Iterator[tuple[Store, Sink, Snapshot, list[Difference]]]:
    """What differs in the versions of stores that releases named before and that sinks still hold, oldest first.

    A version of another code version or of a snapshot that is not built any more cannot be computed again, and is
    left out, as is the one at `besides`.
    """
    looked: set[tuple[str, str]] = set()
    for release in sorted(_releases(engine), key=lambda release: release.number):
        if release.snapshot == besides.key or release.snapshot not in engine.chain:
            continue
        snapshot = engine.chain.get(release.snapshot)
        for store in stores:
            version = release.versions.get(store.name)
            if version is None or (store.name, version) in looked or not _computable(engine, store, snapshot, version):
                continue
            looked.add((store.name, version))
            for sink in store.sinks:
                yield store, sink, snapshot, sink_differences(engine, store, sink, snapshot)


def _releases(engine: Engine) -> Iterator[Release]:
    pointer = engine.releaser.pointer
    for number in range(1, pointer.number() + 1):
        try:
            yield pointer.get(number)
        except RefoldError:
            continue  # told where objects at rest are looked at


def _computable(engine: Engine, store: Store, snapshot: Snapshot, version: str) -> bool:
    try:
        record = engine.builder.find(store, snapshot)
    except Damaged:
        return False
    return record is not None and engine.publisher.version(snapshot, record) == version


def _served(engine: Engine) -> Release | None:
    """What the pointer says; None also where its record is damaged, which is told elsewhere."""
    try:
        return engine.releaser.current()
    except RefoldError:
        return None


def _lineage(engine: Engine, store: Store, sink: Sink, version: str) -> Mapping[str, str] | None:
    """What a sink must say of the release, where it must serve a version; None where it need not."""
    release = _served(engine)
    if release is None or release.versions.get(store.name) != version:
        return None
    told = [described.title for described in release.sinks.get(store.name, ())]
    if release.sinks and title_of(sink) not in told:
        return None
    return engine.releaser.lineage(release, store.name)


def _fault_differences(
    engine: Engine, target: Target, content: Content, lineage: Mapping[str, str] | None
) -> Iterator[Difference]:
    newest = engine.releaser.pointer.number()
    for fault in target.faults(content, lineage):
        yield Difference(Differs.SINK, fault.where, fault.expected, fault.found)
        number = fault.found.strip("'")
        if fault.where.endswith("column release") and number.isascii() and number.isdigit() and int(number) > newest:
            name = f"releases/{int(number):020d}.json"
            yield Difference(Differs.RELEASE, name, f"the record that {fault.where} names", "none")


def _row_differences(target: Target, content: Content, lineage: Mapping[str, str] | None) -> Iterator[Difference]:
    found = target.salvage(content.version, served=lineage is not None)
    if found is not None:
        yield from compare_rows(f"{target.place}, version {content.version}", content, found)


def compare_rows(where: str, content: Content, found: pa.Table) -> Iterator[Difference]:
    """The first 20 cells and rows in which what was found differs from a content, by key.

    Equal buckets are not looked at.
    """
    trees = [DigestTree.of(describe(content.columns), table, content.key) for table in (content.rows, found)]
    buckets = set(trees[0].differing(trees[1]))
    if not buckets:
        return
    mine, theirs = (_by_key(content, table, buckets) for table in (content.rows, found))
    shown = 0
    for key in sorted(mine.keys() | theirs.keys(), key=repr):
        for column, want, got in _cells(content, mine.get(key), theirs.get(key)):
            shown += 1
            if shown > _CELLS_MAX:
                return
            at = f"{where}, key {', '.join(map(repr, key))}{column}"
            yield Difference(Differs.SINK, at, want, got, tuple(sorted(buckets)))


def _by_key(content: Content, table: pa.Table, buckets: set[int]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    places = bucket_of([table[name] for name in content.key])
    inside = table.filter(pa.array([int(bucket) in buckets for bucket in places], pa.bool_()))
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in inside.to_pylist():
        rows.setdefault(tuple(row[name] for name in content.key), []).append(row)
    return rows


def _cells(
    content: Content, want: list[dict[str, Any]] | None, got: list[dict[str, Any]] | None
) -> Iterator[tuple[str, str, str]]:
    if want == got:
        return
    if want is None or got is None or len(want) != len(got):
        yield "", f"{len(want or ())} rows", f"{len(got or ())} rows"
        return
    for before, after in zip(want, got, strict=True):
        for name in content.columns:
            if before[name] != after[name]:
                yield f", column {name}", repr(before[name]), repr(after[name])
