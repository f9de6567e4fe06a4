"""One line of JSON Lines, read strictly: the specification that the fast path by columns must equal.

This module defines what a record is and how the values of declared fields are taken from it. The fast path is
`refold.landing.json_block`, which also finds lines; their order is `refold.landing.json_records`. Types are never
guessed: an integer is an integer literal, a text is a string.

- A line is UTF-8, at most `line_bytes_max` long, nested at most `DEPTH_MAX` deep. It may start with a byte order mark,
  as files of Windows do, also after they were concatenated.
- It is one JSON object and nothing else; NaN, Infinity, raw control characters and escapes that are half a surrogate
  pair are refused anywhere in it. Objects that follow one another on a line (`}{`) are lines of their own.
- A key may appear once in an object if it is, or leads to, a field that is read. Other fields may be any JSON and may
  repeat: what is not declared is not checked.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from refold.base.reading import Encoding
from refold.landing import texts
from refold.landing.contract import FOUND_CHARS_MAX, Finding, ValueFault, expected, shorten
from refold.landing.numerals import read_scaled
from refold.types import INT64_MAX, INT64_MIN, ColumnKind, ColumnType

DEPTH_MAX = 64
"""Deepest nesting of objects and arrays in one record."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLANK = b" \t\r"

JSON_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string of a JSON text, which may lack its end."""
_BRACKETS = re.compile(rb"[\[{}\]]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_INT64_DIGITS = 19
_NO_STRING = frozenset({"int64", "boolean", "decimal"})


@dataclass(frozen=True)
class Field:
    """A field of a record that is read: the keys that lead to it, and its expected type.

    The value of a field without a type is whether there is an object.
    """

    path: tuple[str, ...]
    type: ColumnType | None

    @property
    def dotted(self) -> str:
        """The path as people write it."""
        return ".".join(self.path)


class Record(NamedTuple):
    """The values of one line, by field, and the faults; a faulty field has no value."""

    values: list[object]
    faults: dict[int, ValueFault]


class _Integer(str):
    """An integer literal, kept as written."""

    __slots__ = ()


class _Fraction(str):
    """A number literal with a point or an exponent, kept as written."""

    __slots__ = ()


class _Repeating(dict[str, object]):
    """An object in which keys repeat."""

    repeated: frozenset[str] = frozenset()


def read_line(raw: bytes, fields: Sequence[Field], line_bytes_max: int) -> Record | Finding:
    """The values at `fields` in one line that is not blank, or why the line is not a record."""
    found = _parse(raw, line_bytes_max)
    if isinstance(found, Finding):
        return found
    values: list[object] = []
    faults: dict[int, ValueFault] = {}
    for index, field in enumerate(fields):
        value = _value(found, field)
        if isinstance(value, ValueFault):
            faults[index] = value
        values.append(None if isinstance(value, ValueFault) else value)
    return Record(values, faults)


def _refused(raw: bytes, line_bytes_max: int) -> Finding | None:
    """Why a line must not be parsed."""
    if len(raw) > line_bytes_max:
        return Finding("line-too-long", f"Expected at most {line_bytes_max} bytes on a line, found {len(raw)}.")
    if _deeper_than(raw, DEPTH_MAX):
        return Finding("too-deep", f"Expected at most {DEPTH_MAX} levels of nesting, found more.")
    return None


def _parse(raw: bytes, line_bytes_max: int) -> dict[str, object] | Finding:
    refused = _refused(raw, line_bytes_max)
    if refused is not None:
        return refused
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        return Finding("not-utf8", f"Expected UTF-8, found the byte 0x{byte:02x} at position {error.start + 1}.")
    has_mark = raw.startswith(BYTE_ORDER_MARK)
    try:
        value = _DECODER.decode(text[has_mark:])
    except json.JSONDecodeError as error:
        at = error.pos + has_mark + 1
        return Finding("not-json", f"Expected one JSON object, found a syntax error at character {at}.")
    except _ConstantError as error:
        return Finding("not-json", f"Expected one JSON object, found {error} in it, which is no JSON.")
    if "\\u" in text and _half_pair(text):
        return Finding("lone-surrogate", "Expected text, found an escape that is half of a surrogate pair.")
    return value if isinstance(value, dict) else Finding("not-an-object", f"Expected an object, found {_shown(value)}.")


def _value(record: dict[str, object], field: Field) -> object:
    """The value of a field, None if there is none, or the fault on the way to it."""
    node: object = record
    for depth, key in enumerate(field.path):
        if not isinstance(node, dict):
            return ValueFault("wrong-type", f"an object at {'.'.join(field.path[:depth])}", _shown(node))
        if isinstance(node, _Repeating) and key in node.repeated:
            return ValueFault("duplicate-key", f"{'.'.join(field.path[: depth + 1])} once", "it more than once")
        node = node.get(key)
        if node is None:
            return None if field.type is not None else False
    if field.type is None:
        return (
            True if isinstance(node, dict) else ValueFault("wrong-type", f"an object at {field.dotted}", _shown(node))
        )
    return _typed(node, field.type)


def _typed(node: object, column: ColumnType) -> object:
    kind, reading = column.kind, column.reading
    if kind is ColumnKind.INT64 and isinstance(node, _Integer):
        return _int64(node, column)
    if reading.epoch or reading.encoding or reading.true:
        return _by_reading(node, column)
    if kind is ColumnKind.DECIMAL and isinstance(node, str):
        return texts.read(str(node), column)
    if kind is ColumnKind.BOOLEAN and isinstance(node, bool):
        return node
    if kind not in _NO_STRING and type(node) is str:  # number literals are texts too, of types of their own
        return texts.read(node, column) if texts.is_converted(column) else node
    return _counters(node, column) if kind is ColumnKind.VERSION_VECTOR else _wrong(node, column)


def _counters(node: object, column: ColumnType) -> object:
    """A version vector that is not written as a text: an object of counters, by way of its text."""
    if not isinstance(node, dict):
        return _wrong(node, column)
    if isinstance(node, _Repeating) or not all(isinstance(count, _Integer) for count in node.values()):
        return ValueFault("not-a-version", expected(column), "another object")
    members = (f"{json.dumps(name, ensure_ascii=False)}:{count}" for name, count in node.items())
    return texts.read(f"{{{','.join(members)}}}", column)


def _by_reading(node: object, column: ColumnType) -> object:
    """A value that is written as its column declares."""
    if column.reading.encoding is Encoding.SCALED:
        return _scaled(node, column)
    if column.reading.epoch:
        number = _int64(node, column) if isinstance(node, _Integer) else _wrong(node, column)
        return texts.read_epoch(number, column) if isinstance(number, int) else number
    if column.reading.true and isinstance(node, _Integer):
        number = _int64(node, column)
        return texts.read(str(number), column) if isinstance(number, int) else number
    return texts.read(node, column) if type(node) is str else _wrong(node, column)


def _scaled(node: object, column: ColumnType) -> object:
    if not isinstance(node, dict):
        return _wrong(node, column)
    if isinstance(node, _Repeating) and node.repeated & {"scale", "value"}:
        return ValueFault("duplicate-key", "scale and value once", "one of them more than once")
    scale = node.get("scale")
    if isinstance(scale, _Integer):
        scale = _int64(scale, column)
    return scale if isinstance(scale, ValueFault) else read_scaled(scale, node.get("value"), column)


def _wrong(node: object, column: ColumnType) -> ValueFault:
    return ValueFault("wrong-type", expected(column), _shown(node))


def _int64(literal: _Integer, column: ColumnType) -> int | ValueFault:
    # Python refuses to read integers of some thousand digits, and takes quadratic time below that.
    if len(literal) <= _INT64_DIGITS + 1 and INT64_MIN <= int(literal) <= INT64_MAX:
        return int(literal)
    return ValueFault("out-of-range", expected(column), _shown(literal))


def _shown(node: object) -> str:
    if isinstance(node, _Integer | _Fraction):
        return node if len(node) <= FOUND_CHARS_MAX else f"{node[: FOUND_CHARS_MAX - 1]}…"
    if isinstance(node, bool):
        return "true" if node else "false"
    if isinstance(node, dict | list):
        return "an object" if isinstance(node, dict) else "an array"
    return shorten(node)


def _deeper_than(raw: bytes, depth_max: int) -> bool:
    """Whether brackets outside strings nest deeper; without recursion, and before a parser reads the line."""
    if raw.count(b"{") + raw.count(b"[") <= depth_max:
        return False
    brackets = _BRACKETS.findall(JSON_STRING.sub(b"", raw))
    steps = (1 if bracket in b"[{" else -1 for bracket in brackets)
    return any(depth > depth_max for depth in itertools.accumulate(steps))


def _half_pair(text: str) -> bool:
    """Whether an escape is half of a surrogate pair; looks at the text, so that repeated keys cannot hide one."""
    high_ends_at = -1
    for match in _ESCAPE.finditer(text):
        code = int(match[1], 16) if match[1] else 0
        paired = high_ends_at == match.start() and 0xDC00 <= code <= 0xDFFF
        if (high_ends_at >= 0 or 0xDC00 <= code <= 0xDFFF) and not paired:
            return True
        high_ends_at = match.end() if 0xD800 <= code <= 0xDBFF else -1
    return high_ends_at >= 0


class _ConstantError(ValueError):
    """NaN or an infinity."""


def _refuse_constant(name: str) -> object:
    raise _ConstantError(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    repeating = _Repeating(record)
    seen: set[str] = set()
    repeating.repeated = frozenset(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return repeating


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_Integer,
    parse_float=_Fraction,
    parse_constant=_refuse_constant,
    strict=True,
)
