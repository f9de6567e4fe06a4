"""Reads a log for full replay: first all of its ids, then, snapshot by snapshot, the events and the delivery of each.

Repeats are found again on every replay, from the ids alone (`refold.dedup.from_ids`), before any event is read. The
repeats that sealing stored are only a hint as to which ids to keep on the first reading: if these include all ids whose
hashes recur, the ids are not read a second time. A repeat is a duplicate if its declared columns equal those of its
first delivery byte for byte, else a conflict. Contents are read only where they were not compared before
(`refold.dedup.content_check`); those of first deliveries are kept for their repeats (`refold.dedup.first_contents`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.base.parallel import each
from refold.canonical.encoding import EncodedRows, Hashes, compiled
from refold.canonical.hash_table import HashTable
from refold.dedup.content_check import ContentCheck
from refold.dedup.deliveries import REPEATS, Deliveries, Delivery, Seqs, remembered_from
from refold.dedup.first_contents import FirstContents, union
from refold.dedup.from_ids import ReplayDedup, Suspects, declared
from refold.dedup.repeated_hashes import RepeatedHashes
from refold.dedup.spill import Kept
from refold.errors import Damaged
from refold.log import event_ids
from refold.log.reader import LogReader, Part, UnreadPart
from refold.log.segment import ENCODED_EVENTS, encoded
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.objects import ObjectStore

_log = logging.getLogger("refold")
Flags = npt.NDArray[np.bool_]

HELD_EVENTS = 1 << 14
"""The most events of a snapshot that are held from one reading to the next; opening small segments takes longest."""

HELD_BYTES = 1 << 25


class Rereader:
    """Reads the snapshots of a log again, in order from the first one on.

    Args:
        snapshots: all that will be read, from the first one on; the constructor reads their ids.
        columns: the columns of the events to read.
        memory_bytes: the most memory for hashes of ids; half as much is used for events whose ids may be repeated, and
            half as much for contents and for pairs of repeats and first deliveries together; and an eighth, at
            most 32 MiB, for the events of small snapshots, so that their segments are opened once.
        trusting: whether contents that were compared before are not compared again.

    Raises Damaged where a segment is damaged.
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
        self._reader, self._ids, self._snapshots = reader, reader.log.id_columns, snapshots
        self._content = ContentCheck(objects, chain, reader)
        self._anew: Callable[[], Rereader] = lambda: Rereader(
            objects, chain, reader, snapshots, columns, memory_bytes, trusting=False
        )
        self._instead: Rereader | None = None
        self._held, self._held_bytes = dict[str, list[UnreadPart]](), 0
        self._held_bytes_max = min(memory_bytes // 8, HELD_BYTES)
        self._columns = list(dict.fromkeys(["log_seq", *(name for name in columns if name != "log_offset")]))
        self._places = {one.key: place for place, one in enumerate(snapshots)}
        self._compared = {one.key: trusting and self._content.remembers(one) for one in snapshots}
        self._suspects, expected = self._read_ids(memory_bytes)
        self._pairs, self._firsts = self._settle(expected, memory_bytes // 4)
        pa.default_memory_pool().release_unused()  # the memory of reading all ids, before the events are read

    def _read_ids(self, memory_bytes: int) -> tuple[Kept[list[Suspects]], int]:
        """The events whose ids have recurring hashes, by snapshot and log partition; and the number of these hashes."""
        hashes, named = RepeatedHashes(memory_bytes), self._named_in_repeats()

        def choose(part: Part, own: Hashes) -> Seqs:
            hashes.add(own)
            places = np.empty(len(part), dtype=np.int64)
            return places[: _meet(part.table["log_seq"].to_numpy(), named, places)]

        kept = self._of_each_snapshot(choose, memory_bytes // 2)
        repeated = HashTable(hashes.result())
        found = sum(int((repeated.find(mine.hashes) >= 0).sum()) for one in self._snapshots for mine in kept[one.key])
        if found < hashes.occurrences:
            del kept
            kept = self._of_each_snapshot(lambda _, own: np.flatnonzero(repeated.find(own) >= 0), memory_bytes // 2)
        return kept, len(repeated)

    def _of_each_snapshot(self, choose: Callable[[Part, Hashes], Seqs], memory_bytes: int) -> Kept[list[Suspects]]:
        """The events at the chosen places of each part, by snapshot and log partition; reads all ids."""
        log, kept = self._reader.log, Kept[list[Suspects]](memory_bytes, lambda some: sum(s.size_bytes for s in some))
        for snapshot in self._snapshots:
            start, there = snapshot.cut(log.name).seq_start, np.zeros(snapshot.cut(log.name).events, dtype=np.bool_)

            def read(unread: UnreadPart, start: int = start, there: Flags = there) -> Suspects:
                found = []
                for part in unread.pieces():
                    _tick(part.table["log_seq"].to_numpy(), start, there)
                    hashes = event_ids.hashes_of(part.table, self._ids)
                    found.append(Suspects.of(log, part, hashes, choose(part, hashes)))
                return Suspects.joined(unread.partition, found)

            unread = self._held.get(snapshot.key) or self._hold(snapshot, [*self._ids, "log_seq"])
            kept.keep(snapshot.key, each(read, unread, [len(part) for part in unread]))
            if not there.all():
                raise Damaged(
                    f"The events of log {log.name!r}, snapshot {snapshot.key} are not those that were sealed: expected "
                    f"every log_seq from {start} to {start + len(there) - 1}, ascending in each log partition, found "
                    f"{int(there.sum())} of them.",
                    remedy="Run `refold log verify`, and restore the segments or the layout from a copy.",
                )
        return kept

    def _settle(self, expected: int, memory_bytes: int) -> tuple[Kept[pa.Table], FirstContents]:
        """The pairs of repeat and first delivery by snapshot, and the contents that are needed to compare them."""
        dedup, firsts, asking = ReplayDedup(expected), [], not all(self._compared.values())
        kept = Kept[pa.Table](memory_bytes, lambda pairs: pairs.nbytes)
        for snapshot in self._snapshots:
            pairs = dedup.pairs(self._suspects[snapshot.key], self._since(snapshot))
            kept.keep(snapshot.key, pairs)
            asked = pairs.slice(0, 0 if self._compared[snapshot.key] else None)
            firsts.append(asked["first_seq"].to_numpy().copy())
            if not asking:
                self._suspects.let_go(snapshot.key)  # no contents are compared
        return kept, FirstContents(firsts, memory_bytes)

    def _since(self, snapshot: Snapshot) -> int | None:
        """From which `log_seq` on ids are remembered at a snapshot; None where they all are."""
        log = self._reader.log
        if log.repeats_within is None:
            return None
        return remembered_from(log, self._snapshots, self._places[snapshot.key])

    def _named_in_repeats(self) -> Seqs:
        """The `log_seq` of the repeats that sealing stored, and of their firsts, sorted; no result depends on them."""

        def seqs(snapshot: Snapshot) -> Seqs:
            repeats = self._content.recorded(snapshot)
            columns = [] if repeats is None else [repeats["log_seq"].to_numpy(), repeats["first_seq"].to_numpy()]
            return np.concatenate([np.zeros(0, dtype=np.int64), *columns])

        events = [snapshot.cut(self._reader.log.name).events for snapshot in self._snapshots]
        named = np.concatenate([np.zeros(0, dtype=np.int64), *each(seqs, self._snapshots, events)])
        named.sort()
        return named

    def read(self, snapshot: Snapshot) -> tuple[list[UnreadPart], list[Deliveries]]:
        """The parts of the next snapshot, which read the given columns, and the deliveries of each.

        Raises Damaged.
        """
        repeats = self.repeats(snapshot)
        places, offsets = repeats["log_partition"].to_numpy(), repeats["log_offset"].to_numpy()
        values, found = repeats["delivery"].to_numpy(), []
        unread = self._unread(snapshot)
        for part in unread:
            deliveries, mine = np.zeros(len(part), dtype=np.uint8), places == part.partition
            deliveries[offsets[mine] - part.start] = values[mine]
            aside = [offset for p, offset in snapshot.excluded(self._reader.log.name) if p == part.partition]
            deliveries[np.array(aside, dtype=np.int64) - part.start] = Delivery.EXCLUDED
            found.append(deliveries)
        return unread, found

    def _hold(self, snapshot: Snapshot, columns: Sequence[str]) -> list[UnreadPart]:
        """The parts of a snapshot, to be read; where they are few events, read with all columns needed, and held."""
        log = self._reader.log
        if snapshot.cut(log.name).events > HELD_EVENTS or self._held_bytes >= self._held_bytes_max:
            return self._reader.unread(snapshot, columns)
        compared = () if self._compared[snapshot.key] else log.columns
        unread = self._reader.unread(snapshot, list(dict.fromkeys([*columns, *self._columns, *compared])))
        read = each(lambda part: list(part.pieces()), unread, [len(part) for part in unread])
        held = [replace(part, pieces=partial(iter, own)) for part, own in zip(unread, read, strict=True)]
        self._held[snapshot.key] = held
        self._held_bytes += _size_bytes(held)
        return held

    def _unread(self, snapshot: Snapshot) -> list[UnreadPart]:
        """The parts of a snapshot to fold, which are let go: those held since they were read before, or to be read."""
        held = self._held.pop(snapshot.key, None)
        if held is None:
            return self._reader.unread(snapshot, self._columns)
        self._held_bytes -= _size_bytes(held)
        return [_narrowed(part, self._columns) for part in held]

    def repeats(self, snapshot: Snapshot) -> pa.Table:
        """The repeats of the next snapshot, in the form in which sealing stores them. Raises Damaged."""
        if self._instead is not None:
            return self._instead.repeats(snapshot)
        pairs, cut = self._pairs[snapshot.key], snapshot.cut(self._reader.log.name)
        self._pairs.let_go(snapshot.key)
        wanted = self._firsts.wanted(cut.seq_start, cut.seq_end)
        if not self._compared[snapshot.key]:
            return self._compare(snapshot, pairs, wanted)
        if len(wanted) == 0:
            self._suspects.let_go(snapshot.key)
        else:
            contents, _ = self._contents(snapshot, wanted)
            self._firsts.hold(wanted, contents)
        recorded = self._content.recorded(snapshot)
        if recorded is not None and recorded.select(pairs.column_names).equals(pairs):
            return recorded
        _log.warning(
            "Log %r, snapshot %s: the recorded repeats are not those in the ids, though it is remembered that they "
            "were compared. Comparing all events again.",
            self._reader.log.name,
            snapshot.key,
        )
        del self._suspects, self._pairs, self._firsts
        self._instead = self._anew()
        before = self._snapshots[: self._places[snapshot.key] + 1]
        return [self._instead.repeats(each) for each in before][-1]

    def _compare(self, snapshot: Snapshot, pairs: pa.Table, wanted: Seqs) -> pa.Table:
        """The repeats of a snapshot, after comparing all of its events with its manifest; remembers the result."""
        seqs, firsts = pairs["log_seq"].to_numpy(), pairs["first_seq"].to_numpy()
        needed = union(wanted, np.sort(seqs))
        contents, digests = self._contents(snapshot, needed)
        self._content.require(snapshot, digests)
        self._firsts.hold(needed, contents)
        own = contents.take(np.searchsorted(needed, seqs))
        same = own.same_as(self._firsts.of(self._places[snapshot.key], firsts))
        deliveries = np.where(same, Delivery.DUPLICATE, Delivery.CONFLICT).astype(np.uint8)
        place = REPEATS.get_field_index("delivery")
        repeats = pairs.add_column(place, REPEATS.field(place), pa.array(deliveries))
        self._content.remember(snapshot, repeats)
        return repeats

    def _contents(self, snapshot: Snapshot, seqs: Seqs) -> tuple[EncodedRows, dict[int, str]]:
        """The contents of the suspects `seqs`, which ascend, and the `content_digest` of each log partition."""
        log, suspects = self._reader.log, self._suspects[snapshot.key]
        columns = list(log.columns)
        sealed = log.as_sealed(snapshot.cut(log.name).schema)
        self._suspects.let_go(snapshot.key)

        def read(unread: UnreadPart, mine: Suspects) -> tuple[Seqs, EncodedRows, str]:
            digest, contents, wanted = hashlib.sha256(), list[EncodedRows](), np.isin(mine.seqs, seqs)
            offsets = mine.offsets[wanted]
            for part in unread.pieces():
                for place in range(0, len(part), ENCODED_EVENTS):
                    events = declared(log, part.table.select(columns).slice(place, ENCODED_EVENTS))
                    rows = encoded(log, events)
                    start = part.start + place
                    first, last = np.searchsorted(offsets, [start, start + len(rows)])
                    contents.append(rows.take(offsets[first:last] - start))
                    digest.update((rows if sealed is log else encoded(sealed, events)).data.data)
            return mine.seqs[wanted], EncodedRows.joined(contents), digest.hexdigest()

        if self._compared[snapshot.key]:
            unread = self._reader.unread(snapshot, columns)  # those held have only what is folded
        else:
            unread = self._held.get(snapshot.key) or self._hold(snapshot, columns)
        pairs = list(zip(unread, suspects, strict=True))
        found = each(lambda pair: read(*pair), pairs, [len(part) for part in unread])
        order = np.argsort(np.concatenate([np.zeros(0, dtype=np.int64), *(own for own, _, _ in found)]))
        contents = EncodedRows.joined([rows for _, rows, _ in found]).take(order)
        return contents, {part.partition: digest for part, (*_, digest) in zip(unread, found, strict=True)}


def _size_bytes(held: Sequence[UnreadPart]) -> int:
    return sum(piece.table.nbytes for part in held for piece in part.pieces())


def _narrowed(part: UnreadPart, columns: Sequence[str]) -> UnreadPart:
    """A part that is held, with some columns alone."""
    return replace(part, pieces=lambda: (replace(one, table=one.table.select(columns)) for one in part.pieces()))


@compiled
def _tick(seqs, start, there):  # type: ignore[no-untyped-def]
    """Mark each `log_seq`, from `start` on, up to the first that does not ascend or is out of range."""
    before = start - 1
    for seq in seqs:
        if seq <= before or seq >= start + there.size:
            break
        there[seq - start] = True
        before = seq


@compiled
def _meet(seqs, named, places):  # type: ignore[no-untyped-def]
    """Write the places in `seqs` of the values in `named`, once each; both ascend. Returns their number."""
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
