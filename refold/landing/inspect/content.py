"""What some objects hold: their compression, format and records, read up to a limit of bytes and records.

Comes after `naming`, which finds the objects, and before `profile`, which finds the columns. The libraries that decode
here are those of the decoders, but values stay as the file has them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from refold.errors import RefoldError
from refold.landing.inflate import plain_pieces
from refold.storage.objects import ObjectInfo, ObjectStore

OBJECT_BYTES_MAX = 4 << 20
"""So much is read of an object of text; a Parquet or Avro file is read whole, or not at all where it is larger."""
WHOLE_BYTES_MAX = 64 << 20
RECORDS_MAX = 5_000
"""So many records of an object are looked at."""

Record = dict[str, Any]


class Format(StrEnum):
    """What is recognised."""

    JSON_LINES = "JSON Lines"
    JSON_ARRAY = "JSON array"
    CSV = "CSV"
    PARQUET = "Parquet"
    AVRO = "Avro"


_MAGIC = ((b"PAR1", Format.PARQUET), (b"Obj\x01", Format.AVRO))
_COMPRESSED = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"BZh", "bzip2"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy"),
    (b"\x82SNAPPY\x00", "snappy"),
)
_DELIMITERS = ",\t;|"


@dataclass(frozen=True)
class Dialect:
    """How CSV is written; `names` are those of its fields where the objects do not begin with them."""

    delimiter: str = ","
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Content:
    """What was read of one object.

    Attributes:
        info: the object.
        compression: "" for none.
        format: None where it is not one that can be read.
        records: as dictionaries; of CSV every value is a text, or None.
        whole: whether these are all its records.
        raw: the bytes of the records, decompressed where they are text, cut at the end of a record.
        dialect: of CSV.
        problem: what could not be read, as a sentence.
        schema: of Parquet.
    """

    info: ObjectInfo
    compression: str = ""
    format: Format | None = None
    records: Sequence[Record] = ()
    whole: bool = True
    raw: bytes = b""
    dialect: Dialect = field(default_factory=Dialect)
    problem: str = ""
    schema: pa.Schema | None = None


def read(store: ObjectStore, info: ObjectInfo) -> tuple[Content, int]:
    """What an object holds, and how many bytes of it were read."""
    size = min(info.size_bytes, OBJECT_BYTES_MAX)
    data = bytes(store.get_ranges(info.name, [(0, size)])[0]) if size else b""
    compression = next((name for magic, name in _COMPRESSED if data.startswith(magic)), "")
    found = next((form for magic, form in _MAGIC if data.startswith(magic)), None)
    if found is None:
        return _of_text(info, compression, data), len(data)
    if info.size_bytes > WHOLE_BYTES_MAX:
        problem = f"{found} of {info.size_bytes:,} bytes; at most {WHOLE_BYTES_MAX:,} are read to inspect it"
        return Content(info, format=found, whole=False, problem=problem), len(data)
    if info.size_bytes > len(data):
        data += bytes(store.get_ranges(info.name, [(len(data), info.size_bytes - len(data))])[0])
    try:
        return (_of_parquet if found is Format.PARQUET else _of_avro)(info, data), len(data)
    except Exception as error:  # what damaged bytes raise is not documented
        return Content(info, format=found, problem=f"it cannot be read as {found}: {error}"), len(data)


def _of_parquet(info: ObjectInfo, data: bytes) -> Content:
    file = pq.ParquetFile(pa.BufferReader(data))
    batches = islice(file.iter_batches(RECORDS_MAX), 1)
    records = [row for batch in batches for row in _microseconds(batch).to_pylist()]
    codecs = {
        file.metadata.row_group(group).column(0).compression.lower()
        for group in range(file.metadata.num_row_groups)
        if file.metadata.num_columns
    }
    compression = ", ".join(sorted(codecs - {"uncompressed"}))
    whole = len(records) == file.metadata.num_rows
    return Content(info, compression, Format.PARQUET, records, whole, data, schema=file.schema_arrow)


def _microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows without nanoseconds, which Python's times do not have."""
    columns = [
        pc.cast(column, pa.timestamp("us", column.type.tz), safe=False) if _is_nanoseconds(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _is_nanoseconds(type_: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type_) and type_.unit == "ns")


def _of_avro(info: ObjectInfo, data: bytes) -> Content:
    reader = fastavro.reader(io.BytesIO(data))
    records: list[Any] = list(islice(reader, RECORDS_MAX + 1))
    codec = str(reader.codec or "")
    whole = len(records) <= RECORDS_MAX
    return Content(info, "" if codec == "null" else codec, Format.AVRO, records[:RECORDS_MAX], whole, data)


def _of_text(info: ObjectInfo, compression: str, data: bytes) -> Content:
    try:
        plain, whole = _plain(info, data)
    except RefoldError as error:
        return Content(info, compression, problem=str(error).splitlines()[0])
    base = Content(info, compression, raw=plain, whole=whole)
    text = plain.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"\0":
        return _without_format(base, "framed messages (a zero, four bytes of a schema's number): declare their decoder")
    if b"\0" in plain[:4096] or not _is_utf8(plain):
        return _without_format(base, "bytes that are no text and no format that is known")
    if text[:1] == b"{":
        return _of_lines(base)
    return _of_array(base) if text[:1] == b"[" else _of_csv(base)


def _without_format(content: Content, problem: str) -> Content:
    return Content(content.info, content.compression, whole=content.whole, problem=f"it holds {problem}")


def _plain(info: ObjectInfo, data: bytes) -> tuple[bytes, bool]:
    """The first plain bytes of an object, and whether these are all. Raises UnreadableObject for a damaged one."""
    found, size = list[bytes](), 0
    try:
        for piece in plain_pieces(info.name, [data]):
            found.append(piece)
            size += len(piece)
            if size > 2 * OBJECT_BYTES_MAX:
                return b"".join(found), False
    except RefoldError:
        if len(data) == info.size_bytes:
            raise
    return b"".join(found), len(data) == info.size_bytes


def _is_utf8(plain: bytes) -> bool:
    try:
        plain[: 1 << 16].decode()
    except UnicodeDecodeError as error:
        return error.start > len(plain[: 1 << 16]) - 4
    return True


def _of_lines(content: Content) -> Content:
    records, used, decoder = list[Record](), 0, json.JSONDecoder(parse_float=Decimal)
    text = content.raw.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    at, bad = 0, 0
    while len(records) < RECORDS_MAX:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if at >= len(text):
            break
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = text.find("\n", at)
            if end < 0:
                break
            value, bad = None, bad + 1
        if isinstance(value, dict):
            records.append(value)
        at = used = end
    raw = text[:used].encode("utf-8", "surrogateescape") + b"\n"
    whole = content.whole and not text[used:].strip()
    problem = "" if records else "no line of it is a JSON object"
    return Content(content.info, content.compression, Format.JSON_LINES, records, whole, raw, problem=problem)


def _of_array(content: Content) -> Content:
    if not content.whole:
        problem = f"one JSON array of more than {OBJECT_BYTES_MAX:,} bytes; smaller objects are needed to inspect it"
        return Content(content.info, content.compression, Format.JSON_ARRAY, whole=False, problem=problem)
    try:
        values = json.loads(content.raw.decode("utf-8-sig"), parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        return _without_format(content, f"no whole JSON array: {error}")
    records = [value for value in values if isinstance(value, dict)]
    problem = "" if records or not values else "no element of its array is an object"
    return Content(
        content.info,
        content.compression,
        Format.JSON_ARRAY,
        records[:RECORDS_MAX],
        len(records) <= RECORDS_MAX,
        content.raw,
        problem=problem,
    )


def _of_csv(content: Content) -> Content:
    raw = content.raw if content.whole else content.raw[: content.raw.rfind(b"\n") + 1]
    text = raw.decode("utf-8-sig", "replace")
    delimiter = max(_DELIMITERS, key=lambda each: _regularity(text, each))
    if not _regularity(text, delimiter):
        return _without_format(content, "text that is neither JSON nor delimited")
    rows = list(islice(_rows(text, delimiter), RECORDS_MAX + 2))
    names = tuple(rows[0])
    has_names = len({*names}) == len(names) and all(_is_name(each) for each in names)
    fields = names if has_names else tuple(f"field_{n}" for n in range(1, len(names) + 1))
    body = rows[1:] if has_names else rows
    records = [dict(zip(fields, (v or None for v in row), strict=True)) for row in body if len(row) == len(fields)]
    dialect = Dialect(delimiter, () if has_names else fields)
    whole = content.whole and len(body) <= RECORDS_MAX
    return Content(content.info, content.compression, Format.CSV, records[:RECORDS_MAX], whole, raw, dialect)


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    return filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def _regularity(text: str, delimiter: str) -> float:
    """How many fields a delimiter makes, where it makes the same number nearly everywhere; 0 else."""
    try:
        widths = [len(row) for row in islice(_rows(text[: 1 << 16], delimiter), 100)]
    except csv.Error:
        return 0
    if not widths or widths[0] < 2:
        return 0
    same = sum(width == widths[0] for width in widths[:-1] or widths)
    return widths[0] if same >= 0.9 * len(widths[:-1] or widths) else 0


def _is_name(text: str) -> bool:
    return (
        bool(text) and len(text) <= 100 and not text[0].isdigit() and text not in ("I", "U", "D") and "\n" not in text
    )
