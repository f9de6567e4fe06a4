"""Another number of log partitions: a derived generation of a log, made from the sealed one in a store of its own.

Every snapshot is made again with the same events in the same order (`log_seq`), dealt out anew by their keys; offsets,
identities and digests are others, and landing objects, quarantine and deduplication are the same. The old store is only
read, so what is served does not move. Stores are folded and proven in the new place, since a row has the place of its
last event. A rerun goes on where another ended.

Where landing names log partitions, the log needs a layout that does not take them from names any more, since events
that are sealed later are dealt out by their keys too; and its keys must each be in one log partition, since what is
kept is the order of `log_seq`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from refold.base.memory import limit_bytes
from refold.canonical.encoding import as_one
from refold.errors import Conflict, Damaged, FixInput
from refold.landing.listing import LandingObject
from refold.log.declaration import PROVENANCE, Log
from refold.log.layout import LogLayout, SeenFile, SegmentFile
from refold.log.limits import ConflictLimits
from refold.log.reader import LogReader
from refold.log.segment import write_segments
from refold.log.snapshot import NO_EVENTS_YET, LogCut, Snapshot, SnapshotChain, cut_id
from refold.log.verify import LogFinding, LogVerifier
from refold.seal.decoding import DecodedObject, hashed_partitions
from refold.seal.deduplication import Deduplication
from refold.seal.new_events import NewEvents
from refold.storage.content import StoredObject
from refold.storage.names import ObjectKind, folder_of
from refold.storage.objects import ObjectInfo, ObjectStore

_ANY_CONFLICTS = ConflictLimits(records_max=2**62)  # they were accepted when they were sealed


@dataclass(frozen=True)
class Repartitioned:
    """One snapshot in the new place: its key, and how many events of the log it has."""

    snapshot: str
    events: int


class Repartition:
    """Makes the chain of a project again in another store, with `partitions` log partitions of one log.

    Args:
        objects, chain: the store, which is only read, and its snapshots.
        target: the store of the new generation.
        log: the log, as it is sealed.

    Raises FixInput where that cannot be done.
    """

    def __init__(
        self, objects: ObjectStore, chain: SnapshotChain, target: ObjectStore, log: Log, partitions: int
    ) -> None:
        self._objects, self._chain, self._target, self._old = objects, chain, target, log
        self._new = replace(log, partitions=partitions, conflicts=_ANY_CONFLICTS)
        self._made = SnapshotChain(target)
        if chain.redactions:
            raise FixInput(
                f"Expected no redactions, found {len(chain.redactions)}: their records name offsets.",
                remedy="A log with redactions keeps its log partitions.",
            )

    def run(self) -> Iterator[Repartitioned]:
        """Make every snapshot that is not there yet, oldest first.

        Raises FixInput where the layout names log partitions, Damaged where a key is in two of them, and Conflict where
        the target holds another chain.
        """
        verifier = LogVerifier(self._objects, self._chain, self._old)
        for kind in (ObjectKind.RETRY, ObjectKind.RETRY_PLACES):
            self._copy(info.name for info in self._objects.list(folder_of(kind)))
        for snapshot in self._chain:
            self._require_one_partition(verifier.verify(snapshot))
            if snapshot.key not in self._made:
                self._make(snapshot)
            self._require_same(snapshot)
            yield Repartitioned(snapshot.key, snapshot.cut(self._old.name).events)

    def _make(self, snapshot: Snapshot) -> None:
        cuts, layouts = dict(snapshot.logs), {name: self._chain.layout(snapshot, name) for name in snapshot.logs}
        for name, layout in layouts.items():
            self._copy(self._kept(layout, snapshot, whole=name != self._old.name))
        if self._old.name in cuts:
            cuts[self._old.name], layouts[self._old.name] = self._dealt(snapshot)
        parent = self._made.head
        key, sha256 = (parent.key, parent.sha256) if parent else (None, None)
        made = Snapshot(key=snapshot.key, ordinal=snapshot.ordinal, parent_key=key, parent_sha256=sha256, logs=cuts)
        self._made.create(made, layouts)

    def _kept(self, layout: LogLayout, snapshot: Snapshot, *, whole: bool) -> Iterator[str]:
        """The objects that are the same in the new generation; of a log that is not dealt out anew all of them."""
        found: list[StoredObject | SegmentFile | SeenFile | None] = [layout.quarantine]
        if whole:
            found += [layout.repeats, *layout.segments]
            found += layout.seen if snapshot is self._chain.head else []  # a cache, of which the newest is kept
        return (each.name for each in found if each is not None)

    def _dealt(self, snapshot: Snapshot) -> tuple[LogCut, LogLayout]:
        """The log's part of a snapshot, dealt out anew."""
        old, layout = snapshot.cut(self._old.name), self._chain.layout(snapshot, self._old.name)
        before = self._made.head.cut(self._old.name) if self._made.head else NO_EVENTS_YET
        log = replace(self._new.as_sealed(old.schema), conflicts=_ANY_CONFLICTS)
        new = NewEvents(log, list(before.ends) or [0] * log.partitions, old.seq_start, limit_bytes(None) // 8)
        events = self._events(self._objects, self._chain, snapshot, old)
        if len(events):
            keys = as_one([events[name] for name in log.key_columns])
            self._require_by_key(events, keys)
            new.add(events.select([*log.columns, *PROVENANCE.names]), hashed_partitions(log, keys))
        cut = replace(
            old,
            id=cut_id(before.id if before.ends else None, old.schema, new.ends, new.content, len(new)),
            starts=new.starts,
            ends=new.ends,
            content=new.content,
        )
        parts = range(log.partitions)
        segments = [file for n in parts for file in write_segments(self._target, log, n, new.tables(n))]
        deduplication = Deduplication(self._target, self._made, log)
        item = LandingObject(ObjectInfo("", 0, ""), snapshot.key, None)
        whole = DecodedObject(item, 0, "", 0, len(new), 0, len(new), [])
        repeats, seen = deduplication.store(snapshot.key, [whole], new, [deduplication.run(new)])
        return cut, replace(layout, segments=segments, repeats=repeats, seen=seen)

    def _events(self, objects: ObjectStore, chain: SnapshotChain, snapshot: Snapshot, cut: LogCut) -> pa.Table:
        """The events of the log that a snapshot added, in the order of the log, without places."""
        log = replace(self._old.as_sealed(cut.schema), partitions=len(cut.ends) or self._old.partitions)
        names = ["log_seq", *log.columns, *PROVENANCE.names]
        return LogReader(objects, chain, log).events(snapshot, names).sort_by("log_seq")

    def _require_by_key(self, events: pa.Table, keys: pa.ChunkedArray) -> None:
        """Refuse a log whose later events would not be dealt out by their keys as these are."""
        if np.array_equal(hashed_partitions(self._old, keys), events["log_partition"].to_numpy()):
            return
        for name in events["source_object"].unique().to_pylist():
            slot = self._old.slot_of(name)
            if slot is not None and slot.partition is not None:
                raise FixInput(
                    f"Log {self._old.name!r} takes log partitions from the names of landing: {name} names "
                    f"{slot.partition}.",
                    remedy="Declare a layout that does not, such as Names('dt={date}/partition={any}/{any}'), and keep "
                    "it in the new place: events are then dealt out by their keys.",
                )

    def _require_one_partition(self, findings: Sequence[LogFinding]) -> None:
        for finding in findings:
            raise Damaged(
                f"Log {self._old.name!r} cannot be dealt out anew, since it is not whole: {finding.message}",
                remedy="`refold log verify` shows all that is wrong.",
            )

    def _require_same(self, snapshot: Snapshot) -> None:
        """Compare a snapshot in both places. Raises Conflict where it has other events, or in another order by key."""
        made, name = self._made.get(snapshot.key), self._old.name
        old, new = snapshot.cut(name), made.cut(name)
        others = {other: cut.id for other, cut in snapshot.logs.items() if other != name}
        same = others == {other: cut.id for other, cut in made.logs.items() if other != name}
        if same and old.events == new.events and len(new.ends or [0] * self._new.partitions) == self._new.partitions:
            before = self._events(self._objects, self._chain, snapshot, old).drop_columns(["log_partition"])
            after = self._events(self._target, self._made, made, new).drop_columns(["log_partition"])
            if before.equals(after):
                return
        raise Conflict(
            f"Snapshot {snapshot.key} of the target does not have the events of log {name!r} in their order.",
            remedy="Give the new generation a place of its own.",
        )

    def verify(self) -> Sequence[str]:
        """What the structural checks find in the new log, in words; nothing where it is whole."""
        verifier = LogVerifier(self._target, self._made, self._new)
        return [finding.message for snapshot in self._made for finding in verifier.verify(snapshot)]

    def _copy(self, names: Iterator[str]) -> None:
        for name in names:
            self._target.put(name, self._objects.get(name))
