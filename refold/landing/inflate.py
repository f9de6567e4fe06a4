"""The plain bytes of a landing object: decompresses gzip, with a limit, and refuses what is damaged.

Comes before every decoder and knows no format. An object that cannot be read as a whole is an `UnreadableObject`: its
first half would be sealed as if it were everything.
"""

from __future__ import annotations

from isal import isal_zlib

from refold.errors import UnreadableObject

OBJECT_BYTES_MAX = 1 << 30
"""Default limit of one object's plain bytes: 1 GiB."""

_GZIP_MAGIC = b"\x1f\x8b"
_FEED_BYTES = 1 << 17  # ISA-L cannot read a header in two pieces, and one may have 64 KiB and a name
_GZIP_FLAGS_MAX = b"\x1f"  # higher flags are reserved: RFC 1952 demands to refuse them, and ISA-L ignores them
_GZIP_WINDOW = 31  # zlib's number for gzip framing with the largest window


def inflate(name: str, data: bytes, object_bytes_max: int = OBJECT_BYTES_MAX) -> bytes:
    """The plain bytes of an object, which is gzip (of one member or several) or text, whatever its name.

    Bytes that begin like gzip are gzip, since no text begins so. Other bytes are plain, but under a name that ends in
    `.gz` only if they are UTF-8 without NUL: else they are taken for damaged gzip. No bytes are an empty object. Zeros
    after the last member are padding.

    Raises:
        UnreadableObject: the gzip is truncated or damaged, or there are more than `object_bytes_max` plain bytes.

    >>> inflate("a.jsonl", b"{}")
    b'{}'
    """
    if data.startswith(_GZIP_MAGIC) or (name.endswith(".gz") and not _is_text(data)):
        return _inflate_gzip(name, data, object_bytes_max)
    if len(data) > object_bytes_max:
        raise _too_large(name, object_bytes_max)
    return data


def _is_text(data: bytes) -> bool:
    if data.startswith(_GZIP_MAGIC[:1]) or b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _inflate_gzip(name: str, data: bytes, object_bytes_max: int) -> bytes:
    parts: list[bytes] = []
    left_bytes = object_bytes_max
    position = 0
    end = len(data.rstrip(b"\0"))
    while position < len(data) and (position == 0 or position < end):
        if data[position + 3 : position + 4] > _GZIP_FLAGS_MAX:
            raise _damaged(name, f"flags after byte {position} that gzip does not have")
        member = isal_zlib.decompressobj(_GZIP_WINDOW)
        while not member.eof and position < len(data):
            # In small pieces: all bytes after a member are copied, so thousands of members would take quadratic time.
            piece = data[position : position + _FEED_BYTES]
            try:
                parts.append(member.decompress(piece, left_bytes + 1))
            except isal_zlib.error as error:  # type: ignore[misc]  # its stubs call it an object
                raise _damaged(name, f"damage after byte {position} of {len(data)} ({error})") from error
            left_bytes -= len(parts[-1])
            if left_bytes < 0:
                raise _too_large(name, object_bytes_max)
            position += len(piece) - len(member.unused_data)
        if not member.eof:
            raise _damaged(name, f"an end in the middle, after {len(data)} bytes")
    return b"".join(parts)


def _damaged(name: str, found: str) -> UnreadableObject:
    return UnreadableObject(
        f"Expected a whole gzip in the object {name}, found {found}.",
        remedy="Deliver the object again, whole; nothing of it was sealed.",
    )


def _too_large(name: str, object_bytes_max: int) -> UnreadableObject:
    return UnreadableObject(
        f"Expected at most {object_bytes_max} plain bytes in the object {name}, found more.",
        remedy="Deliver it in several objects, or raise object_bytes_max in the log's decoder.",
    )
