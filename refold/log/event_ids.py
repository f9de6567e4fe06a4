"""The stored form of event ids, and their hashes: UUIDs are stored as 16 bytes, where the id is one column.

Only UUIDs in their usual text form (36 characters, lower case, hyphens in their places) are stored as 16 bytes, since
they can be restored to the same text. All other ids are stored unchanged. An id has the same hash in both forms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.canonical.encoding import Bytes, EncodedRows, Hashes, compiled, encode_rows, text_buffers

STORED = pa.binary(16)
"""The Arrow type of UUIDs as 16 bytes, in the order of their digits."""

_TEXT_BYTES = 36
_PAGE_HEADER_MAX = 100


def to_bytes(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The ids as 16 bytes each; None where one of them is null or not a UUID in the usual form.

    >>> to_bytes(pa.chunked_array([["00112233-4455-6677-8899-aabbccddeeff"]]))[0].as_py().hex()
    '00112233445566778899aabbccddeeff'
    """
    chunks = []
    for chunk in texts.chunks:
        out, valid = _parsed(chunk)
        if chunk.null_count or not valid.all():
            return None
        chunks.append(pa.Array.from_buffers(STORED, len(chunk), [None, pa.py_buffer(out)]))
    return pa.chunked_array(chunks, STORED)


def _parsed(chunk: pa.Array) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """16 bytes for each text, and which of the texts are UUIDs."""
    data, starts = text_buffers(chunk)
    out, valid = np.zeros(16 * len(chunk), dtype=np.uint8), np.zeros(len(chunk), dtype=np.bool_)
    _parse(data, starts, out, valid)
    return out, valid


def of_page(column: memoryview, count: int) -> pa.Array | None:
    """Ids without a copy from a column of a Parquet file that is one page of plain values; None where it is not.

    `column` are the bytes of `count` values of 16 bytes. A page begins with a header in Thrift's compact form, of which
    the first two fields are looked at: 15 00, a data page, and 15, its size as a zigzag number in groups of 7 bits. Ids
    that are stored as text begin with the page of their dictionary instead.
    """
    size, header = 2 * 16 * count, bytearray(b"\x15\x00\x15")
    while size > 127:
        header.append(size & 127 | 128)
        size >>= 7
    header.append(size)
    start = len(column) - 16 * count
    if not 0 < start < _PAGE_HEADER_MAX or bytes(column[: len(header)]) != bytes(header):
        return None
    return pa.Array.from_buffers(STORED, count, [None, pa.py_buffer(column[start:])])


def to_text(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The ids as text again."""
    return pa.chunked_array([_text(chunk) for chunk in ids.chunks], pa.string())


def _text(chunk: pa.Array) -> pa.Array:
    raw = np.frombuffer(chunk.buffers()[1], dtype=np.uint8)[16 * chunk.offset : 16 * (chunk.offset + len(chunk))]
    out = np.empty(_TEXT_BYTES * len(chunk), dtype=np.uint8)
    _format(raw, out)
    starts = np.arange(0, _TEXT_BYTES * (len(chunk) + 1), _TEXT_BYTES, dtype=np.int64)
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.large_string(), len(chunk), buffers).cast(pa.string())


def hashes_of(events: pa.Table, names: Sequence[str]) -> Hashes:
    """A 64-bit hash of the id of each event; `names` are its columns, as they are stored or as they are declared."""
    return hashes(events[names[0]]) if len(names) == 1 else encode_rows([events[name] for name in names]).hashes()


def canonical_of(events: pa.Table, names: Sequence[str]) -> EncodedRows:
    """Bytes of the id of each event, equal for equal ids; `names` are as in `hashes_of`."""
    return canonical(events[names[0]]) if len(names) == 1 else encode_rows([events[name] for name in names])


def hashes(ids: pa.ChunkedArray) -> Hashes:
    """A 64-bit hash of each id, which must not be null: equal for equal ids, whether stored as text or as 16 bytes."""
    parts = [
        _hashes(chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk) for chunk in ids.chunks
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)


def _hashes(chunk: pa.Array) -> Hashes:
    if chunk.type == STORED:
        raw = np.frombuffer(chunk.buffers()[1], dtype=np.uint64)[2 * chunk.offset : 2 * (chunk.offset + len(chunk))]
        return np.asarray(_mixed(raw), dtype=np.uint64)
    if not pa.types.is_string(chunk.type):
        return encode_rows([chunk]).hashes()
    out, valid = _parsed(chunk)
    return np.where(valid, _mixed(out.view(np.uint64)), encode_rows([chunk]).hashes())


def canonical(ids: pa.ChunkedArray) -> EncodedRows:
    """Bytes of each id, which must not be null: equal for equal ids, whether stored as text or as 16 bytes."""
    chunks = (chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk for chunk in ids.chunks)
    return EncodedRows.joined([_canonical(chunk) for chunk in chunks])


def _canonical(chunk: pa.Array) -> EncodedRows:
    if chunk.type == STORED:
        raw = np.frombuffer(chunk.buffers()[1], dtype=np.uint8)[16 * chunk.offset : 16 * (chunk.offset + len(chunk))]
        return _marked(raw)
    texts = encode_rows([chunk])
    if not pa.types.is_string(chunk.type):
        return texts
    raw, valid = _parsed(chunk)
    return EncodedRows.joined([texts, _marked(raw)]).take(np.arange(len(chunk)) + np.where(valid, len(chunk), 0))


def _marked(raw: Bytes) -> EncodedRows:
    """Each id as a byte 2 and its 16 bytes; no row of the canonical encoding begins with 2."""
    rows = np.full((len(raw) // 16, 17), 2, dtype=np.uint8)
    rows[:, 1:] = raw.reshape(-1, 16)
    return EncodedRows(rows.reshape(-1), 17 * np.arange(len(rows) + 1))


def as_text(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids in the form the log declares them, from any form that parts have them in."""
    if ids.type == STORED:
        return to_text(ids)
    return ids.cast(ids.type.value_type) if pa.types.is_dictionary(ids.type) else ids


@compiled
def _mixed(raw):  # type: ignore[no-untyped-def]
    """The finalizer of MurmurHash3 over the one half, then over both; `raw` holds two halves for each id."""
    out = np.empty(raw.size // 2, dtype=np.uint64)
    for i in range(out.size):
        h = raw[2 * i]
        for half in range(2):
            h ^= h >> np.uint64(33)
            h *= np.uint64(0xFF51AFD7ED558CCD)
            h ^= h >> np.uint64(33)
            h *= np.uint64(0xC4CEB9FE1A85EC53)
            h ^= h >> np.uint64(33)
            if half == 0:
                h ^= raw[2 * i + 1]
        out[i] = h
    return out


_DIGIT = np.full(256, 255, dtype=np.uint8)
"""The value of each hexadecimal digit, in lower case; 255 for all other bytes."""
_DIGIT[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_PAIRS = np.array([0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34])
"""Where in the text of a UUID the two digits of each of its bytes begin."""


@compiled
def _parse(data, starts, out, valid):  # type: ignore[no-untyped-def]
    """Write the 16 bytes of each text that is a UUID, and mark it in `valid`; the bytes of others are arbitrary."""
    for i in range(starts.size - 1):
        p = starts[i]
        if starts[i + 1] - p != 36:
            continue
        wrong = (data[p + 8] ^ 45) | (data[p + 13] ^ 45) | (data[p + 18] ^ 45) | (data[p + 23] ^ 45)
        for k in range(16):
            high, low = _DIGIT[data[p + _PAIRS[k]]], _DIGIT[data[p + _PAIRS[k] + 1]]
            wrong |= (high | low) & 0xF0
            out[16 * i + k] = (high << 4) | low
        valid[i] = wrong == 0


@compiled
def _format(raw, out):  # type: ignore[no-untyped-def]
    q = 0
    for i in range(raw.size):
        if i % 16 in (4, 6, 8, 10):
            out[q] = 45
            q += 1
        for high in range(1, -1, -1):
            digit = (raw[i] >> (4 * high)) & 15
            out[q] = digit + (48 if digit < 10 else 87)
            q += 1
