"""Rows in bulk into a table of a SQL database and back: by SQLAlchemy, and by whatever the driver does faster.

`load_generally` and `fetch_generally` work with every dialect and are what the faster ways are tested to equal:
`refold.sinks.bulk_sqlite` and `refold.sinks.bulk_postgres`. Measured with a million rows of a text and a number, the
general way takes 3 to 5 times as long. Transactions and errors are `refold.sinks.database`'s; which tables there are is
not known here. ADBC was measured and not taken: its load cannot be part of a SQLAlchemy transaction
(docs/design/003-speed-and-memory.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import sqlalchemy as sa

from refold.sinks.values import from_plain, to_plain
from refold.types import Schema, arrow_schema

ROWS_A_BATCH = 50_000
_ROWS_A_FETCH = 250
"""Transposing more at once makes so many iterators that the garbage collector takes most of the time: 2.0 s against
0.4 s for a million rows at 50,000."""

Rows = Sequence[Sequence[object]]
Query = sa.Select[tuple[object, ...]]


def batches_of(rows: pa.Table) -> Iterator[pa.Table]:
    """A table in slices that are converted at a time."""
    return (rows.slice(start, ROWS_A_BATCH) for start in range(0, rows.num_rows, ROWS_A_BATCH))


def load_generally(connection: sa.Connection, table: sa.Table, version: str, rows: pa.Table, columns: Schema) -> None:
    """Insert rows into a table whose first column is the version and whose others are `columns`, in order."""
    plain = connection.dialect.name == "sqlite"
    names = list(table.columns.keys())
    for batch in batches_of(rows):
        values = [to_plain(batch[n], c) if plain else batch[n].to_pylist() for n, c in columns.items()]
        values_of_rows = [dict(zip(names, (version, *row), strict=True)) for row in zip(*values, strict=True)]
        connection.execute(sa.insert(table), values_of_rows)


def fetch_generally(connection: sa.Connection, query: Query, columns: Schema) -> pa.Table:
    """The rows of a query that selects `columns` as they are stored, with exactly the declared Arrow types."""
    # An option of the query, since one of the connection would stay with what is done by it afterwards.
    result = connection.execute(query.execution_options(yield_per=ROWS_A_BATCH))
    return gathered(result.partitions(_ROWS_A_FETCH), columns, plain=connection.dialect.name == "sqlite")


def gathered(blocks: Iterator[Rows], columns: Schema, *, plain: bool) -> pa.Table:
    """Rows as a driver gives them, in blocks, as one table; `plain` says that they are as `to_plain` has them."""
    schema, batches = arrow_schema(columns), []
    for values in _transposed(blocks, len(columns)):
        pairs = zip(values, columns.values(), strict=True)
        arrays = [from_plain(v, c) if plain else pa.array(v, c.arrow) for v, c in pairs]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


def fetched(cursor: sa.engine.interfaces.DBAPICursor) -> Iterator[Rows]:
    """The rows of a driver's cursor, in blocks that are quick to transpose."""
    return iter(lambda: cursor.fetchmany(_ROWS_A_FETCH), [])


def _transposed(blocks: Iterator[Rows], width: int) -> Iterator[list[list[object]]]:
    """The columns of about `ROWS_A_BATCH` rows at a time."""
    columns: list[list[object]] = [[] for _ in range(width)]
    for block in blocks:
        for column, values in zip(columns, zip(*block, strict=True), strict=True):
            column.extend(values)
        if len(columns[0]) >= ROWS_A_BATCH:
            yield columns
            columns = [[] for _ in range(width)]
    if columns[0]:
        yield columns
