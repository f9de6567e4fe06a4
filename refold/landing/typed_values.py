"""Values with types of their own, from Parquet, Avro or Protobuf, as those of a declared column where none changes.

Comes after `refold.landing.texts`, which reads what is text among them, and before `refold.landing.typed_rows`. A type
that a column cannot be read from has no reader: nothing is guessed, and floating point is taken for no column.

- Integers are read as integers, decimals, declared epochs and declared words; decimals as decimals, and as integers
  where they have no fraction; days as dates. A timestamp is an instant where its type says so; else its column declares
  a zone.
- Texts are read as in JSON. Bytes are bytes, or a decimal of declared encoding. A record of `scale` and `value` is a
  decimal that is declared so.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.base.reading import Encoding, Nanoseconds
from refold.landing import texts
from refold.landing.contract import TIME_MAX, TIME_MIN, ValueFault, expected, shorten
from refold.landing.numerals import read_decimal, read_integer, read_scaled
from refold.types import ColumnKind, ColumnType

Faults = dict[int, ValueFault]

Reader = Callable[[pa.Array], tuple[pa.Array, Faults]]


def reader_of(type_: pa.DataType, column: ColumnType) -> Reader | None:
    """How values of a type become those of a column; None if they may not."""
    if pa.types.is_dictionary(type_):
        inner = reader_of(type_.value_type, column)
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


def _scaled(column: ColumnType) -> Reader | None:
    if column.reading.encoding is not Encoding.SCALED:
        return None

    def read(found: Any) -> object:
        value = found.get("value")
        text = base64.b64encode(value).decode() if isinstance(value, bytes) else value
        return read_scaled(found.get("scale"), text, column)

    return lambda values: _singly(values, column, read)


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
    (pa.types.is_struct, _scaled),
)
"""What may be read from each type; no other type is read."""


def json_value(value: pa.Scalar, column: ColumnType) -> object:
    """A value as the JSON that the column is read from."""
    if not value.is_valid:
        return None
    if pa.types.is_timestamp(value.type):
        text = pc.strftime(value, "%Y-%m-%dT%H:%M:%S").as_py()
        return text + ("Z" if value.type.tz else "")
    found = value.as_py()
    if column.kind is ColumnKind.INT64 and isinstance(found, Decimal) and found == int(found):
        return int(found)
    if isinstance(found, bytes):
        return base64.b64encode(found).decode()
    if isinstance(found, dict):
        return {key: json_value(each, column) for key, each in value.items()}
    return str(found) if isinstance(found, dt.date | Decimal | float) else found
