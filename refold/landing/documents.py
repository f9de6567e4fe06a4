"""Lines that are written anew before they are read: JSON texts inside a record are opened, arrays of rows taken apart.

Comes between lines and `refold.landing.json_records`, which judges the lines made here as any others. Only what is
declared is written anew, by its place; all else keeps its bytes, so that numbers and texts are read as they were
written. A line that is no JSON object stays as it is, and is then found not to be one. What a record is in quarantine
are the bytes that were landed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from refold.landing.contract import Finding
from refold.landing.decoder import BadRecord
from refold.landing.json_block import LineIndex
from refold.landing.json_line import JSON_STRING

INDEX = "#"
"""The key, at the top of a record that was taken out of an array, of its place there, from 0."""

ROWS_BYTES_MAX = 64 << 20
"""The most bytes of the records that one line is taken apart into: each has what is beside the array."""

Path = tuple[str, ...]
_TOKEN = re.compile(rb"[{}\[\],:]|" + JSON_STRING.pattern, re.DOTALL)
_CLOSING = {b"}": b"{", b"]": b"["}


class Span(NamedTuple):
    """Where a text, object or array is in a line."""

    start: int
    end: int


@dataclass(frozen=True)
class Rewritten:
    """Lines that were written anew.

    Attributes:
        index: the lines.
        numbers: the number (from 1) of the line that each comes from.
        bad: lines that could not be taken apart, and are not among the others.
        empty: how many lines had an array without rows.
    """

    index: LineIndex
    numbers: npt.NDArray[np.int64]
    bad: Sequence[BadRecord]
    empty: int


def rewritten(index: LineIndex, texts: Sequence[Path], arrays: Sequence[Path], line_bytes_max: int) -> Rewritten:
    """Lines with the JSON texts at some places opened, then a line for each row of the arrays at others.

    >>> lines = LineIndex.of(b'{"a": "{}", "rows": [{"n": 1}, {"n": 2}]}')
    >>> found = rewritten(lines, [("a",)], [("rows",)], 1000).index
    >>> found.raw(1)
    b'{"#":1,"a": {}, "rows": {"n": 2}}'
    """
    found, numbers, bad, empty = list[bytes](), list[int](), list[BadRecord](), 0
    for number in range(1, len(index) + 1):
        raw = index.raw(number - 1)
        rows: list[bytes] | Finding = [raw]
        if len(raw) <= line_bytes_max and _is_object(raw):
            opened = _opened(raw, texts) if texts else raw
            rows = _apart(opened, arrays) if arrays else [opened]
        if isinstance(rows, Finding):
            bad.append(BadRecord(number, *rows, raw))
            continue
        found += rows
        numbers += [number] * len(rows)
        empty += not rows
    lines = LineIndex.of(b"".join(row + b"\n" for row in found))
    assert len(lines) == len(found), "a whole object is one line"
    return Rewritten(lines, np.array(numbers, dtype=np.int64), bad, empty)


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False


def spans(raw: bytes, places: Sequence[Path]) -> dict[Path, Span]:
    """Where the texts, objects and arrays at some places of a JSON object are; a place that recurs is left out."""
    found, twice = dict[Path, Span](), set[Path]()
    outer: list[tuple[bytes, Path, int]] = []  # each object or array around: its bracket, place and start
    path, is_key = Path(), False

    def keep(place: Path, start: int, end: int) -> None:
        if place in places:
            twice.update([place] if place in found else [])
            found[place] = Span(start, end)

    for token in _TOKEN.finditer(raw):
        mark = token[0]
        if mark in (b"{", b"["):
            outer.append((mark, path, token.start()))
            is_key, path = mark == b"{", path if mark == b"{" else (*path, "[]")
        elif mark in _CLOSING:
            _, path, start = outer.pop()
            keep(path, start, token.end())
            is_key = False
        elif mark == b",":
            is_key, path = outer[-1][0] == b"{", outer[-1][1] if outer[-1][0] == b"{" else path
        elif mark == b":":
            is_key = False
        elif is_key:
            path = (*outer[-1][1], _text(mark))
        else:
            keep(path, token.start(), token.end())
    return {place: span for place, span in found.items() if place not in twice}


def _text(string: bytes) -> str:
    return str(json.loads(string)) if b"\\" in string else string[1:-1].decode(errors="replace")


def _opened(raw: bytes, places: Sequence[Path]) -> bytes:
    """A line with the JSON texts at some places as objects or arrays, where they are such."""
    for _, span in sorted(spans(raw, places).items(), key=lambda item: item[1], reverse=True):
        document = _document(raw[span.start : span.end])
        if document is not None:
            raw = raw[: span.start] + document + raw[span.end :]
    return raw


def _document(value: bytes) -> bytes | None:
    """The content of a JSON string on one line, if that is one JSON object or array; None otherwise."""
    if not value.startswith(b'"'):
        return None
    try:
        text = json.loads(value)
        is_document = isinstance(json.loads(text), dict | list)
        return text.encode().replace(b"\n", b" ").replace(b"\r", b" ") if is_document else None
    except (ValueError, RecursionError):
        return None


def _apart(raw: bytes, places: Sequence[Path]) -> list[bytes] | Finding:
    """A line for each row of the arrays at some places, which belong together; the line where there is none."""
    found = spans(raw, places)
    odd = [".".join(place) for place, span in found.items() if raw[span.start : span.start + 1] != b"["]
    if odd:
        return Finding("not-an-array", f"Expected an array of rows in {', '.join(odd)}, found another value.")
    rows = {place: _elements(raw, span) for place, span in found.items()}
    counts = sorted({len(each) for each in rows.values()})
    if len(counts) > 1:
        return Finding(
            "uneven-arrays", f"Expected as many rows in {_shown(places)}, found {counts[0]} and {counts[1]}."
        )
    if not counts:
        return [raw]
    kept = len(raw) - sum(span.end - span.start for span in found.values())
    if kept * counts[0] > ROWS_BYTES_MAX:
        what = f"{kept:,} bytes beside each of {counts[0]:,} rows"
        return Finding("too-many-rows", f"Expected at most {ROWS_BYTES_MAX:,} bytes of records, found {what}.")
    return [_row(raw, found, rows, number) for number in range(counts[0])]


def _shown(places: Sequence[Path]) -> str:
    return ", ".join(".".join(place) for place in places)


def _row(raw: bytes, found: dict[Path, Span], rows: dict[Path, list[bytes]], number: int) -> bytes:
    for place, span in sorted(found.items(), key=lambda item: item[1], reverse=True):
        raw = raw[: span.start] + rows[place][number] + raw[span.end :]
    start = raw.index(b"{") + 1
    return raw[:start] + b'"%s":%d,' % (INDEX.encode(), number) + raw[start:]


def _elements(raw: bytes, span: Span) -> list[bytes]:
    """The elements of an array that is whole."""
    depth, start, found = 0, span.start + 1, list[bytes]()
    for token in _TOKEN.finditer(raw, span.start, span.end):
        mark = token[0]
        depth += (mark in (b"{", b"[")) - (mark in _CLOSING)
        if (mark == b"," and depth == 1) or depth == 0:
            found.append(raw[start : token.start()].strip())
            start = token.end()
    return [] if found == [b""] else found
