"""The contents of first deliveries, from the snapshot that has them to those that repeat them.

Which event repeats which is known from the ids before any content is read (`refold.dedup.from_ids`), so it is known
of each snapshot whose contents later ones will ask for. Snapshots that follow each other ask for theirs together: what
one snapshot has for such a group is a piece, which is read again where it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refold.canonical.encoding import EncodedRows
from refold.dedup.deliveries import Seqs
from refold.dedup.spill import Kept

GROUP_REPEATS = 1 << 16
"""A group ends with the snapshot that brings it to so many repeats."""


@dataclass
class _Group:
    """Snapshots up to `last`, by their place, and the first deliveries they ask for, ascending, once each.

    `ends` are the places in `seqs` at which the pieces end that are held.
    """

    last: int
    seqs: Seqs
    ends: list[int]


class FirstContents:
    """The contents of first deliveries until they are compared with their repeats.

    Args:
        firsts: of each snapshot in order, the `log_seq` of the first delivery of each of its repeats; empty where they
            are not to be compared.
        memory_bytes: so much may be held in memory, beside what one snapshot asks for.
    """

    def __init__(self, firsts: Sequence[Seqs], memory_bytes: int) -> None:
        self._groups: list[_Group] = []
        self._kept = Kept[EncodedRows](memory_bytes, lambda rows: rows.data.nbytes + rows.offsets.nbytes)
        self._turn = start = 0
        counts = np.cumsum([0, *map(len, firsts)])
        for last in range(len(firsts)):
            if counts[last + 1] - counts[start] >= GROUP_REPEATS or last == len(firsts) - 1:
                self._groups.append(_Group(last, union(*map(np.sort, firsts[start : last + 1])), []))
                start = last + 1

    def wanted(self, seq_start: int, seq_end: int) -> Seqs:
        """The events of a range of `log_seq` whose contents will be asked for, ascending."""
        return union(*(_between(group.seqs, seq_start, seq_end) for group in self._groups[self._turn :]))

    def hold(self, seqs: Seqs, contents: EncodedRows) -> None:
        """Keep what is wanted of the contents of events with some `log_seq`, ascending, after all held before.

        All wanted events of their range must be among them.
        """
        if len(seqs) == 0:
            return
        for number, group in enumerate(self._groups[self._turn :], self._turn):
            asked = _between(group.seqs, int(seqs[0]), int(seqs[-1]) + 1)
            if len(asked):
                self._kept.keep((number, len(group.ends)), contents.take(np.searchsorted(seqs, asked)))
                group.ends.append(len(asked) + (group.ends[-1] if group.ends else 0))

    def of(self, place: int, firsts: Seqs) -> EncodedRows:
        """The contents of first deliveries that the snapshot at a place asks for, in the order asked for.

        Places rise from call to call; what only earlier groups asked for is kept no longer.
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
        ]  # where nothing is asked for, the one split is empty
        return EncodedRows.joined(found).take(np.argsort(order))


def union(*seqs: Seqs) -> Seqs:
    """What is among some that ascend, ascending, once each."""
    every = np.concatenate([np.zeros(0, dtype=np.int64), *seqs])
    every.sort(kind="stable")  # quick, since they are few runs
    first = np.ones(len(every), dtype=np.bool_)
    first[1:] = every[1:] != every[:-1]
    return np.asarray(every[first])


def _between(seqs: Seqs, start: int, end: int) -> Seqs:
    low, high = np.searchsorted(seqs, [start, end])
    return seqs[low:high]
