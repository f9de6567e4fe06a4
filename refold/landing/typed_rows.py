"""Rows with types of their own, from Parquet or Avro, taken as the declared columns only where no value changes.

Comes after `refold.landing.texts`, which reads what is text in them. A type that a column cannot be read from refuses
the object, since it is that of every row: nothing is guessed, and floating point is taken for no column.

- Integers are read as integers, decimals, declared epochs and declared words; decimals as decimals, and as integers
  where they have no fraction; days as dates. A timestamp is an instant where its type says so; else its column declares
  a zone.
- Texts are read as in JSON. Bytes are bytes, or a decimal of declared encoding.
- A bad record is kept as a JSON text of its declared columns, and retried as JSON Lines.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.base.reading import Encoding, Nanoseconds
from refold.errors import UnreadableObject
from refold.landing import texts
from refold.landing.bounds import DEFAULT_BOUNDS, LandingBounds
from refold.landing.contract import TIME_MAX, TIME_MIN, ValueFault, expected, refuse_ratio, settle, shorten
from refold.landing.decoder import ByPieces, Decoded
from refold.landing.jsonl import JsonLines
from refold.landing.numerals import read_decimal, read_integer
from refold.types import ColumnKind, ColumnType, Schema

RETRY_SUFFIX = ".retry.jsonl"

Faults = dict[int, ValueFault]
_NO_OBJECT = pa.list_(pa.null())
"""Stands for what a path leads through and has no fields; no column is read from it."""
Sources = Mapping[str, Sequence[tuple[str, ...]]]


class TypedRows(ByPieces):
    """What decoders of typed rows have in common: columns by paths, numbering by rows, and the form of a retry."""

    places: tuple[tuple[str, tuple[str, ...]], ...]

    def encode(self, raws: Sequence[bytes]) -> bytes:
        """JSON Lines."""
        return JsonLines().encode(raws)

    def pieces(
        self,
        name: str,
        data: Iterable[bytes],
        columns: Schema,
        key: Sequence[str] = (),
        bounds: LandingBounds = DEFAULT_BOUNDS,
    ) -> Iterator[Decoded]:
        """Decode one object in batches of rows; see `refold.landing.decoder.PieceDecoder`. The object is held whole."""
        refuse_ratio(columns)
        if name.endswith(RETRY_SUFFIX):
            yield from JsonLines().pieces(name, data, columns, key, bounds)
            return
        before = 0
        for batch in self._batches(name, b"".join(data), partial(self._sources, name, columns), bounds):
            if before + batch.num_rows > bounds.object_records_max:
                raise bounds.too_large(name, "more", "object_records_max", "rows")
            yield _decoded(batch, columns, self._sources(name, columns, batch.schema)).after(before)
            before += batch.num_rows

    @abstractmethod
    def _batches(
        self, name: str, data: bytes, sources: Callable[[pa.Schema], Sources], bounds: LandingBounds
    ) -> Iterator[pa.RecordBatch]:
        """The rows of an object, with the fields that columns are read from; `sources` refuses a schema."""

    def _sources(self, name: str, columns: Schema, schema: pa.Schema) -> Sources:
        """The places of each column in the file. Raises UnreadableObject, naming every column that does not fit."""
        faults, sources = [], dict[str, list[tuple[str, ...]]]()
        for column, kind in columns.items():
            dotted = dict(self.places).get(column)
            paths = [(column,)] if dotted is None else [tuple(path.split(".")) for path in dotted]
            found = {path: _type_at(schema, path) for path in paths}
            there = {path: type_ for path, type_ in found.items() if type_ is not None}
            if not there and not kind.null and kind.reading.default is None:
                faults.append(f"no {' or '.join('.'.join(path) for path in paths)}, which may not be null")
            faults += [f"{'.'.join(path)} twice" for path in paths if _is_twice(schema, path)]
            for path, type_ in there.items():
                if _reader(type_, kind) is None:
                    faults.append(f"{type_} in {'.'.join(path)}; column {column} is read from {expected(kind)}")
            sources[column] = list(there)
        if faults:
            raise UnreadableObject(
                f"Expected the declared columns in the object {name}, found {'; '.join(faults)}.",
                remedy="Declare the columns, their readings and paths as the file has them; nothing of it was sealed.",
            )
        return sources


def roots_of(sources: Sources) -> list[str]:
    """The fields at the top that sources are in, sorted."""
    return sorted({path[0] for paths in sources.values() for path in paths})


def _type_at(schema: pa.Schema, path: tuple[str, ...]) -> pa.DataType | None:
    if len(schema.get_all_field_indices(path[0])) != 1:
        return None
    type_ = schema.field(path[0]).type
    for key in path[1:]:
        if not pa.types.is_struct(type_):
            return _NO_OBJECT
        index = type_.get_field_index(key)
        if index < 0:
            return None
        type_ = type_.field(index).type
    return type_


def _is_twice(schema: pa.Schema, path: tuple[str, ...]) -> bool:
    """Whether a field on a path has the name of another beside it."""
    fields = list(schema)
    for key in path:
        named = [each for each in fields if each.name == key]
        if len(named) != 1:
            return len(named) > 1
        fields = list(named[0].type) if pa.types.is_struct(named[0].type) else []
    return False


def _at(batch: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    values = batch.column(path[0])
    for key in path[1:]:
        values = pc.struct_field(values, values.type.get_field_index(key))
    return values


def _decoded(batch: pa.RecordBatch, columns: Schema, sources: Sources) -> Decoded:
    table, known = {}, dict[str, Faults]()
    for column, kind in columns.items():
        table[column], known[column] = pa.nulls(batch.num_rows, kind.arrow), {}
        decided = np.zeros(batch.num_rows, np.bool_)
        for path in sources[column]:
            found = _at(batch, path)
            read = _reader(found.type, kind)
            assert read is not None, "the types were checked"
            values, faults = read(found)
            mine = ~decided & found.is_valid().to_numpy(zero_copy_only=False)
            table[column] = pc.if_else(pa.array(mine), values, table[column])
            known[column] |= {row: fault for row, fault in faults.items() if mine[row]}
            decided |= mine
    raw = partial(_raw, batch, columns, sources)
    return settle(pa.table(table), columns, np.arange(1, batch.num_rows + 1), raw, known=known)


def _raw(batch: pa.RecordBatch, columns: Schema, sources: Sources, row: int) -> bytes:
    """A row of the file as a JSON text by column."""
    record = {}
    for column, kind in columns.items():
        found = (_at(batch, path)[row - 1] for path in sources[column])
        record[column] = next((_json(value, kind) for value in found if value.is_valid), None)
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def _json(value: pa.Scalar, column: ColumnType) -> object:
    if pa.types.is_timestamp(value.type):
        text = pc.strftime(value, "%Y-%m-%dT%H:%M:%S").as_py()
        return text + ("Z" if value.type.tz else "")
    found = value.as_py()
    if column.kind is ColumnKind.INT64 and isinstance(found, Decimal) and found == int(found):
        return int(found)
    if isinstance(found, bytes):
        return base64.b64encode(found).decode()
    return str(found) if isinstance(found, dt.date | Decimal | float) else found


Reader = Callable[[pa.Array], tuple[pa.Array, Faults]]


def _reader(type_: pa.DataType, column: ColumnType) -> Reader | None:
    """How values of a type become those of a column; None if they may not."""
    if pa.types.is_dictionary(type_):
        inner = _reader(type_.value_type, column)
        return None if inner is None else lambda values: inner(values.dictionary_decode())
    return next((reader(column) for fits, reader in _READERS if fits(type_)), None)


def _texts(column: ColumnType) -> Reader | None:
    if column.reading.epoch or column.reading.encoding is Encoding.SCALED:
        return None
    if texts.is_converted(column):
        return lambda values: texts.convert(values.cast(pa.string()), column)
    plain = column.kind in (ColumnKind.TEXT, ColumnKind.ENUM)
    return (lambda values: (values.cast(pa.string()), {})) if plain else None


def _decimals(column: ColumnType) -> Reader | None:
    plain = column.kind in (ColumnKind.DECIMAL, ColumnKind.INT64) and column.reading.encoding is not Encoding.BASE64
    return partial(_from_decimals, column=column) if plain and not column.reading.epoch else None


def _times(column: ColumnType) -> Reader | None:
    plain = column.kind is ColumnKind.TIMESTAMP and column.reading.epoch is None
    return partial(_from_times, column=column) if plain else None


def _bytes(column: ColumnType) -> Reader | None:
    if column.reading.encoding is Encoding.BASE64:
        return lambda values: _singly(values, column, lambda v: texts.read(base64.b64encode(v).decode(), column))
    return _same(ColumnKind.BINARY)(column)


def _same(kind: ColumnKind) -> Callable[[ColumnType], Reader | None]:
    def reader(column: ColumnType) -> Reader | None:
        plain = column.kind is kind and not column.reading.epoch and not column.reading.true
        return (lambda values: (values.cast(column.arrow), {})) if plain else None

    return reader


def _nothing(column: ColumnType) -> Reader | None:
    return lambda values: (pa.nulls(len(values), column.arrow), {})


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_))


def _integers(column: ColumnType) -> Reader | None:
    if column.reading.true:
        return lambda values: texts.convert(values.cast(pa.string()), column)
    plain = column.kind is ColumnKind.INT64 or (column.kind is ColumnKind.DECIMAL and column.reading.encoding is None)
    if not plain and not column.reading.epoch:
        return None

    def read(values: pa.Array) -> tuple[pa.Array, Faults]:
        if values.type != pa.uint64():
            numbers, faults = values.cast(pa.int64()), Faults()
        else:
            numbers, faults = _singly(values, ColumnType(ColumnKind.INT64), lambda v: read_integer(str(v)), column)
        if column.reading.epoch:
            found, odd = texts.convert(numbers, column)
            return found, {**faults, **odd}
        if column.kind is ColumnKind.DECIMAL:
            found, odd = _from_decimals(numbers.cast(pa.decimal128(19, 0)), column)
            return found, {**faults, **odd}
        return numbers, faults

    return read


def _from_decimals(values: pa.Array, column: ColumnType) -> tuple[pa.Array, Faults]:
    try:
        found = values.cast(column.arrow)
        found.validate(full=True)
    except pa.ArrowInvalid:
        if column.kind is ColumnKind.INT64:
            return _singly(values, column, lambda v: int(v) if v == int(v) and abs(v) < 2**63 else "out-of-range")
        precision, scale = column.precision or 1, column.scale or 0
        return _singly(values, column, lambda v: read_decimal(f"{v:f}", precision, scale))
    return found, {}


def _from_times(values: pa.Array, column: ColumnType) -> tuple[pa.Array, Faults]:
    """Instants; local times by the zone that the column declares."""
    truncates = column.reading.nanoseconds is Nanoseconds.TRUNCATE
    if values.type.tz is None:
        written = pc.strftime(values, "%Y-%m-%dT%H:%M:%S")  # with all digits of its unit
        return texts.convert(written, column)
    if values.type.unit == "ns":
        counts = values.cast(pa.int64())
        found = pc.divide(pc.subtract(counts, _modulo(counts)), 1000).cast(column.arrow)
        below = pc.fill_null(pc.not_equal(_modulo(counts), 0), False).to_numpy(False)
        odd = np.flatnonzero(below & (not truncates))
        what = "nanoseconds that end in 000"
        return found, {int(row): ValueFault("below-microseconds", what, str(counts[row])) for row in odd}
    try:
        return values.cast(column.arrow), {}
    except pa.ArrowInvalid:
        counts = values.cast(pa.int64())
        factor = {"s": 10**6, "ms": 10**3, "us": 1}[values.type.unit]
        within = pc.and_(pc.greater_equal(counts, TIME_MIN // factor), pc.less_equal(counts, TIME_MAX // factor))
        found = pc.if_else(within, values, None).cast(column.arrow)
        odd = np.flatnonzero(pc.fill_null(pc.invert(within), False).to_numpy(False))
        return found, {int(row): ValueFault("out-of-range", expected(column), str(counts[row])) for row in odd}


def _modulo(counts: pa.Array) -> pa.Array:
    """Nanoseconds below the microsecond before."""
    found = counts.fill_null(0).to_numpy(False) % 1000
    return pc.if_else(counts.is_valid(), pa.array(found, pa.int64()), None)


def _singly(
    values: pa.Array, column: ColumnType, read: Callable[[Any], object], shown: ColumnType | None = None
) -> tuple[pa.Array, Faults]:
    found, faults = [], Faults()
    for row, value in enumerate(values.to_pylist()):
        one = None if value is None else read(value)
        if isinstance(one, str):
            one = ValueFault(one, expected(shown or column), shorten(value))
        if isinstance(one, ValueFault):
            faults[row], one = one, None
        found.append(one)
    return pa.array(found, column.arrow), faults


_READERS: Sequence[tuple[Callable[[pa.DataType], bool], Callable[[ColumnType], Reader | None]]] = (
    (lambda type_: bool(pa.types.is_string(type_) or pa.types.is_large_string(type_)), _texts),
    (pa.types.is_integer, _integers),
    (pa.types.is_decimal, _decimals),
    (pa.types.is_timestamp, _times),
    (pa.types.is_date, _same(ColumnKind.DATE)),
    (pa.types.is_boolean, _same(ColumnKind.BOOLEAN)),
    (_is_bytes, _bytes),
    (pa.types.is_null, _nothing),
)
"""What may be read from each type; no other type is read."""
