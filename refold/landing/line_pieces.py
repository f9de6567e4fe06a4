"""The lines of an object in pieces of bounded size, so that memory does not depend on the size of the object.

Comes after `inflate` (plain bytes) and `json_block` (what a line is), and before the decoders of JSON Lines, which read
a piece at a time. What is read does not depend on how large pieces are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from refold.landing.bounds import LandingBounds
from refold.landing.json_block import LineIndex, lines_at_most

PIECE_BYTES = 1 << 20
"""About how many bytes are looked at together; more where a line is longer."""

PIECE_LINES = 1 << 16
"""The most lines of one piece: reading as many bad ones takes two seconds."""


def line_pieces(
    name: str, plain: Iterable[bytes], bounds: LandingBounds, piece_bytes: int = PIECE_BYTES, lines: int = PIECE_LINES
) -> Iterator[tuple[int, LineIndex]]:
    """The lines of an object as pieces, each with the number (from 0) of its first line.

    Args:
        name: the object's name.
        plain: its plain bytes, in pieces of any size.
        bounds: limits its lines and their length.
        piece_bytes, lines: about how many bytes are looked at together, and the most lines of a piece.

    Raises:
        UnreadableObject: there are more than `object_records_max` lines, or one has more than `record_bytes_max` bytes.
    """
    count = 0
    for index in _whole_lines(plain, bounds, piece_bytes, lines):
        too_long = np.flatnonzero(index.ends - index.starts > bounds.record_bytes_max)
        if len(too_long):
            found = f"more in line {count + int(too_long[0]) + 1:,}"
            raise bounds.too_large(name, found, "record_bytes_max", "bytes in each line")
        if count + len(index) > bounds.object_records_max:
            raise bounds.too_large(name, "more", "object_records_max", "lines")
        for start in range(0, len(index), lines):
            yield count + start, index.part(start, start + lines)
        count += len(index)


def _whole_lines(plain: Iterable[bytes], bounds: LandingBounds, piece_bytes: int, lines: int) -> Iterator[LineIndex]:
    """The lines of about so many bytes or lines at a time; what follows the last whole line is taken to the next."""
    held, size_bytes, size_lines, wanted = list[bytes](), 0, 0, piece_bytes
    for piece in filter(None, plain):  # an empty member of a gzip file gives an empty piece
        held.append(piece)
        size_bytes, size_lines = size_bytes + len(piece), size_lines + lines_at_most(piece)
        if size_bytes < wanted and size_lines < lines:
            continue
        held = [b"".join(held)]
        index = LineIndex.of(held[0])
        whole = index.part(0, len(index) - (not index.data.endswith(b"\n")))
        rest = index.data[len(whole.data) :]
        if len(rest) > bounds.record_bytes_max:
            yield index
            return
        yield whole
        held, size_bytes, size_lines = [rest], len(rest), 0
        wanted = max(piece_bytes, min(2 * len(rest), bounds.record_bytes_max + 1))
    yield LineIndex.of(b"".join(held))
