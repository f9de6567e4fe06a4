"""The fields of sampled records: types, shares of nulls, ranges, distinct values, and the column that reads each.

A column is proposed only where its reading is certain; what is not (an integer that may be a time, a time without a
zone) is proposed as it is written, with a note.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from refold.landing.inspect.content import Format, Record
from refold.landing.jsonl import JsonLines
from refold.types import INT64_MAX, INT64_MIN, ColumnType, binary, boolean, date, decimal, int64, text, timestamp

_DEPTH_MAX = 4
_RESERVED = {
    "log_partition", "log_offset", "log_seq", "source_object", "source_line", "outcome", "reason", "event_date",
    "deleted",
}  # fmt: skip
_EPOCHS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FIRST, _LAST = 946_684_800, 4_102_444_800  # 2000 to 2100, in seconds
_TIME_NAME = re.compile(
    r"(?i)(?:^|_)(?:at|ts|time|date|day|timestamp|when|created|updated|occurred|ms)(?:_|$|[A-Z])|At$"
)
_DIGITS = re.compile(r"-?(?:0|[1-9]\d{0,18})", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)\.\d+", re.ASCII)
_LOCAL = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{2,22}={0,2}", re.ASCII)


@dataclass(frozen=True)
class Field:
    """A field of the sampled records.

    Attributes:
        path: its keys from the top.
        column: the name of the column that is proposed for it.
        type: of that column; None where it is not read.
        nulls: in how many of `records` it is null or missing.
        distinct: how many values it has; `values` are these, of a field that may identify.
        minimum, maximum: of what can be ordered, as texts.
        note: what is not certain, or why it is not read.
    """

    path: tuple[str, ...]
    column: str
    type: ColumnType | None
    records: int
    nulls: int
    distinct: int
    minimum: str = ""
    maximum: str = ""
    note: str = ""
    values: frozenset[Any] = field(default=frozenset(), repr=False)

    @property
    def dotted(self) -> str:
        """The path with points."""
        return ".".join(self.path)

    @property
    def is_operation(self) -> bool:
        """Whether it has the operations that AWS DMS writes before its rows."""
        return bool(self.values) and self.values <= {"I", "U", "D"}

    @property
    def is_unique(self) -> bool:
        """Whether no value occurs twice in the sample, and none is null."""
        return not self.nulls and self.distinct == self.records > 0


def fields_of(records: Sequence[Record], format_: Format, *, may_be_null: bool) -> list[Field]:
    """The fields of some records in the order of their first occurrence; nested ones by their paths.

    `may_be_null`: whether more records exist than these, so that any field may be null elsewhere.
    """
    values: dict[tuple[str, ...], list[Any]] = {}
    for number, record in enumerate(records):
        for path, value in _leaves(record, ()):
            found = values.setdefault(path, [])
            found += [None] * (number - len(found))
            found.append(value)
    inner = {path[:depth] for path in values for depth in range(1, len(path))}
    names = set[str]()
    fields = []
    for path, found in values.items():
        if path in inner and all(value is None for value in found):
            continue  # an object that is null in some records
        whole = [*found, *[None] * (len(records) - len(found))]
        fields.append(_field(path, _name(path, names), whole, format_, may_be_null))
    return fields


def _leaves(record: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in record.items():
        path = (*above, str(key))
        if isinstance(value, dict) and value and len(path) < _DEPTH_MAX and not _is_scaled(value):
            yield from _leaves(value, path)
        else:
            yield path, value


def _is_scaled(value: Mapping[str, Any]) -> bool:
    return value.keys() == {"scale", "value"} and isinstance(value["scale"], int)


def _name(path: tuple[str, ...], taken: set[str]) -> str:
    """A column's name that is a name of Python and not taken."""
    name = re.sub(r"\W+", "_", "_".join(path), flags=re.ASCII).strip("_") or "field"
    name = f"f_{name}" if name[0].isdigit() else name
    while name in taken or name in _RESERVED:
        name += "_"
    taken.add(name)
    return name


def _field(path: tuple[str, ...], column: str, values: list[Any], format_: Format, may_be_null: bool) -> Field:
    present = [value for value in values if value is not None]
    type_, note = _typed(path[-1], present, format_)
    if any(not key or (len(path) > 1 and "." in key) for key in path):
        type_, note = None, "a key that no path can name"
    nulls = len(values) - len(present)
    texts = {_hashable(value) for value in present}
    ordered = present and all(isinstance(v, int | Decimal | str | dt.date) for v in present)
    low, high = (min(present), max(present)) if ordered and len({type(v) for v in present}) == 1 else ("", "")
    if type_ is not None and (nulls or may_be_null):
        type_ = replace(type_, null=True)
    return Field(
        path, column, type_, len(values), nulls, len(texts), str(low)[:60], str(high)[:60], note, frozenset(texts)
    )


def _hashable(value: Any) -> Any:
    return value if isinstance(value, int | str | Decimal | dt.date | bytes) else repr(value)


def _typed(key: str, values: Sequence[Any], format_: Format) -> tuple[ColumnType | None, str]:
    """The type of a column for some values that are not null, and a note."""
    kinds = {type(value) for value in values}
    if not kinds:
        return (text(null=True), "null in all of the sample") if format_ is not Format.PARQUET else (None, "only nulls")
    if kinds == {str}:
        return _of_csv(key, values) if format_ is Format.CSV else _of_texts(key, values)
    if bool not in kinds and kinds <= {int, Decimal}:
        return _of_integers(key, values) if kinds == {int} else _of_numbers(values)
    if kinds == {int, str} and all(_is_integer(value) for value in values):
        return int64(quoted=True), "numbers, some of them as texts"
    return _of_typed(kinds, values)


def _of_typed(kinds: set[type], values: Sequence[Any]) -> tuple[ColumnType | None, str]:
    if kinds == {dt.datetime} and any(value.tzinfo is None for value in values):
        return timestamp(zone="UTC"), "times without a zone: UTC is assumed, declare what they are"
    if kinds == {dict} and all(_is_scaled(value) for value in values):
        return decimal(38, max(value["scale"] for value in values), encoding="scaled"), "objects of scale and value"
    known: dict[type, Callable[[], ColumnType]] = {bool: boolean, dt.datetime: timestamp, dt.date: date, bytes: binary}
    if len(kinds) == 1 and (made := known.get(next(iter(kinds)))) is not None:
        return made(), ""
    if float in kinds:
        return None, "not read: floating point has no column type"
    names = ", ".join(sorted({"array" if kind in (list, tuple) else kind.__name__ for kind in kinds}))
    return None, f"not read: {names}"


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) or _DIGITS.fullmatch(value) is not None


def _of_integers(key: str, values: Sequence[int]) -> tuple[ColumnType | None, str]:
    if not INT64_MIN <= min(values) <= max(values) <= INT64_MAX:
        return decimal(38, 0), "integers of more than 64 bits"
    for unit, factor in _EPOCHS.items():
        if _TIME_NAME.search(key) and all(_FIRST * factor <= value < _LAST * factor for value in values):
            first = dt.datetime.fromtimestamp(min(values) / factor, dt.UTC)
            return int64(), f'{min(values)} is {first:%Y-%m-%d} if these are times: timestamp(epoch="{unit}")'
    if _TIME_NAME.search(key) and all(_FIRST <= 86_400 * value < _LAST for value in values):
        first = dt.datetime.fromtimestamp(86_400 * min(values), dt.UTC)
        return int64(), f'{min(values)} is {first:%Y-%m-%d} if these are days: date(epoch="days")'
    return int64(), ""


def _of_numbers(values: Sequence[int | Decimal]) -> tuple[ColumnType | None, str]:
    digits = [Decimal(value).as_tuple() for value in values]
    scale = max(-int(each.exponent) for each in digits)
    whole = max(len(each.digits) + int(each.exponent) for each in digits)
    if scale > 12 or whole + scale > 38:
        return None, f"not read: numbers with {scale} digits after the point, as of floating point"
    return decimal(min(38, max(18, whole + scale + 3)), max(scale, 0)), ""


def _of_csv(key: str, values: Sequence[str]) -> tuple[ColumnType | None, str]:
    """The type of texts of CSV, where numbers are texts of their digits."""
    if all(map(_DIGITS.fullmatch, values)):
        found, note = _of_integers(key, [int(value) for value in values])
        return (found, note) if found and not found.precision else (text(), "digits of more than 64 bits")
    if all(_DIGITS.fullmatch(value) or _NUMBER.fullmatch(value) for value in values):
        return _of_numbers([Decimal(value) for value in values])
    return (boolean(), "") if {*values} <= {"true", "false"} else _of_texts(key, values)


def _of_texts(key: str, values: Sequence[str]) -> tuple[ColumnType | None, str]:
    sample = sorted({*values})[:2000]
    if re.match(r"\d{4}-\d\d-\d\d", sample[0]):
        for candidate in (date(), timestamp(), timestamp(nanoseconds="truncate")):
            if _reads(sample, candidate):
                truncated = candidate.reading.nanoseconds == "truncate"
                return candidate, "nine digits of a second: three are left out" if truncated else ""
    return text(), next((note for note in _notes(key, sample) if note), "")


def _notes(key: str, sample: Sequence[str]) -> Iterator[str]:
    """What texts may be besides texts."""
    if all(map(_LOCAL.fullmatch, sample)) and _reads(sample, timestamp(zone="UTC")):
        yield 'times without a zone: timestamp(zone="UTC") if they are of UTC'
    if all(map(_DIGITS.fullmatch, sample)):
        yield "digits: int64(quoted=True) if these are numbers"
    if all(map(_NUMBER.fullmatch, sample)):
        yield f"numbers: decimal(18, {max(len(value.partition('.')[2]) for value in sample)}) if so"
    if _DECIMAL_NAME.search(key) and all(_BASE64.fullmatch(value) and not len(value) % 4 for value in sample):
        yield 'base64: decimal(precision, scale, encoding="base64") if these are decimals of Kafka Connect'


_DECIMAL_NAME = re.compile(r"(?i)amount|price|total|cost|value|balance|sum|rate")


def _reads(values: Sequence[str], column: ColumnType) -> bool:
    """Whether a column reads all of some texts, by the decoder itself."""
    lines = "".join(json.dumps({"v": value}) + "\n" for value in values)
    return not JsonLines().decode("sample.jsonl", lines.encode(), {"v": column}).bad
