"""Sealing: landing objects become events with offsets, in canonical segments, under a snapshot written once.

Steps for each key: find the objects that are new, refuse changed ones, decode, stop if too much is quarantined,
assign log partition, offset and `log_seq` in the order (object name, line), deduplicate, write segments, and last
create the manifest. A kill in between leaves objects that no manifest names; the next run writes the same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.encoding import encode_rows, kafka_partitions
from refold.errors import ChangedObject, Conflict, Damaged, DeclarationError, FixInput, QuarantineLimit
from refold.landing.decoder import BadRecord, Decoded
from refold.landing.listing import Landing, LandingObject, list_landing, suspicious, vanished
from refold.log.declaration import Log
from refold.log.quarantine import retry_objects, write_quarantine
from refold.log.repeats import REPEATS, SEEN, Delivery, SeenIndex, SeenRun, seal_deliveries
from refold.log.segment import LogReader, content_digest, from_parquet, to_parquet, write_segments
from refold.log.snapshot import (
    NO_EVENTS_YET,
    NO_FILES,
    LogCut,
    LogLayout,
    SealedObject,
    Snapshot,
    SnapshotChain,
    StoredObject,
    cut_id,
    unchanged,
)
from refold.storage import ObjectInfo, ObjectStore, sha256_hex

_NO_REPEATS = REPEATS.empty_table()


@dataclass(frozen=True)
class SealReport:
    """What sealing one key did: the snapshot, the late objects it took in, and sealed objects that are gone."""

    snapshot: Snapshot
    late: Sequence[str]
    vanished: Sequence[str]


@dataclass(frozen=True)
class _Batch:
    """The landing records of one log's part of a snapshot, decoded and in order."""

    events: pa.Table
    partitions: npt.NDArray[np.int64]
    bad: Sequence[tuple[str, BadRecord]]
    objects: Sequence[SealedObject]
    e_tags: Mapping[str, str]
    control: int

    @property
    def read(self) -> int:
        return len(self.events) + len(self.bad) + self.control


class Sealer:
    """Seals snapshots of a project's logs, key by key; lists landing once when it starts."""

    def __init__(self, landing: ObjectStore, objects: ObjectStore, chain: SnapshotChain, logs: Sequence[Log]) -> None:
        self._objects = objects
        self._chain = chain
        self._parts = [_LogSealer(landing, objects, chain, log) for log in logs]

    def folders(self) -> list[str]:
        """The keys of all landing folders that hold data, ascending."""
        return sorted({folder for part in self._parts for folder in part.landing.folders()})

    def pending(self) -> dict[str, list[str]]:
        """For each folder key the names of the objects that no snapshot holds yet, sorted; retries under ''."""
        found: dict[str, list[str]] = {}
        for part in self._parts:
            for item in part.unsealed():
                found.setdefault(item.folder, []).append(item.name)
        return {folder: sorted(names) for folder, names in sorted(found.items())}

    def e_tags(self) -> dict[str, str]:
        """The entity tag of every object in landing, by name; another one means that somebody wrote it again."""
        return {item.name: item.info.e_tag for part in self._parts for item in part.landing.objects}

    def complete(self, folder: str) -> bool:
        """Whether every log has marked the folder of a key as complete."""
        return all(folder in part.landing.marked for part in self._parts)

    def seal(self, keys: Iterable[str]) -> Iterator[SealReport]:
        """Seal keys in ascending order; a key that is sealed already is skipped.

        A key takes in all unsealed objects of folders up to itself. Yields a report for each key as it is sealed.

        Raises:
            ChangedObject: an object that was sealed has other bytes now.
            UnreadableObject: an object cannot be decoded at all.
            QuarantineLimit: too many records are bad.
            Conflict: another sealer was faster; what it sealed stands.
        """
        for part in self._parts:
            part.refuse_changed()
        for key in keys:
            if key not in self._chain:
                yield self._seal(key)

    def _seal(self, key: str) -> SealReport:
        parent = self._chain.head
        if parent is not None and key < parent.key:
            raise FixInput(f"The key {key} lies before the newest snapshot {parent.key} and can no longer be sealed.")
        cuts, layouts = {}, {}
        for part in self._parts:
            cuts[part.log.name], layouts[part.log.name] = part.seal(key, parent)
        for name, cut in (parent.logs if parent else {}).items():
            if name not in cuts:  # a log that is declared no more stays where it ended, and may come back
                cuts[name], layouts[name] = unchanged(cut), NO_FILES
        snapshot = Snapshot(
            key=key,
            ordinal=parent.ordinal + 1 if parent else 0,
            parent_key=parent.key if parent else None,
            parent_sha256=parent.sha256 if parent else None,
            logs=cuts,
        )
        try:
            self._chain.create(snapshot, layouts)
        except Conflict as error:
            raise Conflict(
                f"The snapshot {key} was sealed by another process while this one was sealing it; that one stands.",
                remedy="Run again: it goes on from there.",
            ) from error
        late = [o.name for cut in cuts.values() for o in cut.objects if o.late]
        return SealReport(snapshot, late, [name for part in self._parts for name in part.vanished])


class _LogSealer:
    """The part of sealing that belongs to one log."""

    def __init__(self, landing: ObjectStore, objects: ObjectStore, chain: SnapshotChain, log: Log) -> None:
        self.log = log
        self.landing: Landing = list_landing(landing, log.name, log.decoder.suffixes)
        self._store = landing
        self._objects = objects
        self._chain = chain
        self._reader = LogReader(objects, chain, log)
        self._sealed = {o.name: o for snapshot in chain for o in self._cut(snapshot).objects}
        self._index: SeenIndex | None = None
        self.vanished = vanished(self.landing, (name for name in self._sealed if not name.startswith("retries/")))
        self._refuse_other_declaration()

    def _cut(self, snapshot: Snapshot) -> LogCut:
        return snapshot.cut(self.log.name)

    def _refuse_other_declaration(self) -> None:
        head = self._chain.head
        if head is None:
            return
        cut = self._cut(head)
        if cut is NO_EVENTS_YET:
            return
        faults = []
        if cut.schema != self.log.content:
            faults.append(
                f"its columns changed since it was sealed: expected {cut.schema!r}, found {self.log.content!r}"
            )
        if len(cut.ends) != self.log.partitions:
            faults.append(
                f"it was sealed with {len(cut.ends)} log partitions and is declared with {self.log.partitions}"
            )
        if faults:
            raise DeclarationError(
                f"Log {self.log.name!r}", [*faults, "declare it as sealed, or give REFOLD_STORE a new place"]
            )

    def refuse_changed(self) -> None:
        """Raise ChangedObject, naming every sealed object whose bytes are others now."""
        tags = {name: tag for snapshot in self._chain for name, tag in self._layout(snapshot).e_tags.items()}
        changed = []
        for item in suspicious(self.landing, tags):
            found = sha256_hex(self._store.get(item.name))
            if found != self._sealed[item.name].sha256:
                changed.append(f"{item.name}: sealed with sha256 {self._sealed[item.name].sha256}, now {found}")
        if changed:
            raise ChangedObject(
                "Landing objects changed after they were sealed:\n  " + "\n  ".join(changed),
                remedy="\nThe sealed events stand. Restore the objects, and land corrections as new objects.",
            )

    def _layout(self, snapshot: Snapshot) -> LogLayout:
        return self._chain.layout(snapshot, self.log.name)

    def unsealed(self) -> list[LandingObject]:
        """The objects that no snapshot holds: retried ones (folder ''), which are older, then landing's by name."""
        retried = [LandingObject(ObjectInfo(name, 0, ""), "", None) for name in retry_objects(self._objects, self.log)]
        return [item for item in [*retried, *self.landing.objects] if item.name not in self._sealed]

    def seal(self, key: str, parent: Snapshot | None) -> tuple[LogCut, LogLayout]:
        """Decode, order, deduplicate and store what is new up to a key; nothing is visible before the manifest."""
        before = parent.logs.get(self.log.name) if parent else None
        batch = self._decode([item for item in self.unsealed() if item.folder <= key], parent)
        self._check_limit(key, batch)
        events, parts = self._order(batch, before)
        repeats, seen = self._deduplicate(events, parts)
        segments = [file for p, part in enumerate(parts) for file in write_segments(self._objects, self.log, p, part)]
        starts = list(before.ends) if before else [0] * self.log.partitions
        ends = [start + len(part) for start, part in zip(starts, parts, strict=True)]
        content = [content_digest(self.log, part) for part in parts]
        seq_start = before.seq_end if before else 0
        cut = LogCut(
            id=cut_id(before.id if before else None, self.log.content, ends, content, len(events)),
            starts=starts,
            ends=ends,
            seq_start=seq_start,
            seq_end=seq_start + len(events),
            content=content,
            schema=self.log.content,
            read=batch.read,
            quarantined=len(batch.bad),
            control=batch.control,
            objects=batch.objects,
        )
        self._sealed |= {o.name: o for o in batch.objects}
        quarantine = write_quarantine(self._objects, self.log, batch.bad)
        return cut, LogLayout(segments, repeats, quarantine, seen, batch.e_tags)

    def _decode(self, items: Sequence[LandingObject], parent: Snapshot | None) -> _Batch:
        tables, partitions, bad, objects = [], [], [], []
        control = 0
        for item in items:
            data = (self._objects if item.folder == "" else self._store).get(item.name)
            decoded = self.log.decoder.decode(item.name, data, self.log.columns)
            tables.append(_with_source(decoded, item.name))
            partitions.append(self._partitions(item, decoded.rows))
            bad += [(item.name, record) for record in decoded.bad]
            control += decoded.control
            late = parent is not None and "" < item.folder <= parent.key
            objects.append(SealedObject(item.name, len(data), sha256_hex(data), decoded.read, late))
        schema = pa.schema([f for f in self.log.schema if f.name not in ("log_offset", "log_seq")])
        events = pa.concat_tables(tables) if tables else schema.empty_table()
        where = np.concatenate(partitions) if partitions else np.zeros(0, dtype=np.int64)
        tags = {item.name: item.info.e_tag for item in items if item.folder}
        return _Batch(events.select(schema.names), where, bad, objects, tags, control)

    def _partitions(self, item: LandingObject, rows: pa.Table) -> npt.NDArray[np.int64]:
        if item.partition is None:
            return kafka_partitions(_key_bytes(rows[self.log.key]), self.log.partitions).astype(np.int64)
        if item.partition >= self.log.partitions:
            raise FixInput(
                f"The object {item.name} names log partition {item.partition}; log {self.log.name!r} has "
                f"{self.log.partitions}.",
                remedy="Declare as many partitions as the landing has.",
            )
        return np.full(len(rows), item.partition, dtype=np.int64)

    def _check_limit(self, key: str, batch: _Batch) -> None:
        limits, count = self.log.quarantine, len(batch.bad)
        if count <= limits.records_max and count <= limits.share_max * batch.read:
            return
        reasons = Counter(record.reason for _, record in batch.bad)
        name, first = batch.bad[0]
        raise QuarantineLimit(
            f"Snapshot {key} was not sealed: {count} of {batch.read} records of log {self.log.name!r} cannot be events "
            f"(allowed {limits.share_max:.1%} and {limits.records_max}); "
            + ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
            + f". The first is {name} line {first.line}: {first.detail}",
            reasons=reasons,
            remedy="Correct the landing or the declaration, or raise the log's QuarantineLimits.",
        )

    def _order(self, batch: _Batch, before: LogCut | None) -> tuple[pa.Table, list[pa.Table]]:
        """The events with `log_seq` and `log_offset` in landing order, and the same by log partition."""
        start = before.seq_end if before else 0
        events = batch.events.append_column("log_seq", pa.array(np.arange(start, start + len(batch.events))))
        offsets = np.zeros(len(events), dtype=np.int64)
        rows = [np.flatnonzero(batch.partitions == p) for p in range(self.log.partitions)]
        for partition, mine in enumerate(rows):
            first = before.ends[partition] if before else 0
            offsets[mine] = np.arange(first, first + len(mine))
        events = events.append_column("log_offset", pa.array(offsets)).select(self.log.schema.names)
        events = events.cast(self.log.schema).combine_chunks()
        return events, [events.take(pa.array(mine)) for mine in rows]

    def _deduplicate(
        self, events: pa.Table, parts: Sequence[pa.Table]
    ) -> tuple[StoredObject | None, StoredObject | None]:
        if len(events) == 0:
            return None, None
        index = self._seen_index()
        run = SeenRun.of(self.log, events)
        deliveries, firsts = seal_deliveries(self.log, events, run, index, self._fetch)
        new = run.take(np.flatnonzero(deliveries == Delivery.FIRST))
        index.add(new)
        seen = self._store_table("seen", new.to_table())
        return self._store_repeats(parts, deliveries, firsts, int(run.seqs[0])), seen

    def _store_repeats(
        self, parts: Sequence[pa.Table], deliveries: npt.NDArray[np.uint8], firsts: npt.NDArray[np.int64], start: int
    ) -> StoredObject | None:
        tables = [_NO_REPEATS]
        for partition, part in enumerate(parts):
            rows = part["log_seq"].to_numpy() - start
            again = np.flatnonzero(deliveries[rows] != Delivery.FIRST)
            where, seqs = part["log_offset"].to_numpy()[again], part["log_seq"].to_numpy()[again]
            columns = [np.full(len(again), partition), where, seqs, deliveries[rows[again]], firsts[rows[again]]]
            tables.append(pa.table(columns, schema=REPEATS))
        repeats = pa.concat_tables(tables)
        return self._store_table("repeats", repeats) if len(repeats) else None

    def _store_table(self, folder: str, table: pa.Table) -> StoredObject:
        data = to_parquet(table)
        sha256 = sha256_hex(data)
        stored = StoredObject(f"logs/{self.log.name}/{folder}/{sha256[:32]}.parquet", sha256)
        self._objects.put(stored.name, data)
        return stored

    def _seen_index(self) -> SeenIndex:
        if self._index is None:
            self._index = SeenIndex()
            for snapshot in self._chain:
                self._index.add(self._seen_of(snapshot))
        return self._index

    def _seen_of(self, snapshot: Snapshot) -> SeenRun:
        """What was first delivered in a snapshot: the stored run, or computed again where that is damaged."""
        stored = self._layout(snapshot).seen
        try:
            if stored is not None:
                data = self._objects.get_checked(stored.name, stored.sha256)
                return SeenRun.of_table(from_parquet(data, stored.name, SEEN.names))
        except Damaged:
            pass  # a cache: the segments say the same
        repeats = self._reader.repeats(snapshot)
        again = repeats["log_seq"].to_numpy() if repeats is not None else np.zeros(0, dtype=np.int64)
        return first_deliveries(self._reader, snapshot, again)

    def _fetch(self, seqs: Sequence[int]) -> Iterator[tuple[int, bytes, bytes]]:
        """Ids and contents of sealed events, for the exact comparison of candidates."""
        for snapshot in self._chain:
            cut = self._cut(snapshot)
            wanted = [seq for seq in seqs if cut.seq_start <= seq < cut.seq_end]
            if not wanted:
                continue
            events = self._reader.events(snapshot)
            events = events.filter(pc.is_in(events["log_seq"], pa.array(wanted, pa.int64())))
            ids = encode_rows([events[self.log.event_id]])
            contents = encode_rows([events[name] for name in self.log.columns])
            yield from zip(events["log_seq"].to_pylist(), ids, contents, strict=True)


def _with_source(decoded: Decoded, name: str) -> pa.Table:
    source = pa.DictionaryArray.from_arrays(np.zeros(len(decoded.rows), dtype=np.int32), pa.array([name]))
    table = decoded.rows.append_column("source_object", source.dictionary_decode())
    return table.append_column("source_line", pa.array(decoded.lines))


def _key_bytes(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    return keys.cast(pa.string()) if pa.types.is_integer(keys.type) else keys


def first_deliveries(reader: LogReader, snapshot: Snapshot, again: npt.NDArray[np.int64]) -> SeenRun:
    """The part of the seen index that a snapshot adds, from its segments; `again` has the `log_seq` of its repeats."""
    events = reader.events(snapshot, ["log_seq", *reader.log.columns]).sort_by("log_seq").combine_chunks()
    run = SeenRun.of(reader.log, events)
    return run.take(np.flatnonzero(~np.isin(run.seqs, again)))
