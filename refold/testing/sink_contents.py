"""What the sink conformance tests publish, and how what a sink gives back is compared with it. Needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import pyarrow as pa

from refold.canonical.digest import table_digest
from refold.sinks.base import Content
from refold.storage.objects import sha256_hex
from refold.types import (
    INT64_MAX,
    INT64_MIN,
    ColumnType,
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


_LONG = "".join(sha256_hex(str(n).encode()) for n in range(150))
"""9,600 characters that no compression makes fit an index."""
_YEARS_1_TO_9999 = (-719162, 2932896)
_DAY_US = 86_400_000_000

EXTREMES: Mapping[str, tuple[ColumnType, Sequence[object]]] = {
    "int64": (int64(), [INT64_MIN, -1, 0, INT64_MAX]),
    "text": (
        text(), ["", "a", "a\0", "a\0b", "\0", "\0\0", "a\ufffdb", "\U0010ffff", _LONG, _LONG + "\0", "x" * 70_000]
    ),
    "decimal(15, 2)": (
        decimal(15, 2), [Decimal(n).scaleb(-2) for n in (1 - 10**15, -945, -1, 0, 945, 1945, 10**15 - 1)]
    ),
    "decimal(18, 0)": (decimal(18, 0), [Decimal(1 - 10**18), Decimal(-1), Decimal(0), Decimal(10**18 - 1)]),
    "decimal(38, 0)": (decimal(38, 0), [Decimal(f"-{10**38 - 1}"), Decimal(0), Decimal(10**38 - 1)]),
    "decimal(38, 38)": (
        decimal(38, 38), [Decimal(f"-{10**38 - 1}E-38"), Decimal("1E-38"), Decimal(f"{10**38 - 1}E-38")]
    ),
    "date": (date(), list(_YEARS_1_TO_9999)),
    "timestamp": (
        timestamp(), [_YEARS_1_TO_9999[0] * _DAY_US, -1, 0, 1, (_YEARS_1_TO_9999[1] + 1) * _DAY_US - 1]
    ),
    "boolean": (boolean(), [False, True]),
    "binary": (binary(), [b"", b"\0", bytes(range(256)), _LONG.encode()]),
    "ratio": (ratio(), [-1.7976931348623157e308, -5e-324, 0.0, 0.1, 5e-324, 1.7976931348623157e308]),
}  # fmt: skip
"""Values at the edges of each type, dates and timestamps as integers; every sink should hold them, also as keys."""

IMPOSSIBLE: Mapping[str, tuple[ColumnType, object]] = {
    "a day before the year 1": (date(), _YEARS_1_TO_9999[0] - 1),
    "a day after the year 9999": (date(), _YEARS_1_TO_9999[1] + 1),
    "an instant before the year 1": (timestamp(), _YEARS_1_TO_9999[0] * _DAY_US - 1),
    "an instant after the year 9999": (timestamp(), (_YEARS_1_TO_9999[1] + 1) * _DAY_US),
    "infinity": (ratio(), float("inf")),
    "minus infinity": (ratio(), float("-inf")),
    "not a number": (ratio(), float("nan")),
}
"""Values that no sink holds: publishing refuses them by name. Landing takes none of them as a value of an event."""


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
