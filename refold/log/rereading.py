"""Reading a log for full replay: first all of its ids, then snapshot by snapshot the events and what became of each.

Which events repeat an id is found anew every time, from the ids alone (`refold.log.deduplication`). What sealing stored
says which ids are worth keeping when they are read: if all whose hashes recur turn out to be among them, they need not
be read a second time. Contents are read only where they were not compared before (`refold.log.content`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.encoding import EncodedRows, Hashes, compiled, encode_rows
from refold.log import event_ids
from refold.log.content import ContentCheck
from refold.log.deduplication import UNKNOWN, ReplayDedup, Suspects, declared
from refold.log.kept_suspects import KeptSuspects
from refold.log.reader import LogReader, Part, UnreadPart
from refold.log.repeated_hashes import HashSet, RepeatedHashes
from refold.log.repeats import Deliveries, Seqs
from refold.log.segment import content_digest
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.parallel import each
from refold.storage import ObjectStore

_log = logging.getLogger("refold")


class Rereader:
    """Reads the snapshots of a log again, from the first on.

    Args:
        snapshots: all that will be asked for, from the first on; their ids are read at once.
        columns: the columns of the events that are wanted.
        memory_bytes: how much of the ids' hashes may be held in memory, and half as much of the suspects.
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
        self._columns = list(dict.fromkeys(["log_seq", *columns]))
        self._compared = {one.key: trusting and self._content.remembers(one) for one in snapshots}
        self._kept, self._repeated = self._read_ids(memory_bytes)
        self._dedup = ReplayDedup(len(self._repeated))
        self._open = self._open_hashes()
        if self._kept is not None:
            self._repeated = HashSet(np.zeros(0, dtype=np.uint64))  # what has these hashes is kept
        pa.default_memory_pool().release_unused()  # what reading all ids took, before the events are read

    def _read_ids(self, memory_bytes: int) -> tuple[KeptSuspects | None, HashSet]:
        """All suspects, if all of them are known now; and the hashes that occur more than once."""
        hashes, named = RepeatedHashes(memory_bytes), self._named_in_repeats()
        kept = KeptSuspects(memory_bytes // 2)

        def read(unread: UnreadPart) -> Suspects:
            found = []
            for part, mine in self._hashed(unread):
                hashes.add(mine)
                places = np.empty(len(part), dtype=np.int64)
                count = _meet(part.table["log_seq"].to_numpy(), named, places)
                found.append(Suspects.of(self._reader.log, part, mine, places[:count]))
            return Suspects.joined(unread.partition, found)

        for snapshot in self._snapshots:
            unread = self._unread_ids(snapshot)
            kept.keep(snapshot.key, each(read, unread, [len(part) for part in unread]))
        repeated = HashSet(hashes.result())
        complete = kept.narrow(repeated) == hashes.occurrences
        return kept if complete else None, repeated

    def _named_in_repeats(self) -> Seqs:
        """The `log_seq` of the repeats that sealing found, and of their firsts, sorted: nothing rests on them."""

        def seqs(snapshot: Snapshot) -> Seqs:
            repeats = self._content.recorded(snapshot)
            columns = [] if repeats is None else [repeats["log_seq"].to_numpy(), repeats["first_seq"].to_numpy()]
            return np.concatenate([np.zeros(0, dtype=np.int64), *columns])

        events = [snapshot.cut(self._reader.log.name).events for snapshot in self._snapshots]
        named = np.concatenate([np.zeros(0, dtype=np.int64), *each(seqs, self._snapshots, events)])
        named.sort()
        return named

    def _unread_ids(self, snapshot: Snapshot) -> list[UnreadPart]:
        return self._reader.unread(snapshot, [self._id, "log_seq"])

    def _hashed(self, unread: UnreadPart) -> Iterator[tuple[Part, Hashes]]:
        return ((part, event_ids.hashes(part.table[self._id])) for part in unread.pieces())

    def _suspects(self, snapshot: Snapshot) -> Sequence[Suspects]:
        """The events of a snapshot whose ids have hashes that occur more than once, by log partition."""
        if self._kept is not None:
            return self._kept[snapshot.key]

        def read(unread: UnreadPart) -> Suspects:
            found = [
                Suspects.of(self._reader.log, part, hashes, np.flatnonzero(self._repeated.has(hashes)))
                for part, hashes in self._hashed(unread)
            ]
            return Suspects.joined(unread.partition, found)

        unread = self._unread_ids(snapshot)
        return each(read, unread, [len(part) for part in unread])

    def _open_hashes(self) -> HashSet:
        """The repeated hashes in snapshots of which nothing is remembered: their firsts' contents will be needed."""
        fresh = [snapshot for snapshot in self._snapshots if not self._compared[snapshot.key]]
        if len(fresh) == len(self._snapshots):
            return self._repeated
        found = [np.zeros(0, dtype=np.uint64)]
        for snapshot in fresh:
            found += [some.hashes for some in self._suspects(snapshot)]
        return HashSet(np.concatenate(found))

    def read(self, snapshot: Snapshot) -> tuple[list[UnreadPart], list[Deliveries]]:
        """The events of the next snapshot, to be read with the wanted columns, and the delivery of each.

        Raises Damaged.
        """
        repeats = self.repeats(snapshot)
        places, offsets = repeats["log_partition"].to_numpy(), repeats["log_offset"].to_numpy()
        values, found = repeats["delivery"].to_numpy(), []
        unread = self._reader.unread(snapshot, self._columns)
        for part in unread:
            deliveries, mine = np.zeros(len(part), dtype=np.uint8), places == part.partition
            deliveries[offsets[mine] - part.start] = values[mine]
            found.append(deliveries)
        return unread, found

    def repeats(self, snapshot: Snapshot) -> pa.Table:
        """The repeats of the next snapshot, as sealing stores them. Raises Damaged."""
        if self._instead is not None:
            return self._instead.repeats(snapshot)
        suspects = self._suspects(snapshot)
        if self._kept is not None:
            self._kept.let_go(snapshot.key)
        if not self._compared[snapshot.key]:
            return self._compare(snapshot, suspects)
        if any(self._open.has(mine.hashes).any() for mine in suspects):
            suspects, _ = self._with_contents(snapshot, suspects)
        recorded, found = self._content.recorded(snapshot), self._dedup.repeats(suspects)
        if recorded is not None and _hold(recorded, found):
            return recorded
        _log.warning(
            "Log %r, snapshot %s: the recorded repeats are not those in the ids, though it is remembered that they "
            "were compared. Comparing all events again.",
            self._reader.log.name,
            snapshot.key,
        )
        self._kept = None
        self._instead = self._anew()
        before = self._snapshots[: self._snapshots.index(snapshot) + 1]
        return [self._instead.repeats(each) for each in before][-1]

    def _compare(self, snapshot: Snapshot, suspects: Sequence[Suspects]) -> pa.Table:
        """The repeats of a snapshot, all of whose events are held against its manifest, which is then remembered."""
        suspects, digests = self._with_contents(snapshot, suspects)
        self._content.require(snapshot, dict(zip((mine.partition for mine in suspects), digests, strict=True)))
        repeats = self._dedup.repeats(suspects)
        self._content.remember(snapshot, repeats)
        return repeats

    def _with_contents(self, snapshot: Snapshot, suspects: Sequence[Suspects]) -> tuple[list[Suspects], list[str]]:
        """The suspects with their contents, and the `content_digest` of all events, by log partition."""
        unread = self._reader.unread(snapshot, list(self._reader.log.columns))
        pairs = list(zip(unread, suspects, strict=True))
        found = each(lambda pair: self._contents_of(*pair), pairs, [len(part) for part in unread])
        return [mine for mine, _ in found], [digest for _, digest in found]

    def _contents_of(self, unread: UnreadPart, suspects: Suspects) -> tuple[Suspects, str]:
        log, contents = self._reader.log, list[EncodedRows]()

        def pieces() -> Iterator[pa.Table]:
            for part in unread.pieces():
                events = declared(log, part.table)
                first, last = np.searchsorted(suspects.offsets, [part.start, part.start + len(part)])
                some = events.take(pa.array(suspects.offsets[first:last] - part.start))
                contents.append(encode_rows([some[name] for name in log.columns], len(some)))
                yield events

        digest = content_digest(log, pieces())
        return replace(suspects, contents=EncodedRows.joined(contents)), digest


@compiled
def _meet(seqs, named, places):  # type: ignore[no-untyped-def]
    """Write the places in `seqs` of what is named, once each, where both ascend; returns how many there are."""
    count, j = 0, np.searchsorted(named, seqs[0]) if seqs.size else named.size
    for i in range(seqs.size):
        while j < named.size and named[j] < seqs[i]:
            j += 1
        if j == named.size:
            break
        if named[j] == seqs[i]:
            places[count] = i
            count += 1
    return count


def _hold(recorded: pa.Table, found: pa.Table) -> bool:
    """Whether the recorded repeats are those that were found, whose deliveries are known where contents were read."""
    names = [name for name in found.column_names if name != "delivery"]
    if not found.select(names).equals(recorded.select(names)):
        return False
    known = pc.not_equal(found["delivery"], UNKNOWN)
    return bool(found.filter(known).equals(recorded.filter(known)))
