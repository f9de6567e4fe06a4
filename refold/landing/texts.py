"""How landing writes times, days, decimals and bytes as text, and how these texts become typed values.

Each kind has one function from a text to a value, which is its specification. `convert` takes a column: texts of the
common shape all at once, the others one by one. A property test compares both. Decoders of text formats come after
this module; nothing here knows a format.

- A timestamp is an instant: `YYYY-MM-DD`, `T` or a space, `HH:MM`, optionally `:SS` and a fraction after a point or a
  comma, then `Z`, `UTC`, `GMT`, `±HH:MM`, `±HHMM` or `±HH`, which may follow a space, then optionally a region as Java
  writes it (`[Europe/Paris]`), which is ignored because the offset decides. Years are 1 to 9999 in UTC. Digits of the
  fraction beyond microseconds must be zeros. A text without a zone, with second 60 or with hour 24 has its own reason.
  A column may declare a zone for texts without one, that further digits are left out, or integers (`Reading`).
- A date is `YYYY-MM-DD`.
- Decimals, integers, bytes and words for true and false are read by `refold.landing.numerals`.
"""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.base.reading import USUAL, Encoding, Epoch, Nanoseconds, Reading
from refold.canonical.encoding import text_buffers
from refold.canonical.version_vectors import read_vector, vector_text
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
from refold.landing.numerals import read_binary, read_decimal, read_integer, read_scaled, read_unscaled, read_word
from refold.types import ColumnKind, ColumnType

_TEXT_KINDS = frozenset({"timestamp", "date", "decimal", "binary", "versionvector"})

_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"( ?(?:[Zz]|UTC|GMT|([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?)(?:\[[A-Za-z0-9_+/-]+\])?)?"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_COMMON_TIME = (
    r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)\z"
)
_COMMON_LOCAL = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?\z"
_LONG_FRACTION = r"(:[0-9]{2}\.[0-9]{6})[0-9]+"
_COMMON_INTEGER = r"\A-?(0|[1-9][0-9]{0,17})\z"
_COMMON_DATE = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\z"
_USUAL = {
    "timestamp": (b"0000-00-00T00:00:00.000000Z", b"9999-99-99T99:99:99.999999Z"),
    "date": (b"0000-00-00", b"9999-99-99"),
}
"""The lowest and the highest text of the most common shape of a kind, which is quicker to recognise."""

_NEEDED = {
    "no-zone": "a time with Z or an offset",
    "leap-second": "seconds up to 59, since no leap second can be stored",
    "hour-24": "hours up to 23, with midnight as 00:00 of the next day",
    "below-microseconds": "at most six digits of a second that are not zero",
    "ambiguous-time": "a time with an offset, since clocks there show this one twice",
    "no-such-time": "a time that clocks there show",
}
"""What a time needs to be read, by the reason that it cannot be."""

Value = int | Decimal | bytes | str


def is_converted(column: ColumnType) -> bool:
    """Whether `convert` makes the values of a column, from texts or from what its reading declares."""
    return column.kind in _TEXT_KINDS or column.reading.encoding is not None or bool(column.reading.true)


def read_timestamp(text: str, reading: Reading = USUAL) -> int | str:
    """Microseconds since 1970 UTC, or the reason there are none.

    The reasons are `no-zone`, `leap-second`, `hour-24`, `below-microseconds`, and `not-a-time` for all else; in a
    zone whose clocks are changed also `ambiguous-time` and `no-such-time`.

    >>> read_timestamp("1970-01-01T01:00:00.5+01:00"), read_timestamp("yesterday")
    (500000, 'not-a-time')
    >>> read_timestamp("1970-01-01T01:00", Reading("Europe/Berlin"))
    0
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return "not-a-time"
    *day, hour, minute, second, fraction, zone, sign, hours, minutes = match.groups(default="")
    leap, midnight = second == "60", f"{hour}:{minute}:{second or '00'}" == "24:00:00"
    try:
        # Seconds and hours out of range are replaced, so that their reason is given only where all else is right.
        time = ("00" if midnight else hour, minute, "59" if leap else second or "00")
        local = dt.datetime(*map(int, (*day, *time)))  # type: ignore[arg-type]  # noqa: DTZ001  # the offset follows
    except ValueError:
        return "not-a-time"
    if not zone and reading.zone is None:
        return "no-zone"
    below = fraction[6:].strip("0") and reading.nanoseconds is Nanoseconds.REFUSE
    if leap or midnight or below:
        return "leap-second" if leap else "hour-24" if midnight else "below-microseconds"
    offset_seconds: int | str = int(f"{sign}1") * (int(hours) * 3600 + int(minutes or 0) * 60) if sign else 0
    if not zone:
        offset_seconds = _offset_seconds(local, str(reading.zone))
    if isinstance(offset_seconds, str):
        return offset_seconds
    microseconds = (local - EPOCH) // MICROSECOND + int(fraction[:6].ljust(6, "0")) - offset_seconds * 1_000_000
    return microseconds if TIME_MIN <= microseconds <= TIME_MAX else "not-a-time"


def _offset_seconds(local: dt.datetime, name: str) -> int | str:
    """The offset of a local time, or the reason that it is not one instant."""
    zone = _zone(name)
    first, second = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    assert first is not None and second is not None, f"{name} is a zone"
    if first != second:
        return "ambiguous-time" if first > second else "no-such-time"
    return first // dt.timedelta(seconds=1)


@cache
def _zone(name: str) -> dt.tzinfo:
    offset = Reading(name).offset
    if offset is None:
        return ZoneInfo(name)
    sign, hours, minutes = (offset[0], offset[1:3], offset[4:]) if offset != "Z" else ("+", "0", "0")
    return dt.timezone(int(f"{sign}1") * dt.timedelta(hours=int(hours), minutes=int(minutes)))


def read_epoch(number: int, column: ColumnType) -> int | ValueFault:
    """Microseconds, or days, since 1970 UTC of an integer in the unit that a column declares, or why there are none.

    >>> from refold.types import timestamp
    >>> read_epoch(1500, timestamp(epoch="ms"))
    1500000
    """
    unit = column.reading.epoch
    assert unit is not None, "the column declares integers"
    if unit is Epoch.DAYS:
        fits = DAY_MIN <= number <= DAY_MAX
        return number if fits else ValueFault("out-of-range", expected(column), str(number))
    if unit is Epoch.NANOSECONDS:
        if number % 1000 and column.reading.nanoseconds is Nanoseconds.REFUSE:
            return ValueFault("below-microseconds", "nanoseconds that end in 000", str(number))
        microseconds = number // 1000
    else:
        microseconds = number * _MICROSECONDS[unit]
    if TIME_MIN <= microseconds <= TIME_MAX:
        return microseconds
    return ValueFault("out-of-range", expected(column), str(number))


_MICROSECONDS = {Epoch.SECONDS: 1_000_000, Epoch.MILLISECONDS: 1000, Epoch.MICROSECONDS: 1}


def read_date(text: str) -> int | None:
    """Days since 1970, or None if the text is not a day.

    >>> read_date("1970-01-02"), read_date("2026-02-30")
    (1, None)
    """
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return (dt.date(int(text[:4]), int(text[5:7]), int(text[8:])) - EPOCH.date()).days
    except ValueError:
        return None


def read(text: str, column: ColumnType) -> Value | ValueFault:
    """One text as the value of a column that `is_converted`, or why it cannot be one."""
    value: Value | None
    if column.kind is ColumnKind.VERSION_VECTOR:
        return _read_vector(text, column)
    if column.reading.true:
        value, reason = read_word(text, column.reading), "unknown-value"
    elif column.reading.encoding is Encoding.QUOTED:
        value, reason = read_integer(text), "not-an-integer"
    elif column.reading.encoding is not None:
        return read_unscaled(text, column)
    elif column.kind is ColumnKind.TIMESTAMP:
        value, reason = read_timestamp(text, column.reading), "not-a-time"
    elif column.kind is ColumnKind.DATE:
        value, reason = read_date(text), "not-a-date"
    elif column.kind is ColumnKind.DECIMAL:
        value, reason = read_decimal(text, column.precision or 1, column.scale or 0), "not-a-decimal"
    else:
        value, reason = read_binary(text), "not-base64"
    if value is None or isinstance(value, str):
        return ValueFault(value or reason, _NEEDED.get(str(value)) or expected(column), shorten(text))
    return value


def _read_vector(text: str, column: ColumnType) -> str | ValueFault:
    vector = read_vector(text)
    if vector is None:
        return ValueFault("not-a-version", expected(column), shorten(text))
    if column.maximum is not None and len(vector) > column.maximum:
        return ValueFault("out-of-range", expected(column), f"{len(vector)} producers")
    return vector_text(vector)


def convert(texts: pa.Array, column: ColumnType) -> tuple[pa.Array, dict[int, ValueFault]]:
    """A text column as a typed one, and the fault of every row whose text is not a value; nulls stay null.

    The texts of a timestamp or date that is declared as an integer are integers, those of a decimal that is declared as
    `scaled` are structs.

    >>> from refold.types import date
    >>> values, faults = convert(pa.array(["1970-01-02", "soon"]), date())
    >>> values.null_count, faults[1].reason
    (1, 'not-a-date')
    """
    if column.reading.epoch is not None:
        return _from_epoch_texts(texts, column) if texts.type == pa.string() else _from_epoch(texts, column)
    if column.reading.encoding is Encoding.SCALED:
        return _from_scaled(texts, column)
    if column.kind is ColumnKind.VERSION_VECTOR:
        return _each_once(texts, column)
    written, texts = texts, _usual(texts, column.reading)
    shaped = _shaped(texts, column)
    if shaped is not None:
        common = _cast(texts if pc.all(shaped, min_count=0).as_py() else pc.if_else(shaped, texts, None), column)
    if shaped is None or common is None:
        shaped, common = pa.array(np.zeros(len(texts), np.bool_)), pa.nulls(len(texts), column.arrow)
    odd = pc.and_(pc.invert(shaped), texts.is_valid()).fill_null(False)
    rows = np.flatnonzero(odd.to_numpy(zero_copy_only=False))
    if not len(rows):
        return common, {}
    read_singly = [read(text, column) for text in written.take(pa.array(rows)).to_pylist()]
    faults = {int(row): v for row, v in zip(rows, read_singly, strict=True) if isinstance(v, ValueFault)}
    values = typed([None if isinstance(value, ValueFault) else value for value in read_singly], column)
    return pc.replace_with_mask(common, odd, values), faults


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array, which is copied only where it is several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _each_once(texts: pa.Array, column: ColumnType) -> tuple[pa.Array, dict[int, ValueFault]]:
    """What `convert` gives, with each distinct text read once."""
    coded = texts.dictionary_encode()
    found = [read(text, column) for text in coded.dictionary.to_pylist()]
    codes = pc.fill_null(coded.indices, -1).to_numpy()
    wrong = {code: value for code, value in enumerate(found) if isinstance(value, ValueFault)}
    faults = {int(row): wrong[int(codes[row])] for row in np.flatnonzero(np.isin(codes, list(wrong)))}
    values = pa.array([None if code in wrong else value for code, value in enumerate(found)], column.arrow)
    return values.take(coded.indices), faults


def _usual(texts: pa.Array, reading: Reading) -> pa.Array:
    """Times with the offset that is declared for those without one, and without digits that are to be left out."""
    if reading.nanoseconds is Nanoseconds.TRUNCATE:
        texts = pc.replace_substring_regex(texts, _LONG_FRACTION, r"\1")
    if reading.offset is not None:
        local = pc.match_substring_regex(texts, _COMMON_LOCAL)
        texts = pc.if_else(local, pc.binary_join_element_wise(texts, reading.offset, ""), texts)
    return texts


def _from_epoch_texts(texts: pa.Array, column: ColumnType) -> tuple[pa.Array, dict[int, ValueFault]]:
    """Digits as times: of formats in which all values are texts."""
    numbers, odd = convert(texts, ColumnType(ColumnKind.INT64, reading=Reading(encoding=Encoding.QUOTED)))
    values, faults = _from_epoch(numbers, column)
    unread = {row: fault._replace(expected=expected(column)) for row, fault in odd.items()}
    return values, {**faults, **unread}


def _from_epoch(numbers: pa.Array, column: ColumnType) -> tuple[pa.Array, dict[int, ValueFault]]:
    """Integers as times; those out of range, or with digits that are refused, one by one."""
    unit = column.reading.epoch
    assert unit is not None, "the column declares integers"
    found = numbers.fill_null(0).to_numpy()
    if unit is Epoch.DAYS:
        odd = (found < DAY_MIN) | (found > DAY_MAX)
        since = np.where(odd, 0, found).astype(np.int32)
    elif unit is Epoch.NANOSECONDS:
        odd, since = found % 1000 != 0, found // 1000
        odd &= column.reading.nanoseconds is Nanoseconds.REFUSE
    else:
        factor = _MICROSECONDS[unit]
        odd = (found < -(-TIME_MIN // factor)) | (found > TIME_MAX // factor)
        since = np.where(odd, 0, found) * factor
    singly = {int(row): read_epoch(int(found[row]), column) for row in np.flatnonzero(odd)}
    values = pa.array(since, mask=odd | numbers.is_null().to_numpy(zero_copy_only=False))
    return values.cast(column.arrow), {row: fault for row, fault in singly.items() if isinstance(fault, ValueFault)}


def _from_scaled(objects: pa.Array, column: ColumnType) -> tuple[pa.Array, dict[int, ValueFault]]:
    read_singly = [
        None if found is None else read_scaled(found["scale"], found["value"], column) for found in objects.to_pylist()
    ]
    faults = {row: value for row, value in enumerate(read_singly) if isinstance(value, ValueFault)}
    return typed([None if isinstance(value, ValueFault) else value for value in read_singly], column), faults


def typed(values: list[Value | None], column: ColumnType) -> pa.Array:
    """Values as `read` gives them, as an Arrow array of the declared type."""
    if column.kind is ColumnKind.TIMESTAMP:
        return pa.array(values, pa.int64()).cast(column.arrow)
    if column.kind is ColumnKind.DATE:
        return pa.array(values, pa.int32()).cast(column.arrow)
    return pa.array(values, column.arrow)


def _shaped(texts: pa.Array, column: ColumnType) -> pa.Array | None:
    """Which texts have the common shape, null for nulls; None where the kind has no such shape."""
    if column.kind is ColumnKind.BINARY or column.reading.encoding is Encoding.BASE64:
        return None
    if column.reading.true:
        return pc.is_in(texts, pa.array([*column.reading.true, *column.reading.false]))
    if column.kind in _USUAL and _lie_between(texts, *_USUAL[column.kind]):
        return pa.array(np.ones(len(texts), np.bool_))
    return pc.match_substring_regex(texts, _common_shape(column))


def _cast(texts: pa.Array, column: ColumnType) -> pa.Array | None:
    """Texts of the common shape as values, or None where one of them has no value.

    Arrow must not see other texts: version 26 crashes on "1e-999999999".
    """
    if column.reading.true:
        return pc.if_else(texts.is_valid(), pc.is_in(texts, pa.array(column.reading.true)), None)
    try:
        values = texts.cast(column.arrow)
    except pa.ArrowInvalid:
        return None
    if column.kind in (ColumnKind.DECIMAL, ColumnKind.INT64):
        return values
    numbers = values.cast(pa.int64() if column.kind is ColumnKind.TIMESTAMP else pa.int32())
    low, high = (TIME_MIN, TIME_MAX) if column.kind is ColumnKind.TIMESTAMP else (DAY_MIN, DAY_MAX)
    bounds = pc.min_max(numbers)
    if bounds["min"].is_valid and (bounds["min"].as_py() < low or bounds["max"].as_py() > high):
        return None
    return values


def _lie_between(texts: pa.Array, low: bytes, high: bytes) -> bool:
    """Whether there are texts, none null, each as long as `low` and `high` and byte for byte between them."""
    if not len(texts) or texts.null_count:
        return False
    data, starts = text_buffers(texts)
    if (np.diff(starts) != len(low)).any():
        return False
    rows = data[starts[0] : starts[-1]].reshape(len(texts), len(low))
    return bool((rows >= np.frombuffer(low, np.uint8)).all() and (rows <= np.frombuffer(high, np.uint8)).all())


def _common_shape(column: ColumnType) -> str:
    """The pattern of texts that Arrow reads as we do; for decimals, of texts whose shape alone fits the precision."""
    if column.kind is ColumnKind.INT64:
        return _COMMON_INTEGER
    if column.kind is not ColumnKind.DECIMAL:
        return _COMMON_TIME if column.kind is ColumnKind.TIMESTAMP else _COMMON_DATE
    scale = column.scale or 0
    whole_digits = (column.precision or 1) - scale
    whole = f"(0|[1-9][0-9]{{0,{whole_digits - 1}}})" if whole_digits > 0 else "0"
    return rf"\A-?{whole}" + (rf"(\.[0-9]{{1,{scale}}})?" if scale else "") + r"\z"
