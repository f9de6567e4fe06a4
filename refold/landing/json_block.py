"""The lines of an object, and many of them read at once by Arrow, with the results of reading them one by one.

`refold.landing.json_line` comes before this module and is the specification of a record. What this module cannot be
sure of it refuses, and leaves to that one. Arrow 26 is laxer than the specification in these ways, each of which is
prevented here and covered by a property test:

- it reads objects that span lines: plain lines start with `{` and end with `}`, and there are as many rows as lines
  (`}` is never followed by `{` inside a value, so an object cannot span two plain lines);
- it accepts NaN and Inf, bytes that are not UTF-8 in fields it skips, a byte order mark, and any depth of nesting;
- it stops at a NUL byte;
- it reads a decimal from a number or a string alike, lets it exceed its precision, overflows 128 bits when it rescales
  (174 as decimal(38, 38)), and crashes on the decimal `1e-999999999`: decimals are read as texts, or as number literals
  that are known to be short enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from refold.base.reading import Encoding
from refold.canonical.encoding import called_by_compiled, compiled
from refold.landing import texts
from refold.landing.contract import ValueFault
from refold.landing.json_line import BLANK, BYTE_ORDER_MARK, DEPTH_MAX, Field
from refold.types import ColumnKind, ColumnType

_CONSTANT = re.compile(rb"[:\[,\s]-?(?:NaN|Inf(?:inity)?)\s*[,}\]]")
_LONG_NUMBER = re.compile(rb"[:\[,\s]-?(?:[0-9]{19}|[0-9]+\.[0-9]{19}|[0-9]+(?:\.[0-9]+)?[eE])")
_NUMBER_SCALE_MAX = 20  # the 18 whole digits that _LONG_NUMBER lets through, times 10**20, still fit 128 bits
_STYLE = re.compile(r"Column\(/(.+)\) changed from (?:string to number|number to string)")

_ROW = re.compile(r"in row ([0-9]+)\b")

Tree: TypeAlias = "dict[str, Tree | pa.DataType]"
_Paths: TypeAlias = frozenset[tuple[str, ...]]


@dataclass(frozen=True)
class LineIndex:
    """The lines of an object: line i (from 0) is `data[starts[i]:ends[i]]`, without its newline.

    JSON objects that follow one another on a line without a blank between them (`}{`, or a carriage return alone) are
    lines of their own, as if each began on a new line.

    Attributes:
        data: the bytes of the object.
        starts, ends: where lines start and end.
        openings: how many `{` and `[` each line has.
        has_nul: which lines have a NUL byte.
        may_have_constants: whether `NaN` or `Inf` occurs anywhere.
    """

    data: bytes
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    openings: npt.NDArray[np.int64]
    has_nul: npt.NDArray[np.bool_]
    may_have_constants: bool

    @classmethod
    def of(cls, data: bytes) -> LineIndex:
        """The lines of some bytes; those after the last newline are a line, if there are any.

        >>> len(LineIndex.of(b"{}\\n\\n{}{}").starts)
        4
        """
        array = np.frombuffer(data, np.uint8)
        lines = int(_newlines(array)) + bool(data and not data.endswith(b"\n"))
        ends, openings = np.full(lines, len(data), dtype=np.int64), np.zeros(lines, dtype=np.int64)
        has_nul, crowded = np.zeros(lines, dtype=np.bool_), np.zeros(lines, dtype=np.bool_)
        constants = bool(_scan(array, _INTERESTING, ends, openings, has_nul, crowded))
        starts = np.concatenate([np.zeros(min(lines, 1), np.int64), ends[:-1] + 1])
        if crowded.any():
            parts = np.empty((4, lines + int(openings[crowded].sum())), dtype=np.int64)
            parts = parts[:, : _part(array, starts, ends, openings, crowded, parts)]
            starts, ends, openings, has_nul = *parts[:3], has_nul[parts[3]]
        return cls(data, starts, ends, openings, has_nul, constants)

    def __len__(self) -> int:
        return len(self.starts)

    def part(self, low: int, high: int) -> LineIndex:
        """The lines from one up to another, with all bytes from the first up to what follows the last.

        >>> LineIndex.of(b"a\\nb\\nc").part(1, 2).data
        b'b\\n'
        """
        if low == 0 and high >= len(self):
            return self
        start = int(self.starts[low])
        end = int(self.starts[high]) if high < len(self) else len(self.data)
        mine = slice(low, high)
        places = (self.starts[mine] - start, self.ends[mine] - start, self.openings[mine], self.has_nul[mine])
        return LineIndex(self.data[start:end], *places, self.may_have_constants)

    def raw(self, index: int) -> bytes:
        """The exact bytes of a line, a carriage return at its end included."""
        return self.data[self.starts[index] : self.ends[index]]

    def blank(self) -> npt.NDArray[np.bool_]:
        """Which lines have nothing but blanks, perhaps after a byte order mark, and are therefore not records."""
        array = np.frombuffer(self.data, np.uint8)
        blank: npt.NDArray[np.bool_] = np.equal(self.starts, self.ends)
        heads = array[self.starts]
        first = np.frombuffer(BLANK + BYTE_ORDER_MARK[:1], np.uint8)
        for index in np.flatnonzero(~blank & np.isin(heads, first)).tolist():
            blank[index] = not self.raw(index).removeprefix(BYTE_ORDER_MARK).strip(BLANK)
        return blank

    def line_at(self, place: int) -> int:
        """The line (from 0) of a byte."""
        return int(np.searchsorted(self.ends, place, side="right"))

    def plain(self, line_bytes_max: int) -> npt.NDArray[np.bool_]:
        """Which lines can be read many at once: `{…}`, not too long, not too deep, without NUL and NaN."""
        if not len(self.starts):
            return np.zeros(0, np.bool_)
        array = np.frombuffer(self.data, np.uint8)
        last = np.maximum(self.ends - 1, self.starts)
        last = np.where((array[last] == ord("\r")) & (last > self.starts), last - 1, last)
        plain: npt.NDArray[np.bool_] = (array[self.starts] == ord("{")) & (array[last] == ord("}"))
        plain &= (self.openings <= DEPTH_MAX) & (self.ends - self.starts <= line_bytes_max) & ~self.has_nul
        odd = [match.start() for match in _CONSTANT.finditer(self.data)] if self.may_have_constants else []
        plain[np.searchsorted(self.ends, odd)] = False
        return plain


_INTERESTING = np.isin(np.arange(256), np.frombuffer(b"\n{[NI\0", np.uint8))
"""The bytes that `_scan` stops at."""


def lines_at_most(data: bytes) -> int:
    """How many lines some bytes have at most, quickly: one for each newline and each `{` right after `}` or `\\r`.

    >>> lines_at_most(b"{}\\n{}{}")
    3
    """
    return 1 + int(_parts(np.frombuffer(data, np.uint8)))


@compiled
def _parts(array):  # type: ignore[no-untyped-def]
    count = 0
    for i in range(1, array.size):
        c, before = array[i], array[i - 1]
        count += (c == 10) | ((c == 123) & ((before == 125) | (before == 13)))
    return count


@compiled
def _newlines(array):  # type: ignore[no-untyped-def]
    """How many newlines there are; faster than `bytes.count`."""
    count = 0
    for c in array:
        count += c == 10
    return count


@compiled
def _scan(array, interesting, ends, openings, has_nul, crowded):  # type: ignore[no-untyped-def]
    """Fill in what is known of each line, and whether it may have several objects; whether `NaN` or `Inf` occurs."""
    line, constants = 0, False
    for i in range(array.size):
        c = array[i]
        if not interesting[c]:
            continue
        if c == 10:
            ends[line] = i
            line += 1
        elif c == 0:
            has_nul[line] = True
        elif c in (123, 91):
            openings[line] += 1
            if c == 123 and i > 0 and (array[i - 1] == 125 or array[i - 1] == 13):
                crowded[line] = True
        elif i + 2 < array.size:
            two = (array[i + 1], array[i + 2])
            constants = constants or (c == 78 and two == (97, 78)) or (c == 73 and two == (110, 102))
    return constants


@compiled
def _part(array, starts, ends, openings, crowded, parts):  # type: ignore[no-untyped-def]
    """Fill in start, end, openings and line of every line once crowded ones are parted; how many there are then."""
    count = 0
    for line in range(starts.size):
        if crowded[line]:
            count = _part_line(array, starts[line], ends[line], line, count, parts)
        else:
            parts[0, count], parts[1, count], parts[2, count] = starts[line], ends[line], openings[line]
            parts[3, count] = line
            count += 1
    return count


@called_by_compiled
def _part_line(array, start, end, line, count, parts):  # type: ignore[no-untyped-def]
    """Part one line before each `{` that follows a whole object; brackets in strings do not count."""
    depth, in_string, whole_ends_at = 0, False, -1
    parts[0, count], parts[2, count], parts[3, count] = start, 0, line
    at = start + 3 if end - start > 2 and array[start] == 0xEF else start
    while at < end and array[at] in (32, 9, 13):
        at += 1
    end_of_objects = end if at < end and array[at] == 123 else start
    while at < end_of_objects:
        c = array[at]
        if in_string:
            at += c == 92
            in_string = c != 34
        elif c == 34:
            in_string, whole_ends_at = True, -1
        elif c in (123, 91):
            if c == 123 and whole_ends_at >= 0:
                parts[1, count] = whole_ends_at
                count += 1
                parts[0, count], parts[2, count], parts[3, count] = at, 0, line
            depth, whole_ends_at = depth + 1, -1
            parts[2, count] += 1
        elif c in (125, 93):
            depth -= 1
            whole_ends_at = at + 1 if c == 125 and depth == 0 else -1
        elif c != 13:
            whole_ends_at = -1
        at += 1
    parts[1, count] = end
    return count + 1


Faults: TypeAlias = dict[int, dict[int, ValueFault]]


@dataclass(frozen=True)
class Block:
    """What was read of a block: one column per field, and the faults by row and field."""

    table: pa.Table
    faults: Faults


@dataclass(frozen=True)
class Refused:
    """A block that cannot be read at once; `row`, or the byte at `place`, is a hint where the cause is, if known."""

    row: int | None = None
    place: int | None = None


@dataclass
class BlockReader:
    """Reads blocks of plain lines; several threads may use it at once.

    It remembers how numbers that may be texts were written last, to save attempts; the result does not depend on that.
    """

    fields: Sequence[Field]

    def __post_init__(self) -> None:
        either = [(field.path, kind) for field in self.fields if field.type and (kind := _number(field.type))]
        self._numbers = dict(either)
        self._as_numbers: _Paths = frozenset()
        alike = all(self._numbers[path] == kind for path, kind in either)
        self.usable = alike and _tree(self.fields, {}) is not None

    def read(self, block: bytes, rows: int) -> Block | Refused:
        """A block of `rows` lines at once."""
        try:
            block.decode()
        except UnicodeDecodeError as error:
            return Refused(place=error.start)
        parsed = self._parse(block)
        if isinstance(parsed, Refused):
            return parsed
        table, as_numbers = parsed
        if len(table) != rows:
            return Refused()
        faults: Faults = {}
        columns = [self._column(table, i, field, as_numbers, faults) for i, field in enumerate(self.fields)]
        return Block(pa.table(columns, names=[str(index) for index in range(len(columns))]), faults)

    def _parse(self, block: bytes) -> tuple[pa.Table, _Paths] | Refused:
        """The block as Arrow reads it, and which texts were read as numbers.

        Where Arrow refuses one way of writing a number, the other is tried.
        """
        turned: set[tuple[str, ...]] = set()
        as_numbers = self._as_numbers
        while True:
            try:
                table = self._parse_so(block, as_numbers)
            except pa.ArrowInvalid as error:
                match = _STYLE.search(str(error))
                path = tuple(match[1].split("/")) if match else ()
                if path in turned or path not in self._numbers:
                    row = _ROW.search(str(error))
                    return Refused(int(row[1]) if row else None)
                turned.add(path)
                as_numbers ^= {path}
            else:
                self._as_numbers = as_numbers
                return table if isinstance(table, Refused) else (table, as_numbers)

    def _parse_so(self, block: bytes, as_numbers: _Paths) -> pa.Table | Refused:
        if not as_numbers:
            return _read_json(block, _tree(self.fields, {}))
        numbers = [field for field in self.fields if field.path in as_numbers]
        # Arrow reads decimals from strings too, but not floats: what can be read as a float is a number literal.
        _read_json(block, _tree(numbers, dict.fromkeys(as_numbers, pa.float64())))
        if long := _LONG_NUMBER.search(block):
            return Refused(place=long.start())
        table = _read_json(block, _tree(self.fields, {path: self._numbers[path] for path in as_numbers}))
        fits = all(_fits(_at(table, path)) for path in as_numbers)
        return table if fits else Refused()

    def _column(self, table: pa.Table, index: int, field: Field, as_numbers: _Paths, faults: Faults) -> pa.Array:
        values = _at(table, field.path)
        if field.type is None:
            return values.is_valid()
        if field.path in as_numbers and field.type.reading.true:
            values = values.cast(pa.string())
        elif field.path in as_numbers or not texts.is_converted(field.type):
            return values
        values, found = texts.convert(values, field.type)
        for row, fault in found.items():
            faults.setdefault(row, {})[index] = fault
        return values


def _read_json(block: bytes, tree: Tree | None) -> pa.Table:
    return pj.read_json(
        pa.BufferReader(block),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
        parse_options=pj.ParseOptions(
            explicit_schema=pa.schema(_fields(tree or {})),
            newlines_in_values=False,
            unexpected_field_behavior="ignore",
        ),
    )


def _tree(fields: Sequence[Field], instead: Mapping[tuple[str, ...], pa.DataType]) -> Tree | None:
    """The fields as nested fields with the types they are read as; None if two fields exclude each other."""
    tree: Tree = {}
    for field in fields:
        kind = instead.get(field.path, _read_as(field.type)) if field.type else None
        node = tree
        for key in field.path if kind is None else field.path[:-1]:
            inner = node.setdefault(key, {})
            if not isinstance(inner, dict):
                return None
            node = inner
        if kind is not None and node.setdefault(field.path[-1], kind) != kind:
            return None
    return tree


def _number(column: ColumnType) -> pa.DataType | None:
    """The type as which values that are texts elsewhere are read where they are numbers; None if they may not be."""
    if column.reading.true or column.reading.encoding is Encoding.QUOTED:
        return pa.int64()
    is_plain = column.kind is ColumnKind.DECIMAL and column.reading.encoding is None
    return column.arrow if is_plain and (column.scale or 0) <= _NUMBER_SCALE_MAX else None


def _read_as(column: ColumnType) -> pa.DataType:
    if column.reading.epoch is not None:
        return pa.int64()
    if column.reading.encoding is Encoding.SCALED:
        return pa.struct([("scale", pa.int64()), ("value", pa.string())])
    if column.reading.true or column.reading.encoding is not None:
        return pa.string()
    return column.arrow if column.kind in (ColumnKind.INT64, ColumnKind.BOOLEAN) else pa.string()


def _fields(tree: Tree) -> list[pa.Field]:
    return [pa.field(key, pa.struct(_fields(kind)) if isinstance(kind, dict) else kind) for key, kind in tree.items()]


def _at(table: pa.Table, path: tuple[str, ...]) -> pa.Array:
    """The values at a path, null where any object on the way is null."""
    values = texts.one_chunk(table.column(table.schema.get_field_index(path[0])))
    for key in path[1:]:
        values = pc.struct_field(values, values.type.get_field_index(key))
    return values


def _fits(values: pa.Array) -> bool:
    """Whether decimals keep their precision, which Arrow's reader does not check."""
    with suppress(pa.ArrowInvalid):
        return values.validate(full=True) is None
    return False
