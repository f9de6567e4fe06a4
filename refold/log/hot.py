"""How unevenly the events of a log are spread: the share of each log partition, and the keys with the most events.

A log partition is folded by one thread, so the largest one decides how long a fold takes. Comes after `reader`; counted
from layouts and from the key columns of the segments.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refold.log.declaration import Log
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore

HEAVIEST = 10
"""How many keys are listed."""

_BAR = 40


@dataclass(frozen=True)
class PartitionLoad:
    """What one log partition holds: events, stored bytes, and the seconds that reading its keys took this time."""

    partition: int
    events: int
    size_bytes: int
    seconds: float = 0.0


@dataclass(frozen=True)
class HotLog:
    """The log partitions of a log, in their order, and its heaviest keys with log partition and events."""

    log: str
    partitions: Sequence[PartitionLoad]
    keys: Sequence[tuple[object, int, int]] = ()

    @property
    def events(self) -> int:
        """All events."""
        return sum(each.events for each in self.partitions)

    @property
    def skew(self) -> float:
        """The events of the largest log partition over the mean of all; 1 where they are even."""
        return max((each.events for each in self.partitions), default=0) * len(self.partitions) / max(self.events, 1)

    def picture(self) -> list[str]:
        """A line for each log partition with a bar of its share of the events.

        >>> HotLog("sales", [PartitionLoad(0, 3, 90), PartitionLoad(1, 1, 30)]).picture()[0]
        ' 0 ########################################  75.0 %  3 events'
        """
        most = max((each.events for each in self.partitions), default=0) or 1
        return [
            f"{each.partition:>2} {'#' * round(_BAR * each.events / most):<{_BAR}} "
            f"{100 * each.events / max(self.events, 1):>5.1f} %  {each.events:,} events"
            for each in self.partitions
        ]


def loads(chain: SnapshotChain, log: Log, snapshots: Iterable[Snapshot]) -> HotLog:
    """The load of each log partition over snapshots, from their layouts alone."""
    events, size_bytes = [0] * log.partitions, [0] * log.partitions
    for snapshot in snapshots:
        for file in chain.layout(snapshot, log.name).segments:
            events[file.partition] += file.end - file.start
            share = (file.end - file.start) / max(file.last - file.first, 1)  # compaction joins snapshots in one object
            size_bytes[file.partition] += round(file.size_bytes * share)
    return HotLog(log.name, [PartitionLoad(n, events[n], size_bytes[n]) for n in range(log.partitions)])


def hot(objects: ObjectStore, chain: SnapshotChain, log: Log, snapshots: Sequence[Snapshot]) -> HotLog:
    """The same with the heaviest keys and the seconds of each log partition; reads the key columns of every segment.

    Raises Damaged, Conflict as reading does.
    """
    reader, names = LogReader(objects, chain, log), list(log.key_columns)
    seconds, counts = [0.0] * log.partitions, Counter[tuple[int, object]]()
    for snapshot in snapshots:
        with reader.standing(snapshot):
            for file in reader.files(snapshot):
                started = time.perf_counter()
                found = reader.segment(file, names).group_by(names).aggregate([([], "count_all")])
                for row in found.to_pylist():
                    counts[file.partition, log.key_of(row)] += row["count_all"]
                seconds[file.partition] += time.perf_counter() - started
    spread = loads(chain, log, snapshots).partitions
    timed = [PartitionLoad(each.partition, each.events, each.size_bytes, seconds[each.partition]) for each in spread]
    heaviest = sorted(counts.items(), key=lambda each: (-each[1], each[0][0], repr(each[0][1])))[:HEAVIEST]
    return HotLog(log.name, timed, [(key, partition, events) for (partition, key), events in heaviest])
