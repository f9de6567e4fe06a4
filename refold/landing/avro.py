"""Avro object container files; `refold.landing.typed_rows` takes their rows as the declared columns.

`fastavro` reads them. A file that was cut between two blocks looks whole: only its size in the listing of landing shows
that, which is compared with the bytes that are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

import fastavro
import pyarrow as pa
from fastavro.schema import expand_schema

from refold.errors import UnreadableObject
from refold.landing.avro_blocks import plain_file
from refold.landing.bounds import LandingBounds
from refold.landing.typed_rows import RETRY_SUFFIX, Check, TypedFile, pruned

BATCH_ROWS = 1 << 13

_UNREAD = pa.list_(pa.null())
_TYPES: Mapping[str, pa.DataType] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
    "fixed": pa.binary(),
    "int-date": pa.date32(),
    "long-timestamp-millis": pa.timestamp("ms", "UTC"),
    "long-timestamp-micros": pa.timestamp("us", "UTC"),
    "long-local-timestamp-millis": pa.timestamp("ms"),
    "long-local-timestamp-micros": pa.timestamp("us"),
}


@dataclass(frozen=True)
class Avro(TypedFile):
    """Decodes Avro object container files with their own schemas; attributes are those of `TypedRows`."""

    suffixes: tuple[str, ...] = (RETRY_SUFFIX, ".avro")

    def _batches(self, name: str, data: bytes, check: Check, bounds: LandingBounds) -> Iterator[pa.RecordBatch]:
        rows = _records(name, data, bounds)
        schema = next(rows)
        wanted = pa.schema(pruned(schema, check(schema)))
        while batch := list(islice(rows, BATCH_ROWS)):
            if not wanted.names:
                yield pa.RecordBatch.from_arrays([pa.nulls(len(batch))], [""])
                continue
            try:
                yield pa.RecordBatch.from_pylist(batch, wanted)
            except (pa.ArrowException, OverflowError) as error:
                raise _damaged(name, str(error)) from error


def _records(name: str, data: bytes, bounds: LandingBounds) -> Iterator[Any]:
    """The schema of a file, then its records."""
    try:
        blocks = fastavro.block_reader(plain_file(name, data, bounds))
        has_uuid = '"uuid"' in json.dumps(blocks.writer_schema)
        yield pa.schema(arrow_fields(expand_schema(blocks.writer_schema)))
        for block in blocks:
            yield from map(plain_value, block) if has_uuid else block
            if block.bytes_.read(1):  # type: ignore[attr-defined]  # its stubs leave it out
                raise ValueError("a block with more than its records")
    except (GeneratorExit, UnreadableObject):
        raise
    except Exception as error:  # what damaged bytes raise is not documented
        raise _damaged(name, f"{type(error).__name__} {error}") from error


def _damaged(name: str, found: str) -> UnreadableObject:
    return UnreadableObject(
        f"Expected a whole Avro file in the object {name}, found {found}.",
        remedy="Deliver the object again, whole; nothing of it was sealed.",
    )


def arrow_fields(schema: Any) -> list[pa.Field]:
    """The fields of a record; of a file without records, none."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return []
    return [pa.field(each["name"], _type(each["type"])) for each in schema["fields"]]


def _type(schema: Any) -> pa.DataType:
    """The Arrow type of an Avro type; for others than are read, one that no column is read from."""
    if isinstance(schema, list):
        others = [each for each in schema if each != "null"]
        return _type(others[0]) if len(others) == 1 else _UNREAD
    if isinstance(schema, str):
        return _TYPES.get(schema, _UNREAD)
    kind, logical = schema["type"], schema.get("logicalType")
    if kind == "record":
        return pa.struct(arrow_fields(schema))
    if logical == "decimal" and kind in ("bytes", "fixed"):
        return pa.decimal256(schema["precision"], schema.get("scale", 0))
    return _TYPES.get(f"{kind}-{logical}", _TYPES.get(kind, _UNREAD)) if isinstance(kind, str) else _type(kind)


def plain_value(value: Any) -> Any:
    """A value with UUIDs as texts."""
    if isinstance(value, dict):
        return {key: plain_value(each) for key, each in value.items()}
    return str(value) if isinstance(value, UUID) else value
