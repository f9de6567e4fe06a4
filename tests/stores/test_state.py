"""Where keys stand in a state is found by hash, and is what a dictionary finds, however many hashes agree."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.stock import stock
from refold.canonical.digest import table_digest
from refold.canonical.encoding import EncodedRows
from refold.stores.state import State, keys_table, replace_rows
from refold.types import describe

KEYS = st.lists(st.text(max_size=3), unique=True, max_size=20)


def rows(state: State, keys: list[str], level: int) -> pa.Table:
    places = {name: pa.array(np.zeros(len(keys), dtype=np.int64)) for name in state.schema.names}
    return pa.table(
        places | {"product_id": pa.array(keys, pa.string()), "level": pa.array([level] * len(keys), pa.int64())}
    )


@pytest.mark.parametrize("bits", [64, 2, 0])
@settings(max_examples=60, derandomize=True)
@given(batches=st.lists(KEYS, min_size=1, max_size=5), asked=KEYS)
def test_keys_stand_where_a_dictionary_says(bits: int, batches: list[list[str]], asked: list[str]):
    hashes = EncodedRows.hashes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncodedRows, "hashes", lambda self, seed=0: hashes(self, seed) >> np.uint64(63) >> np.uint64(1)
                      if bits == 0 else hashes(self, seed) >> np.uint64(64 - bits))  # fmt: skip
        state, expected = State(stock), dict[str, int]()
        levels: dict[str, int] = {}
        for level, keys in enumerate(batches):
            found = state.locate(keys_table(state.store, keys))
            assert found.tolist() == [expected.get(key, -1) for key in keys]
            state.put(found, rows(state, keys, level))
            for key in keys:
                expected.setdefault(key, len(expected))
                levels[key] = level
        assert state.locate(keys_table(state.store, asked)).tolist() == [expected.get(key, -1) for key in asked]
        assert dict(zip(*state.table.select(["product_id", "level"]).to_pydict().values(), strict=True)) == levels
        base = rows(state, batches[0], 7)
        replaced, places, _ = replace_rows(base, rows(state, asked, 9), ["product_id"])
        assert [replaced["product_id"][place].as_py() for place in places.tolist()] == asked
        assert len(replaced) == len({*batches[0], *asked})


@settings(max_examples=30, derandomize=True)
@given(batches=st.lists(KEYS, min_size=1, max_size=4))
def test_the_digest_is_that_of_all_rows_whenever_it_is_asked_for(batches: list[list[str]]):
    often, once = State(stock), State(stock)
    for level, keys in enumerate(batches):
        for state in (often, once):
            state.put(state.locate(keys_table(state.store, keys)), rows(state, keys, level))
        often.digest()
    whole = table_digest(describe(stock.state_columns), often.table, ["product_id"])
    assert often.digest() == once.digest() == whole
