"""The blocks of an Avro container file, decompressed within bounds: what `fastavro` would do in any amount of memory.

Comes before `refold.landing.avro`, which reads records. What is cut or damaged is an error, never an end.
"""

from __future__ import annotations

import bz2
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Protocol, cast

import fastavro

from refold.landing.bounds import LandingBounds
from refold.landing.snappy import raw_block

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SYNC_BYTES = 16
_CODEC = "avro.codec"
_HEADER: Any = fastavro.parse_schema(
    {
        "type": "record",
        "name": "org.apache.avro.file.Header",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
            {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": _SYNC_BYTES}},
        ],
    }
)


class _Stream(Protocol):
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def _by(stream: Callable[[], _Stream]) -> Callable[[bytes, int], bytes]:
    """The plain bytes of a block, at most so many and one."""

    def decompress(data: bytes, most: int) -> bytes:
        one = stream()
        plain = one.decompress(data, most + 1)
        if not one.eof and len(plain) <= most:
            raise ValueError("a block that ends in the middle")
        return plain

    return decompress


def _snappy(data: bytes, most: int) -> bytes:
    plain = raw_block(data[:-4], most)
    if plain is None:
        return bytes(most + 1)
    if zlib.crc32(plain) != int.from_bytes(data[-4:], "big"):
        raise ValueError("a block with another sum")
    return plain


_CODECS: Mapping[bytes, Callable[[bytes, int], bytes]] = {
    b"null": lambda data, most: data,
    b"deflate": _by(lambda: cast("_Stream", zlib.decompressobj(-15))),
    b"bzip2": _by(bz2.BZ2Decompressor),
    b"zstandard": _by(zstd.ZstdDecompressor),
    b"xz": _by(lzma.LZMADecompressor),
    b"snappy": _snappy,
}


def plain_file(name: str, data: bytes, bounds: LandingBounds) -> IO[bytes]:
    """The file without compression.

    Raises:
        UnreadableObject: while it is read, if there are more plain bytes than the bounds allow.
        Exception: of any kind, at once or while it is read, if the file is damaged.
    """
    stream = io.BytesIO(data)
    header: Any = fastavro.schemaless_reader(stream, _HEADER, None)
    codec = header["meta"].get(_CODEC, b"null")
    if codec not in _CODECS:
        raise ValueError(f"the codec {codec!r}; expected one of {', '.join(each.decode() for each in _CODECS)}")
    return cast("IO[bytes]", _Parts(_plain_parts(name, stream, header, _CODECS[codec], bounds)))


class _Parts:
    """Bytes in parts, read as a file."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts, self._held, self._at, self._position = parts, b"", 0, 0

    def read(self, size: int) -> bytes:
        """The next bytes, fewer only at the end."""
        while len(self._held) - self._at < size and (part := next(self._parts, None)) is not None:
            self._held, self._at = self._held[self._at :] + part, 0
        found = self._held[self._at : self._at + size]
        self._at += len(found)
        self._position += len(found)
        return found

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position


def _plain_parts(
    name: str, stream: io.BytesIO, header: Any, decompress: Callable[[bytes, int], bytes], bounds: LandingBounds
) -> Iterator[bytes]:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _HEADER, {**header, "meta": {**header["meta"], _CODEC: b"null"}})
    yield out.getvalue()
    left_bytes = bounds.object_bytes_max
    while (count := _long(stream)) is not None:
        size = _long(stream)
        block = stream.read(size) if size is not None and size >= 0 else b""
        if len(block) != size or stream.read(_SYNC_BYTES) != header["sync"]:
            raise ValueError("a block that ends in the middle")
        plain = decompress(block, left_bytes)
        left_bytes -= len(plain)
        if left_bytes < 0:
            raise bounds.too_large(name, "more", "object_bytes_max", "plain bytes")
        yield _written(count)
        yield _written(len(plain))
        yield plain + header["sync"]


def _long(stream: io.BytesIO) -> int | None:
    """The next number; None at the end."""
    number = shift = 0
    while byte := stream.read(1):
        number |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return (number >> 1) ^ -(number & 1)
    if shift:
        raise ValueError("a number that ends in the middle")
    return None


def _written(number: int) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()
