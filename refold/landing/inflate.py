"""The plain bytes of a landing object, piece by piece: decompresses, and refuses what is damaged, cut or too large.

gzip, zstd, LZ4 frames, bzip2 and snappy are recognised by their first bytes, since no text begins so; the blocks in
which Hadoop writes snappy, by the name as well. Comes before every decoder of text and knows no format. An object that
cannot be read as a whole is an `UnreadableObject`: its first half would be sealed as if it were everything.
"""

from __future__ import annotations

import bz2
import codecs
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

import lz4.frame
from isal import isal_zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from refold.errors import UnreadableObject
from refold.landing import snappy
from refold.landing.bounds import DEFAULT_BOUNDS, LandingBounds

PIECE_BYTES = 1 << 20
"""The most plain bytes of one piece."""

_GZIP_MAGIC = b"\x1f\x8b"
_MAGIC_BYTES = 4
_ZSTD_WINDOW_LOG = 27  # 128 MiB, as the command line tool admits by default
_FEED_BYTES = 1 << 17  # ISA-L cannot read a header in two pieces, and one may have 64 KiB and a name
_GZIP_FLAGS_MAX = b"\x1f"  # higher flags are reserved: RFC 1952 demands to refuse them, and ISA-L ignores them
_GZIP_WINDOW = 31  # zlib's number for gzip framing with the largest window


def inflate(name: str, data: bytes, bounds: LandingBounds = DEFAULT_BOUNDS) -> bytes:
    """The plain bytes of an object, all at once; see `plain_pieces`.

    >>> inflate("a.jsonl", b"{}")
    b'{}'
    """
    return b"".join(plain_pieces(name, [data], bounds))


def plain_pieces(name: str, data: Iterable[bytes], bounds: LandingBounds = DEFAULT_BOUNDS) -> Iterator[bytes]:
    """The plain bytes of an object, which is compressed (in one member or several) or text, whatever its name.

    Bytes that begin like a compressed format are of that format. Other bytes are plain, but under a name that ends as
    one of a compressed object only if they are UTF-8 without NUL: else they are taken for damaged. No bytes are an
    empty object. Zeros after the last member of gzip are padding.

    Args:
        name: the object's name.
        data: its bytes, in pieces of any size.
        bounds: limits the plain bytes.

    Raises:
        UnreadableObject: the object is truncated or damaged, or there are more than `object_bytes_max` plain bytes.
    """
    source, left_bytes = _Source(data), bounds.object_bytes_max
    for piece in _plain(name, source):
        left_bytes -= len(piece)
        if left_bytes < 0:
            raise bounds.too_large(name, "more", "object_bytes_max", "plain bytes")
        yield piece


class _Stream(Protocol):
    """A decompressor of one member, as the standard library has them."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Compression(NamedTuple):
    """A compressed format but for gzip: its name, suffixes, first bytes, decompressor and what this raises."""

    name: str
    suffixes: tuple[str, ...]
    magic: bytes
    stream: Callable[[], _Stream]
    errors: type[Exception]


def _zstd() -> _Stream:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


_COMPRESSIONS = (
    _Compression("zstd", (".zst", ".zstd"), b"\x28\xb5\x2f\xfd", _zstd, zstd.ZstdError),
    _Compression("LZ4 frame", (".lz4",), b"\x04\x22\x4d\x18", lz4.frame.LZ4FrameDecompressor, RuntimeError),
    _Compression("bzip2", (".bz2",), b"BZh", bz2.BZ2Decompressor, OSError),
)
COMPRESSIONS = ("", ".gz", ".zst", ".lz4", ".bz2", ".snappy")
"""The endings of names that decoders of text take, after that of their format."""
_COMPRESSED_NAMES = (".gz", *snappy.SUFFIXES, *(suffix for each in _COMPRESSIONS for suffix in each.suffixes))
_HEAD_BYTES = 10


def _plain(name: str, source: _Source) -> Iterator[bytes]:
    magic = source.peek(_MAGIC_BYTES)
    if magic.startswith(_GZIP_MAGIC):
        return _members(name, source)
    for compression in _COMPRESSIONS:
        # Text may begin with BZh: what follows in bzip2 is a digit and the start of a block.
        if magic.startswith(compression.magic) and (compression.name != "bzip2" or _is_bzip2(source)):
            return _frames(name, source, compression)
        head = source.peek(_HEAD_BYTES)
        is_cut = head.startswith(compression.magic[: len(head)]) and 0 < len(head) < _HEAD_BYTES
        if is_cut and name.endswith(compression.suffixes):
            raise _damaged(name, f"an end in the middle, after {len(head)} bytes", compression.name)
    return _snappy(name, source) or _texts(name, source)


def _snappy(name: str, source: _Source) -> Iterator[bytes] | None:
    head = source.peek(snappy.JAVA_HEAD_BYTES)
    for magic, form in ((snappy.FRAMED, snappy.framed), (snappy.JAVA, snappy.java)):
        if head.startswith(magic) or (name.endswith(snappy.SUFFIXES) and head and magic.startswith(head)):
            return _unsnapped(name, source, form)
    if name.endswith(snappy.SUFFIXES) and snappy.is_hadoop(head):
        return _unsnapped(name, source, snappy.hadoop)
    return None


def _unsnapped(name: str, source: _Source, form: Callable[[_Source], Iterator[bytes]]) -> Iterator[bytes]:
    try:
        for block in form(source):
            yield from (block[start : start + PIECE_BYTES] for start in range(0, len(block), PIECE_BYTES))
    except EOFError as error:
        raise _damaged(name, f"an end in the middle, after {source.position} bytes", "snappy") from error
    except snappy.SnappyError as error:
        raise _damaged(name, f"damage before byte {source.position} ({error})", "snappy") from error


def _is_bzip2(source: _Source) -> bool:
    head = source.peek(_HEAD_BYTES)
    return head[3:4] in b"123456789" and head[4:] in (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")


def _frames(name: str, source: _Source, compression: _Compression) -> Iterator[bytes]:
    """The plain bytes of some frames, each whole and right after the other."""
    while source.peek(1):
        stream, data, position = compression.stream(), b"", source.position
        while not stream.eof:
            if stream.needs_input and not (data := source.take(_FEED_BYTES)):
                raise _damaged(name, f"an end in the middle, after {source.position} bytes", compression.name)
            try:
                piece = stream.decompress(data, PIECE_BYTES)
            except compression.errors as error:
                found = f"damage after byte {position} ({error})"
                raise _damaged(name, found, compression.name) from error
            data, position = b"", source.position
            if piece:
                yield piece
        source.give_back(len(stream.unused_data or b""))


class _Source:
    """Bytes that arrive in pieces, taken in pieces of other sizes; `position` is how many were taken."""

    def __init__(self, data: Iterable[bytes]) -> None:
        self._coming = iter(data)
        self._held = b""
        self._at = 0
        self.position = 0

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer only at the end."""
        while len(self._held) - self._at < size and (more := next(self._coming, None)) is not None:
            self._held, self._at = self._held[self._at :] + more, 0
        return self._held[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """The next bytes, which are done with."""
        found = self.peek(size)
        self._move(len(found))
        return found

    def give_back(self, size: int) -> None:
        """Return the last bytes of those that were taken last."""
        self._move(-size)

    def _move(self, size: int) -> None:
        self._at += size
        self.position += size


def _texts(name: str, source: _Source) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    checked = name.endswith(_COMPRESSED_NAMES)
    if checked and source.peek(1) == _GZIP_MAGIC[:1]:
        raise _damaged(name, "a first byte of gzip without the second")
    while piece := source.take(PIECE_BYTES):
        if checked:
            _check_text(name, decoder, piece, is_last=not source.peek(1))
        yield piece


def _check_text(name: str, decoder: codecs.IncrementalDecoder, piece: bytes, *, is_last: bool) -> None:
    try:
        decoder.decode(piece, is_last)
    except UnicodeDecodeError:
        piece = b"\0"
    if b"\0" in piece:
        raise _damaged(name, "bytes that are neither compressed nor text", "compressed object")


def _members(name: str, source: _Source) -> Iterator[bytes]:
    yield from _member(name, source)
    while source.peek(1).strip(b"\0"):
        yield from _member(name, source)
    position = source.position
    while padding := source.take(_FEED_BYTES):
        if padding.strip(b"\0"):
            raise _damaged(name, f"bytes that are not gzip after byte {position}")


def _member(name: str, source: _Source) -> Iterator[bytes]:
    """The plain bytes of one member. In small pieces: the bytes after its end are copied, once for each member."""
    if source.peek(_FEED_BYTES)[3:4] > _GZIP_FLAGS_MAX:
        raise _damaged(name, f"flags after byte {source.position} that gzip does not have")
    member, position = isal_zlib.decompressobj(_GZIP_WINDOW), source.position
    while not member.eof:
        if not member.unconsumed_tail:
            position = source.position
        piece = member.unconsumed_tail or source.take(_FEED_BYTES)
        if not piece:
            raise _damaged(name, f"an end in the middle, after {source.position} bytes")
        try:
            yield member.decompress(piece, PIECE_BYTES)
        except isal_zlib.error as error:  # type: ignore[misc]  # its stubs call it an object
            raise _damaged(name, f"damage after byte {position} ({error})") from error
    source.give_back(len(member.unused_data))


def _damaged(name: str, found: str, format_name: str = "gzip") -> UnreadableObject:
    return UnreadableObject(
        f"Expected a whole {format_name} in the object {name}, found {found}.",
        remedy="Deliver the object again, whole; nothing of it was sealed.",
    )
