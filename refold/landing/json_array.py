"""JSON arrays: the objects of one array are records, on as many lines as the writer liked.

The array is turned into JSON Lines as it is read, piece by piece: a comma between two objects becomes a newline, a
newline within one a blank, and blanks before one are left out, which changes no value. `refold.landing.jsonl` does the
rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from refold.canonical.encoding import compiled
from refold.errors import UnreadableObject
from refold.landing.bounds import LandingBounds
from refold.landing.inflate import plain_pieces
from refold.landing.json_line import BYTE_ORDER_MARK
from refold.landing.jsonl import SUFFIXES, JsonLines

_RETRY_SUFFIX = ".retry.jsonl"
_BEFORE, _INSIDE, _AFTER = 0, 1, 2


@dataclass(frozen=True)
class JsonArray(JsonLines):
    """Decodes an array of JSON objects; places and limits are those of `JsonLines`.

    >>> from refold.types import int64
    >>> data = b'[{"n": 1},' + bytes([10]) + b' {"n": 2}]'
    >>> JsonArray().decode("a.json", data, {"n": int64()}).rows["n"].to_pylist()
    [1, 2]
    """

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The file name endings of JSON, after that of a retry, which is JSON Lines."""
        return (_RETRY_SUFFIX, *SUFFIXES)

    @property
    def unit(self) -> str:
        """Records are numbered as elements of the array."""
        return "element"

    def _plain(self, name: str, data: Iterable[bytes], bounds: LandingBounds) -> Iterable[bytes]:
        """The elements as lines. Raises UnreadableObject for what is no whole array."""
        plain = plain_pieces(name, data, bounds)
        return plain if name.endswith(_RETRY_SUFFIX) else _lines(name, plain)


def _lines(name: str, plain: Iterable[bytes]) -> Iterator[bytes]:
    """The elements of an array as lines. Raises UnreadableObject."""
    state, position, is_first = np.zeros(6, np.int64), 0, True
    for piece in filter(None, plain):
        start = len(BYTE_ORDER_MARK) if is_first and piece.startswith(BYTE_ORDER_MARK) else 0
        array, is_first = np.frombuffer(piece, np.uint8)[start:].copy(), False
        place, kept = _part(array, state)
        if place >= 0:
            raise _no_array(
                name, f"{bytes(piece[start + place : start + place + 1])!r} at byte {position + start + place}"
            )
        position += len(piece)
        yield array[:kept].tobytes()
    if state[0] != _AFTER and position:
        raise _no_array(name, f"an end in the middle, after {position} bytes")


def _no_array(name: str, found: str) -> UnreadableObject:
    return UnreadableObject(
        f"Expected one JSON array in the object {name}, found {found}.",
        remedy="Deliver the object again, whole, or declare JsonLines; nothing of it was sealed.",
    )


@compiled
def _part(array, state):  # type: ignore[no-untyped-def]
    """Change an array into lines in place; the place of a byte that no array has there, or -1, and the bytes kept.

    The state is: before, inside or after the array; depth below it; in a string; after a backslash; whether an element
    has begun; whether a comma came before. Blanks before an element are left out, so that it begins its line.
    """
    phase, depth, in_string, escaped, begun, after_comma = state
    kept = 0
    for i in range(array.size):
        c = array[i]
        if in_string:
            in_string = escaped or c != 34
            escaped = not escaped and c == 92
            array[kept] = 1 if c == 10 else c  # no string may hold a newline: the element is bad, and stays one
            kept += 1
            continue
        blank = c == 32 or c == 9 or c == 10 or c == 13  # noqa: PLR1714  # compiled
        if blank:
            if begun:
                array[kept] = 32
                kept += 1
            continue
        if phase != 1:
            if phase == 2 or c != 91:
                return i, kept
            phase = 1
            continue
        if depth == 0 and c == 44:
            if not begun:
                return i, kept
            begun, after_comma, c = 0, 1, 10
        elif depth == 0 and c == 93:
            if after_comma and not begun:
                return i, kept
            phase, begun = 2, 0
            continue
        else:
            opens = c == 123 or c == 91  # noqa: PLR1714
            if depth == 0 and (((opens or c == 34) and begun) or c == 125):
                return i, kept
            begun = 1
            in_string = c == 34
            depth += opens
            depth -= c == 125 or c == 93  # noqa: PLR1714
        array[kept] = c
        kept += 1
    state[:] = (phase, depth, in_string, escaped, begun, after_comma)
    return -1, kept
