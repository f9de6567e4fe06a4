"""How landing writes times, days, decimals and bytes as text, and how such texts become typed values.

Each kind has one function from a text to a value, which is its specification, and `convert` has a vectorised way that
takes a column at once where all of its texts have the common shape. Equality of both is a property test. Decoders of
text formats come after this module; nothing here knows a format.

- A timestamp is RFC 3339: `YYYY-MM-DD`, `T` or a space, `HH:MM:SS`, at most six digits of fraction, `Z` or `±HH:MM`;
  years 1 to 9999 in UTC, no leap seconds.
- A date is `YYYY-MM-DD`.
- A decimal is written as JSON writes numbers (`-12.50`, `1e2`) and must be exact: zeros at the end are no digits, and
  nothing is ever rounded.
- Bytes are base64 with padding, in the standard alphabet, without line breaks.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.encoding import text_buffers
from refold.landing.contract import (
    DAY_MAX,
    DAY_MIN,
    EPOCH,
    MICROSECOND,
    TIME_MAX,
    TIME_MIN,
    ValueFault,
    expected,
    shorten,
)
from refold.types import ColumnKind, ColumnType

TEXT_KINDS = frozenset({"timestamp", "date", "decimal", "binary"})
"""The kinds of column that this module reads from texts."""

_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DECIMAL = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_COMMON_TIME = (
    r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])\z"
)
_COMMON_DATE = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\z"
_USUAL = {
    "timestamp": (b"0000-00-00T00:00:00.000000Z", b"9999-99-99T99:99:99.999999Z"),
    "date": (b"0000-00-00", b"9999-99-99"),
}
"""The lowest and the highest text in the shape that a kind is mostly written in, which is quicker to see."""

Value = int | Decimal | bytes


def read_timestamp(text: str) -> int | None:
    """Microseconds since 1970 UTC, or None where the text is no timestamp.

    >>> read_timestamp("1970-01-01T01:00:00.5+01:00"), read_timestamp("yesterday")
    (500000, None)
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    *parts, fraction, sign, hours, minutes = match.groups()
    if sign is not None and (hours > "23" or minutes > "59"):
        return None
    try:
        local = dt.datetime(*map(int, parts))  # type: ignore[arg-type]  # noqa: DTZ001  # the offset is subtracted below
    except ValueError:
        return None
    offset_seconds = 0 if sign is None else int(sign + "1") * (int(hours) * 3600 + int(minutes) * 60)
    microseconds = (local - EPOCH) // MICROSECOND + int((fraction or "").ljust(6, "0")) - offset_seconds * 1_000_000
    return microseconds if TIME_MIN <= microseconds <= TIME_MAX else None


def read_date(text: str) -> int | None:
    """Days since 1970, or None where the text is no day.

    >>> read_date("1970-01-02"), read_date("2026-02-30")
    (1, None)
    """
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return (dt.date(int(text[:4]), int(text[5:7]), int(text[8:])) - EPOCH.date()).days
    except ValueError:
        return None


def read_decimal(text: str, precision: int, scale: int) -> Decimal | str:
    """The exact decimal, or the reason there is none: `not-a-decimal` or `out-of-range`.

    >>> read_decimal("1.50", 18, 4), read_decimal("0.00001", 18, 4), read_decimal("+1", 18, 4)
    (Decimal('1.5000'), 'out-of-range', 'not-a-decimal')
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return "not-a-decimal"
    sign, whole, fraction, exponent_sign, exponent = match.groups(default="")
    digits = (whole + fraction).lstrip("0")
    shown = digits.rstrip("0")
    if not shown:
        return Decimal(f"0E-{scale}")
    exponent = exponent.lstrip("0")
    if len(exponent) > 9:  # such a number is out of every range, and its power of ten must never be computed
        return "out-of-range"
    shift = int(f"{exponent_sign}{exponent or 0}") - len(fraction) + len(digits) - len(shown)
    if -shift > scale or len(shown) + shift > precision - scale:
        return "out-of-range"
    return Decimal(f"{sign}{int(shown) * 10 ** (shift + scale)}E-{scale}")


def read_binary(text: str) -> bytes | None:
    """The bytes that a base64 text stands for, or None.

    >>> read_binary("aGk="), read_binary("aGk")
    (b'hi', None)
    """
    return base64.b64decode(text) if _BASE64.fullmatch(text) else None


def read(text: str, column: ColumnType) -> Value | ValueFault:
    """One text as the value of a timestamp, date, decimal or binary column, or why it is none."""
    value: Value | str | None
    if column.kind is ColumnKind.TIMESTAMP:
        value, reason = read_timestamp(text), "not-a-time"
    elif column.kind is ColumnKind.DATE:
        value, reason = read_date(text), "not-a-date"
    elif column.kind is ColumnKind.DECIMAL:
        value, reason = read_decimal(text, column.precision or 1, column.scale or 0), "not-a-decimal"
    else:
        value, reason = read_binary(text), "not-base64"
    if value is None or isinstance(value, str):
        return ValueFault(value or reason, expected(column), shorten(text))
    return value


def convert(texts: pa.Array, column: ColumnType) -> tuple[pa.Array, dict[int, ValueFault]]:
    """A text column as a typed one, and the fault of every row whose text is no value; nulls stay null.

    >>> from refold.types import date
    >>> values, faults = convert(pa.array(["1970-01-02", "soon"]), date())
    >>> values.null_count, faults[1].reason
    (1, 'not-a-date')
    """
    quick = _common(texts, column)
    if quick is not None:
        return quick, {}
    values: list[Value | None] = []
    faults: dict[int, ValueFault] = {}
    for row, text in enumerate(texts.to_pylist()):
        value = read(text, column) if text is not None else None
        if isinstance(value, ValueFault):
            faults[row] = value
        values.append(None if isinstance(value, ValueFault) else value)
    return typed(values, column), faults


def typed(values: list[Value | None], column: ColumnType) -> pa.Array:
    """Values as `read` gives them, as an Arrow array of the declared type."""
    if column.kind is ColumnKind.TIMESTAMP:
        return pa.array(values, pa.int64()).cast(column.arrow)
    if column.kind is ColumnKind.DATE:
        return pa.array(values, pa.int32()).cast(column.arrow)
    return pa.array(values, column.arrow)


def _common(texts: pa.Array, column: ColumnType) -> pa.Array | None:
    """The whole column at once, or None where one text is out of the common shape or no value."""
    if column.kind is ColumnKind.BINARY:
        return None
    # Arrow parses only what the shape lets through: version 26 dies of a segmentation fault on "1e-999999999".
    usual = column.kind in _USUAL and _lie_between(texts, *_USUAL[column.kind])
    if not usual and not pc.all(pc.match_substring_regex(texts, _common_shape(column)), min_count=0).as_py():
        return None
    try:
        values = texts.cast(column.arrow)
    except pa.ArrowInvalid:
        return None
    if column.kind is ColumnKind.DECIMAL:
        return values
    numbers = values.cast(pa.int64() if column.kind is ColumnKind.TIMESTAMP else pa.int32())
    low, high = (TIME_MIN, TIME_MAX) if column.kind is ColumnKind.TIMESTAMP else (DAY_MIN, DAY_MAX)
    bounds = pc.min_max(numbers)
    if bounds["min"].is_valid and (bounds["min"].as_py() < low or bounds["max"].as_py() > high):
        return None
    return values


def _lie_between(texts: pa.Array, low: bytes, high: bytes) -> bool:
    """Whether there are texts, none null, each as long as two others and byte for byte between them."""
    if not len(texts) or texts.null_count:
        return False
    data, starts = text_buffers(texts)
    if (np.diff(starts) != len(low)).any():
        return False
    rows = data[starts[0] : starts[-1]].reshape(len(texts), len(low))
    return bool((rows >= np.frombuffer(low, np.uint8)).all() and (rows <= np.frombuffer(high, np.uint8)).all())


def _common_shape(column: ColumnType) -> str:
    """The pattern of texts that Arrow reads as we do; for decimals, one that fits the precision by its shape alone."""
    if column.kind is not ColumnKind.DECIMAL:
        return _COMMON_TIME if column.kind is ColumnKind.TIMESTAMP else _COMMON_DATE
    scale = column.scale or 0
    whole_digits = (column.precision or 1) - scale
    whole = f"(0|[1-9][0-9]{{0,{whole_digits - 1}}})" if whole_digits > 0 else "0"
    return rf"\A-?{whole}" + (rf"(\.[0-9]{{1,{scale}}})?" if scale else "") + r"\z"
