"""The plain bytes of a landing object, piece by piece: decompresses gzip and refuses what is damaged or too large.

Comes before every decoder and knows no format. An object that cannot be read as a whole is an `UnreadableObject`: its
first half would be sealed as if it were everything.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from isal import isal_zlib

from refold.errors import UnreadableObject
from refold.landing.bounds import DEFAULT_BOUNDS, LandingBounds

PIECE_BYTES = 1 << 20
"""The most plain bytes of one piece."""

_GZIP_MAGIC = b"\x1f\x8b"
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
    """The plain bytes of an object, which is gzip (of one member or several) or text, whatever its name.

    Bytes that begin like gzip are gzip, since no text begins so. Other bytes are plain, but under a name that ends in
    `.gz` only if they are UTF-8 without NUL: else they are taken for damaged gzip. No bytes are an empty object. Zeros
    after the last member are padding.

    Args:
        name: the object's name.
        data: its bytes, in pieces of any size.
        bounds: limits the plain bytes.

    Raises:
        UnreadableObject: the gzip is truncated or damaged, or there are more than `object_bytes_max` plain bytes.
    """
    source, left_bytes = _Source(data), bounds.object_bytes_max
    is_gzip = source.peek(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    for piece in _members(name, source) if is_gzip else _texts(name, source):
        left_bytes -= len(piece)
        if left_bytes < 0:
            raise bounds.too_large(name, "more", "object_bytes_max", "plain bytes")
        yield piece


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
    checked = name.endswith(".gz")
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
        raise _damaged(name, "bytes that are neither gzip nor text")


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


def _damaged(name: str, found: str) -> UnreadableObject:
    return UnreadableObject(
        f"Expected a whole gzip in the object {name}, found {found}.",
        remedy="Deliver the object again, whole; nothing of it was sealed.",
    )
