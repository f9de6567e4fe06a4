"""CSV: rows of texts, read strictly; which text is which value, and which is null, is declared.

Python's `csv` module in its strict form decides what a record is. Where quotes hold whole fields without newlines,
Arrow splits many records at once, to the same result. Comes after `inflate` (plain bytes) and `texts` (values).

- The first record names the fields, unless the declaration does. A declared column that no field has is null; a name
  that two fields have is refused where a column needs it.
- A record with another number of fields is bad (`ragged`), as is one whose quotes do not match (`not-csv`). Empty lines
  are no records.
- A bad record is kept with the record of names before it, so that a retry needs nothing else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from refold.base.reading import Encoding
from refold.canonical.encoding import compiled
from refold.errors import DeclarationError, UnreadableObject
from refold.landing import texts
from refold.landing.bounds import DEFAULT_BOUNDS, LandingBounds
from refold.landing.contract import ValueFault, refuse_ratio, settle
from refold.landing.decoder import BadRecord, ByPieces, Decoded, joined
from refold.landing.inflate import COMPRESSIONS, plain_pieces
from refold.landing.json_line import BYTE_ORDER_MARK
from refold.types import ColumnKind, ColumnType, Schema

PIECE_BYTES = 1 << 23
"""About how many bytes are split together; more where a record is longer."""

_PLAIN = (".csv", ".tsv")
_RETRY_SUFFIX = ".retry.csv"


@dataclass(frozen=True)
class Csv(ByPieces):
    """Decodes CSV.

    Attributes:
        paths: for a column whose field has another name, that name: `{"id": "Id"}`. Kept as `places`.
        names: the names of the fields in order, for objects that do not begin with them.
        delimiter, quote: one ASCII character each.
        null: the texts that are null, quoted or not; by default the empty one. `()` for none.
        suffixes: the endings of names of objects; a retry has one of its own.

    Raises DeclarationError where these contradict each other.

    >>> from refold.types import int64, text
    >>> columns = {"id": int64(), "name": text(null=True)}
    >>> Csv({"id": "Id"}).decode("a.csv", b'Id,name\\n7,"a, b"\\n8,\\n', columns).rows.to_pylist()
    [{'id': 7, 'name': 'a, b'}, {'id': 8, 'name': None}]
    """

    paths: InitVar[Mapping[str, str]] = field(default={})
    names: tuple[str, ...] = ()
    delimiter: str = ","
    quote: str = '"'
    null: tuple[str, ...] = ("",)
    suffixes: tuple[str, ...] = (
        _RETRY_SUFFIX,
        *(plain + compressed for plain in _PLAIN for compressed in COMPRESSIONS),
    )
    unit: str = field(default="record", init=False)
    places: tuple[tuple[str, str], ...] = field(init=False, default=())

    def __post_init__(self, paths: Mapping[str, str]) -> None:
        object.__setattr__(self, "places", tuple(paths.items()))
        one = (each for each in ("delimiter", "quote") if not _is_ascii(getattr(self, each)))
        faults = [f"{each} is {getattr(self, each)!r}; expected one ASCII character" for each in one]
        faults += ["delimiter and quote are the same"] if self.delimiter == self.quote else []
        faults += ["names has a name twice"] if len(set(self.names)) < len(self.names) else []
        if isinstance(self.null, str) or isinstance(self.names, str):
            faults.append("expected names and null as tuples of texts, found a text")
        if faults:
            raise DeclarationError("Csv", faults)
        if self.suffixes[0] != _RETRY_SUFFIX:
            object.__setattr__(self, "suffixes", (_RETRY_SUFFIX, *self.suffixes))

    def encode(self, raws: Sequence[bytes]) -> bytes:
        """Records, each after its record of names where the declaration has none, and after its length in bytes."""
        return b"".join(b"%d\n%b" % (len(raw), raw) for raw in raws)

    def pieces(
        self,
        name: str,
        data: Iterable[bytes],
        columns: Schema,
        key: Sequence[str] = (),
        bounds: LandingBounds = DEFAULT_BOUNDS,
        *,
        piece_bytes: int = PIECE_BYTES,
        fast: bool = True,
    ) -> Iterator[Decoded]:
        """Decode one object piece by piece; see `refold.landing.decoder.PieceDecoder`.

        `fast=False` splits every piece by `csv`, to the same result.
        """
        as_texts = {column: _as_text(column, kind) for column, kind in columns.items()}
        refuse_ratio(columns)
        plain = plain_pieces(name, data, bounds)
        sections = _sections(name, b"".join(plain)) if name.endswith(_RETRY_SUFFIX) else [plain]
        count = 0
        for section in sections:
            reader = _Reader(self, name, as_texts, columns, fast)
            for piece in _whole_records(name, section, self.quote.encode(), bounds, piece_bytes):
                decoded = reader.read(piece)
                yield replace(decoded, plain_bytes=len(piece)).after(count + reader.before)
                if count + reader.count > bounds.object_records_max:
                    raise bounds.too_large(name, "more", "object_records_max", "records")
            count += reader.count


def _is_ascii(text: str) -> bool:
    return len(text) == 1 and text.isascii() and text not in "\r\n\0"


def _as_text(name: str, column: ColumnType) -> ColumnType:
    """A column as CSV has it: every value is a text."""
    if column.reading.encoding is Encoding.SCALED:
        raise DeclarationError("Csv", [f"column {name!r} is an object of scale and value, which CSV does not have"])
    if column.kind is ColumnKind.INT64:
        return replace(column, reading=replace(column.reading, encoding=Encoding.QUOTED))
    if column.kind is ColumnKind.BOOLEAN and not column.reading.true:
        return replace(column, reading=replace(column.reading, true=("true",), false=("false",)))
    return column


def _sections(name: str, data: bytes) -> Iterator[Iterable[bytes]]:
    """What `Csv.encode` put together. Raises UnreadableObject."""
    while data:
        length, _, data = data.partition(b"\n")
        if not length.isdigit() or int(length) > len(data):
            raise UnreadableObject(
                f"Expected a record of {length[:20]!r} bytes in the object {name}, found {len(data)}.",
                remedy="Names that end in `.retry.csv` are those of retries; name other objects otherwise.",
            )
        yield [data[: int(length)]]
        data = data[int(length) :]


def _whole_records(
    name: str, plain: Iterable[bytes], quote: bytes, bounds: LandingBounds, piece_bytes: int
) -> Iterator[bytes]:
    """Pieces that end with a record: after a newline up to which quotes are even in number."""
    held, size = list[bytes](), 0
    for piece in plain:
        held.append(piece)
        size += len(piece)
        if size < piece_bytes:
            continue
        data = b"".join(held)
        end = _end_of_records(data, quote)
        if end:
            yield data[:end]
        elif size > bounds.record_bytes_max:
            raise bounds.too_large(name, "more in one", "record_bytes_max", "bytes in each record")
        held, size = [data[end:]], size - end
    if size:
        yield b"".join(held)


def _end_of_records(data: bytes, quote: bytes) -> int:
    """Where the last whole record ends, after a newline that has an even number of quotes before it; 0 if nowhere."""
    end = data.rfind(b"\n") + 1
    if data.count(quote, 0, end) % 2 == 0:
        return end
    array = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(array == ord("\n"))
    outside = newlines[np.searchsorted(np.flatnonzero(array == ord(quote)), newlines) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


class _Field(NamedTuple):
    """Where a column is among the fields; None if nowhere."""

    column: str
    place: int | None


@dataclass
class _Split:
    """Records as columns of texts: the texts of each needed field, their numbers (from 1), and what is no record."""

    fields: Mapping[int, pa.Array]
    numbers: npt.NDArray[np.int64]
    raw: Callable[[int], bytes]
    bad: list[BadRecord]
    records: int


class _Reader:
    """Reads the records of one object, piece by piece; the first piece begins with the names."""

    def __init__(self, form: Csv, name: str, as_texts: Schema, columns: Schema, fast: bool) -> None:
        self._form, self._name, self._as_texts, self._columns, self._fast = form, name, as_texts, columns, fast
        self._header = b""
        self._names: Sequence[str] | None = form.names or None
        self._fields: list[_Field] = []
        self.count = self.before = 0
        if self._names is not None:
            self._fields = self._found(self._names)

    def read(self, piece: bytes) -> Decoded:
        """The rows of a piece, numbered from 1; `before` is how many records came before it."""
        self.before = self.count
        if self._names is None:
            piece = self._take_names(piece)
        if self._names is None:  # nothing but empty lines
            return joined(self._columns, [])
        split = (self._split_fast(piece) if self._fast else None) or self._split(piece)
        self.count += split.records
        known: dict[str, dict[int, ValueFault]] = {}
        table = {}
        for column, index in self._fields:
            values = pa.nulls(len(split.numbers), pa.string()) if index is None else split.fields[index]
            table[column], known[column] = self._values(values, self._as_texts[column])
        return settle(pa.table(table), self._columns, split.numbers, split.raw, bad=split.bad, known=known)

    def _values(self, values: pa.Array, column: ColumnType) -> tuple[pa.Array, dict[int, ValueFault]]:
        if self._form.null:
            values = pc.if_else(pc.is_in(values, pa.array(self._form.null)), pa.scalar(None, pa.string()), values)
        return texts.convert(values, column) if texts.is_converted(column) else (values, {})

    def _take_names(self, piece: bytes) -> bytes:
        rest = io.BytesIO(piece.removeprefix(BYTE_ORDER_MARK))
        reader = self._reader(line.decode("utf-8", "surrogateescape") for line in rest)
        try:
            names: list[str] = next(filter(None, reader), [])
        except csv.Error as error:
            raise self._unreadable(f"a first record that is no CSV ({error})") from error
        self._header = rest.getvalue()[: rest.tell()]
        if names:
            self._names, self._fields = names, self._found(names)
        return rest.read()

    def _found(self, names: Sequence[str]) -> list[_Field]:
        wanted = {column: dict(self._form.places).get(column, column) for column in self._columns}
        twice = sorted({name for name in wanted.values() if list(names).count(name) > 1})
        missing = sorted(
            f"{name} (column {column})"
            for column, name in wanted.items()
            if name not in names and not self._columns[column].null and self._columns[column].reading.default is None
        )
        if twice or missing:
            what = [f"the field {name!r} twice" for name in twice] + [f"no field {name}" for name in missing]
            raise self._unreadable(f"{', '.join(what)} among {', '.join(names[:20])}")
        return [_Field(column, list(names).index(n) if n in names else None) for column, n in wanted.items()]

    def _unreadable(self, found: str) -> UnreadableObject:
        return UnreadableObject(
            f"Expected fields for the declared columns in the object {self._name}, found {found}.",
            remedy="Declare its names, delimiter and columns as the object has them; nothing of it was sealed.",
        )

    def _reader(self, lines: Iterable[str]) -> Any:  # a csv.reader, whose type has no name
        csv.field_size_limit(max(csv.field_size_limit(), 1 << 30))
        form = self._form
        return csv.reader(lines, strict=True, delimiter=form.delimiter, quotechar=form.quote, doublequote=True)

    def _split_fast(self, piece: bytes) -> _Split | None:
        """By Arrow, many records at once; None where it might split otherwise than `csv`."""
        assert self._names is not None
        wanted = sorted({index for _, index in self._fields if index is not None})
        quote, delimiter = (ord(each) for each in (self._form.quote, self._form.delimiter))
        records = int(_regular(np.frombuffer(piece, np.uint8), quote, delimiter)) if wanted else -1
        if records < 0:
            return None
        try:
            piece.decode()
            table = pacsv.read_csv(
                pa.BufferReader(piece),
                pacsv.ReadOptions(
                    column_names=[str(n) for n in range(len(self._names))], block_size=len(piece) + 1, use_threads=False
                ),
                pacsv.ParseOptions(delimiter=self._form.delimiter, quote_char=self._form.quote),
                pacsv.ConvertOptions(
                    column_types={str(index): pa.string() for index in wanted},
                    include_columns=[str(index) for index in wanted],
                    strings_can_be_null=False,
                ),
            )
        except (UnicodeDecodeError, pa.ArrowInvalid):
            return None
        if records != len(table):
            return None
        columns = {index: texts.one_chunk(table.column(str(index))) for index in wanted}
        lines = cache(lambda: _Lines(piece, self._header))
        return _Split(columns, np.arange(1, records + 1), lambda number: lines().raw(number), [], records)

    def _split(self, piece: bytes) -> _Split:
        assert self._names is not None
        lines = io.BytesIO(piece).readlines()
        reader = self._reader(line.decode("utf-8", "surrogateescape") for line in lines)
        rows, raws, numbers, bad, count = list[list[str]](), dict[int, bytes](), list[int](), list[BadRecord](), 0
        while True:
            start = reader.line_num
            row: list[str] | None
            fault = None
            try:
                row = next(reader, None)
            except csv.Error as error:
                row, fault = [], ("not-csv", f"Expected a record of CSV, found {error}.")
            if row is None:
                break
            if not row and fault is None:
                continue
            count += 1
            raw = (self._header + b"".join(lines[start : reader.line_num])).removesuffix(b"\n").removesuffix(b"\r")
            fault = fault or self._fault(row)
            if fault is not None:
                bad.append(BadRecord(count, *fault, raw))
                continue
            rows.append(row)
            raws[count] = raw
            numbers.append(count)
        wanted = sorted({index for _, index in self._fields if index is not None})
        fields = {index: pa.array([row[index] for row in rows], pa.string()) for index in wanted}
        return _Split(fields, np.array(numbers, dtype=np.int64), raws.__getitem__, bad, count)

    def _fault(self, row: Sequence[str]) -> tuple[str, str] | None:
        assert self._names is not None
        if len(row) != len(self._names):
            return "ragged", f"Expected {len(self._names)} fields, found {len(row)}."
        if any(not text.isascii() and _is_escaped(text) for text in row):
            return "not-utf8", "Expected UTF-8, found other bytes."
        return None


@compiled
def _regular(array, quote, delimiter):  # type: ignore[no-untyped-def]
    """How many lines are not empty, or -1 where these may not be records as `csv` splits them.

    They are where quotes begin and end whole fields, or are doubled within them, and hold no newlines; and where there
    is no NUL, and no carriage return but before a newline.
    """
    lines = line_bytes = i = 0
    in_quotes, begins, size = False, True, array.size
    while i < size:
        c, following = array[i], array[i + 1] if i + 1 < size else 10
        if c == 0 or (c == 13 and (i + 1 == size or following != 10)):
            return -1
        if in_quotes:
            if c == quote and i + 1 < size and following == quote:
                i += 1
            elif c == quote:
                if following != delimiter and following != 10 and following != 13:  # noqa: PLR1714  # compiled
                    return -1
                in_quotes = begins = False
            elif c == 10:
                return -1
        elif c == 10:
            lines += line_bytes > 0
            line_bytes, begins = -1, True
        elif c == 13:
            line_bytes -= 1
        elif c == quote:
            if not begins:
                return -1
            in_quotes = True
        else:
            begins = c == delimiter
        line_bytes += 1
        i += 1
    return -1 if in_quotes else lines + (line_bytes > 0)


def _is_escaped(text: str) -> bool:
    return any("\udc80" <= char <= "\udcff" for char in text)


class _Lines:
    """The lines of a piece that are not empty; `raw` gives one by number, from 1, after the record of names."""

    def __init__(self, piece: bytes, header: bytes) -> None:
        self._piece, self._header = piece, header
        array = np.frombuffer(piece, np.uint8)
        ends = np.flatnonzero(array == ord("\n"))
        ends = ends if piece.endswith(b"\n") else np.append(ends, len(piece))
        starts = np.concatenate([[0], ends[:-1] + 1])
        last = np.maximum(ends - 1, starts)
        ends = np.where((array[np.minimum(last, len(array) - 1)] == ord("\r")) & (ends > starts), ends - 1, ends)
        held = ends > starts
        self._starts, self._ends = starts[held], ends[held]

    def __len__(self) -> int:
        return len(self._starts)

    def raw(self, number: int) -> bytes:
        return self._header + self._piece[self._starts[number - 1] : self._ends[number - 1]]
