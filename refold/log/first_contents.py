"""The contents of first deliveries, from the snapshot that has them to those that repeat them.

Which event repeats which is known from the ids before any content is read (`refold.log.deduplication`), so it is known
of each snapshot whose contents later ones will ask for. Snapshots that follow each other ask for theirs together: such
a group's contents wait in the order in which they were read, and are held in memory while it is the group's turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refold.encoding import EncodedRows
from refold.log.kept import Kept
from refold.log.repeats import Seqs

GROUP_REPEATS = 1 << 16
"""A group ends with the snapshot that brings it to so many repeats."""


@dataclass
class _Group:
    """Snapshots up to `last`, by their place, and the first deliveries they ask for, ascending, once each."""

    last: int
    seqs: Seqs
    pieces: list[tuple[int, int]]


class FirstContents:
    """The contents of first deliveries until they are compared with their repeats.

    Args:
        firsts: of each snapshot in order, the `log_seq` of the first delivery of each of its repeats; empty where they
            are not to be compared.
        memory_bytes: so much may be held in memory, beside what the group in turn asks for.
    """

    def __init__(self, firsts: Sequence[Seqs], memory_bytes: int) -> None:
        self._groups: list[_Group] = []
        self._kept = Kept[EncodedRows](memory_bytes, lambda rows: rows.data.nbytes + rows.offsets.nbytes)
        self._turn, self._loaded = -1, _none()
        first = 0
        counts = np.cumsum([0, *map(len, firsts)])
        for last in range(len(firsts)):
            if counts[last + 1] - counts[first] >= GROUP_REPEATS or last == len(firsts) - 1:
                self._groups.append(_Group(last, union(*map(np.sort, firsts[first : last + 1])), []))
                first = last + 1

    def wanted(self, seq_start: int, seq_end: int) -> Seqs:
        """The events of a range of `log_seq` whose contents will be asked for, ascending."""
        return union(*(_between(group.seqs, seq_start, seq_end) for group in self._groups))

    def hold(self, seqs: Seqs, contents: EncodedRows) -> None:
        """Keep what is wanted of the contents of events with some `log_seq`, ascending, after all held before.

        All wanted events of their range must be among them.
        """
        if len(seqs) == 0:
            return
        for number, group in enumerate(self._groups):
            asked = _between(group.seqs, int(seqs[0]), int(seqs[-1]) + 1)
            if len(asked):
                rows = contents.take(np.searchsorted(seqs, asked))
                if number == self._turn:
                    self._loaded = EncodedRows.joined([self._loaded, rows])
                else:
                    group.pieces.append((number, len(group.pieces)))
                    self._kept.keep(group.pieces[-1], rows)

    def of(self, place: int, firsts: Seqs) -> EncodedRows:
        """The contents of first deliveries that the snapshot at a place asks for, in the order asked for.

        Places rise from call to call; what only earlier ones asked for is kept no longer.
        """
        turn = next(number for number, group in enumerate(self._groups) if place <= group.last)
        if turn != self._turn:
            self._loaded = EncodedRows.joined([_none(), *(self._kept[piece] for piece in self._groups[turn].pieces)])
            for group in self._groups[self._turn + 1 : turn + 1]:
                for piece in group.pieces:
                    self._kept.let_go(piece)
            self._turn = turn
        return self._loaded.take(np.searchsorted(self._groups[turn].seqs, firsts))


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


def _none() -> EncodedRows:
    return EncodedRows(np.zeros(0, dtype=np.uint8), np.zeros(1, dtype=np.int64))
