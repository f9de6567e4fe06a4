"""Structural checks of a sealed log: what must be true of every segment, whatever the stores make of it.

All findings are returned as values, none is raised; an empty list means that the log is whole. Snapshots are
verified oldest first, because a key must stay in its log partition through all of history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import Damaged
from refold.log.declaration import Log
from refold.log.layout import SegmentFile
from refold.log.quarantine import read_quarantine
from refold.log.reader import LogReader
from refold.log.segment import content_digest
from refold.log.snapshot import LogCut, Snapshot, SnapshotChain, cut_id
from refold.storage.objects import ObjectStore


class LogCheck(StrEnum):
    """A structural check of a log."""

    SEGMENT_HASH = "segment-hash"
    OFFSETS = "offsets"
    ORDER = "order"
    CONTENT = "content"
    KEY_PARTITION = "key-partition"
    ACCOUNTING = "accounting"
    REPEATS = "repeats"


PROMISES: Mapping[LogCheck, str] = {
    LogCheck.SEGMENT_HASH: "every segment has the bytes its layout names",
    LogCheck.OFFSETS: "offsets run from the parent's end to the snapshot's without gap or repetition",
    LogCheck.ORDER: "log_seq rises with the offset in every log partition and covers its range exactly",
    LogCheck.CONTENT: "the events have the digests of the manifest, and the identity follows from them",
    LogCheck.KEY_PARTITION: "no key is in two log partitions",
    LogCheck.ACCOUNTING: "records read = events + quarantined + control, for the log and over its landing objects",
    LogCheck.REPEATS: "the stored deduplication and the quarantine can be read",
}
"""The promise of every structural check."""


@dataclass(frozen=True)
class LogFinding:
    """One check that failed: which, where, and what was expected and found."""

    check: LogCheck
    snapshot: str
    where: str
    message: str


_Found = tuple[LogCheck, str, str]
"""A check that failed, where, and what was expected and found."""


class LogVerifier:
    """Verifies one log snapshot by snapshot, oldest first."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, log: Log) -> None:
        self._objects = objects
        self._chain = chain
        self._log = log
        self._reader = LogReader(objects, chain, log)
        self._first_of: dict[object, tuple[int, int]] = {}
        self._parent: LogCut | None = None
        self.events = 0

    def go_on_from(self, parent: Snapshot | None) -> None:
        """Go on from a snapshot that is not verified; a key is compared with the snapshots that are, alone."""
        cut = parent.cut(self._log.name) if parent is not None else None
        self._parent = cut if cut is not None and cut.ends else None

    def verify(self, snapshot: Snapshot) -> list[LogFinding]:
        """The findings of the next snapshot; empty where all holds."""
        cut = snapshot.cut(self._log.name)
        if not cut.ends:
            return []
        findings = [
            LogFinding(check, snapshot.key, where, text) for check, where, text in self._manifest(snapshot, cut)
        ]
        try:
            parts = self._segments(snapshot)
            found = [*self._ranges(snapshot, cut, parts), *self._keys(snapshot, parts), *self._stored(snapshot)]
        except Damaged as error:
            found = [(LogCheck.SEGMENT_HASH, f"log {self._log.name}", str(error))]
        self.events += cut.events
        self._parent = cut if cut.ends else None
        return findings + [LogFinding(check, snapshot.key, where, text) for check, where, text in found]

    def _manifest(self, snapshot: Snapshot, cut: LogCut) -> Iterable[_Found]:
        where = snapshot.name
        if cut.read != cut.events + cut.quarantined + cut.control:
            yield (
                LogCheck.ACCOUNTING,
                where,
                f"expected {cut.read} records read = events + quarantined + control, found {cut.events} + "
                f"{cut.quarantined} + {cut.control}",
            )
        in_objects = sum(item.records for item in cut.objects)
        if cut.read != in_objects:
            yield (
                LogCheck.ACCOUNTING,
                where,
                f"expected {cut.read} records over all landing objects, found {in_objects}",
            )
        parent = self._parent
        starts = list(parent.ends) if parent else [0] * len(cut.ends)
        if list(cut.starts) != starts:
            yield LogCheck.OFFSETS, where, f"expected to start at the parent's ends {starts}, found {list(cut.starts)}"
        if cut.seq_start != (parent.seq_end if parent else 0):
            yield (
                LogCheck.ORDER,
                where,
                f"expected log_seq to start at {parent.seq_end if parent else 0}, found {cut.seq_start}",
            )
        records = [r.sha256 for r in self._chain.redactions if r.log == self._log.name and r.changes(snapshot.key)]
        expected = cut_id(parent.id if parent else None, cut.schema, cut.ends, cut.content, cut.events, records)
        if cut.id != expected:
            yield LogCheck.CONTENT, where, f"expected the identity {expected} from parent and content, found {cut.id}"

    def _segments(self, snapshot: Snapshot) -> dict[int, list[tuple[SegmentFile, pa.Table]]]:
        parts: dict[int, list[tuple[SegmentFile, pa.Table]]] = {}
        self._reader.require_readable(snapshot.cut(self._log.name).schema)
        with self._reader.standing(snapshot):
            for file in self._chain.layout(snapshot, self._log.name).segments:
                parts.setdefault(file.partition, []).append((file, self._reader.segment(file)))
        return parts

    def _ranges(
        self, snapshot: Snapshot, cut: LogCut, parts: dict[int, list[tuple[SegmentFile, pa.Table]]]
    ) -> Iterable[_Found]:
        seqs = []
        for partition, (start, end) in enumerate(zip(cut.starts, cut.ends, strict=True)):
            tables = [table for _, table in parts.get(partition, [])]
            events = pa.concat_tables(tables) if tables else self._log.schema.empty_table()
            where = f"log {self._log.name} partition {partition}"
            yield from _sequence(where, events, start, end)
            seqs.append(events["log_seq"].to_numpy())
            digest = content_digest(self._log.as_sealed(cut.schema), tables)
            if digest != cut.content[partition]:
                yield LogCheck.CONTENT, where, f"expected content {cut.content[partition]}, found {digest}"
        merged = np.sort(np.concatenate(seqs))
        if not np.array_equal(merged, np.arange(cut.seq_start, cut.seq_end)):
            text = f"expected every log_seq from {cut.seq_start} to {cut.seq_end - 1} once, found others"
            yield LogCheck.ORDER, f"log {self._log.name}", text

    def _keys(self, snapshot: Snapshot, parts: dict[int, list[tuple[SegmentFile, pa.Table]]]) -> Iterable[_Found]:
        aside = snapshot.excluded(self._log.name)
        for partition, tables in parts.items():
            offsets = pa.array([offset for p, offset in aside if p == partition], pa.int64())
            for file, every in tables:
                table = every.filter(pc.invert(pc.is_in(every["log_offset"], offsets))) if len(offsets) else every
                firsts = table.group_by(list(self._log.key_columns)).aggregate([("log_offset", "min")])
                for row in firsts.to_pylist():
                    key, offset = self._log.key_of(row), row["log_offset_min"]
                    known, at = self._first_of.setdefault(key, (partition, offset))
                    if known != partition:
                        yield (
                            LogCheck.KEY_PARTITION,
                            file.name,
                            f"key {key!r} is in log partitions {known} and {partition}: first at {known}:{at}, and at "
                            f"{partition}:{offset}",
                        )

    def _stored(self, snapshot: Snapshot) -> Iterable[_Found]:
        try:
            self._reader.repeats(snapshot)
            found = len(read_quarantine(self._objects, self._chain, self._log, snapshot))
        except Damaged as error:
            yield LogCheck.REPEATS, f"log {self._log.name}", str(error)
            return
        expected = snapshot.cut(self._log.name).quarantined
        if found != expected:
            yield (
                LogCheck.ACCOUNTING,
                f"log {self._log.name}",
                f"expected {expected} quarantined records, found {found}",
            )


def _sequence(where: str, events: pa.Table, start: int, end: int) -> Iterable[_Found]:
    offsets, seqs = events["log_offset"].to_numpy(), events["log_seq"].to_numpy()
    expected = np.arange(start, end)
    if not np.array_equal(offsets, expected):
        bad = next((i for i, (a, b) in enumerate(zip(offsets, expected, strict=False)) if a != b), None)
        at = (
            f"first wrong at {expected[bad]}: found {offsets[bad]}"
            if bad is not None
            else "some are missing or too many"
        )
        yield LogCheck.OFFSETS, where, f"expected offsets {start} to {end - 1}, found {len(offsets)} offsets; {at}"
    if len(seqs) > 1 and not bool((np.diff(seqs) > 0).all()):
        place = int(np.flatnonzero(np.diff(seqs) <= 0)[0])
        yield (
            LogCheck.ORDER,
            where,
            f"log_seq falls from {seqs[place]} to {seqs[place + 1]} at offset {offsets[place + 1]}",
        )


def verify_log(objects: ObjectStore, chain: SnapshotChain, log: Log, snapshots: Sequence[Snapshot]) -> list[LogFinding]:
    """All findings over snapshots given oldest first, from the first one on."""
    verifier = LogVerifier(objects, chain, log)
    return [finding for snapshot in snapshots for finding in verifier.verify(snapshot)]
