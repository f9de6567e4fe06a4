"""The canonical bytes of rows: the one encoding that digests, identities and conflicts are computed over.

The encoding is ours and frozen (version 1), because Parquet, IPC and index bytes differ between library
versions. A row is its values one after the other; a value is

- `00` for null, or `01` followed by:
- int64, timestamp (µs since 1970 UTC), date (days since 1970): 8 bytes, little-endian, two's complement;
- boolean: 1 byte, `00` or `01`;
- decimal: the unscaled integer (value × 10^scale) in 16 bytes, little-endian, two's complement;
- ratio: the 8 bytes of the IEEE 754 double, little-endian, with one NaN (7ff8000000000000) and no negative zero;
- text, enum, version vector (UTF-8) and binary: the length in 4 bytes, little-endian, then the bytes.

The hash of a row is MurmurHash64A with seed 0 over its bytes. For the reference, `refold.stores.kinds.plain` encodes
and `refold.proof.reference` hashes a second time, from this text alone; golden vectors are in
`tests/canonical/test_encoding.py`. This module knows Arrow columns, and no logs or stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.base.kernel_cache import cached, identity_of

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class EncodedRows:
    """The canonical bytes of n rows: `data[offsets[i]:offsets[i + 1]]` is row i."""

    data: Bytes
    offsets: Offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[bytes]:
        raw = self.data.tobytes()
        bounds = self.offsets.tolist()
        return (raw[a:b] for a, b in pairwise(bounds))

    def row(self, index: int) -> bytes:
        """The bytes of one row."""
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def hashes(self, seed: int = 0) -> Hashes:
        """MurmurHash64A of every row; fast and well spread, but not collision free, so never proof of equality."""
        return np.asarray(_murmur64a(self.data, self.offsets, np.uint64(seed)), dtype=np.uint64)

    def joined_by(self, groups: npt.NDArray[np.uint16], count: int) -> EncodedRows:
        """The rows of each group, sorted as bytes and joined with nothing between; `count` entries, some empty.

        `groups` gives the group of each row, below `count`.
        """
        order = np.argsort(groups, kind="stable")
        bounds = np.searchsorted(groups[order], np.arange(count + 1)).astype(np.int64)
        _sort_groups(self.data, self.offsets, _heads(self.data, self.offsets), order, bounds)
        ordered = self.take(order)
        return EncodedRows(ordered.data, ordered.offsets[bounds])

    def take(self, places: Offsets) -> EncodedRows:
        """The rows at some places, in that order."""
        return EncodedRows(*text_buffers(self.to_arrow().take(pa.array(places))))

    def to_arrow(self) -> pa.Array:
        """The rows as one column of bytes."""
        buffers = [None, pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.large_binary(), len(self), buffers)

    def same_as(self, others: EncodedRows) -> npt.NDArray[np.bool_]:
        """Whether each row equals the row at its place in `others`, byte for byte; shape (rows,)."""
        same = np.empty(len(self), dtype=np.bool_)
        _compare(self.data, self.offsets, others.data, others.offsets, same)
        return same

    @classmethod
    def joined(cls, pieces: Sequence[EncodedRows]) -> EncodedRows:
        """The rows of all pieces, one after the other."""
        sizes = [np.diff(piece.offsets) for piece in pieces]
        data = np.concatenate([np.zeros(0, dtype=np.uint8), *(piece.data for piece in pieces)])
        return cls(data, np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *sizes])))


def encode_rows(columns: Sequence[pa.Array | pa.ChunkedArray], count: int | None = None) -> EncodedRows:
    """Encode rows given as columns of equal length, in the order given.

    Raises TypeError for an Arrow type that has no encoding.

    >>> encode_rows([pa.array([1, None])]).row(1)
    b'\\x00'
    """
    parts = [_part(_one_chunk(column)) for column in columns]
    n = len(parts[0].valid) if parts else (count or 0)
    lengths = np.zeros(n, dtype=np.int64)
    for part in parts:
        lengths += 1 + part.valid * part.sizes
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    out = np.zeros(int(offsets[-1]), dtype=np.uint8)
    cursor = offsets[:-1].copy()
    for part in parts:
        if part.starts is None:
            _scatter_fixed(out, cursor, part.data, part.width, part.valid)
        else:
            _scatter_var(out, cursor, part.data, part.starts, part.valid)
    return EncodedRows(out, offsets)


def as_one(columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.ChunkedArray:
    """One column as it is, and several as their canonical bytes: values are equal where those of all columns are."""
    if len(columns) > 1:
        return pa.chunked_array([encode_rows(columns).to_arrow()])
    (column,) = columns
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


def kafka_partitions(keys: pa.Array, partitions: int) -> npt.NDArray[np.int32]:
    """The log partition of each key as Kafka's default partitioner has it: murmur2 of the bytes, made positive, mod n.

    >>> kafka_partitions(pa.array(["21", "foobar"]), 1000).tolist()
    [340, 166]
    """
    data, starts = text_buffers(_one_chunk(keys))
    hashes = _murmur2(data, starts)
    return np.asarray((hashes & np.uint32(0x7FFFFFFF)) % np.uint32(partitions), dtype=np.int32)


@dataclass(frozen=True)
class _Column:
    """A column to be written into rows: values of a fixed width (`starts` is None), or bytes with `starts`."""

    data: Bytes
    starts: Offsets | None
    width: int
    sizes: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _part(column: pa.Array) -> _Column:
    kind = column.type
    valid = _validity(column)
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        data, starts = text_buffers(column)
        return _Column(data, starts, 0, 4 + np.diff(starts), valid)
    values, width = _fixed_values(column)
    return _Column(values, None, width, np.full(len(column), width, dtype=np.int64), valid)


def _fixed_values(column: pa.Array) -> tuple[Bytes, int]:
    kind = column.type
    if pa.types.is_decimal128(kind):
        raw = np.frombuffer(column.buffers()[1], dtype=np.uint8)
        return raw[column.offset * 16 : (column.offset + len(column)) * 16], 16
    if pa.types.is_boolean(kind):
        return _numpy(column.cast(pa.uint8())).astype(np.uint8), 1
    if pa.types.is_date32(kind):
        column = column.cast(pa.int32()).cast(pa.int64())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    elif pa.types.is_integer(kind):
        column = column if kind == pa.int64() else column.cast(pa.int64())
    elif pa.types.is_float64(kind):
        floats = _numpy(column).astype(np.float64) + 0.0
        floats[np.isnan(floats)] = np.nan
        return floats.view(np.uint8), 8
    else:
        raise TypeError(f"no canonical encoding for Arrow type {kind}")
    return np.ascontiguousarray(_numpy(column)).view(np.uint8), 8


def _numpy(column: pa.Array) -> npt.NDArray[Any]:
    filled = pc.fill_null(column, 0) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _validity(column: pa.Array) -> npt.NDArray[np.bool_]:
    if column.null_count == 0:
        return np.ones(len(column), dtype=np.bool_)
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)


def text_buffers(column: pa.Array) -> tuple[Bytes, Offsets]:
    """The bytes of text or binary values one after the other, and the offset of each; a null is empty."""
    is_short = pa.types.is_string(column.type) or pa.types.is_binary(column.type)
    if not (is_short and len(column)):
        column, is_short = column.cast(pa.large_binary()), False
    _, offsets, data = column.buffers()
    width = np.int32 if is_short else np.int64
    starts = np.frombuffer(offsets, dtype=width)[column.offset : column.offset + len(column) + 1]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
    return raw, starts.astype(np.int64)


_registering, _unregistered = Lock(), list[Callable[..., Any]]()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call and not on import, since importing numba takes 0.4 s; keep it in the cache folder."""

    @cache
    def ready() -> Any:
        from numba.extending import register_jitable  # noqa: PLC0415

        with _registering:
            while _unregistered:
                register_jitable(_unregistered.pop())
        return cached(function, identity_of(function))

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return ready()(*arguments)

    return call


def called_by_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let compiled functions call this one; it is registered with numba before the first of them is compiled."""
    _unregistered.append(function)
    return function


@compiled
def _scatter_fixed(out, cursor, data, width, valid):  # type: ignore[no-untyped-def]
    for i in range(cursor.size):
        p = cursor[i]
        if valid[i]:
            out[p] = 1
            if width == 8:  # a constant the compiler turns into one move
                for j in range(8):
                    out[p + 1 + j] = data[i * 8 + j]
            else:
                for j in range(width):
                    out[p + 1 + j] = data[i * width + j]
            cursor[i] = p + 1 + width
        else:
            cursor[i] = p + 1


@compiled
def _scatter_var(out, cursor, data, starts, valid):  # type: ignore[no-untyped-def]
    for i in range(cursor.size):
        p = cursor[i]
        if not valid[i]:
            cursor[i] = p + 1
            continue
        size = starts[i + 1] - starts[i]
        out[p] = 1
        for j in range(4):
            out[p + 1 + j] = (size >> (8 * j)) & 0xFF
        for j in range(size):
            out[p + 5 + j] = data[starts[i] + j]
        cursor[i] = p + 5 + size


@compiled
def _compare(data, starts, others, other_starts, same):  # type: ignore[no-untyped-def]
    for i in range(same.size):
        p, q, size = starts[i], other_starts[i], starts[i + 1] - starts[i]
        same[i] = other_starts[i + 1] - q == size
        j = 0
        while same[i] and j < size:
            same[i] = data[p + j] == others[q + j]
            j += 1


@compiled
def _heads(data, starts):  # type: ignore[no-untyped-def]
    """The eight bytes of each row after the prefix that all rows share, as a big-endian number, padded with zeros.

    Rows with different heads have the order of their heads.
    """
    heads = np.zeros(starts.size - 1, dtype=np.uint64)
    if heads.size == 0:
        return heads
    same = starts[1] - starts[0]
    for i in range(1, heads.size):
        size = min(same, starts[i + 1] - starts[i])
        same = 0
        while same < size and data[starts[i] + same] == data[starts[0] + same]:
            same += 1
    for i in range(heads.size):
        for j in range(min(8, starts[i + 1] - starts[i] - same)):
            heads[i] |= np.uint64(data[starts[i] + same + j]) << np.uint64(56 - 8 * j)
    return heads


@compiled
def _sort_groups(data, starts, heads, order, bounds):  # type: ignore[no-untyped-def]
    """Sort each range of `order` by the bytes of the rows it points to: a bottom-up merge sort, in place."""
    spare = np.empty_like(order)
    for group in range(bounds.size - 1):
        low, high = bounds[group], bounds[group + 1]
        width = 1
        while width < high - low:
            for left in range(low, high, 2 * width):
                middle, right = min(left + width, high), min(left + 2 * width, high)
                i, j = left, middle
                for place in range(left, right):
                    take_left = j >= right
                    if i < middle and not take_left:
                        a, b = order[i], order[j]
                        take_left = heads[a] < heads[b]
                        if heads[a] == heads[b]:
                            p, q, p_end, q_end = starts[a], starts[b], starts[a + 1], starts[b + 1]
                            while p < p_end and q < q_end and data[p] == data[q]:
                                p += 1
                                q += 1
                            take_left = p == p_end or (q < q_end and data[p] < data[q])
                    if take_left:
                        spare[place] = order[i]
                        i += 1
                    else:
                        spare[place] = order[j]
                        j += 1
            order[low:high] = spare[low:high]
            width *= 2


@compiled
def _murmur64a(data, starts, seed):  # type: ignore[no-untyped-def]
    """MurmurHash64A (Austin Appleby, public domain), over the slices of `data`."""
    m = np.uint64(0xC6A4A7935BD1E995)
    r = np.uint64(47)
    out = np.empty(starts.size - 1, dtype=np.uint64)
    for i in range(starts.size - 1):
        start = starts[i]
        size = starts[i + 1] - start
        h = seed ^ (np.uint64(size) * m)
        blocks = size // 8
        for b in range(blocks):
            k = np.uint64(0)
            for j in range(8):
                k |= np.uint64(data[start + b * 8 + j]) << np.uint64(8 * j)
            k *= m
            k ^= k >> r
            k *= m
            h ^= k
            h *= m
        rest = size - blocks * 8
        if rest:
            for j in range(rest):
                h ^= np.uint64(data[start + blocks * 8 + j]) << np.uint64(8 * j)
            h *= m
        h ^= h >> r
        h *= m
        h ^= h >> r
        out[i] = h
    return out


@compiled
def _murmur2(data, starts):  # type: ignore[no-untyped-def]
    """MurmurHash2 as in Kafka's `Utils.murmur2` (seed 0x9747b28c), over the slices of `data`."""
    m = np.uint32(0x5BD1E995)
    out = np.empty(starts.size - 1, dtype=np.uint32)
    for i in range(starts.size - 1):
        start = starts[i]
        size = starts[i + 1] - start
        h = np.uint32(0x9747B28C) ^ np.uint32(size)
        blocks = size // 4
        for b in range(blocks):
            k = np.uint32(0)
            for j in range(4):
                k |= np.uint32(data[start + b * 4 + j]) << np.uint32(8 * j)
            k = np.uint32(k * m)
            k ^= k >> np.uint32(24)
            k = np.uint32(k * m)
            h = np.uint32(h * m) ^ k
        rest = size - blocks * 4
        if rest:
            for j in range(rest):
                h ^= np.uint32(data[start + blocks * 4 + j]) << np.uint32(8 * j)
            h = np.uint32(h * m)
        h ^= h >> np.uint32(13)
        h = np.uint32(h * m)
        h ^= h >> np.uint32(15)
        out[i] = h
    return out
