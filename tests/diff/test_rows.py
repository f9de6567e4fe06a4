"""Rows compared by key and column, against a loop over dictionaries."""

from __future__ import annotations

import math
from decimal import Decimal

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from refold.diff.rows import diff_rows, differing, unrelated_rows
from refold.stores.state import sort_by

KEY = ["country", "day"]
SCHEMA = pa.schema(
    [
        pa.field("country", pa.string()),
        pa.field("day", pa.int64()),
        pa.field("units", pa.int64()),
        pa.field("price", pa.decimal128(9, 2)),
        pa.field("share", pa.float64()),
        pa.field("raw", pa.binary()),
    ]
)
keys = st.tuples(st.sampled_from([None, "", "Österreich", "at"]), st.integers(0, 3))
values = st.tuples(
    st.none() | st.integers(0, 2),
    st.none() | st.sampled_from([Decimal("1.00"), Decimal("1.50")]),
    st.none() | st.sampled_from([0.5, math.nan]),
    st.none() | st.sampled_from([b"", b"\x00"]),
)
tables = st.dictionaries(keys, values, max_size=8)


def table_of(rows: dict) -> pa.Table:
    listed = [dict(zip(SCHEMA.names, (*key, *value), strict=True)) for key, value in rows.items()]
    return sort_by(pa.Table.from_pylist(listed, schema=SCHEMA), KEY)


def order(key: tuple) -> tuple:
    country, day = key
    return (country is not None, (country or "").encode(), day)


def same(a: object, b: object) -> bool:
    return repr(a) == repr(b)


@given(tables, tables)
def test_every_change_is_found_and_told_in_the_order_of_keys(old: dict, new: dict):
    found = diff_rows(table_of(old), table_of(new), KEY, SCHEMA.names, limit=100)

    names = SCHEMA.names[2:]
    expected = []
    for key in sorted(old.keys() | new.keys(), key=order):
        was, now = old.get(key), new.get(key)
        if was is None or now is None:
            kind = "added" if was is None else "removed"
            cells = {n: (was and was[i], now and now[i]) for i, n in enumerate(names)}
        else:
            kind = "changed"
            cells = {n: (was[i], now[i]) for i, n in enumerate(names) if not same(was[i], now[i])}
        if was is None or now is None or cells:
            expected.append((kind, key, cells))
    told = [(c.kind, tuple(c.key.values()), dict(c.cells)) for c in found.changes]
    assert repr(told) == repr(expected)
    kinds = [kind for kind, _, _ in expected]
    assert [found.added, found.removed, found.changed] == [kinds.count(k) for k in ("added", "removed", "changed")]
    assert (found.rows_old, found.rows_new) == (len(old), len(new))
    changed = [cells for kind, _, cells in expected if kind == "changed"]
    assert found.cells == {n: count for n in names if (count := sum(n in cells for cells in changed))}


@given(tables, tables, st.integers(0, 4))
def test_a_limit_takes_the_first_changes_and_leaves_the_counts(old: dict, new: dict, limit: int):
    whole = diff_rows(table_of(old), table_of(new), KEY, SCHEMA.names, limit=100)
    part = diff_rows(table_of(old), table_of(new), KEY, SCHEMA.names, limit=limit)
    assert repr(part.changes) == repr(list(whole.changes)[:limit])
    assert (part.added, part.removed, part.changed) == (whole.added, whole.removed, whole.changed)


def test_numbers_of_other_types_are_equal_where_their_values_are():
    integers = pa.chunked_array([[1, 2, 2**62, None]])
    decimals = pa.chunked_array([[Decimal("1.00"), Decimal("2.01"), Decimal(2**62), None]], pa.decimal128(38, 2))
    assert differing(integers, decimals).tolist() == [False, True, False, False]


def test_without_a_common_key_every_row_is_removed_or_added():
    old, new = pa.table({"a": [1, 2], "n": [5, 6]}), pa.table({"b": ["x"], "n": [7]})
    found = unrelated_rows(old, new, ["a"], ["b"], limit=10)
    assert (found.removed, found.added, found.changed) == (2, 1, 0)
    assert [(c.kind, dict(c.key)) for c in found.changes] == [
        ("removed", {"a": 1}),
        ("removed", {"a": 2}),
        ("added", {"b": "x"}),
    ]
