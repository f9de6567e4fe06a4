"""Content that PostgreSQL cannot hold in a plain table: text with U+0000, and keys that do not fit a B-tree.

Every version can be published, because a version with such values goes to a table of rows of its own kind. There
U+0000 is replaced by U+FFFD, which is what readers of the view see, and the exact texts of such a row are beside it in
the hidden column `refold_exact`, as JSON in UTF-8. Its key has a hash index, which holds keys of any size and finds
equal ones, and no primary key.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import FixInput
from refold.sinks.base import Content
from refold.sinks.sql_tables import EXACT
from refold.storage.objects import canonical_json
from refold.types import ColumnKind, Schema, arrow_schema, binary

KEY_SIZE_BYTES_MAX = 2400
"""A row of a B-tree holds 2,704 bytes, of which version and headers take up to 250."""

_NUL, _REPLACEMENT = "\x00", "\ufffd"
_TEXTS = (ColumnKind.TEXT, ColumnKind.ENUM)


def needs_exact(content: Content) -> bool:
    """Whether PostgreSQL cannot hold some row of a version in a plain table."""
    keys = [content.rows[n] for n in content.key if content.columns[n].kind in (*_TEXTS, ColumnKind.BINARY)]
    sizes = [pc.fill_null(pc.cast(pc.binary_length(values), pa.int64()), 0) for values in keys]
    total = sizes[0] if sizes else None
    for size in sizes[1:]:
        total = pc.add(total, size)
    if total is not None and (pc.max(total).as_py() or 0) > KEY_SIZE_BYTES_MAX:
        return True
    return any(pc.any(_has_nul(content.rows[name])).as_py() for name in _texts_of(content.columns))


def with_exact(content: Content, place: str) -> pa.Table:
    """The rows as such a table holds them. Raises FixInput where a key is repeated, which no index would refuse."""
    if content.rows.group_by(list(content.key)).aggregate([]).num_rows != content.rows.num_rows:
        raise FixInput(f"{place} refused rows: a key is repeated.", remedy="A store has one row per key.")
    rows = content.rows
    exact: list[dict[str, str]] = [{} for _ in range(rows.num_rows)]
    for name in _texts_of(content.columns):
        values = rows[name]
        for index in pc.indices_nonzero(_has_nul(values)).to_pylist():
            exact[index][name] = values[index].as_py()
        shown = pc.replace_substring(values, _NUL, _REPLACEMENT)
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), shown)
    hidden = pa.array([canonical_json(texts) if texts else None for texts in exact], pa.binary())
    return rows.append_column(EXACT, pa.chunked_array([hidden]))


def exact_columns(columns: Schema) -> Schema:
    """The columns of such a table, but for the version."""
    return {**columns, EXACT: binary(null=True)}


def exactly(held: pa.Table, columns: Schema) -> pa.Table:
    """The rows that `with_exact` was given."""
    texts = {i: json.loads(raw) for i, raw in enumerate(held[EXACT].to_pylist()) if raw is not None}
    arrays = []
    for name, column in columns.items():
        values = held[name]
        if any(name in row for row in texts.values()):
            plain = values.to_pylist()
            for index, row in texts.items():
                plain[index] = row.get(name, plain[index])
            values = pa.chunked_array([pa.array(plain, column.arrow)])
        arrays.append(values)
    return pa.table(arrays, schema=arrow_schema(columns))


def _texts_of(columns: Schema) -> list[str]:
    return [name for name, column in columns.items() if column.kind in _TEXTS]


def _has_nul(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.match_substring(values, _NUL), False)
