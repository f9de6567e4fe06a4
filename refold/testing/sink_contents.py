"""What the sink conformance tests publish, and how what a sink gives back is compared with it. Needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from refold.canonical.digest import table_digest
from refold.sinks.base import Content
from refold.types import (
    Schema,
    arrow_schema,
    binary,
    boolean,
    date,
    decimal,
    describe,
    int64,
    ratio,
    text,
    timestamp,
)

LEVELS: Schema = {"product_id": text(), "level": int64()}
ALL_TYPES: Schema = {
    "name": text(),
    "day": date(),
    "number": int64(null=True),
    "note": text(null=True),
    "price": decimal(38, 10, null=True),
    "units": decimal(18, 0, null=True),
    "until": date(null=True),
    "at": timestamp(null=True),
    "active": boolean(null=True),
    "raw": binary(null=True),
    "share": ratio(null=True),
}
NAUGHTY: Sequence[str] = (
    *("", " ", "  ", "a", "A", "a ", "ä", "a\u0308", "Å", "\u212b", "null", "NULL", "None", "\\N", "\\.", "\\", "\\\\"),
    *('"', "'", "''", "P'; DROP TABLE stock_view;--", "%", "%s", "%(x)s", ":x", "?", "$1", "{}", "[", '["a"]', '[""]'),
    *(
        "[sha256]",
        "a,b",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "\n\\.\n",
        "\u2028",
        "\ufeff",
        "\x7f",
        "\u202etest",
        "😀",
        "田中さん",
    ),
    *("1e5", "007", "-0", "2020-01-01", "true", "a/b", "../etc", "*", "_", "<b>", "\U0010ffff", "\ufffd", "k" * 600),
)


def content_of(columns: Schema, rows: Sequence[Sequence[object]], version: str, *, ordinal: int = 1) -> Content:
    """Content for a test: `rows` in any order, keyed by the first column (the first two of `ALL_TYPES`)."""
    key = list(columns)[: 2 if columns is ALL_TYPES else 1]
    table = pa.table(
        [pa.array([row[i] for row in rows], column.arrow) for i, column in enumerate(columns.values())],
        schema=arrow_schema(columns),
    ).sort_by([(name, "ascending") for name in key])
    lineage = {"snapshot": f"2020-01-{ordinal:02d}", "digest": "d" * 64, "code_version": "1-abc", "proof": "p"}
    return Content("a_store", key, columns, table, version, ordinal, lineage)


def levels(version: str, level: int, *, count: int = 20, ordinal: int = 1) -> Content:
    """`count` products that all have the same level, so that a mix of versions shows."""
    return content_of(LEVELS, [(f"P-{i:04d}", level) for i in range(count)], version, ordinal=ordinal)


def assert_holds(content: Content, found: pa.Table) -> None:
    """Fail unless `found` has exactly the declared types and, in any order, the rows of `content`."""
    assert found.schema.equals(arrow_schema(content.columns))
    schema = describe(content.columns)
    expected_rows = sorted(map(repr, content.rows.to_pylist()))
    assert expected_rows == sorted(map(repr, found.to_pylist()))
    assert table_digest(schema, content.rows, content.key) == table_digest(schema, found, content.key)
