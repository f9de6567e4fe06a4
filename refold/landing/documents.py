"""Rows that are JSON texts inside a JSON record, as Debezium writes the documents of MongoDB, opened to objects.

Only the two sides of the envelope are opened, each where its text is one whole JSON object; any other value stays as it
is, and is then found not to be an object. What columns a document has, and their types, is read as elsewhere.
"""

from __future__ import annotations

import json

from refold.landing.json_block import LineIndex
from refold.landing.json_line import JSON_STRING

_SIDES = (b'"after"', b'"before"')


def opened(index: LineIndex, depth: int) -> LineIndex:
    """The same lines, with the documents at `after` and `before` as objects; `depth` is how deep these keys are.

    >>> opened(LineIndex.of(b'{"op": "c", "after": "{\\\\"_id\\\\": 7}"}'), 1).raw(0)
    b'{"op": "c", "after": {"_id": 7}}'
    """
    lines = LineIndex.of(b"".join(_opened(index.raw(number), depth) + b"\n" for number in range(len(index))))
    return lines if len(lines) == len(index) else index


def _opened(raw: bytes, depth: int) -> bytes:
    pieces, copied, at, level, is_side = list[bytes](), 0, 0, 0, False
    for found in JSON_STRING.finditer(raw):
        between, string = raw[at : found.start()], found[0]
        level += between.count(b"{") + between.count(b"[") - between.count(b"}") - between.count(b"]")
        document = _document(string) if is_side and between.strip() == b":" else None
        if document is not None:
            pieces += [raw[copied : found.start()], document]
            copied = found.end()
        at, is_side = found.end(), level == depth and string in _SIDES
    return b"".join([*pieces, raw[copied:]]) if pieces else raw


def _document(string: bytes) -> bytes | None:
    """The text of a JSON string, if that is one JSON object on one line; None otherwise."""
    try:
        text = json.loads(string)
        is_object = isinstance(json.loads(text), dict)
        return text.encode() if is_object and "\n" not in text else None
    except (ValueError, RecursionError):
        return None
