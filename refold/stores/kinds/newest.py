"""Which events of a key are newer than all before them, by columns, where a declared order is not that of the log.

Numbers in, numbers out; `refold.stores.kinds.latest_fold` uses them. `refold.stores.kinds.plain` comes to the same by a
sorted list instead of a running maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Ties(StrEnum):
    """What happens where two events of a key are equal in the declared order."""

    REFUSE = "refuse"
    FIRST = "first"
    LAST = "last"


def ranks(rows: Sequence[pa.ChunkedArray], events: Sequence[pa.ChunkedArray]) -> tuple[Ints, Ints]:
    """The rank of each row and of each event by some columns, compared one after the other, from 0; equal for equals.

    Text and binary compare byte for byte. A null among `rows`, which is one for all its columns, has rank -1.

    >>> one = ranks([pa.chunked_array([[None, 7]], pa.int64())], [pa.chunked_array([[9, 7, 8]])])
    >>> [each.tolist() for each in one]
    [[-1, 0], [2, 0, 1]]
    """
    found, *others = map(_ranks, rows, events)
    for rank in others:
        _, found = np.unique(found * (len(found) + 1) + rank, return_inverse=True)
    known = np.append(rows[0].is_valid().to_numpy(), np.ones(len(events[0]), dtype=np.bool_))
    found = np.where(known, found, -1)
    return found[: len(rows[0])], found[len(rows[0]) :]


def _ranks(rows: pa.ChunkedArray, events: pa.ChunkedArray) -> Ints:
    both = pa.chunked_array([*rows.chunks, *events.cast(rows.type).chunks], rows.type)
    return np.asarray(pc.rank(both, sort_keys="ascending", tiebreaker="dense"), dtype=np.int64) - 1


def newer(codes: Ints, ranks_of: tuple[Ints, Ints], among: Mask, ties: Ties) -> tuple[Mask, Mask]:
    """Which events, among some, have a higher rank than their row and all events of the same key before them.

    `codes` are the rows of the events; `ranks_of` what `ranks` gives. With `Ties.LAST` an equal rank counts as higher.
    Returns the events that do, and those whose rank equals the highest before them.

    >>> codes, both = np.array([0, 0, 0]), (np.array([1]), np.array([1, 3, 2]))
    >>> [found.tolist() for found in newer(codes, both, np.ones(3, dtype=np.bool_), Ties.FIRST)]
    [[False, True, False], [True, False, False]]
    """
    of_rows, of_events = ranks_of
    turns = in_turns(codes, among)
    key, first = codes[turns], starts(codes[turns]) == np.arange(len(turns))
    width = len(of_rows) + len(of_events) + 1
    own = key * width + of_events[turns] + 1
    before = np.where(first, key * width + of_rows[key] + 1, np.append(own[:1], own[:-1]))
    highest = np.maximum.accumulate(before)  # those of a later key are higher, so each key begins anew
    higher, equal = np.zeros((2, len(codes)), dtype=np.bool_)
    higher[turns] = own >= highest if ties is Ties.LAST else own > highest
    equal[turns] = own == highest
    return higher, equal


def in_turns(codes: Ints, among: Mask) -> Ints:
    """The places of some events, key by key, each key's in their order."""
    places = np.flatnonzero(among)
    return places[np.argsort(codes[places], kind="stable")]


def starts(keys: Ints) -> Ints:
    """For each of some sorted keys the place of the first that equals it."""
    first = np.append(np.ones(len(keys[:1]), dtype=np.bool_), keys[1:] != keys[:-1])
    return np.maximum.accumulate(np.where(first, np.arange(len(keys)), 0))


def last_of(codes: Ints, turns: Ints, chosen: Mask) -> Ints:
    """For each event, in turns, the last chosen one of its key up to and with it; -1 where there is none.

    >>> codes, chosen = np.array([0, 1, 0, 1]), np.array([True, False, False, False])
    >>> last_of(codes, in_turns(codes, np.ones(4, dtype=np.bool_)), chosen).tolist()
    [0, 0, -1, -1]
    """
    last = np.maximum.accumulate(np.where(chosen[turns], np.arange(len(turns)), -1))
    return np.where(last < starts(codes[turns]), -1, turns[last])
