"""Values on their way into sinks and back: which can be stored at all, and how they look as text and JSON.

Every sink that has no type of its own for a column stores the text given here, which is exact, fixed in width
where that helps sorting, and the same in every sink:

- decimal: digits with exactly the declared scale, never an exponent: `12.3400`;
- date: `2020-01-31`; timestamp: `2020-01-31T08:00:00.000000Z`, always UTC, always six decimals;
- binary, in JSON only: base64.

Values that no sink can hold are refused here: years before 1 or after 9999 (Python, pandas and most drivers cannot
read them) and ratios that are not finite (JSON and SQLite cannot hold them).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import FixInput
from refold.sinks.base import Content
from refold.storage.objects import canonical_json, sha256_hex
from refold.types import ColumnKind, ColumnType, Schema, arrow_schema

Values = list[object]
_DAYS_MIN, _DAYS_MAX = -719162, 2932896
_MICROSECONDS_MIN, _MICROSECONDS_MAX = _DAYS_MIN * 86_400_000_000, (_DAYS_MAX + 1) * 86_400_000_000 - 1
_ID_SIZE_BYTES_MAX = 512
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, pa.ArrowException)
"""Errors that reading a damaged document can raise."""


def require_storable(content: Content, place: str) -> None:
    """Refuse content with values that no sink can hold.

    Raises:
        FixInput: naming the first key and the remedy for every column at fault.
    """
    faults = []
    for name, column in content.columns.items():
        mask, remedy = _unstorable(content.rows[name], column)
        if mask is not None and (row := pc.index(mask, True).as_py()) >= 0:
            key = {part: content.rows[part][row].as_py() for part in content.key}
            faults.append(f"\n  - column {name}, key {key}: {remedy}")
    if faults:
        raise FixInput(
            f"The store {content.store} holds values that {place} cannot store:{''.join(faults)}",
            remedy=f"\n`refold why {content.store} KEY` shows the events behind a key.",
        )


def _unstorable(values: pa.ChunkedArray, column: ColumnType) -> tuple[pa.ChunkedArray | None, str]:
    if column.kind is ColumnKind.RATIO:
        return pc.invert(
            pc.is_finite(values)
        ), "a ratio that is not finite. Divide only by what is not zero, or use null."
    if column.kind is ColumnKind.DATE:
        days = values.cast(pa.int32())
        return _outside(days, _DAYS_MIN, _DAYS_MAX), "a date outside the years 1 to 9999. Use null for 'no end'."
    if column.kind is ColumnKind.TIMESTAMP:
        instants = values.cast(pa.int64())
        outside = _outside(instants, _MICROSECONDS_MIN, _MICROSECONDS_MAX)
        return outside, "a timestamp outside the years 1 to 9999. Use null for 'no end'."
    return None, ""


def _outside(values: pa.ChunkedArray, low: int, high: int) -> pa.ChunkedArray:
    return pc.or_(pc.less(values, low), pc.greater(values, high))


def to_plain(values: pa.ChunkedArray, column: ColumnType) -> Values:
    """A column as int, float, bool, str, bytes and None: the types that SQLite has, in the forms listed above.

    >>> to_plain(pa.chunked_array([pa.array([0, None], pa.timestamp("us", "UTC"))]), ColumnType(ColumnKind.TIMESTAMP))
    ['1970-01-01T00:00:00.000000Z', None]
    """
    if column.kind is ColumnKind.DECIMAL:
        return list(decimal_texts(values).to_pylist())
    if column.kind is ColumnKind.DATE:
        return list(values.cast(pa.string()).to_pylist())
    if column.kind is ColumnKind.TIMESTAMP:
        texts = values.cast(pa.int64()).cast(pa.timestamp("us")).cast(pa.string())
        instants = pc.binary_join_element_wise(pc.replace_substring(texts, " ", "T"), "Z", "")
        return list(instants.to_pylist())
    return list(values.to_pylist())


def decimal_texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimals as text with exactly the declared scale.

    >>> decimal_texts(pa.chunked_array([pa.array(["0.0000001"]).cast(pa.decimal128(9, 8))])).to_pylist()
    ['0.00000010']
    """
    texts = values.cast(pa.string())
    if not pc.any(pc.match_substring(texts, "E")).as_py():  # Arrow spells a small one of more than 6 places 1E-8
        return texts
    spelled = [None if value is None else format(value, "f") for value in values.to_pylist()]
    return pa.chunked_array([spelled], pa.string())


def from_plain(values: Sequence[object], column: ColumnType) -> pa.Array:
    """The exact column of what `to_plain` gave."""
    if column.kind in (ColumnKind.DECIMAL, ColumnKind.DATE):
        return pa.array(values, pa.string()).cast(column.arrow)
    if column.kind is ColumnKind.TIMESTAMP:
        texts = pc.replace_substring(pa.array(values, pa.string()), "Z", "")
        return texts.cast(pa.timestamp("us")).cast(pa.int64()).cast(column.arrow)
    if column.kind is ColumnKind.BOOLEAN:
        return pa.array([None if value is None else bool(value) for value in values], pa.bool_())
    return pa.array(values, column.arrow)


def to_json(values: pa.ChunkedArray, column: ColumnType) -> Values:
    """A column as JSON values: as `to_plain`, with binary as base64 text."""
    if column.kind is ColumnKind.BINARY:
        return [None if value is None else base64.b64encode(value).decode() for value in values.to_pylist()]
    return to_plain(values, column)


def from_json(values: Sequence[object], column: ColumnType) -> pa.Array:
    """The exact column of what `to_json` gave."""
    if column.kind is ColumnKind.BINARY:
        return pa.array([base64.b64decode(value) if isinstance(value, str) else None for value in values], pa.binary())
    return from_plain(values, column)


def documents(content: Content) -> Iterator[tuple[str, bytes]]:
    """Every row as (document id, JSON document in one line), in the order of the rows; nulls are written as null."""
    columns = {name: to_json(content.rows[name], column) for name, column in content.columns.items()}
    keys: Iterable[tuple[object, ...]] = zip(*(columns[name] for name in content.key), strict=True)
    rows: Iterable[tuple[object, ...]] = zip(*columns.values(), strict=True)
    for key, row in zip(keys, rows, strict=True):
        yield document_id(key), canonical_json(dict(zip(columns, row, strict=True)))


def from_documents(raw: Iterable[bytes], columns: Schema) -> pa.Table:
    """The table of JSON documents that `documents` wrote, with exactly the declared Arrow types."""
    rows: list[Mapping[str, object]] = [json.loads(line) for line in raw]
    arrays = [from_json([row[name] for row in rows], column) for name, column in columns.items()]
    return pa.table(arrays, schema=arrow_schema(columns))


def readable_documents(raw: Iterable[bytes], columns: Schema) -> pa.Table:
    """The table of those documents that can be read, in order; the others were damaged, and are left out."""
    lines = list(raw)
    with suppress(*_UNREADABLE):
        return from_documents(lines, columns)
    tables = [arrow_schema(columns).empty_table()]
    for line in lines:
        with suppress(*_UNREADABLE):
            tables.append(from_documents([line], columns))
    return pa.concat_tables(tables).combine_chunks()


def document_id(key: Sequence[object]) -> str:
    """The id of a search document, from key values as `to_json` has them; no two keys share one.

    A key of one text is its own id. Anything else (several columns, another type, the empty text, a text that
    begins with `[`) is the JSON array of its values. An id of more than 512 bytes, which Elasticsearch and
    OpenSearch refuse, is replaced by its sha256.

    >>> document_id(["P-1"]), document_id(["a", 7]), document_id([""])
    ('P-1', '["a",7]', '[""]')
    """
    single = key[0] if len(key) == 1 else None
    plain = isinstance(single, str) and single != "" and not single.startswith("[")
    text = str(single) if plain else canonical_json(list(key)).decode()
    size_bytes = len(text.encode())
    return text if size_bytes <= _ID_SIZE_BYTES_MAX else f"[sha256]{sha256_hex(text.encode())}"
