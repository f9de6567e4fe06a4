"""Many lines of JSON at once, by Arrow's reader: accepts only what the line by line reading accepts, with equal values.

Here lives the fast path alone. `refold.landing.json_line` is its specification and comes before it; whatever this
module is not sure of it refuses, and leaves to that one. Arrow 26 reads laxer than the specification in these
ways, each of which is fenced here (measured, and held by a property test):

- it takes two objects on a line and objects over several lines: plain lines start with `{` and end with `}`, and there
  are as many rows as lines (`}` is never followed by `{` inside a value, so no object can span two plain lines);
- it takes NaN and Inf, bytes that are not UTF-8 in fields it skips, a byte order mark, and nesting without end;
- it stops at a NUL byte;
- it reads a decimal from a number or a string alike, lets it exceed its precision, wraps around 128 bits when it
  rescales (174 as decimal(38, 38)), and ends the process with a segmentation fault on the decimal `1e-999999999`:
  decimals are read as texts, or as number literals seen to be short enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from refold.canonical.encoding import compiled
from refold.landing import texts
from refold.landing.contract import ValueFault
from refold.landing.json_line import BLANK, DEPTH_MAX, Place
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
    """Where the lines of an object stand: line i (from 0) is `data[starts[i]:ends[i]]`, without its newline.

    `openings` counts the `{` and `[` of each line, `has_nul` says which hold a NUL byte, and `may_have_constants`
    whether `NaN` or `Inf` stands anywhere.
    """

    data: bytes
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    openings: npt.NDArray[np.int64]
    has_nul: npt.NDArray[np.bool_]
    may_have_constants: bool

    @classmethod
    def of(cls, data: bytes) -> LineIndex:
        """The lines between newlines; bytes after the last newline are a line, nothing after it is none.

        >>> len(LineIndex.of(b"{}\\n\\n{}").starts)
        3
        """
        array = np.frombuffer(data, np.uint8)
        lines = int(_newlines(array)) + bool(data and not data.endswith(b"\n"))
        ends, openings = np.full(lines, len(data), dtype=np.int64), np.zeros(lines, dtype=np.int64)
        has_nul = np.zeros(lines, dtype=np.bool_)
        constants = bool(_scan(array, _INTERESTING, ends, openings, has_nul))
        starts = np.concatenate([np.zeros(min(lines, 1), np.int64), ends[:-1] + 1])
        return cls(data, starts, ends, openings, has_nul, constants)

    def raw(self, index: int) -> bytes:
        """The exact bytes of a line, a carriage return at its end included."""
        return self.data[self.starts[index] : self.ends[index]]

    def blank(self) -> npt.NDArray[np.bool_]:
        """Which lines are nothing but white space, and therefore no records."""
        array = np.frombuffer(self.data, np.uint8)
        blank: npt.NDArray[np.bool_] = np.equal(self.starts, self.ends)
        heads = array[self.starts]
        for index in np.flatnonzero(~blank & np.isin(heads, np.frombuffer(BLANK, np.uint8))).tolist():
            blank[index] = not self.raw(index).strip(BLANK)
        return blank

    def plain(self, line_bytes_max: int) -> npt.NDArray[np.bool_]:
        """Which lines may be read many at once: `{…}`, not too long, not too deep, without NUL and NaN."""
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
"""The bytes that `_scan` looks at."""


@compiled
def _newlines(array):  # type: ignore[no-untyped-def]
    """How many there are, several at once, unlike `bytes.count`."""
    count = 0
    for c in array:
        count += c == 10
    return count


@compiled
def _scan(array, interesting, ends, openings, has_nul):  # type: ignore[no-untyped-def]
    """Fill in what is known of each line; whether `NaN` or `Inf` stands anywhere."""
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
        elif i + 2 < array.size:
            two = (array[i + 1], array[i + 2])
            constants = constants or (c == 78 and two == (97, 78)) or (c == 73 and two == (110, 102))
    return constants


Faults: TypeAlias = dict[int, dict[int, ValueFault]]


@dataclass(frozen=True)
class Block:
    """What was read of a block: one column per place, and the faults by row and place."""

    table: pa.Table
    faults: Faults


@dataclass(frozen=True)
class Refused:
    """A block that is not read at once; `row`, if known, is a hint which of its rows is the first that is to blame."""

    row: int | None = None


@dataclass
class BlockReader:
    """Reads blocks of plain lines; several threads may ask at once.

    It remembers how decimals were written last, so that a file is not guessed at anew with every block, and no more:
    what is read does not depend on it.
    """

    places: Sequence[Place]

    def __post_init__(self) -> None:
        decimals = [place for place in self.places if place.type and place.type.kind is ColumnKind.DECIMAL]
        self._decimals = {place.path: place.type for place in decimals if place.type}
        self._as_numbers: _Paths = frozenset()
        alike = all(self._decimals[place.path].arrow == place.type.arrow for place in decimals if place.type)
        self.usable = alike and _tree(self.places, {}) is not None

    def read(self, block: bytes, rows: int) -> Block | Refused:
        """The block, which has so many rows, at once."""
        try:
            block.decode()
        except UnicodeDecodeError as error:
            return Refused(block.count(b"\n", 0, error.start))
        parsed = self._parse(block)
        if isinstance(parsed, Refused):
            return parsed
        table, as_numbers = parsed
        if len(table) != rows:
            return Refused()
        faults: Faults = {}
        columns = [self._column(table, i, place, as_numbers, faults) for i, place in enumerate(self.places)]
        return Block(pa.table(columns, names=[str(index) for index in range(len(columns))]), faults)

    def _parse(self, block: bytes) -> tuple[pa.Table, _Paths] | Refused:
        """The block as Arrow reads it, trying the other way of writing a decimal where Arrow complains of the one.

        And which decimals were read as numbers.
        """
        turned: set[tuple[str, ...]] = set()
        as_numbers = self._as_numbers
        while True:
            try:
                table = self._parse_so(block, as_numbers)
            except pa.ArrowInvalid as error:
                match = _STYLE.search(str(error))
                path = tuple(match[1].split("/")) if match else ()
                if path in turned or not self._may_be_number(path):
                    row = _ROW.search(str(error))
                    return Refused(int(row[1]) if row else None)
                turned.add(path)
                as_numbers ^= {path}
            else:
                self._as_numbers = as_numbers
                return table if isinstance(table, Refused) else (table, as_numbers)

    def _may_be_number(self, path: tuple[str, ...]) -> bool:
        return path in self._decimals and (self._decimals[path].scale or 0) <= _NUMBER_SCALE_MAX

    def _parse_so(self, block: bytes, as_numbers: _Paths) -> pa.Table | Refused:
        if not as_numbers:
            return _read_json(block, _tree(self.places, {}))
        numbers = [place for place in self.places if place.path in as_numbers]
        # Arrow's decimals admit strings too; read as floats first, which no string passes, they are number literals.
        _read_json(block, _tree(numbers, dict.fromkeys(as_numbers, pa.float64())))
        if long := _LONG_NUMBER.search(block):
            return Refused(block.count(b"\n", 0, long.start()))
        table = _read_json(block, _tree(self.places, {path: self._decimals[path].arrow for path in as_numbers}))
        fits = all(_fits(_at(table, path)) for path in as_numbers)
        return table if fits else Refused()

    def _column(self, table: pa.Table, index: int, place: Place, as_numbers: _Paths, faults: Faults) -> pa.Array:
        values = _at(table, place.path)
        if place.type is None:
            return values.is_valid()
        if place.type.kind not in texts.TEXT_KINDS or place.path in as_numbers:
            return values
        values, found = texts.convert(values, place.type)
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


def _tree(places: Sequence[Place], instead: Mapping[tuple[str, ...], pa.DataType]) -> Tree | None:
    """The places as nested fields with the types they are read as; None where two places exclude each other."""
    tree: Tree = {}
    for place in places:
        kind = instead.get(place.path, _read_as(place.type)) if place.type else None
        node = tree
        for key in place.path if kind is None else place.path[:-1]:
            inner = node.setdefault(key, {})
            if not isinstance(inner, dict):
                return None
            node = inner
        if kind is not None and node.setdefault(place.path[-1], kind) != kind:
            return None
    return tree


def _read_as(column: ColumnType) -> pa.DataType:
    return column.arrow if column.kind in (ColumnKind.INT64, ColumnKind.BOOLEAN) else pa.string()


def _fields(tree: Tree) -> list[pa.Field]:
    return [pa.field(key, pa.struct(_fields(kind)) if isinstance(kind, dict) else kind) for key, kind in tree.items()]


def _at(table: pa.Table, path: tuple[str, ...]) -> pa.Array:
    """The values at a path, null where any object on the way is null."""
    values = table.column(table.schema.get_field_index(path[0])).combine_chunks()
    for key in path[1:]:
        values = pc.struct_field(values, values.type.get_field_index(key))
    return values


def _fits(values: pa.Array) -> bool:
    """Whether decimals keep their precision, which Arrow's reader does not see to."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
