"""The audit of sinks: what a sink holds and serves, compared with the state and the release it should hold and serve.

Rows are compared by content, cell by cell; what a sink keeps beside its rows (release rows, views, logs, records, index
files) is reported by the sink itself (`refold.sinks.base.Target.faults`). Whether the state is right is decided in
`refold.proof.prover`; `refold.repair.drift` puts both together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from refold.canonical.digest import DigestTree, bucket_of
from refold.errors import Damaged, RefoldError, Unproven
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.proof.prover import Difference, Differs
from refold.release.pointer import Release, title_of
from refold.release.publisher import Publisher
from refold.release.releaser import Releaser, Superseded
from refold.sinks.base import Content, Sink, Target
from refold.storage.names import ObjectKind, name_of
from refold.stores.building import Builder
from refold.stores.declaration import Store
from refold.types import describe

_CELLS_MAX = 20


class SinkAudit:
    """Compares sinks with the states they should hold, and repairs them."""

    def __init__(self, chain: SnapshotChain, builder: Builder, publisher: Publisher, releaser: Releaser) -> None:
        self._chain = chain
        self._builder = builder
        self._publisher = publisher
        self._releaser = releaser

    def differences(self, store: Store, sink: Sink, snapshot: Snapshot) -> list[Difference]:
        """What differs in one sink from a store at a snapshot; none if it neither holds nor should hold that version.

        For the version that is served now this includes how it is served. Writes nothing.
        """
        try:
            content = self._publisher.content(store, snapshot)
        except (Damaged, Unproven):
            return []  # the verdict reports it; without a sound state there is nothing to compare with
        return self.compare(store, sink, content)

    def compare(self, store: Store, sink: Sink, content: Content) -> list[Difference]:
        """As `differences`, with the content that the sink should hold."""
        target = self._publisher.target(store, sink)
        try:
            lineage = self._lineage(store, sink, content.version)
            if lineage is None and content.version not in target.versions():
                return []
            found = list(self._fault_differences(target, content, lineage))
        except RefoldError as error:
            return [Difference(Differs.SINK, target.place, "a sink that can be read", str(error))]
        try:
            return found + list(_row_differences(target, content, lineage))
        except RefoldError as error:
            return found or [Difference(Differs.SINK, target.place, "rows that can be read", str(error))]

    def repair(self, store: Store, sink: Sink, snapshot: Snapshot) -> None:
        """Correct what differs in one sink: its tables and logs, the version's content, and what it serves.

        A rerun changes nothing. Raises Unproven where the state is not proven, and FixInput where a person must act
        first.
        """
        target, content = self._publisher.target(store, sink), self._publisher.content(store, snapshot)
        target.mend(content)
        self._publisher.publish(store, sink, snapshot)
        release, lineage = self._served(), self._lineage(store, sink, content.version)
        if release is None or lineage is None:
            return
        # This sink alone, since others may lack what they should serve until they are repaired in their turn.
        with suppress(Superseded):
            sink.release_together([(target, content.version, lineage)], self._releaser.confirm(release.number))
        if self._releaser.pointer.number() != release.number:
            self._releaser.roll_forward()

    def earlier(
        self, besides: Snapshot, stores: Sequence[Store]
    ) -> Iterator[tuple[Store, Sink, Snapshot, list[Difference]]]:
        """What differs in the versions of stores that releases named before and that sinks still hold, oldest first.

        A version of another code version or of a snapshot that is not built any more cannot be computed again, and is
        left out, as is the one at `besides`.
        """
        looked: set[tuple[str, str]] = set()
        for release in sorted(self._releases(), key=lambda release: release.number):
            for store in stores:
                version, key = release.versions.get(store.name), release.position_of(store.name).snapshot
                if version is None or (store.name, version) in looked or key == besides.key or key not in self._chain:
                    continue
                snapshot = self._chain.get(key)
                if self._is_computable(store, snapshot, version):
                    looked.add((store.name, version))
                    for sink in store.sinks:
                        yield store, sink, snapshot, self.differences(store, sink, snapshot)

    def _releases(self) -> Iterator[Release]:
        pointer = self._releaser.pointer
        for number in pointer.numbers():
            try:
                yield pointer.get(number)
            except RefoldError:
                continue  # the audit of objects reports it

    def _is_computable(self, store: Store, snapshot: Snapshot, version: str) -> bool:
        try:
            record = self._builder.find(store, snapshot)
        except Damaged:
            return False
        return record is not None and self._publisher.version(snapshot, record) == version

    def _served(self) -> Release | None:
        """What is served; None also where its record is damaged, which the audit of objects reports."""
        try:
            return self._releaser.current()
        except RefoldError:
            return None

    def _lineage(self, store: Store, sink: Sink, version: str) -> Mapping[str, str] | None:
        """The lineage that a sink must record, where it must serve a version; None where it need not."""
        release = self._served()
        if release is None or release.versions.get(store.name) != version:
            return None
        titles = [described.title for described in release.sinks.get(store.name, ())]
        if release.sinks and title_of(sink) not in titles:
            return None
        return self._releaser.lineage(release, store.name)

    def _fault_differences(
        self, target: Target, content: Content, lineage: Mapping[str, str] | None
    ) -> Iterator[Difference]:
        newest = self._releaser.pointer.number()
        for fault in target.faults(content, lineage):
            yield Difference(Differs.SINK, fault.where, fault.expected, fault.found)
            number = fault.found.strip("'")
            number = number if number.isascii() and number.isdigit() else "0"
            if fault.where.endswith("column release") and int(number) > newest:
                name = name_of(ObjectKind.RELEASE, number=int(number))
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
