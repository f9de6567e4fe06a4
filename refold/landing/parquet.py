"""Parquet: rows with types of their own; `refold.landing.typed_rows` takes them as the declared columns.

A timestamp is an instant where Parquet says that it is adjusted to UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from refold.errors import UnreadableObject
from refold.landing.bounds import LandingBounds
from refold.landing.typed_rows import RETRY_SUFFIX, Check, TypedFile, roots_of

BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Parquet(TypedFile):
    """Decodes Parquet files; attributes are those of `TypedRows`."""

    suffixes: tuple[str, ...] = (RETRY_SUFFIX, ".parquet")

    def _batches(self, name: str, data: bytes, check: Check, bounds: LandingBounds) -> Iterator[pa.RecordBatch]:
        file = _opened(name, data)
        if file.metadata.num_rows > bounds.object_records_max:
            raise bounds.too_large(name, f"{file.metadata.num_rows:,}", "object_records_max", "rows")
        groups = range(file.metadata.num_row_groups)
        plain_bytes = sum(file.metadata.row_group(group).total_byte_size for group in groups)
        if plain_bytes > bounds.object_bytes_max:
            raise bounds.too_large(name, f"{plain_bytes:,}", "object_bytes_max", "plain bytes")
        rows = 0
        for batch in _read(name, file, roots_of(check(file.schema_arrow))):
            rows += batch.num_rows
            yield batch
        if rows != file.metadata.num_rows:
            raise _damaged(name, f"{rows:,} rows of {file.metadata.num_rows:,}")


def _damaged(name: str, found: str) -> UnreadableObject:
    return UnreadableObject(
        f"Expected a whole Parquet file in the object {name}, found {found}.",
        remedy="Deliver the object again, whole; nothing of it was sealed.",
    )


def _opened(name: str, data: bytes) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, str(error)) from error


def _read(name: str, file: pq.ParquetFile, fields: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        yield from file.iter_batches(BATCH_ROWS, columns=fields, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(name, str(error)) from error
