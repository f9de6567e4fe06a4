"""Whether decoded values satisfy the declared columns: one vectorised check that every decoder uses last.

This module has what a declared column demands, the reasons why a record fails, and the step that separates good rows
from bad records. `refold.landing.texts` reads times, days, decimals and bytes from texts; how values are found in a
format is each decoder's own matter.

The reasons are stable names. From this module and from `texts`: `missing`, `wrong-type`, `out-of-range`,
`unknown-value`, `empty`, `not-a-time`, `no-zone`, `ambiguous-time`, `no-such-time`, `leap-second`, `hour-24`,
`below-microseconds`, `not-a-date`, `not-a-decimal`, `not-base64`, `not-a-version`,
`duplicate-key`. A decoder adds those of its own format, such as `not-json`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.base.reading import Encoding, Epoch, Nanoseconds, Reading
from refold.errors import DeclarationError
from refold.landing.decoder import BadRecord, Decoded
from refold.types import INT64_MAX, INT64_MIN, ColumnKind, ColumnType, Schema, arrow_schema

FOUND_CHARS_MAX = 60
"""Longest piece of a record that a detail sentence repeats; the raw bytes are kept beside it in full."""

EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # UTC without the cost of a zone
MICROSECOND = dt.timedelta(microseconds=1)
TIME_MIN = (dt.datetime(1, 1, 1) - EPOCH) // MICROSECOND  # noqa: DTZ001
TIME_MAX = (dt.datetime(9999, 12, 31, 23, 59, 59, 999999) - EPOCH) // MICROSECOND  # noqa: DTZ001
DAY_MIN = (dt.date(1, 1, 1) - EPOCH.date()).days
DAY_MAX = (dt.date(9999, 12, 31) - EPOCH.date()).days


class ValueFault(NamedTuple):
    """Why one value fails: a stable reason, what was expected in its place and what was found."""

    reason: str
    expected: str
    found: str

    def sentence(self, column: str) -> str:
        """The detail sentence in quarantine."""
        return f"Column {column}: expected {self.expected}, found {self.found}."


class Finding(NamedTuple):
    """Why one row fails, ready for quarantine."""

    reason: str
    detail: str


def shorten(value: object) -> str:
    """A value as a detail sentence shows it: texts quoted, cut after `FOUND_CHARS_MAX` characters.

    >>> shorten("yesterday"), shorten(-5), shorten(None)
    ("'yesterday'", '-5', 'null')
    """
    if value is None:
        return "null"
    # Cut before quoting: quoting ten megabytes to show sixty characters took most of the time of a bad file.
    text = repr(value[: FOUND_CHARS_MAX + 1]) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= FOUND_CHARS_MAX else text[: FOUND_CHARS_MAX - 1] + "…"


def expected(column: ColumnType) -> str:
    """What a declared column admits, for error messages.

    >>> from refold.types import int64
    >>> expected(int64(1, 9))
    'an integer from 1 to 9'
    """
    if column.reading.true:
        return f"one of {', '.join(column.reading.true)} for true, {', '.join(column.reading.false)} for false"
    return _EXPECTED[column.kind](column)


def _expected_time(reading: Reading) -> str:
    if reading.epoch is not None:
        return f"a time as an integer of {reading.epoch} since 1970, in the years 1 to 9999"
    zone = "with Z or an offset" if reading.zone is None else f"of {reading.zone} where it has no offset"
    digits = ", at most microseconds" if reading.nanoseconds is Nanoseconds.REFUSE else ""
    return f"a time as YYYY-MM-DDTHH:MM:SS {zone}{digits}"


def _expected_decimal(column: ColumnType) -> str:
    return f"an exact decimal({column.precision}, {column.scale}){_ENCODED.get(column.reading.encoding or '', '')}"


_ENCODED: Mapping[str, str] = {
    Encoding.BASE64: " as base64 of its unscaled value",
    Encoding.SCALED: " as an object of scale and value",
}
_DAYS = {None: "a day as YYYY-MM-DD", Epoch.DAYS: "a day as an integer of days since 1970, in the years 1 to 9999"}
_EXPECTED: Mapping[ColumnKind, Callable[[ColumnType], str]] = {
    ColumnKind.INT64: lambda column: f"an integer from {column.minimum} to {column.maximum}",
    ColumnKind.TEXT: lambda column: "a text" if column.empty else "a text that is not empty",
    ColumnKind.ENUM: lambda column: "one of " + ", ".join(column.values),
    ColumnKind.DECIMAL: _expected_decimal,
    ColumnKind.TIMESTAMP: lambda column: _expected_time(column.reading),
    ColumnKind.DATE: lambda column: _DAYS[column.reading.epoch],
    ColumnKind.BOOLEAN: lambda _: "true or false",
    ColumnKind.BINARY: lambda _: "bytes in base64",
    ColumnKind.VERSION_VECTOR: lambda column: (
        f"a JSON object of counters from 1 by producer, of at most {column.maximum} producers"
    ),
}


def refuse_ratio(columns: Schema) -> None:
    """Refuse columns that no landing may hold.

    Raises:
        DeclarationError: a column is a `ratio`, which only a computation can end in.
    """
    faults = [
        f"column {name} is a ratio, but events hold no floating point; declare it as decimal(p, s)"
        for name, column in columns.items()
        if column.kind is ColumnKind.RATIO
    ]
    if faults:
        raise DeclarationError("The columns of a log", faults)


def check(
    table: pa.Table, columns: Schema, known: Mapping[str, Mapping[int, ValueFault]] | None = None
) -> dict[int, Finding]:
    """The first fault of every row that has one, by ascending row; the first column in declared order wins.

    Args:
        table: the declared columns with their declared Arrow types; a value that could not be read is null.
        columns: the declared columns.
        known: faults met while reading, by column and row; they come before what this check finds in that column.

    >>> from refold.types import int64
    >>> check(pa.table({"n": pa.array([1, 7, None], pa.int64())}), {"n": int64(1, 6)})[1].detail
    'Column n: expected an integer from 1 to 6, found 7.'
    """
    found: dict[int, Finding] = {}
    for name, column in columns.items():
        for row, fault in ((known or {}).get(name) or {}).items():
            found.setdefault(row, Finding(fault.reason, fault.sentence(name)))
        for row, fault in _column_faults(table.column(name), column):
            found.setdefault(row, Finding(fault.reason, fault.sentence(name)))
    return dict(sorted(found.items()))


def settle(
    table: pa.Table,
    columns: Schema,
    lines: npt.NDArray[np.int64],
    raw: Callable[[int], bytes],
    *,
    bad: Sequence[BadRecord] = (),
    known: Mapping[str, Mapping[int, ValueFault]] | None = None,
    early: Mapping[int, Finding] | None = None,
    control: int = 0,
) -> Decoded:
    """Separate good rows from bad records, after `check`.

    Args:
        table: as in `check`.
        columns: the declared columns.
        lines: the line (from 1) of each row, ascending; a record that is several rows is good if all of them are.
        raw: the raw bytes of a line.
        bad: records that never became a row.
        known: as in `check`.
        early: findings about whole rows; they come before any about a column.
        control: how many control records there were.
    """
    table = _with_defaults(table, columns, known or {})
    findings = {**check(table, columns, known), **(early or {})}
    failed = {int(lines[row]): finding for row, finding in sorted(findings.items(), reverse=True)}
    good = ~np.isin(lines, list(failed)) if failed else np.ones(len(lines), dtype=np.bool_)
    rows = table.filter(pa.array(good)) if failed else table
    rows = pa.table([rows.column(name) for name in columns], schema=arrow_schema(columns))
    records = [*bad, *(BadRecord(line, *finding, raw(line)) for line, finding in failed.items())]
    return Decoded(rows, lines[good], sorted(records, key=lambda record: record.number), control)


def _with_defaults(table: pa.Table, columns: Schema, known: Mapping[str, Mapping[int, ValueFault]]) -> pa.Table:
    """The table with the declared defaults in place of nulls, but for values that could not be read."""
    for name, column in columns.items():
        values = table.column(name)
        if column.reading.default is None or not values.null_count:
            continue
        filled = values.fill_null(pa.scalar(column.reading.default, values.type))
        if unread := known.get(name):
            mask = np.zeros(len(values), np.bool_)
            mask[list(unread)] = True
            filled = pc.if_else(pa.array(mask), values, filled)
        table = table.set_column(table.schema.get_field_index(name), name, filled)
    return table


def _column_faults(values: pa.ChunkedArray, column: ColumnType) -> list[tuple[int, ValueFault]]:
    faults: list[tuple[int, ValueFault]] = []
    if values.null_count and not column.null:
        rows = np.flatnonzero(values.is_null().to_numpy())
        faults.extend((int(row), ValueFault("missing", expected(column), "null or nothing")) for row in rows)
    reason, broken = _broken(values, column)
    if broken is None or not pc.any(broken).as_py():
        return faults
    rows = np.flatnonzero(pc.fill_null(broken, False).to_numpy())
    shown = _shown(values.take(pa.array(rows)), column)
    faults.extend((int(row), ValueFault(reason, expected(column), text)) for row, text in zip(rows, shown, strict=True))
    return faults


def _broken(values: pa.ChunkedArray, column: ColumnType) -> tuple[str, pa.ChunkedArray | None]:
    """The reason why values of a column can fail, and which do; None if its type admits every value."""
    if column.kind is ColumnKind.ENUM:
        unknown = pc.invert(pc.is_in(values, pa.array(column.values, pa.string())))
        return "unknown-value", pc.and_(unknown, values.is_valid())
    if column.kind is ColumnKind.TEXT:
        return "empty", None if column.empty else pc.equal(values, "")
    if column.kind is ColumnKind.VERSION_VECTOR:
        return "not-a-version", None  # refold.landing.texts reads and refuses them
    return "out-of-range", _out_of_range(values, column)


def _out_of_range(values: pa.ChunkedArray, column: ColumnType) -> pa.ChunkedArray | None:
    if column.kind is ColumnKind.INT64:
        low = INT64_MIN if column.minimum is None else column.minimum
        return _outside(values, low, INT64_MAX if column.maximum is None else column.maximum)
    if column.kind is ColumnKind.DECIMAL:
        high = Decimal(f"{10 ** (column.precision or 1) - 1}E-{column.scale}")
        return _outside(values, high.copy_negate(), high)
    if column.kind is ColumnKind.TIMESTAMP:
        return _outside(values.cast(pa.int64()), TIME_MIN, TIME_MAX)
    return _outside(values.cast(pa.int32()), DAY_MIN, DAY_MAX) if column.kind is ColumnKind.DATE else None


def _outside(values: pa.ChunkedArray, low: object, high: object) -> pa.ChunkedArray:
    return pc.or_(pc.less(values, pa.scalar(low, values.type)), pc.greater(values, pa.scalar(high, values.type)))


def _shown(values: pa.ChunkedArray, column: ColumnType) -> list[str]:
    """Values as details show them; times and days as numbers, since Python cannot represent those out of range."""
    if column.kind in (ColumnKind.TIMESTAMP, ColumnKind.DATE):
        unit = "µs" if column.kind is ColumnKind.TIMESTAMP else "days"
        numbers = values.cast(pa.int64() if column.kind is ColumnKind.TIMESTAMP else pa.int32())
        return [f"{number} {unit} since 1970" for number in numbers.to_pylist()]
    return [shorten(value) for value in values.to_pylist()]
