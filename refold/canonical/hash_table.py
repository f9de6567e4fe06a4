"""Hash tables over 64-bit hashes: the place of each hash, the first of each row, and hashes that recur.

All of them use one layout, open addressing with linear probing:

- A slot holds a place plus one, and 0 where it is empty; hashes are compared in the array that the place points into.
  No hash value is reserved, so 0 is a hash like any other.
- The number of slots is a power of two, more than twice the number of places, so every probe ends at an empty slot.
  A table that would become fuller is built again, at least twice as large.
- The home slot of a hash is given by the low bits of `h ^ h >> 32`. Hashes are expected to be spread: n hashes with
  one home slot take n² steps. `recurring` is the exception. It sorts instead, after `_STEPS_MAX` steps for one hash.

Slots are 4 bytes wide below 2³¹ places, since a probe waits for memory more than for anything else. This module knows
hashes and bytes, and neither keys nor event ids.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from refold.canonical.encoding import EncodedRows, Hashes, called_by_compiled, compiled

Places = npt.NDArray[np.int64]
_STEPS_MAX = 200
_SLOTS_MIN = 16


class HashTable:
    """The first place of each hash in an array that may grow.

    >>> table = HashTable(np.array([7, 0, 7], dtype=np.uint64))
    >>> table.find(np.array([7, 0, 5], dtype=np.uint64)).tolist()
    [0, 1, -1]
    """

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes[:0]
        self._slots = _empty_slots(0)
        self.extend(hashes)

    def __len__(self) -> int:
        """The length of the array, in which hashes may recur."""
        return len(self._hashes)

    def extend(self, hashes: Hashes) -> None:
        """Enter more hashes: `hashes` begins with all that were entered before, in the same places."""
        start = len(self._hashes)
        if len(self._slots) < 2 * len(hashes):
            self._slots, start = _empty_slots(len(hashes)), 0
        self._hashes = hashes
        _enter(self._slots, hashes, start)

    def find(self, hashes: Hashes) -> Places:
        """The first place of each hash, -1 where it is not in the table; shape (hashes,)."""
        places = np.empty(len(hashes), dtype=np.int64)
        _find(self._slots, self._hashes, hashes, places)
        return places


class FirstRows:
    """The first of all rows with the same bytes, and the number it was given.

    Args:
        expected: how many distinct rows there will be, if that is known; it saves growing.
    """

    def __init__(self, expected: int = 0) -> None:
        self._count = 0
        self._hashes = np.zeros(expected, dtype=np.uint64)
        self._numbers = np.zeros(expected, dtype=np.int64)
        self._starts = np.zeros(expected + 1, dtype=np.int64)
        self._data = np.zeros(0, dtype=np.uint8)
        self._slots = _empty_slots(expected)

    def numbers(self, hashes: Hashes, rows: EncodedRows, own: Places) -> Places:
        """The number of the first row that equals each of `rows`, its own where there was none before.

        Args:
            hashes: the hash of each row.
            rows: the rows, in the order in which they count as first.
            own: the number of each row.
        """
        self._make_room(len(hashes), len(rows.data))
        found = np.empty(len(hashes), dtype=np.int64)
        self._count = _enter_rows(
            hashes, own, rows.data, rows.offsets,
            self._count, self._slots, self._hashes, self._numbers, self._starts, self._data,
            found,
        )  # fmt: skip
        return found

    def _make_room(self, rows: int, size_bytes: int) -> None:
        needed = self._count + rows
        for name, length in (("_hashes", needed), ("_numbers", needed), ("_starts", needed + 1),
                             ("_data", int(self._starts[self._count]) + size_bytes)):  # fmt: skip
            array = getattr(self, name)
            if len(array) < length:  # by an eighth at least, so that all growing costs no more than some copies
                more = max(length, len(array) * 9 // 8) - len(array)
                setattr(self, name, np.concatenate([array, np.zeros(more, array.dtype)]))
        if len(self._slots) < 2 * needed:
            self._slots = _empty_slots(needed)
            _enter_all(self._slots, self._hashes[: self._count])


def recurring(hashes: Hashes) -> Hashes:
    """Each hash that equals an earlier one, as often as it does, ascending.

    >>> recurring(np.array([7, 0, 7, 1, 0, 7], dtype=np.uint64)).tolist()
    [0, 7, 7]
    """
    again = np.empty_like(hashes)
    count = _find_again(_empty_slots(len(hashes)), hashes, again)
    if count < 0:  # many share a home slot, as if by intent
        ordered = np.sort(hashes)
        return np.asarray(ordered[1:][ordered[1:] == ordered[:-1]])
    again = again[:count].copy()
    again.sort()
    return again


def _empty_slots(places: int) -> npt.NDArray[np.int32] | npt.NDArray[np.int64]:
    """The slots of a table for so many places."""
    count = max(_SLOTS_MIN, 1 << (2 * places).bit_length())
    return np.zeros(count, dtype=np.int32) if places < 1 << 31 else np.zeros(count, dtype=np.int64)


@called_by_compiled
def _home(slots: Any, h: Any) -> Any:
    return (h ^ (h >> np.uint64(32))) & np.uint64(slots.size - 1)


@called_by_compiled
def _probe(slots: Any, hashes: Any, h: Any, at: Any) -> Any:
    """The first slot from `at` on that is empty or holds a place with the hash `h`."""
    while slots[at] != 0 and hashes[slots[at] - 1] != h:
        at = (at + np.uint64(1)) & np.uint64(slots.size - 1)
    return at


@called_by_compiled
def _after(slots: Any, at: Any) -> Any:
    return (at + np.uint64(1)) & np.uint64(slots.size - 1)


@compiled
def _enter(slots, hashes, start):  # type: ignore[no-untyped-def]
    """Enter the places from `start` on, of each hash only the first."""
    for i in range(start, hashes.size):
        at = _probe(slots, hashes, hashes[i], _home(slots, hashes[i]))
        if slots[at] == 0:
            slots[at] = i + 1


@compiled
def _enter_all(slots, hashes):  # type: ignore[no-untyped-def]
    """Enter all places, also of hashes that recur."""
    for i in range(hashes.size):
        at = _home(slots, hashes[i])
        while slots[at] != 0:
            at = _after(slots, at)
        slots[at] = i + 1


@compiled
def _find(slots, entered, hashes, places):  # type: ignore[no-untyped-def]
    for i in range(hashes.size):
        places[i] = slots[_probe(slots, entered, hashes[i], _home(slots, hashes[i]))] - 1


@compiled
def _find_again(slots, hashes, again):  # type: ignore[no-untyped-def]
    """Write each hash that equals an earlier one; returns how many, or -1 where one takes more than `_STEPS_MAX`."""
    count = 0
    for i in range(hashes.size):
        home = _home(slots, hashes[i])
        at = _probe(slots, hashes, hashes[i], home)
        if slots[at] != 0:
            again[count] = hashes[i]
            count += 1
            continue
        slots[at] = i + 1
        if (at - home) & np.uint64(slots.size - 1) > np.uint64(_STEPS_MAX):
            return -1
    return count


@compiled
def _enter_rows(  # type: ignore[no-untyped-def]
    hashes, own, data, starts, count, slots, known_hashes, known_numbers, known_starts, known_data, found
):
    """Write the number of the first row that equals each; returns how many distinct rows there are afterwards."""
    for i in range(hashes.size):
        start, size = starts[i], starts[i + 1] - starts[i]
        at, equal = _probe(slots, known_hashes, hashes[i], _home(slots, hashes[i])), False
        while slots[at] != 0 and not equal:
            q = known_starts[slots[at] - 1]
            equal, j = known_starts[slots[at]] - q == size, 0
            while equal and j < size:
                equal = known_data[q + j] == data[start + j]
                j += 1
            if not equal:
                at = _probe(slots, known_hashes, hashes[i], _after(slots, at))
        if equal:
            found[i] = known_numbers[slots[at] - 1]
            continue
        slots[at] = count + 1
        known_hashes[count], known_numbers[count] = hashes[i], own[i]
        q = known_starts[count]
        for j in range(size):
            known_data[q + j] = data[start + j]
        known_starts[count + 1] = q + size
        found[i] = own[i]
        count += 1
    return count
