"""The seen index: the hashes of all ids delivered so far, for look-ups in time proportional to the number of new ids.

It is a cache that can be computed again from the segments. It consists of a few runs, each of them one object; new ones
are merged with older ones. A run has entries in the order of their hashes, in blocks of `BLOCK`, after an index of the
blocks and a filter. In a local folder it is mapped into memory, so looking up an id reads one group of the filter and
then only the blocks that can hold it. Each group and block is checked by a 64-bit sum when it is read.

The bytes of a run, version 2, all numbers little-endian and of 8 bytes:

- `refold s`, the version, the count of entries, of blocks, and of the filter's words, and the sum of these counts, the
  first hashes and the sums of the blocks;
- the first hash of each block; the sum of each block;
- the filter, in groups of eight words: for every hash six bits of the first seven words of one group, so that of
  1,000 unknown ids one or two are looked up in vain; the last word is a sum of the others, the group's number and the
  sum in the header, so that no filter is taken for that of another run;
- the entries: hash of the id, hash of the content, and `log_seq`; ascending by hash, then `log_seq`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from refold.base.parallel import each
from refold.canonical.encoding import Hashes, called_by_compiled, compiled
from refold.dedup.deliveries import SeenRun, Seqs
from refold.errors import Damaged
from refold.log.layout import SeenFile
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import ObjectStore, sha256_hex

BLOCK = 170
RUN_ENTRIES_MAX = 1 << 23
"""The most entries of a merged run. It limits the memory of merging to 400 MB, however long the log is."""

_MAGIC = int.from_bytes(b"refold s", "little")
_VERSION = 2
_HEADER = 6
_GROUP_WORDS = 8
_GROUP_BITS = 64 * (_GROUP_WORDS - 1)
_BITS = 16
_PIECES = 4
_AHEAD = 64
_GATHERED = 1 << 16
Words = npt.NDArray[np.uint64]


def sorted_entries(run: SeenRun, chosen: npt.NDArray[np.bool_] | None = None) -> Words:
    """The chosen entries of a run (None: all), three words each, by hash; those of equal hashes in their order."""
    order = run.by_hash
    if chosen is not None and not chosen.all():
        order = order[chosen[order]]
    entries = np.empty((len(order), 3), dtype=np.uint64)
    for low in range(0, len(order), _GATHERED):  # a whole column at once takes as much memory again
        rows = order[low : low + _GATHERED]
        for place, column in enumerate((run.hashes, run.contents, run.seqs)):
            entries[low : low + _GATHERED, place] = column[rows]
    return entries.reshape(-1)


def encode_run(entries: Words) -> bytes:
    """The bytes of a run of sorted entries, in which those of equal hashes are in the order of `log_seq`.

    >>> run = SeenRun(*(np.array(n, dtype=d) for n, d in (([7, 3], "u8"), ([1, 2], "u8"), ([0, 1], "i8"))))
    >>> StoredRun(encode_run(sorted_entries(run)), "a run").find(np.array([3], dtype=np.uint64))[1].seqs.tolist()
    [1]
    """
    count = len(entries) // 3
    blocks = -(-count // BLOCK)
    sums = np.empty(blocks, dtype=np.uint64)
    _sum_blocks(entries, sums)
    groups = max(1, -(-count * _BITS // _GROUP_BITS))
    words = np.zeros(groups * _GROUP_WORDS, dtype=np.uint64)
    counts = np.array([count, blocks, len(words)], dtype=np.uint64)
    index = np.concatenate([entries[:: 3 * BLOCK], sums])
    total = _sum(np.concatenate([counts, index]))
    _fill(words, entries[::3], np.uint64(total))
    header = np.array([_MAGIC, _VERSION, *counts, total], dtype=np.uint64)
    return b"".join(part.data for part in (header, index, words, entries))


class StoredRun:
    """An encoded run, read in place; `name` is that of its object, for messages.

    Raises Damaged where it is not a run, does not have the `expected` sum, or has a damaged index.
    """

    def __init__(self, data: bytes | memoryview, name: str, expected: str | None = None) -> None:
        self._name = name
        words = np.frombuffer(data, dtype=np.uint64, count=len(data) // 8)
        header = words[:_HEADER].tolist()
        if len(data) % 8 or len(header) < _HEADER or header[:2] != [_MAGIC, _VERSION]:
            raise self._damaged("it is not a run of the seen index")
        count, blocks, filter_words = header[2:5]
        end = _HEADER + 2 * blocks + filter_words
        fits = blocks == -(-count // BLOCK) and filter_words and filter_words % _GROUP_WORDS == 0
        if len(words) != end + 3 * count or not fits:
            raise self._damaged("its parts do not have the sizes in its header")
        index, self._filter = words[_HEADER : _HEADER + 2 * blocks], words[_HEADER + 2 * blocks : end]
        if _sum(np.concatenate([words[2:5], index])) != header[5]:
            raise self._damaged("its index does not have the sum in its header")
        self.sum, self._total = f"{header[5]:016x}", words[5]
        if expected not in (None, self.sum):
            raise self._damaged(f"it is another run: expected the sum {expected}, found {self.sum}")
        self._fences, self._sums = index[:blocks], index[blocks:]
        self._entries = words[end:]
        self._sound = np.zeros(blocks, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._entries) // 3

    def _damaged(self, what: str) -> Damaged:
        return Damaged(f"The object {self._name} is damaged: {what}.", remedy="`refold repair` computes it again.")

    def entries(self) -> Words:
        """All entries one after the other, three words each, by hash. Raises Damaged."""
        sums = np.empty_like(self._sums)
        _sum_blocks(self._entries, sums)
        if not np.array_equal(sums, self._sums):
            raise self._damaged("its entries do not have the sums in its index")
        return self._entries

    def find(self, hashes: Hashes) -> tuple[Seqs, SeenRun]:
        """Pairs of a place in `hashes` and an entry with that hash, by place and `log_seq`. Raises Damaged."""
        bounds = np.linspace(0, len(hashes), _PIECES + 1).astype(np.int64).tolist()
        pieces = [(low, hashes[low:high]) for low, high in pairwise(bounds)]
        found = each(lambda piece: self._find(*piece), pieces, [len(piece) for _, piece in pieces])
        rows, places = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return rows, self._taken(places)

    def _find(self, first: int, hashes: Hashes) -> tuple[Seqs, Seqs]:
        room = len(hashes)
        while True:
            rows, places = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
            index = (self._total, self._filter, self._fences, self._sums, self._sound)
            count = _look_up(*index, self._entries, hashes, rows, places)
            if count < 0:
                block, group = -1 - count, -1 - count - len(self._fences)
                in_filter = f"group {group} of its filter does not have its sum"
                in_entries = f"block {block} of its entries does not have its sum in the index"
                raise self._damaged(in_entries if group < 0 else in_filter)
            if count <= room:
                return rows[:count] + first, places[:count]
            room = count

    def _taken(self, places: Seqs) -> SeenRun:
        rows = self._entries.reshape(-1, 3)[places]
        return SeenRun(rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2].view(np.int64).copy())


@dataclass(frozen=True)
class _IndexedRun:
    """A run with its range of `log_seq`, its bytes until they are stored, and then the object that holds them."""

    run: StoredRun
    seq_start: int
    seq_end: int
    data: bytes | None
    file: SeenFile | None


class SeenIndex:
    """The event ids of a log so far, as runs of at most `run_entries_max` first deliveries, the oldest first."""

    def __init__(self, run_entries_max: int = RUN_ENTRIES_MAX) -> None:
        self._run_entries_max = run_entries_max
        self._runs: list[_IndexedRun] = []
        self._end = 0

    @classmethod
    def open(cls, objects: ObjectStore, files: Sequence[SeenFile], seq_end: int, since: int = 0) -> SeenIndex:
        """Open a stored index, which has all from `since` on.

        Raises Damaged where a run is damaged, begins later, or where the runs do not end at `seq_end`.
        """
        index, reached = cls(), files[0].seq_start if files and files[0].seq_start <= since else 0
        for file in files:
            if file.seq_start != reached:
                break
            run = StoredRun(objects.map(file.name), file.name, file.sum)
            index._runs.append(_IndexedRun(run, file.seq_start, file.seq_end, None, file))
            reached = file.seq_end
        if reached != seq_end:
            raise Damaged(f"The seen index goes up to log_seq {reached}; expected {seq_end}.")
        index._end = reached
        return index

    def __len__(self) -> int:
        return sum(len(each.run) for each in self._runs)

    def candidates(self, run: SeenRun, since: int = 0) -> tuple[Seqs, SeenRun]:
        """Pairs of a place in `run` and an earlier entry, from `since` on, with the same hash. Raises Damaged.

        Hashes are looked up in ascending order, so that neighbouring hashes read neighbouring memory.
        """
        order, found = run.by_hash, [(np.zeros(0, dtype=np.int64), SeenRun.empty())]
        hashes = run.hashes[order]
        found += [each.run.find(hashes) for each in self._runs]
        rows, entries = np.concatenate([rows for rows, _ in found]), SeenRun.joined([entries for _, entries in found])
        remembered = np.flatnonzero(entries.seqs >= since)
        return order[rows[remembered]], entries.take(remembered)

    def add(self, entries: Words, seq_end: int, since: int = 0) -> None:
        """Add the first deliveries among the events from the end of the index to `seq_end`. Raises Damaged.

        These `sorted_entries` are merged with the runs before that have at most twice as many entries. Runs that end
        before `since` are dropped, and earlier entries of others where they are merged.
        """
        self._runs = [run for run in self._runs if run.seq_end > since]
        start, self._end = self._end, seq_end
        while self._runs and self._is_merged(len(self._runs[-1].run), len(entries) // 3):
            before = self._runs.pop()
            earlier = _from(before.run.entries(), since) if since else before.run.entries()
            merged = np.empty(len(earlier) + len(entries), dtype=np.uint64)
            _merge(earlier, entries, merged)
            entries, start = merged, max(before.seq_start, since)
        data = encode_run(entries)
        self._runs.append(_IndexedRun(StoredRun(data, "of the seen index"), start, seq_end, data, None))

    def _is_merged(self, before: int, new: int) -> bool:
        return before <= 2 * new and before + new <= self._run_entries_max

    def store(self, objects: ObjectStore, log: str) -> list[SeenFile]:
        """Write the runs that are not stored yet, named by content; returns all objects. Raises Unavailable."""
        self._runs = [each if each.file is not None else _stored(objects, log, each) for each in self._runs]
        return [each.file for each in self._runs if each.file is not None]


def _from(entries: Words, since: int) -> Words:
    """The entries whose `log_seq` is not before `since`."""
    rows = entries.reshape(-1, 3)
    return rows[rows[:, 2] >= np.uint64(since)].reshape(-1)


def _stored(objects: ObjectStore, log: str, run: _IndexedRun) -> _IndexedRun:
    assert run.data is not None
    sha256 = sha256_hex(run.data)
    name = name_of(ObjectKind.SEEN_IDS, log=log, sha256=sha256)
    file = SeenFile(name, sha256, run.run.sum, run.seq_start, run.seq_end)
    data = objects.put_mapped(file.name, run.data)
    return replace(run, run=StoredRun(data, file.name, file.sum), data=None, file=file)


def newest_seen(chain: SnapshotChain, log: str) -> tuple[Snapshot | None, Sequence[SeenFile]]:
    """The newest snapshot with events of a log, and the runs of the seen index in its layout."""
    for snapshot in reversed(list(chain)):
        layout = chain.layout(snapshot, log)
        if layout.seen or snapshot.cut(log).events:
            return snapshot, layout.seen
    return None, ()


def _sum(words: Words) -> int:
    return int(_sum_words(words))


@called_by_compiled
def _sum_range(words: Any, start: Any, end: Any) -> Any:
    """A 64-bit sum in four lanes, each word mixed in by a multiplication, so that order counts."""
    a, b, c, d = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    i = start
    while i + 4 <= end:
        a, b, c, d = _mixed(a, words[i]), _mixed(b, words[i + 1]), _mixed(c, words[i + 2]), _mixed(d, words[i + 3])
        i += 4
    while i < end:
        a = _mixed(a, words[i])
        i += 1
    return _mixed(_mixed(_mixed(_mixed(a, b), c), d), np.uint64(end - start))


@called_by_compiled
def _mixed(a: Any, word: Any) -> Any:
    a = (a ^ word) * np.uint64(0x9E3779B97F4A7C15)
    return a ^ (a >> np.uint64(29))


@compiled
def _sum_words(words):  # type: ignore[no-untyped-def]
    return _sum_range(words, 0, words.size)


@compiled
def _sum_blocks(entries, sums):  # type: ignore[no-untyped-def]
    for block in range(sums.size):
        start = block * 510
        sums[block] = _sum_range(entries, start, min(start + 510, entries.size))


@compiled
def _merge(one, other, out):  # type: ignore[no-untyped-def]
    """Merge two arrays of entries; where hashes are equal those of `one` come first."""
    i, j = 0, 0
    for k in range(0, out.size, 3):
        if j >= other.size or (i < one.size and one[i] <= other[j]):
            out[k], out[k + 1], out[k + 2] = one[i], one[i + 1], one[i + 2]
            i += 3
        else:
            out[k], out[k + 1], out[k + 2] = other[j], other[j + 1], other[j + 2]
            j += 3


@called_by_compiled
def _group_of(h: Any, groups: Any) -> Any:
    """The group of the filter that a hash is in, by its high bits."""
    return np.int64((h >> np.uint64(32)) * np.uint64(groups) >> np.uint64(32))


@called_by_compiled
def _bit_of(h: Any, k: Any) -> Any:
    """The k-th of the six bits of a hash in its group."""
    return ((h * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(10 * k)) & np.uint64(1023)) * np.uint64(448) >> np.uint64(
        10
    )


@called_by_compiled
def _group_sum(total: Any, words: Any, group: Any) -> Any:
    """The last word of a group: `_sum_range` of the others, written out for speed."""
    i = 8 * group
    a = _mixed(_mixed(_mixed(_mixed(np.uint64(1), words[i]), words[i + 4]), words[i + 5]), words[i + 6])
    b, c, d = _mixed(np.uint64(2), words[i + 1]), _mixed(np.uint64(3), words[i + 2]), _mixed(np.uint64(4), words[i + 3])
    return _mixed(_mixed(_mixed(_mixed(a, b), c), d), np.uint64(7)) ^ np.uint64(group) ^ total


@compiled
def _fill(words, hashes, total):  # type: ignore[no-untyped-def]
    groups = words.size // 8
    for h in hashes:
        base = 8 * _group_of(h, groups)
        for k in range(6):
            bit = _bit_of(h, k)
            words[base + np.int64(bit >> np.uint64(6))] |= np.uint64(1) << (bit & np.uint64(63))
    for group in range(groups):
        words[8 * group + 7] = _group_sum(total, words, group)


@called_by_compiled
def _may_have(words, group, h):  # type: ignore[no-untyped-def]
    """Whether a group of the filter has all bits of a hash."""
    for k in range(6):
        bit = _bit_of(h, k)
        word = words[8 * group + np.int64(bit >> np.uint64(6))]
        if word >> (bit & np.uint64(63)) & np.uint64(1) == 0:
            return False
    return True


@called_by_compiled
def _block_of(fences, h):  # type: ignore[no-untyped-def]
    """The first block whose smallest hash is not less; the one before may have the hash too."""
    low, high = 0, fences.size
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fences[middle] < h else (low, middle)
    return low


@compiled
def _look_up(  # type: ignore[no-untyped-def]
    total, words, fences, sums, sound, entries, hashes, rows, places
):
    """Write each place in `hashes` with the places of the entries that have it; returns how many.

    Returns -1 - block for a block that does not have its sum, and -1 - blocks - group for such a group of the filter.
    """
    groups, found = words.size // 8, 0
    ahead = np.empty(_AHEAD, dtype=np.uint64)
    for i in range(hashes.size):
        if i % _AHEAD == 0:  # so that the groups of many hashes are fetched from memory at once
            for j in range(min(_AHEAD, hashes.size - i)):
                ahead[j] = words[8 * _group_of(hashes[i + j], groups) + 7]
        h = hashes[i]
        group = _group_of(h, groups)
        if _group_sum(total, words, group) != ahead[i % _AHEAD]:
            return -1 - fences.size - group
        if not _may_have(words, group, h):
            continue
        low = _block_of(fences, h)
        block = max(low - 1, 0)
        while block < fences.size and (block < low or fences[block] == h):
            start, end = block * 510, min(block * 510 + 510, entries.size)
            if not sound[block]:
                if _sum_range(entries, start, end) != sums[block]:
                    return -1 - block
                sound[block] = True
            while start < end and entries[start] < h:
                start += 3
            while start < end and entries[start] == h:
                if found < rows.size:
                    rows[found], places[found] = i, start // 3
                found += 1
                start += 3
            block += 1
    return found
