"""Sealing: landing objects become events with offsets, in canonical segments, under a snapshot written once.

Steps for each key: find the objects that are new, refuse changed ones, decode, stop if too much is quarantined,
assign log partition, offset and `log_seq` in the order of landing (`refold.landing.layout.landing_order`) and of lines,
deduplicate, write segments, and last create the manifest. A kill in between leaves objects that no manifest names; the
next run writes the same ones.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from refold.base.parallel import each
from refold.canonical.encoding import encode_rows
from refold.dedup.conflicts import check_conflicts
from refold.dedup.deliveries import REPEATS, Deliveries, Delivery, SeenRun, Seqs, seal_deliveries
from refold.errors import ChangedObject, Conflict, Damaged, DeclarationError, FixInput, QuarantineLimit
from refold.landing.decoder import BadRecord
from refold.landing.listing import Landing, LandingObject, Skipped, list_landing, suspicious, vanished
from refold.log.declaration import Log
from refold.log.layout import NO_FILES, LogLayout, SeenFile, SegmentFile
from refold.log.quarantine import retry_objects, write_quarantine
from refold.log.reader import LogReader
from refold.log.segment import encoded, to_parquet, write_segments
from refold.log.snapshot import NO_EVENTS_YET, LogCut, SealedObject, Snapshot, SnapshotChain, cut_id, unchanged
from refold.seal.decoding import DecodedObject, Decoding
from refold.seal.new_events import NewEvents, order_events, rows_at, run_of
from refold.seal.seen_index import SeenIndex, newest_seen, seen_index
from refold.storage.content import StoredObject, put_content
from refold.storage.names import ObjectKind, is_retry
from refold.storage.objects import ObjectInfo, ObjectStore, sha256_hex

_log = logging.getLogger("refold")


@dataclass(frozen=True)
class SealReport:
    """What sealing one key did: the snapshot, the late objects it took in, and sealed objects that are gone.

    `skipped` are the objects in landing that are not data, of all keys alike.
    """

    snapshot: Snapshot
    late: Sequence[str]
    vanished: Sequence[str]
    skipped: Sequence[Skipped]


class Sealer:
    """Seals snapshots of a project's logs, key by key; lists landing once when it starts."""

    def __init__(self, landing: ObjectStore, objects: ObjectStore, chain: SnapshotChain, logs: Sequence[Log]) -> None:
        self._objects = objects
        self._chain = chain
        self._parts = [_LogSealer(landing, objects, chain, log) for log in logs]

    def folders(self) -> list[str]:
        """The keys of all landing folders that hold data, ascending."""
        return sorted({folder for part in self._parts for folder in part.landing.folders()})

    def waiting(self) -> dict[str, list[LandingObject]]:
        """For each log the objects that no snapshot holds yet, in the order of sealing; retries in folder ''."""
        return {part.log.name: part.unsealed() for part in self._parts}

    def pending(self) -> dict[str, list[str]]:
        """For each folder key the names of the objects that no snapshot holds yet, sorted; retries under ''."""
        found: dict[str, list[str]] = {}
        for part in self._parts:
            for item in part.unsealed():
                found.setdefault(item.folder, []).append(item.name)
        return {folder: sorted(names) for folder, names in sorted(found.items())}

    def skipped(self) -> list[Skipped]:
        """The landing objects that are not data, by log and name."""
        return [each for part in self._parts for each in part.landing.skipped]

    def e_tags(self) -> dict[str, str]:
        """The entity tag of every object in landing, by name; another one means that somebody wrote it again."""
        return {info.name: info.e_tag for part in self._parts for info in part.landing.infos()}

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
            ConflictLimit: too many events repeat an id with other content.
            Conflict: another sealer was faster; what it sealed stands.
        """
        for part in self._parts:
            part.refuse_changed()
        waiting = [key for key in keys if key not in self._chain]
        try:
            for key, following in zip_longest(waiting, waiting[1:]):
                for part in self._parts:
                    part.start(key, following)
                yield self._seal(key)
        finally:
            for part in self._parts:
                part.close()

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
        gone = [name for part in self._parts for name in part.vanished]
        return SealReport(snapshot, late, gone, self.skipped())


class _LogSealer:
    """The part of sealing that belongs to one log."""

    def __init__(self, landing: ObjectStore, objects: ObjectStore, chain: SnapshotChain, log: Log) -> None:
        self.log = log
        self.landing: Landing = list_landing(landing, log.name, log.decoder.suffixes, log.layout)
        self._store = landing
        self._objects = objects
        self._chain = chain
        self._reader = LogReader(objects, chain, log)
        self._decoding = Decoding(landing, objects, log)
        self._sealed = {o.name: o for snapshot in chain for o in self._cut(snapshot).objects}
        self._index: SeenIndex | None = None
        self.vanished = vanished(self.landing, (name for name in self._sealed if not is_retry(name)))
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
        for info in suspicious(self.landing, tags):
            found = sha256_hex(self._store.get(info.name))
            if found != self._sealed[info.name].sha256:
                changed.append(f"{info.name}: sealed with sha256 {self._sealed[info.name].sha256}, now {found}")
        if changed:
            raise ChangedObject(
                "Landing objects changed after they were sealed:\n  " + "\n  ".join(changed),
                remedy="\nThe sealed events stand. Restore the objects, and land corrections as new objects.",
            )

    def _layout(self, snapshot: Snapshot) -> LogLayout:
        return self._chain.layout(snapshot, self.log.name)

    def unsealed(self) -> list[LandingObject]:
        """The objects that no snapshot holds: retried ones (folder ''), which are older, then landing's in order."""
        retried = [LandingObject(ObjectInfo(name, 0, ""), "", None) for name in retry_objects(self._objects, self.log)]
        return [item for item in [*retried, *self.landing.objects] if item.name not in self._sealed]

    def start(self, key: str, following: str | None) -> None:
        """Start to decode the objects of the next key and of the one that follows."""
        self._decoding.start([item for item in self.unsealed() if item.folder <= (following or key)])

    def close(self) -> None:
        """Give up what was begun."""
        self._decoding.close()

    def seal(self, key: str, parent: Snapshot | None) -> tuple[LogCut, LogLayout]:
        """Decode, order, deduplicate and store what is new up to a key; nothing is visible before the manifest."""
        before = parent.logs.get(self.log.name) if parent else None
        objects = list(self._decoding.decode([item for item in self.unsealed() if item.folder <= key]))
        self._check_limit(key, objects)
        starts = list(before.ends) if before else [0] * self.log.partitions
        parts = order_events(self.log, objects, starts, before.seq_end if before else 0)
        cut = self._new_cut(objects, parts, starts, parent)
        segments, repeats, seen = self._write(key, parts, cut.seq_end)
        self._sealed |= {o.name: o for o in cut.objects}
        quarantine = write_quarantine(self._objects, self.log, _bad(objects))
        tags = {decoded.item.name: decoded.item.info.e_tag for decoded in objects if decoded.item.folder}
        return cut, LogLayout(segments, repeats, quarantine, seen, tags)

    def _new_cut(
        self,
        objects: Sequence[DecodedObject],
        parts: Sequence[NewEvents],
        starts: Sequence[int],
        parent: Snapshot | None,
    ) -> LogCut:
        """The log's part of the new snapshot, whose events of each log partition begin at the offsets `starts`."""
        before = parent.logs.get(self.log.name) if parent else None
        seq_start = before.seq_end if before else 0
        seq_end = seq_start + sum(len(new) for new in parts)
        ends = [start + len(new) for start, new in zip(starts, parts, strict=True)]
        content = [part.content for part in parts]
        return LogCut(
            id=cut_id(before.id if before else None, self.log.content, ends, content, seq_end - seq_start),
            starts=list(starts),
            ends=ends,
            seq_start=seq_start,
            seq_end=seq_end,
            content=content,
            schema=self.log.content,
            read=sum(decoded.read for decoded in objects),
            quarantined=sum(len(decoded.bad) for decoded in objects),
            control=sum(decoded.control for decoded in objects),
            objects=[_sealed_object(decoded, parent) for decoded in objects],
        )

    def _check_limit(self, key: str, objects: Sequence[DecodedObject]) -> None:
        limits, read = self.log.quarantine, sum(decoded.read for decoded in objects)
        bad = _bad(objects)
        count = len(bad)
        if count <= limits.records_max and count <= limits.share_max * read:
            return
        reasons = Counter(record.reason for _, record in bad)
        name, first = bad[0]
        raise QuarantineLimit(
            f"Snapshot {key} was not sealed: {count} of {read} records of log {self.log.name!r} cannot be events "
            f"(allowed {limits.share_max:.1%} and {limits.records_max}); "
            + ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
            + f". The first is {name} {self.log.decoder.unit} {first.number}: {first.detail}",
            reasons=reasons,
            remedy="Correct the landing or the declaration, or raise the log's QuarantineLimits.",
        )

    def _write(
        self, key: str, parts: Sequence[NewEvents], seq_end: int
    ) -> tuple[list[SegmentFile], StoredObject | None, list[SeenFile]]:
        """Write segments and, beside that, deduplicate."""
        sizes = [len(new) for new in parts]
        if not sum(sizes):
            return [], None, list(self._seen_files())
        run = run_of(parts, seq_end - sum(sizes), seq_end)
        write = partial(write_segments, self._objects, self.log)
        work: list[Callable[[], Any]] = [partial(write, p, new.events, new.stored_ids) for p, new in enumerate(parts)]
        work.append(partial(self._deduplicate, key, parts, run, self._earlier(run), seq_end))
        *written, (repeats, seen) = each(lambda job: job(), work, [*sizes, len(run)])
        return [file for files in written for file in files], repeats, seen

    def _earlier(self, run: SeenRun) -> tuple[Seqs, SeenRun]:
        """Pairs of a place in `run` and an entry of the seen index that has the same hash."""
        try:
            self._index = self._open_index() if self._index is None else self._index
            return self._index.candidates(run)
        except Damaged as error:
            self._index = self._index_again(error)
            return self._index.candidates(run)

    def _deduplicate(
        self, key: str, parts: Sequence[NewEvents], run: SeenRun, earlier: tuple[Seqs, SeenRun], seq_end: int
    ) -> tuple[StoredObject | None, list[SeenFile]]:
        """The repeats among the new events, and the seen index with their first deliveries."""
        assert self._index is not None
        start = seq_end - len(run)
        deliveries, firsts = seal_deliveries(
            self.log, run, earlier, lambda places: rows_at(parts, start + places), self._fetch
        )
        check_conflicts(self.log, key, run.seqs, deliveries, firsts, partial(self._events_at, parts, start))
        new = run.take(run.by_hash[deliveries[run.by_hash] == Delivery.FIRST])
        try:
            self._index.add(new, seq_end)
        except Damaged as error:
            self._index = self._index_again(error)
            self._index.add(new, seq_end)
        repeats = self._store_repeats(parts, deliveries, firsts, start)
        return repeats, self._index.store(self._objects, self.log.name)

    def _index_again(self, error: Damaged) -> SeenIndex:
        _log.warning("%s Computing the seen index again from all segments.", error)
        return seen_index(self._reader, self._chain)

    def _store_repeats(
        self, parts: Sequence[NewEvents], deliveries: Deliveries, firsts: Seqs, start: int
    ) -> StoredObject | None:
        tables = [REPEATS.empty_table()]  # not on import: pyarrow imports pandas then
        for partition, part in enumerate(parts):
            rows = part.seqs - start
            again = np.flatnonzero(deliveries[rows] != Delivery.FIRST)
            where, seqs = part.events["log_offset"].to_numpy()[again], part.seqs[again]
            columns = [np.full(len(again), partition), where, seqs, deliveries[rows[again]], firsts[rows[again]]]
            tables.append(pa.table(columns, schema=REPEATS))
        repeats = pa.concat_tables(tables)
        if not len(repeats):
            return None
        return put_content(self._objects, ObjectKind.REPEATS, to_parquet(repeats), log=self.log.name)

    def _open_index(self) -> SeenIndex:
        head = self._chain.head
        return SeenIndex.open(self._objects, self._seen_files(), self._cut(head).seq_end if head else 0)

    def _seen_files(self) -> Sequence[SeenFile]:
        return newest_seen(self._chain, self.log.name)[1]

    def _events_at(self, parts: Sequence[NewEvents], start: int, seqs: Seqs) -> Iterator[pa.Table]:
        """New and sealed events by `log_seq`, which rises; new ones are those from `start` on."""
        yield from self._reader.at(seqs[seqs < start].tolist())
        yield rows_at(parts, seqs[seqs >= start])

    def _fetch(self, seqs: Sequence[int]) -> Iterator[tuple[int, bytes, bytes]]:
        """Ids and contents of sealed events, for the exact comparison of candidates."""
        for events in self._reader.at(seqs):
            ids = encode_rows([events[name] for name in self.log.id_columns])
            contents = encoded(self.log, events)
            yield from zip(events["log_seq"].to_pylist(), ids, contents, strict=True)


def _bad(objects: Sequence[DecodedObject]) -> list[tuple[str, BadRecord]]:
    """The bad records, each with the name of its object, in order."""
    return [(decoded.item.name, record) for decoded in objects for record in decoded.bad]


def _sealed_object(decoded: DecodedObject, parent: Snapshot | None) -> SealedObject:
    item = decoded.item
    late = parent is not None and "" < item.folder <= parent.key
    return SealedObject(item.name, decoded.size_bytes, decoded.sha256, decoded.read, late)
