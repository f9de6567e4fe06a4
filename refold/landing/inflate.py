"""The plain bytes of a landing object: gzip undone, with a limit, and refused where it is damaged.

Comes before every decoder and knows no format. An object that cannot be read as a whole is an `UnreadableObject`,
never a part of itself: half a file would be sealed as if it were all.
"""

from __future__ import annotations

from isal import isal_zlib

from refold.errors import UnreadableObject

OBJECT_BYTES_MAX = 1 << 30
"""Default limit of one object's plain bytes: 1 GiB."""

_GZIP_MAGIC = b"\x1f\x8b"
_FEED_BYTES = 1 << 17  # of a header in two pieces ISA-L loses the place, and one may have 64 KiB and a name
_GZIP_FLAGS_MAX = b"\x1f"  # more are reserved: RFC 1952 wants them refused, and ISA-L passes over them
_GZIP_WINDOW = 31  # as zlib says it: gzip framing, largest window


def inflate(name: str, data: bytes, object_bytes_max: int = OBJECT_BYTES_MAX) -> bytes:
    """The plain bytes of an object; names that end in `.gz` are gzip, of one member or several.

    Zero bytes are a plain object without records, but no gzip. Zeros after the last member are padding.

    Raises:
        UnreadableObject: the gzip is empty, truncated, damaged or no gzip at all, a plain name holds gzip, or there
            are more than `object_bytes_max` plain bytes.

    >>> inflate("a.jsonl", b"{}")
    b'{}'
    """
    if name.endswith(".gz"):
        return _inflate_gzip(name, data, object_bytes_max)
    if data.startswith(_GZIP_MAGIC):
        raise UnreadableObject(
            f"Expected plain text in the object {name}, found gzip.", remedy="Deliver it under a name that ends in .gz."
        )
    if len(data) > object_bytes_max:
        raise _too_large(name, object_bytes_max)
    return data


def _inflate_gzip(name: str, data: bytes, object_bytes_max: int) -> bytes:
    parts: list[bytes] = []
    left_bytes = object_bytes_max
    position = 0
    end = len(data.rstrip(b"\0"))
    while position < len(data) and (position == 0 or position < end):
        if data[position + 3 : position + 4] > _GZIP_FLAGS_MAX:
            raise _damaged(name, f"flags after byte {position} that gzip does not know")
        member = isal_zlib.decompressobj(_GZIP_WINDOW)
        while not member.eof and position < len(data):
            # Fed in small pieces: all bytes after a member are copied, so thousands of members would be quadratic.
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
    if not data:
        raise _damaged(name, "no bytes at all")
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
