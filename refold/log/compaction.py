"""Compaction: joins many small segments of a log into fewer large ones, without changing an identity or digest.

A compacted segment is an ordinary segment that holds the events of consecutive snapshots. Their layouts are replaced by
layouts that name it, each with its own range of offsets. The layouts alone determine which segments are joined, in each
log partition from offset 0 on:

- neighbours form a group as long as it holds at most `MergeLimits.events_max` events. So complete groups stay as they
  are, and whoever reads a snapshot holds no more than that of each log partition (`refold.log.slices`);
- objects at the front of a group are left out while they hold more events than the rest of the group. So each time an
  event is written again, its segment at least doubles;
- the rest of a group is joined if it is at least `MergeLimits.files_min` segments; the newest ones wait until
  there are that many;
- segments of large events are not joined and end a group.

Before a layout is replaced, the new segment is read back from the store, and compared with the old segments by columns
and with the manifest by events. A process that is killed leaves segments that none or only some of the layouts name;
the next compaction completes them. Old segments are kept for readers of an old layout until `refold.repair.garbage`
removes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import groupby

import pyarrow as pa

from refold.base.progress import track
from refold.errors import Conflict, Damaged
from refold.log.declaration import Log
from refold.log.layout import SegmentFile
from refold.log.reader import LogReader
from refold.log.segment import encoded, write_segment
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore

_EVENT_BYTES = 512
_SEGMENT_BYTES = 1 << 14


@dataclass(frozen=True)
class MergeLimits:
    """How large a compacted segment may be, and when one is worth writing.

    Attributes:
        events_max: the most events of a compacted segment.
        files_min: fewer segments than this are not joined.
    """

    events_max: int = 1 << 17
    files_min: int = 8


_LIMITS = MergeLimits()


@dataclass(frozen=True)
class Placed:
    """A segment of a snapshot."""

    snapshot: Snapshot
    file: SegmentFile


@dataclass(frozen=True)
class Merge:
    """Neighbouring segments of one log partition, in the order of their offsets, which become one."""

    partition: int
    placed: Sequence[Placed]

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots whose segments they are, oldest first."""
        return list({each.snapshot.key: each.snapshot for each in self.placed}.values())


@dataclass(frozen=True)
class CompactionPlan:
    """A planned compaction of a log.

    Attributes:
        log: its name.
        merges: the merges in the order in which they are done.
        files, files_after: how many objects hold the log's events, now and then.
        size_bytes: of all these objects now.
    """

    log: str
    merges: Sequence[Merge]
    files: int
    files_after: int
    size_bytes: int


@dataclass(frozen=True)
class Compacted:
    """A finished compaction of a log.

    Attributes:
        files, size_bytes: of the objects that hold the log's events, afterwards.
        layouts: the names of the new layouts.
        damaged: why merges of segments were left as they are, one error for each.
    """

    files: int
    size_bytes: int
    layouts: Sequence[str]
    damaged: Sequence[Damaged]


@dataclass
class _Progress:
    """The state of `apply`: new segments by snapshot and place, and how many merges of each snapshot remain."""

    waiting: Counter[str]
    found: dict[str, dict[tuple[int, int], SegmentFile]] = field(default_factory=dict)
    layouts: list[str] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)


class Compactor:
    """Compacts one log."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain, log: Log, limits: MergeLimits = _LIMITS) -> None:
        self._objects = objects
        self._chain = chain
        self._log = log
        self._limits = limits

    def plan(self) -> CompactionPlan:
        """Plan the merges; reads all layouts again and writes nothing. Raises Damaged where a layout is damaged."""
        for snapshot in self._chain:
            self._chain.newer_layout(snapshot)
        placed = self._placed()
        merges = [merge for group in placed.values() for merge in merges_of(group, self._limits)]
        joined = {(merge.partition, each.file.start) for merge in merges for each in merge.placed}
        every = [each.file for group in placed.values() for each in group]
        left = {file.name for file in every if (file.partition, file.start) not in joined}
        sizes = {file.name: file.size_bytes for file in every}
        merges.sort(key=lambda merge: (merge.placed[-1].snapshot.ordinal, merge.partition))
        return CompactionPlan(self._log.name, merges, len(sizes), len(left) + len(merges), sum(sizes.values()))

    def _placed(self) -> dict[int, list[Placed]]:
        """All segments of the log by log partition, in the order of their offsets."""
        reader, found = LogReader(self._objects, self._chain, self._log), dict[int, list[Placed]]()
        for snapshot in self._chain:
            for file in reader.files(snapshot):
                found.setdefault(file.partition, []).append(Placed(snapshot, file))
        return dict(sorted(found.items()))

    def apply(self, plan: CompactionPlan) -> Compacted:
        """Do the merges of a plan; a rerun with a new plan changes nothing, or completes a killed run.

        A merge with a damaged segment is skipped and reported in the result. Each layout is replaced once all merges of
        its snapshot are done.

        Raises:
            Conflict: another process replaced a layout since the plan was made; that layout remains.
        """
        done = _Progress(Counter(snapshot.key for merge in plan.merges for snapshot in merge.snapshots))
        size = [len(merge.placed) for merge in plan.merges]
        for merge in track(plan.merges, f"compact {plan.log}", len(size), _events):
            try:
                for each, file in zip(merge.placed, self._joined(merge), strict=True):
                    done.found.setdefault(each.snapshot.key, {})[file.partition, file.start] = file
            except Damaged as error:
                done.damaged.append(error)
            for snapshot in merge.snapshots:
                done.waiting[snapshot.key] -= 1
                if done.waiting[snapshot.key] == 0:
                    done.layouts += self._replace(snapshot, done.found.pop(snapshot.key, {}))
        sizes = {each.file.name: each.file.size_bytes for group in self._placed().values() for each in group}
        return Compacted(len(sizes), sum(sizes.values()), done.layouts, done.damaged)

    def _joined(self, merge: Merge) -> list[SegmentFile]:
        """The segments of a merge as ranges of a new one, which is stored, read back and compared. Raises Damaged."""
        reader = LogReader(self._objects, self._chain, self._log)
        before = [self._read(reader, each) for each in merge.placed]
        events = pa.concat_tables(before).drop_columns(["log_partition"]).combine_chunks()
        whole = write_segment(self._objects, self._log, merge.partition, events)
        found = [replace(whole, start=each.file.start, end=each.file.end) for each in merge.placed]
        self._objects.get_checked(whole.name, whole.sha256)
        reader, again = LogReader(self._objects, self._chain, self._log), dict[int, pa.Table]()
        for file, expected in zip(found, before, strict=True):
            # By columns, so that each is read by its own range and checked by its own hash.
            again[file.start] = reader.segment(file, self._log.schema.names)
            if not again[file.start].equals(expected):
                raise Damaged(
                    f"The compacted segment {whole.name} does not hold, from offset {file.start} to {file.end}, what "
                    "the segments it was made of do; no layout names it.",
                    remedy="Run again. If it recurs, report a bug.",
                )
        for snapshot in merge.snapshots:
            self._require_content(snapshot, merge.partition, again)
        return found

    def _read(self, reader: LogReader, placed: Placed) -> pa.Table:
        with reader.standing(placed.snapshot):
            return reader.segment(placed.file)

    def _require_content(self, snapshot: Snapshot, partition: int, again: dict[int, pa.Table]) -> None:
        """Raise Damaged where the events of a log partition, some given by `again`, are not those that were sealed."""
        reader, digest = LogReader(self._objects, self._chain, self._log), sha256()
        cut = snapshot.cut(self._log.name)
        sealed = self._log.as_sealed(cut.schema)
        files = [file for file in reader.files(snapshot) if file.partition == partition]
        for file in files:
            events = again[file.start] if file.start in again else reader.segment(file)
            digest.update(encoded(sealed, events).data.data)
        expected = cut.content[partition]
        if digest.hexdigest() != expected:
            raise Damaged(
                f"The events of log {self._log.name!r}, snapshot {snapshot.key}, log partition {partition} are not "
                f"those that were sealed: expected content {expected}, found {digest.hexdigest()} in "
                f"{', '.join(file.name for file in files)}.",
                remedy="Run `refold log verify`, and restore the segments or the layout from a copy.",
            )

    def _replace(self, snapshot: Snapshot, found: dict[tuple[int, int], SegmentFile]) -> list[str]:
        """Replace segments in a layout; returns the name of the new layout, or nothing where it has them already."""
        layouts = {name: self._chain.layout(snapshot, name) for name in snapshot.logs}
        mine = layouts[self._log.name]
        segments = [found.get((file.partition, file.start), file) for file in mine.segments]
        if segments == list(mine.segments):
            return []
        try:
            new = {self._log.name: replace(mine, segments=segments)}
            return [self._chain.replace_layout(snapshot, layouts | new)]
        except Conflict as error:
            raise Conflict(
                f"The layout of snapshot {snapshot.key} was replaced by another process while this one compacted log "
                f"{self._log.name!r}: {self._chain.newest_layout(snapshot)} is in effect.",
                remedy="Run again: it continues from there, or finds nothing to do.",
            ) from error


def _events(merge: Merge) -> int:
    return _count(merge.placed)


def _count(placed: Iterable[Placed]) -> int:
    return sum(each.file.end - each.file.start for each in placed)


def merges_of(placed: Sequence[Placed], limits: MergeLimits = _LIMITS) -> Iterator[Merge]:
    """The merges of one log partition's segments."""
    for group in _groups(_objects(placed), limits.events_max):
        sizes = [_count(one) for one in group]
        first = 0
        while first < len(group) and sizes[first] > sum(sizes[first + 1 :]):
            first += 1
        if len(group) - first >= limits.files_min:
            yield Merge(placed[0].file.partition, [each for one in group[first:] for each in one])


def _objects(placed: Sequence[Placed]) -> Iterator[list[Placed]]:
    """The segments grouped by object; one by one where the layouts name only some of an object's events.

    That happens where compaction was killed. The same merges are then found again.
    """
    for _, same in groupby(placed, key=lambda each: (each.file.name, each.file.sha256)):
        found = list(same)
        covered = (found[0].file.start, found[-1].file.end)
        yield from [found] if covered == (found[0].file.first, found[0].file.last) else [[each] for each in found]


def _groups(objects: Iterable[list[Placed]], events_max: int) -> Iterator[list[list[Placed]]]:
    """Neighbours that together hold at most `events_max` events."""
    group: list[list[Placed]] = []
    events = 0
    for found in objects:
        large, count = _is_large(found[0].file), _count(found)
        if group and (large or events + count > events_max):
            yield group
            group, events = [], 0
        if not large:
            group.append(found)
            events += count
    if group:
        yield group


def _is_large(file: SegmentFile) -> bool:
    """Whether its events are so large that many of them should not be read at once."""
    return file.size_bytes - file.pieces[""].size > max(_SEGMENT_BYTES, _EVENT_BYTES * (file.last - file.first))
