"""Keeps the contents of first deliveries until the snapshots that repeat them are compared with them.

The ids alone tell which event repeats which (`refold.dedup.from_ids`), so before any content is read it is known which
contents later snapshots need. Consecutive snapshots form a group. The contents that one snapshot holds for one group
are kept as one piece, in memory or in a temporary file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refold.canonical.encoding import EncodedRows
from refold.dedup.deliveries import Seqs
from refold.dedup.spill import Kept

GROUP_REPEATS = 1 << 16
"""A group ends with the snapshot in which it reaches this many repeats."""


@dataclass
class _Group:
    """The snapshots up to the place `last`, and the `log_seq` of the first deliveries they need, ascending, once each.

    `ends` are the places in `seqs` at which the pieces kept so far end.
    """

    last: int
    seqs: Seqs
    ends: list[int]


class FirstContents:
    """The contents of first deliveries until they are compared with their repeats.

    Args:
        firsts: for each snapshot in order, the `log_seq` of the first delivery of each of its repeats; empty for a
            snapshot whose repeats are not compared.
        memory_bytes: the most memory to use, apart from the contents that one snapshot needs.
        group_repeats: a group ends with the snapshot in which it reaches this many repeats.
    """

    def __init__(self, firsts: Sequence[Seqs], memory_bytes: int, group_repeats: int = GROUP_REPEATS) -> None:
        self._groups: list[_Group] = []
        self._kept = Kept[EncodedRows](memory_bytes, lambda rows: rows.data.nbytes + rows.offsets.nbytes)
        self._turn = start = 0
        counts = np.cumsum([0, *map(len, firsts)])
        for last in range(len(firsts)):
            if counts[last + 1] - counts[start] >= group_repeats or last == len(firsts) - 1:
                self._groups.append(_Group(last, union(*map(np.sort, firsts[start : last + 1])), []))
                start = last + 1

    def wanted(self, seq_start: int, seq_end: int) -> Seqs:
        """The `log_seq` in [seq_start, seq_end) of events whose contents a later call of `of` needs, ascending."""
        return union(*(_between(group.seqs, seq_start, seq_end) for group in self._groups[self._turn :]))

    def hold(self, seqs: Seqs, contents: EncodedRows) -> None:
        """Keep the wanted contents among those of `seqs`, which ascend and come after all that were held before.

        Every wanted event of their range must be among them.
        """
        if len(seqs) == 0:
            return
        for number, group in enumerate(self._groups[self._turn :], self._turn):
            asked = _between(group.seqs, int(seqs[0]), int(seqs[-1]) + 1)
            if len(asked):
                self._kept.keep((number, len(group.ends)), contents.take(np.searchsorted(seqs, asked)))
                group.ends.append(len(asked) + (group.ends[-1] if group.ends else 0))

    def of(self, place: int, firsts: Seqs) -> EncodedRows:
        """The contents of the first deliveries `firsts`, which the snapshot at `place` repeats, in that order.

        Places must not fall from call to call: contents that only earlier groups need are dropped.
        """
        while self._groups[self._turn].last < place:
            for piece in range(len(self._groups[self._turn].ends)):
                self._kept.let_go((self._turn, piece))
            self._turn += 1
        group = self._groups[self._turn]
        places = np.searchsorted(group.seqs, firsts)
        pieces = np.searchsorted(group.ends, places, side="right")
        order = np.argsort(pieces, kind="stable")
        asked, starts = np.unique(pieces[order], return_index=True)
        found = [
            self._kept[self._turn, piece].take(mine - (group.ends[piece - 1] if piece else 0))
            for piece, mine in zip(asked.tolist(), np.split(places[order], starts[1:]), strict=False)
        ]  # without firsts, the only split is empty
        return EncodedRows.joined(found).take(np.argsort(order))


def union(*seqs: Seqs) -> Seqs:
    """All values of some ascending arrays, ascending, once each."""
    every = np.concatenate([np.zeros(0, dtype=np.int64), *seqs])
    every.sort(kind="stable")  # quick, since they are few runs
    first = np.ones(len(every), dtype=np.bool_)
    first[1:] = every[1:] != every[:-1]
    return np.asarray(every[first])


def _between(seqs: Seqs, start: int, end: int) -> Seqs:
    low, high = np.searchsorted(seqs, [start, end])
    return seqs[low:high]
