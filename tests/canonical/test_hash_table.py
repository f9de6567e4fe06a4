"""Hash tables find what a dictionary finds, whatever the hashes, also where they are 0 or share a home slot."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refold.canonical.encoding import EncodedRows, Hashes, encode_rows
from refold.canonical.hash_table import FirstRows, HashTable, recurring

HASH = st.one_of(
    st.integers(0, 2**64 - 1),  # spread, as hashes are
    st.integers(0, 20),  # neighbouring home slots, and 0
    st.integers(0, 20).map(lambda n: n << 40),  # few home slots in a small table
    st.integers(0, 20).map(lambda n: n << 32 | n),  # one home slot
)
BATCHES = st.lists(st.lists(HASH, max_size=60), max_size=4)


def array(hashes: list[int]) -> Hashes:
    return np.array(hashes, dtype=np.uint64)


@given(batches=BATCHES, asked=st.lists(HASH, max_size=30))
def test_the_first_place_of_each_hash_is_that_in_a_dictionary(batches: list[list[int]], asked: list[int]) -> None:
    table, entered, expected = HashTable(array([])), list[int](), dict[int, int]()
    for batch in batches:
        entered += batch
        for place, h in enumerate(entered):
            expected.setdefault(h, place)
        table.extend(array(entered))
        every = [*asked, *entered]
        assert table.find(array(every)).tolist() == [expected.get(h, -1) for h in every]
        assert len(table) == len(entered)


@pytest.mark.parametrize("count", [0, 7, 8, 9, 15, 16, 17, 1 << 12, (1 << 15) + 1])
def test_a_table_of_any_size_holds_all_its_hashes_and_no_others(count: int) -> None:
    """A power of two and its neighbours: a table without an empty slot would be searched without end."""
    hashes = np.arange(count, dtype=np.uint64)
    table = HashTable(hashes)
    assert (table.find(hashes) == np.arange(count)).all()
    assert (table.find(hashes + np.uint64(count)) == -1).all()


ROWS = st.lists(st.tuples(HASH, st.sampled_from(["", "a", "b", "ab", "abc"])), max_size=60)


@given(batches=st.lists(ROWS, max_size=4), expected_rows=st.sampled_from([0, 3, 100]))
def test_the_first_of_each_row_is_that_in_a_dictionary(
    batches: list[list[tuple[int, str]]], expected_rows: int
) -> None:
    """By hash and bytes: rows with one hash and other bytes are others, as where two hashes collide."""
    firsts, expected, number = FirstRows(expected_rows), dict[tuple[int, str], int](), 0
    for batch in batches:
        own = np.arange(number, number + 3 * len(batch), 3)
        number += 3 * len(batch)
        rows: EncodedRows = encode_rows([pa.array([text for _, text in batch], pa.string())])
        found = firsts.numbers(array([h for h, _ in batch]), rows, own).tolist()
        assert found == [expected.setdefault(row, n) for row, n in zip(batch, own.tolist(), strict=True)]


@given(hashes=st.lists(HASH, max_size=200))
def test_what_recurs_is_what_a_dictionary_counts(hashes: list[int]) -> None:
    counts = Counter(hashes)
    expected = sorted(h for h, count in counts.items() for _ in range(count - 1))
    assert recurring(array(hashes)).tolist() == expected


@pytest.mark.parametrize("alike", [1 << 56, 1 << 32 | 1])
def test_a_hundred_thousand_hashes_that_share_few_home_slots_are_sorted_instead(alike: int) -> None:
    """Each would be compared with all before it."""
    hashes = np.arange(100_000, dtype=np.uint64) * np.uint64(alike)
    distinct, counts = np.unique(np.concatenate([hashes, hashes[::7]]), return_counts=True)
    found = recurring(np.concatenate([hashes, hashes[::7]]))
    assert (found == np.repeat(distinct, counts - 1)).all()
    assert len(found) == int((counts - 1).sum())
