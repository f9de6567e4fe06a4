"""Two tables of the same store compared by key: which rows were added, removed and changed, and where.

By columns and in Arrow: a row becomes a Python value only when it is to be shown. Knows tables and column types as
text, nothing of stores or logs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.encoding import encode_rows
from refold.stores.state import sort_by

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

_WIDE = pa.decimal256(76, 38)


@dataclass(frozen=True)
class Change:
    """One key whose row differs. `cells` are its changed columns, from old to new; all columns of an added or
    removed row, with None for the side that has no row.
    """

    kind: Literal["added", "removed", "changed"]
    key: Mapping[str, Any]
    cells: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class RowDiff:
    """How two tables differ.

    Attributes:
        rows_old, rows_new: how many rows each has.
        added, removed, changed: how many keys.
        cells: per common column, how many rows of both tables differ in it; columns that differ nowhere are left out.
        changes: the first of them, by key.
    """

    rows_old: int
    rows_new: int
    added: int
    removed: int
    changed: int
    cells: Mapping[str, int] = field(default_factory=dict)
    changes: Sequence[Change] = ()


def diff_rows(old: pa.Table, new: pa.Table, key: Sequence[str], common: Sequence[str], limit: int) -> RowDiff:
    """Compare two tables with the same key columns on their common columns; the first `limit` changes by key.

    >>> old = pa.table({"k": ["a", "b", "c"], "n": [1, 2, 3]})
    >>> new = pa.table({"k": ["b", "c", "d"], "n": [2, 4, 5]})
    >>> found = diff_rows(old, new, ["k"], ["n"], limit=10)
    >>> found.added, found.removed, found.changed, dict(found.cells)
    (1, 1, 1, {'n': 1})
    >>> [(change.kind, change.key["k"], dict(change.cells)) for change in found.changes]
    [('removed', 'a', {'n': (1, None)}), ('changed', 'c', {'n': (3, 4)}), ('added', 'd', {'n': (None, 5)})]
    """
    mine, theirs = _places(old, new, key)
    both = np.flatnonzero((mine >= 0) & (theirs >= 0))
    pairs = old.take(pa.array(mine[both])), new.take(pa.array(theirs[both]))
    flags = {name: differing(pairs[0][name], pairs[1][name]) for name in common if name not in key}
    changed = both[np.logical_or.reduce([np.zeros(len(both), dtype=np.bool_), *flags.values()])]
    added, removed = np.flatnonzero(mine < 0), np.flatnonzero(theirs < 0)
    return RowDiff(
        rows_old=len(old),
        rows_new=len(new),
        added=len(added),
        removed=len(removed),
        changed=len(changed),
        cells={name: int(flag.sum()) for name, flag in flags.items() if flag.any()},
        changes=_first(old, new, key, mine, theirs, np.concatenate([added, removed, changed]), list(flags), limit),
    )


def unrelated_rows(old: pa.Table, new: pa.Table, old_key: Sequence[str], new_key: Sequence[str], limit: int) -> RowDiff:
    """Two tables that have no key in common, because there is one table only, or its key was declared otherwise."""
    gone = [_one(row, old_key, "removed") for row in old.slice(0, limit).to_pylist()]
    come = [_one(row, new_key, "added") for row in new.slice(0, limit - len(gone)).to_pylist()]
    return RowDiff(len(old), len(new), added=len(new), removed=len(old), changed=0, changes=[*gone, *come])


def differing(old: pa.ChunkedArray | pa.Array, new: pa.ChunkedArray | pa.Array) -> Flags:
    """Which values of two columns differ, null being a value of its own; numbers compare exactly across types."""
    if old.type != new.type:
        numbers = not pa.types.is_string(old.type) and not pa.types.is_binary(old.type)
        wide = _WIDE if numbers else old.type
        old, new = old.cast(wide), new.cast(wide)
    unequal = _flags(pc.fill_null(pc.not_equal(old, new), False))
    if pa.types.is_floating(old.type):
        unequal &= ~_flags(pc.fill_null(pc.and_(pc.is_nan(old), pc.is_nan(new)), False))
    return unequal | (_flags(old.is_null()) ^ _flags(new.is_null()))


def _flags(column: pa.ChunkedArray | pa.Array) -> Flags:
    return np.asarray(pa.chunked_array([column]) if isinstance(column, pa.Array) else column, dtype=np.bool_)


def _places(old: pa.Table, new: pa.Table, key: Sequence[str]) -> tuple[Places, Places]:
    """For every key of both tables its place in the old and in the new one, -1 where it has none."""
    texts = [_bytes_of(table, key) for table in (old, new)]
    codes = pa.concat_arrays(texts).dictionary_encode().indices.to_numpy().astype(np.int64)
    count = int(codes.max(initial=-1)) + 1
    found = []
    for part in (codes[: len(old)], codes[len(old) :]):
        places = np.full(count, -1, dtype=np.int64)
        places[part] = np.arange(len(part))
        found.append(places)
    return found[0], found[1]


def _bytes_of(table: pa.Table, key: Sequence[str]) -> pa.Array:
    """The canonical bytes of every row's key: nulls and all, one value each."""
    rows = encode_rows([table[name] for name in key], len(table))
    buffers = [None, pa.py_buffer(np.ascontiguousarray(rows.offsets)), pa.py_buffer(rows.data)]
    return pa.Array.from_buffers(pa.large_binary(), len(rows), buffers)


def _first(
    old: pa.Table,
    new: pa.Table,
    key: Sequence[str],
    mine: Places,
    theirs: Places,
    changes: Places,
    common: Sequence[str],
    limit: int,
) -> list[Change]:
    """The first changes by key, text by bytes, nulls first."""
    there = theirs[changes] >= 0
    source = pa.array(np.where(there, len(old) + theirs[changes], mine[changes]))
    keys = {name: pa.chunked_array([*old[name].chunks, *new[name].cast(old[name].type).chunks]) for name in key}
    order = sort_by(pa.table(keys).take(source).append_column("", pa.array(np.arange(len(changes)))), key)
    found = []
    for change in order[""].slice(0, limit).to_pylist():
        was, now = (_row(t, int(p[changes[change]])) for t, p in ((old, mine), (new, theirs)))
        found.append(_change(was, now, key, common))
    return found


def _row(table: pa.Table, place: int) -> dict[str, Any] | None:
    return None if place < 0 else table.slice(place, 1).to_pylist()[0]


def _change(
    was: Mapping[str, Any] | None, now: Mapping[str, Any] | None, key: Sequence[str], common: Sequence[str]
) -> Change:
    if was is None or now is None:
        return _one(was or now or {}, key, "removed" if now is None else "added")
    cells = {name: (was[name], now[name]) for name in common if not _same(was[name], now[name])}
    return Change("changed", {name: now[name] for name in key}, cells)


def _one(row: Mapping[str, Any], key: Sequence[str], kind: Literal["added", "removed"]) -> Change:
    cells = {n: (v, None) if kind == "removed" else (None, v) for n, v in row.items() if n not in key}
    return Change(kind, {name: row[name] for name in key}, cells)


def _same(old: object, new: object) -> bool:
    both_nan = isinstance(old, float) and isinstance(new, float) and math.isnan(old) and math.isnan(new)
    return both_nan or old == new
