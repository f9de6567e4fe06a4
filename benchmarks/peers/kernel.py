"""The fold of stock compiled by numba, for the tools that only find duplicates."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa
from numba import types

from benchmarks.answer import Levels

Texts = pa.Array | pa.ChunkedArray


def _array(kind: types.Type) -> types.Array:
    return types.Array(kind, 1, "C", readonly=True)  # Arrow's buffers may not be written to


@numba.njit(
    types.Tuple((types.int64[::1], types.int64, types.int64))(
        types.int64, _array(types.int32), _array(types.int64), _array(types.boolean), _array(types.boolean)
    ),
    cache=True,
    nogil=True,
)
def _fold(keys, codes, quantity, removes, first):  # type: ignore[no-untyped-def]
    levels = np.zeros(keys, dtype=np.int64)
    applied = rejected = 0
    for i in range(codes.size):
        if not first[i]:
            continue
        level = levels[codes[i]]
        if not removes[i]:
            levels[codes[i]] = level + quantity[i]
        elif quantity[i] <= level:
            levels[codes[i]] = level - quantity[i]
        else:
            rejected += 1
            continue
        applied += 1
    return levels, applied, rejected


def warm_up() -> None:
    """Call the fold once: numba takes a second to look up what it takes for a type it has not seen."""
    codes, no = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.bool_)
    fold(pa.array([], pa.string()), codes, codes.astype(np.int64), no, no)


def fold(keys: pa.Array, codes: np.ndarray, quantity: np.ndarray, removes: np.ndarray, first: np.ndarray) -> Levels:
    """Fold events in order; `codes` are places in `keys`, `first` says which events repeat no id."""
    codes, quantity, removes, first = (
        np.ascontiguousarray(a) for a in (codes.astype(np.int32), quantity, removes, first)
    )
    levels, applied, rejected = _fold(len(keys), codes, quantity, removes, first)
    return Levels(keys.to_pylist(), levels, applied, rejected, int(len(codes) - first.sum()))
