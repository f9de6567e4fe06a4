"""Snappy as three programs write it: in chunks of the framing format, in blocks of Java's streams, in Hadoop's blocks.

`refold.landing.inflate` chooses by the first bytes; Hadoop's blocks have none of their own and are read where the name
ends in `.snappy`. None of the three marks its end: an object that was cut between two blocks looks whole, and only its
size in the listing of landing shows that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import cramjam

FRAMED = b"\xff\x06\x00\x00sNaPpY"
JAVA = b"\x82SNAPPY\x00"
JAVA_HEAD_BYTES = 16
SUFFIXES = (".snappy", ".sz")
BLOCK_BYTES_MAX = 64 << 20
"""The most plain bytes of one block; Java's streams write 32 KiB, Hadoop 256 KiB."""
_CHUNK_BYTES_MAX = 1 << 16  # as the framing format demands
_PLAIN_PER_BYTE = 32  # a copy of 3 bytes makes 64 at most


class Bytes(Protocol):
    """Bytes that arrive in pieces."""

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer only at the end."""

    def take(self, size: int) -> bytes:
        """The next bytes, which are done with."""


class SnappyError(ValueError):
    """What is wrong with the bytes."""


def is_hadoop(head: bytes) -> bool:
    """Whether bytes may begin a block of Hadoop's: its plain size, the size of a part, and the part's plain size."""
    plain, stored = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    return len(head) > 8 and 0 < plain <= BLOCK_BYTES_MAX and 0 < stored <= plain + plain // 6 + 32


def framed(source: Bytes) -> Iterator[bytes]:
    """The plain bytes of chunks, each with its own sum. Raises SnappyError."""
    while source.peek(1):
        head = _exactly(source, 4)
        kind, size = head[0], int.from_bytes(head[1:], "little")
        if 0x02 <= kind <= 0x7F:
            raise SnappyError(f"a chunk of the kind {kind:#04x}, which the format does not have")
        data = _exactly(source, size)
        if kind == FRAMED[0] and head + data != FRAMED:
            raise SnappyError("another stream identifier")
        if kind > 0x01:
            continue
        plain = _plain_bytes(data[4:]) if kind == 0 else size - 4
        if not 0 <= plain <= _CHUNK_BYTES_MAX:
            raise SnappyError(f"a chunk of {plain:,} plain bytes")
        yield _decompressed(cramjam.snappy.decompress, FRAMED + head + data, plain)


def java(source: Bytes) -> Iterator[bytes]:
    """The plain bytes of blocks of `SnappyOutputStream`, of one stream or several. Raises SnappyError."""
    while source.peek(1):
        if source.peek(len(JAVA)) == JAVA:
            _exactly(source, JAVA_HEAD_BYTES)
        elif source.peek(1):
            yield _block(_exactly(source, int.from_bytes(_exactly(source, 4), "big")))


def hadoop(source: Bytes) -> Iterator[bytes]:
    """The plain bytes of Hadoop's blocks, each of one part or several. Raises SnappyError."""
    while source.peek(1):
        left = int.from_bytes(_exactly(source, 4), "big")
        if left > BLOCK_BYTES_MAX:
            raise SnappyError(f"a block of {left:,} plain bytes")
        while left:
            part = _block(_exactly(source, int.from_bytes(_exactly(source, 4), "big")))
            left -= len(part)
            if left < 0 or not part:
                raise SnappyError("parts that are not as large as their block")
            yield part


def _exactly(source: Bytes, size: int) -> bytes:
    if size > BLOCK_BYTES_MAX + BLOCK_BYTES_MAX // 6 + 32:
        raise SnappyError(f"a block of {size:,} bytes")
    data = source.take(size)
    if len(data) < size:
        raise EOFError
    return data


def raw_block(data: bytes, most: int) -> bytes | None:
    """The plain bytes of a block by itself; None if there are more than so many. Raises SnappyError."""
    return _block(data) if _plain_bytes(data) <= most else None


def _block(data: bytes) -> bytes:
    plain = _plain_bytes(data)
    if plain > min(BLOCK_BYTES_MAX, _PLAIN_PER_BYTE * len(data)):
        raise SnappyError(f"a block of {plain:,} plain bytes in {len(data):,}")
    return _decompressed(cramjam.snappy.decompress_raw, data, plain)


def _plain_bytes(data: bytes) -> int:
    """The size that a block gives for itself."""
    size = 0
    for place, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return size
    raise SnappyError("a block without its size")


def _decompressed(decompress, data: bytes, plain: int) -> bytes:  # type: ignore[no-untyped-def]  # cramjam has no types
    try:
        found = bytes(decompress(data))
    except cramjam.DecompressionError as error:
        raise SnappyError(str(error)) from error
    if len(found) != plain:
        raise SnappyError(f"{len(found):,} plain bytes of {plain:,}")
    return found
