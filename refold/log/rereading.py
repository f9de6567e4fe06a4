"""Reading a log for full replay: first all of its ids, then snapshot by snapshot the events and what became of each.

Which events repeat an id is found anew every time, from the ids alone (`refold.log.deduplication`). Their contents are
read only where they were not compared before (`refold.log.content`). Ids and their hashes are held in memory as far as
they may be; the others are read a second time, and the hashes wait in temporary files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.encoding import Hashes, encode_rows
from refold.log import event_ids
from refold.log.content import ContentCheck
from refold.log.deduplication import UNKNOWN, ReplayDedup, Suspects, declared
from refold.log.repeated import HashSet, RepeatedHashes
from refold.log.repeats import Deliveries
from refold.log.segment import LogReader, Part
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.parallel import each
from refold.storage import ObjectStore

_log = logging.getLogger("refold")


@dataclass(frozen=True)
class _Ids:
    """The ids of one part, and their hashes."""

    part: Part
    hashes: Hashes


class Rereader:
    """Reads the snapshots of a log again, from the first on.

    Args:
        snapshots: all that will be asked for, from the first on; their ids are read at once.
        columns: the columns of the events that are wanted.
        memory_bytes: how much of the ids may be held, and as much again of their hashes.
        trusting: whether contents that were compared before need not be compared again.

    Raises Damaged where a segment is.
    """

    def __init__(
        self,
        objects: ObjectStore,
        chain: SnapshotChain,
        reader: LogReader,
        snapshots: Sequence[Snapshot],
        columns: Sequence[str],
        memory_bytes: int,
        *,
        trusting: bool = True,
    ) -> None:
        self._reader, self._id, self._snapshots = reader, reader.log.event_id, snapshots
        self._content = ContentCheck(objects, chain, reader)
        self._anew: Callable[[], Rereader] = lambda: Rereader(
            objects, chain, reader, snapshots, columns, memory_bytes, trusting=False
        )
        self._instead: Rereader | None = None
        self._columns = [name for name in dict.fromkeys(["log_seq", *columns]) if name not in ("log_offset", self._id)]
        self._kept: dict[str, list[_Ids]] = {}
        self._compared = {one.key: trusting and self._content.remembered(one) is not None for one in snapshots}
        repeated, room = RepeatedHashes(memory_bytes), memory_bytes
        for snapshot in snapshots:
            ids = self._ids(snapshot)
            each(lambda some: repeated.add(some.hashes), ids, [len(some.part) for some in ids])
            size = sum(some.part.table.nbytes + some.hashes.nbytes for some in ids)
            if size <= room:
                self._kept[snapshot.key] = ids
                room -= size
        self._repeated = HashSet(repeated.result())
        self._dedup = ReplayDedup(reader.log, self._repeated)
        self._open = self._open_hashes(snapshots)

    def _ids(self, snapshot: Snapshot) -> list[_Ids]:
        if snapshot.key in self._kept:
            return self._kept[snapshot.key]
        parts = self._reader.parts(snapshot, [self._id])
        hashes = each(lambda part: event_ids.hashes(part.table[self._id]), parts, [len(part) for part in parts])
        return [_Ids(part, mine) for part, mine in zip(parts, hashes, strict=True)]

    def _open_hashes(self, snapshots: Sequence[Snapshot]) -> HashSet:
        """The repeated hashes in snapshots of which nothing is remembered: their firsts' contents will be needed."""
        fresh = [snapshot for snapshot in snapshots if not self._compared[snapshot.key]]
        if len(fresh) == len(snapshots):
            return self._repeated
        found = [np.zeros(0, dtype=np.uint64)]
        for snapshot in fresh:
            found += [some.hashes[self._repeated.has(some.hashes)] for some in self._ids(snapshot)]
        return HashSet(np.concatenate(found))

    def read(self, snapshot: Snapshot) -> tuple[list[Part], list[Deliveries]]:
        """The events of the next snapshot with the wanted columns, and the delivery of each. Raises Damaged."""
        parts, repeats = self._read(snapshot)
        places, offsets = repeats["log_partition"].to_numpy(), repeats["log_offset"].to_numpy()
        values, found = repeats["delivery"].to_numpy(), []
        for part in parts:
            deliveries, mine = np.zeros(len(part), dtype=np.uint8), places == part.partition
            deliveries[offsets[mine] - part.start] = values[mine]
            found.append(deliveries)
        return parts, found

    def repeats(self, snapshot: Snapshot) -> pa.Table:
        """The repeats of the next snapshot, as sealing stores them. Raises Damaged."""
        return self._read(snapshot)[1]

    def _read(self, snapshot: Snapshot) -> tuple[list[Part], pa.Table]:
        if self._instead is not None:
            return self._instead._read(snapshot)
        ids = self._ids(snapshot)
        self._kept.pop(snapshot.key, None)
        hashes = [some.hashes for some in ids]
        if not self._compared[snapshot.key]:
            parts = _with(self._id, self._reader.parts(snapshot, self._every_column()), ids)
            self._content.require(snapshot, parts)
            suspects = each(self._with_contents, self._dedup.suspects(parts, hashes), [len(part) for part in parts])
            repeats = self._dedup.repeats(suspects)
            self._content.remember(snapshot, repeats)
            return parts, repeats
        parts = _with(self._id, self._reader.parts(snapshot, self._columns), ids)
        suspects = self._dedup.suspects(parts, hashes)
        if any(self._open.has(mine.hashes).any() for mine in suspects):
            whole = _with(self._id, self._reader.parts(snapshot, self._every_column()), ids)
            pairs = [replace(mine, part=part) for mine, part in zip(suspects, whole, strict=True)]
            suspects = each(self._with_contents, pairs, [len(part) for part in parts])
        recorded, found = self._content.remembered(snapshot), self._dedup.repeats(suspects)
        if recorded is not None and _hold(recorded, found):
            return parts, recorded
        _log.warning(
            "Log %r, snapshot %s: the recorded repeats are not those in the ids, though it is remembered that they "
            "were compared. Comparing all events again.",
            self._reader.log.name,
            snapshot.key,
        )
        self._instead, self._kept = self._anew(), {}
        return [self._instead._read(before) for before in self._snapshots[: self._snapshots.index(snapshot) + 1]][-1]

    def _every_column(self) -> list[str]:
        names = dict.fromkeys([*self._columns, *self._reader.log.columns])
        return [name for name in names if name != self._id]

    def _with_contents(self, suspects: Suspects) -> Suspects:
        log = self._reader.log
        some = declared(log, suspects.part.table.select(list(log.columns)).take(pa.array(suspects.places)))
        return replace(suspects, contents=encode_rows([some[name] for name in log.columns], len(some)))


def _hold(recorded: pa.Table, found: pa.Table) -> bool:
    """Whether the recorded repeats are those that were found, whose deliveries are known where contents were read."""
    names = [name for name in found.column_names if name != "delivery"]
    if not found.select(names).equals(recorded.select(names)):
        return False
    known = pc.not_equal(found["delivery"], UNKNOWN)
    return bool(found.filter(known).equals(recorded.filter(known)))


def _with(name: str, parts: Sequence[Part], ids: Sequence[_Ids]) -> list[Part]:
    pairs = zip(parts, ids, strict=True)
    return [replace(part, table=part.table.append_column(name, some.part.table[name])) for part, some in pairs]
