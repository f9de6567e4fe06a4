"""The fast way of `refold.sinks.bulk` with PostgreSQL: COPY in both directions, to and from text made by columns.

The server works on one block while the next is made, or the last one parsed, so that the loading of rows costs what the
server takes, which is mostly the index of the key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter, FileIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import sqlalchemy as sa

from refold.canonical.encoding import text_buffers
from refold.sinks.bulk import Query, batches_of, fetch_generally
from refold.types import ColumnKind, ColumnType, Schema, arrow_schema

_PIECE_SIZE_BYTES = 1 << 20
_BLOCK_SIZE_BYTES = 1 << 24
_EXACTLY = "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1"
"""A database or a user may have other ways of writing values as their default."""
_PARSED = frozenset({"int64", "decimal", "date", "boolean", "ratio"})
_LARGE = pa.large_string()


def load(connection: sa.Connection, table: sa.Table, version: str, rows: pa.Table) -> None:
    """`load_generally` by COPY."""
    # Not SQLAlchemy's quoting, which doubles % for psycopg2's parameters; copy_expert has none.
    relation, *names = ('"' + part.replace('"', '""') + '"' for part in (table.name, *table.columns.keys()))
    statement = f"COPY {relation} ({', '.join(names)}) FROM STDIN WITH (FORMAT text, ENCODING 'UTF8')"
    cursor: Any = connection.connection.cursor()  # psycopg2's own methods, which no interface declares
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="refold") as pool:
            cursor.copy_expert(statement, _Stream(_made_ahead(pool, version, rows)), size=_PIECE_SIZE_BYTES)
    finally:
        cursor.close()


def fetch(connection: sa.Connection, query: Query, columns: Schema) -> pa.Table:
    """`fetch_generally` by COPY; values whose text is not exact are read that way instead."""
    compiled = query.compile(dialect=connection.dialect)
    cursor: Any = connection.connection.cursor()  # as above
    try:
        cursor.execute(_EXACTLY)
        asked = cursor.mogrify(str(compiled), compiled.params).decode()
        with _copied(cursor, f"COPY ({asked}) TO STDOUT WITH (FORMAT csv, ENCODING 'UTF8')") as source:
            return _parsed(source, columns)
    except pa.ArrowException:
        # A value that only a hand can have put there, such as the date `infinity`, or one larger than a block.
        return fetch_generally(connection, query, columns)
    finally:
        cursor.close()


class _Stream:
    """A file to read from whose content is made block by block."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block, self._at = b"", 0

    def read(self, size: int) -> bytes:
        """The next piece, empty at the end."""
        if self._at >= len(self._block):
            self._block, self._at = next(self._blocks, b""), 0
        start, self._at = self._at, self._at + size
        return self._block[start : self._at]


def _made_ahead(pool: ThreadPoolExecutor, version: str, rows: pa.Table) -> Iterator[bytes]:
    """The text of all rows in blocks; the next one is made while the last one is used."""
    waiting = None
    for batch in batches_of(rows):
        after = pool.submit(copy_text, version, batch)
        if waiting is not None:
            yield waiting.result()
        waiting = after
    if waiting is not None:
        yield waiting.result()


def copy_text(version: str, rows: pa.Table) -> bytes:
    """Rows in the text format of PostgreSQL's COPY, each beginning with the version.

    Not its CSV format, in which servers before 18 take a line `\\.` inside a quoted text for the end of the data.
    """
    if not len(rows):
        return b""
    fields = [_copy_field(column) for column in rows.columns]
    start, tab = pa.scalar(f"\n{version}", _LARGE), pa.scalar("\t", _LARGE)
    lines = pc.binary_join_element_wise(start, *fields, tab, null_handling="replace", null_replacement="\\N")
    data, bounds = text_buffers(pa.concat_arrays(lines.chunks))
    return data[bounds[0] + 1 : bounds[-1]].tobytes() + b"\n"


def _copy_field(values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind, empty = values.type, pa.scalar("", _LARGE)
    if pa.types.is_binary(kind):
        return pc.binary_join_element_wise(pa.scalar("\\\\x", _LARGE), _hexadecimal(values), empty)
    if pa.types.is_timestamp(kind):
        # Through integers, because Arrow asks the machine for its time zone files even for UTC.
        naive = values.cast(pa.int64()).cast(pa.timestamp("us")).cast(_LARGE)
        return pc.binary_join_element_wise(naive, pa.scalar("Z", _LARGE), empty)
    texts = values.cast(_LARGE)
    if not pa.types.is_string(kind):
        return texts
    data, bounds = text_buffers(pa.concat_arrays(texts.chunks))
    raw = data[bounds[0] : bounds[-1]].tobytes()
    for special, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        if special.encode() in raw:
            texts = pc.replace_substring(texts, special, escaped)
    return texts


def _hexadecimal(values: pa.ChunkedArray) -> pa.Array:
    data, bounds = text_buffers(pa.concat_arrays(values.chunks))
    start, end = int(bounds[0]), int(bounds[-1])
    buffers = [pa.py_buffer(2 * (bounds - start)), pa.py_buffer(data[start:end].tobytes().hex().encode())]
    texts = pa.Array.from_buffers(_LARGE, len(values), [None, *buffers])
    return pc.if_else(pa.concat_arrays(values.chunks).is_valid(), texts, pa.scalar(None, _LARGE))


@contextmanager
def _copied(cursor: Any, statement: str) -> Iterator[BufferedReader[FileIO]]:
    """The output of COPY as a file that is filled while it is read. Raises the driver's errors at the end."""
    reading, writing = os.pipe()

    def copy() -> None:
        with BufferedWriter(FileIO(writing, "wb"), _PIECE_SIZE_BYTES) as sink:
            cursor.copy_expert(statement, sink)

    source = BufferedReader(FileIO(reading), _PIECE_SIZE_BYTES)
    with source, ThreadPoolExecutor(1, thread_name_prefix="refold") as pool:
        copying = pool.submit(copy)
        try:
            yield source
        finally:
            # To the end also where it was not understood: the connection serves nothing else before.
            while source.read(_PIECE_SIZE_BYTES):
                pass
            copying.result()


def _parsed(source: BufferedReader[FileIO], columns: Schema) -> pa.Table:
    """The table of CSV as PostgreSQL writes it: null is nothing, the empty text is `""`."""
    schema = arrow_schema(columns)
    if not source.peek(1):
        return schema.empty_table()
    kinds = {name: column.arrow if column.kind in _PARSED else pa.string() for name, column in columns.items()}
    table = pa_csv.read_csv(
        source,
        pa_csv.ReadOptions(column_names=list(columns), block_size=_BLOCK_SIZE_BYTES),
        pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        pa_csv.ConvertOptions(
            column_types=kinds,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )
    return pa.table([_exact(table[name], column) for name, column in columns.items()], schema=schema)


def _exact(values: pa.ChunkedArray, column: ColumnType) -> pa.ChunkedArray:
    if column.kind is ColumnKind.TIMESTAMP:
        if pc.any(pc.invert(pc.ends_with(values, "+00"))).as_py():
            raise pa.ArrowInvalid("another zone than UTC, or a year before 1")
        naive = pc.utf8_slice_codeunits(values, 0, -3)
        return naive.cast(pa.timestamp("us")).cast(pa.int64()).cast(column.arrow)
    if column.kind is ColumnKind.BINARY:
        return _bytes_of(values)
    return values


def _bytes_of(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The bytes behind texts such as `\\x00ff`."""
    texts = pa.concat_arrays(pc.utf8_slice_codeunits(values, 2).cast(_LARGE).chunks)
    data, bounds = text_buffers(texts)
    start, end = int(bounds[0]), int(bounds[-1])
    raw = pa.py_buffer(bytes.fromhex(data[start:end].tobytes().decode()))
    found = pa.Array.from_buffers(pa.large_binary(), len(texts), [None, pa.py_buffer((bounds - start) // 2), raw])
    return pa.chunked_array([pc.if_else(texts.is_valid(), found, pa.scalar(None, pa.large_binary())).cast(pa.binary())])
