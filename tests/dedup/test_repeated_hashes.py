"""Hashes that recur are found however many there are, however they are spread, in memory and on disk."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.canonical.hash_table import HashTable
from refold.dedup.repeated_hashes import RepeatedHashes

TOP = 1 << 63


@st.composite
def spread(draw: st.DrawFn) -> list[list[int]]:
    """Batches of hashes, some again and again: over all bits, in few of the top ones, or alike but for a few."""
    values = st.one_of(
        st.integers(0, 2**64 - 1), st.integers(0, 40), st.integers(0, 40).map(lambda n: n << 56 | TOP), st.just(0)
    )
    distinct = draw(st.lists(values, min_size=1, max_size=60))
    return draw(st.lists(st.lists(st.sampled_from(distinct), max_size=200), max_size=4))


@pytest.mark.parametrize("memory_bytes", [0, 1 << 10, 1 << 20])
@settings(max_examples=60)
@given(batches=spread())
def test_what_recurs_is_what_a_dictionary_counts_more_than_once(memory_bytes: int, batches: list[list[int]]) -> None:
    repeated = RepeatedHashes(memory_bytes, whole_max=1)
    for batch in batches:
        repeated.add(np.array(batch, dtype=np.uint64))
    counts = Counter(value for batch in batches for value in batch)
    expected = sorted(value for value, count in counts.items() if count > 1)
    found = repeated.result()
    assert found.tolist() == expected
    assert repeated.occurrences == sum(counts[value] for value in expected)
    every = np.array(sorted(counts), dtype=np.uint64)
    assert every[HashTable(found).find(every) >= 0].tolist() == expected


@pytest.mark.parametrize("alike", [1 << 56, 1, TOP])
def test_half_a_million_whose_bits_differ_little_or_in_all(alike: int) -> None:
    """Looked up one by one they would collide in the table."""
    values = (np.arange(500_000, dtype=np.uint64) * np.uint64(alike)) ^ np.uint64(TOP)
    distinct, counts = np.unique(values, return_counts=True)
    again = values[::7]
    repeated = RepeatedHashes(1 << 22)
    for some in (values, again):
        repeated.add(some)
    found = repeated.result()
    expected = distinct[(counts > 1) | np.isin(distinct, again)]
    assert (found == expected).all()
    assert len(found) == len(expected)
    total = dict(zip(*np.unique(np.concatenate([values, again]), return_counts=True), strict=True))
    assert repeated.occurrences == sum(int(total[value]) for value in expected)
