"""The throughput of each landing format: to sealed segments, beside the library that merely parses the same bytes.

`python -m benchmarks.formats [--events N] [--rounds N] [FORMAT …]` prints CPU seconds and the medians of their ratios
over rounds of all three in turns, in one process that is warm. Sealing decodes, checks, gives log partitions and
offsets, finds repeats, hashes and writes Parquet; decoding makes checked columns; parsing keeps nothing.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import gzip
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from isal import isal_zlib

from refold import (
    Avro,
    AvroMessages,
    Csv,
    Daily,
    Framed,
    Framing,
    JsonArray,
    JsonLines,
    Log,
    Parquet,
    Project,
    ProtobufMessages,
    decimal,
    int64,
    latest_by_key,
    text,
    timestamp,
)
from refold.config import Settings
from refold.engine import Engine
from refold.landing.decoder import ByPieces

DAY = dt.date(2026, 1, 31)
OBJECTS = 4
COLUMNS = {"id": text(), "sku": text(), "n": int64(), "price": decimal(12, 2), "at": timestamp()}
FIELDS = {
    "id": "string",
    "sku": "string",
    "n": "long",
    "price": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
    "at": {"type": "long", "logicalType": "timestamp-micros"},
}
AVRO: Any = {"type": "record", "name": "e", "fields": [{"name": name, "type": kind} for name, kind in FIELDS.items()]}
ARROW = pa.schema([(name, pa.int64() if name == "n" else pa.string()) for name in COLUMNS])

Rows = Sequence[dict[str, Any]]


class Format(NamedTuple):
    """A format: its decoder, how objects are written and named, and what merely parses one."""

    decoder: ByPieces
    suffix: str
    write: Callable[[Rows], bytes]
    parse: Callable[[bytes], object]


def rows(events: int) -> list[dict[str, Any]]:
    """Events as texts and integers."""
    start = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
    return [
        {
            "id": f"{n * 2654435761 % 2**32:08x}-{n:012}",
            "sku": f"sku-{n * n % 9973}",
            "n": n % 1000,
            "price": f"{n % 100000}.{n % 100:02}",
            "at": f"{start + dt.timedelta(milliseconds=n):%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        for n in range(events)
    ]


def _typed(table: pa.Table) -> pa.Table:
    at = table["at"].cast(pa.timestamp("us", "UTC"))
    table = table.set_column(4, "at", at)
    return table.set_column(3, "price", table["price"].cast(pa.decimal128(12, 2)))


def _json_lines(found: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in found)


def _csv(found: Rows, quoting: int) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(COLUMNS), quoting=quoting)  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue().encode()


def _parquet(found: Rows) -> bytes:
    out = io.BytesIO()
    pq.write_table(_typed(pa.Table.from_pylist(list(found), ARROW)), out)
    return out.getvalue()


def _avro(found: Rows) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, AVRO, _typed(pa.Table.from_pylist(list(found), ARROW)).to_pylist(), codec="snappy")
    return out.getvalue()


def _messages(raws: Iterator[bytes]) -> bytes:
    return b"".join(len(raw).to_bytes(4, "big") + raw for raw in raws)


def _each_message(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def _framed_avro(found: Rows) -> bytes:
    def raws() -> Iterator[bytes]:
        for row in _typed(pa.Table.from_pylist(list(found), ARROW)).to_pylist():
            out = io.BytesIO()
            fastavro.schemaless_writer(out, _PARSED, row)
            yield b"\0\0\0\0\1" + out.getvalue()

    return _messages(raws())


def _parse_framed_avro(data: bytes) -> list[Any]:
    return [fastavro.schemaless_reader(io.BytesIO(raw[5:]), _PARSED, None) for raw in _each_message(data)]


_PARSED = fastavro.parse_schema(AVRO)


def _descriptors() -> bytes:
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="e.proto", syntax="proto3")
    message = file.message_type.add(name="E")
    for number, name in enumerate(COLUMNS, 1):
        type_ = kind.TYPE_INT64 if name == "n" else kind.TYPE_STRING
        message.field.add(name=name, number=number, type=type_, label=kind.LABEL_OPTIONAL)
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def _event_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(_descriptors()).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("E"))


_EVENT = _event_class()
_CSV_TYPES = pacsv.ConvertOptions(column_types=ARROW)
_JSON_TYPES = pajson.ParseOptions(explicit_schema=ARROW)


def _parse_json(data: bytes) -> pa.Table:
    return pajson.read_json(pa.BufferReader(data), pajson.ReadOptions(use_threads=False), _JSON_TYPES)


def _parse_csv(data: bytes) -> pa.Table:
    return pacsv.read_csv(pa.BufferReader(data), pacsv.ReadOptions(use_threads=False), convert_options=_CSV_TYPES)


FORMATS = {
    "jsonl": Format(JsonLines(), ".jsonl", _json_lines, _parse_json),
    "jsonl.gz": Format(
        JsonLines(),
        ".jsonl.gz",
        lambda found: gzip.compress(_json_lines(found), 6),
        lambda data: _parse_json(isal_zlib.decompress(data, 31)),
    ),
    "array": Format(JsonArray(), ".json", lambda found: json.dumps(found).encode(), json.loads),
    "csv": Format(Csv(), ".csv", lambda found: _csv(found, csv.QUOTE_MINIMAL), _parse_csv),
    "csv-quoted": Format(Csv(), ".csv", lambda found: _csv(found, csv.QUOTE_ALL), _parse_csv),
    "parquet": Format(
        Parquet(), ".parquet", _parquet, lambda data: pq.read_table(pa.BufferReader(data), use_threads=False)
    ),
    "avro": Format(Avro(), ".avro", _avro, lambda data: list(fastavro.reader(io.BytesIO(data)))),
    "avro-framed": Format(
        Framed(messages=AvroMessages({1: json.dumps(AVRO)}), framing=Framing.INT32),
        ".bin",
        _framed_avro,
        _parse_framed_avro,
    ),
    "protobuf": Format(
        Framed(messages=ProtobufMessages(_descriptors(), "E"), framing=Framing.INT32),
        ".bin",
        lambda found: _messages(_EVENT(**row).SerializeToString() for row in found),
        lambda data: [_EVENT.FromString(raw) for raw in _each_message(data)],
    ),
}


def _seal(folder: Path, decoder: ByPieces, events: int) -> float:
    """CPU seconds to sealed segments, into a store of its own."""
    log = Log("e", key="sku", event_id="id", columns=COLUMNS, decoder=decoder, partitions=4)
    store = latest_by_key(log, "latest", version=1, columns={"n": int64()})
    with tempfile.TemporaryDirectory(dir=folder) as place:
        settings = Settings(
            str(folder / "landing"), f"{place}/store", f"sqlite:///{place}/x.db", Path(place) / "search"
        )
        now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
        engine = Engine(Project("formats", Daily(DAY), [store]), settings, now=now)
        start = time.process_time()
        for _ in engine.sealing.seal(None):
            pass
        seconds = time.process_time() - start
        cut = engine.chain.get().cut("e")
    assert cut.read == cut.events == events, "a format that is not read as written"
    return seconds


def _decode(folder: Path, decoder: ByPieces) -> float:
    start = time.process_time()
    for path in sorted((folder / "landing").rglob("part*")):
        for _ in decoder.pieces(path.name, [path.read_bytes()], COLUMNS, ("sku",)):
            pass
    return time.process_time() - start


def _parse(folder: Path, parse: Callable[[bytes], object]) -> float:
    start = time.process_time()
    for path in sorted((folder / "landing").rglob("part*")):
        parse(path.read_bytes())
    return time.process_time() - start


class Seconds(NamedTuple):
    """CPU seconds of one round."""

    sealed: float
    decoded: float
    parsed: float


def measure(name: str, events: int, rounds: int) -> list[Seconds]:
    """Rounds of sealing, decoding alone and parsing the same objects, after one that warms up."""
    form, made = FORMATS[name], rows(events)
    with tempfile.TemporaryDirectory() as place:
        folder, root = Path(place) / "landing" / "e" / f"dt={DAY}", Path(place)
        folder.mkdir(parents=True)
        for number in range(OBJECTS):
            (folder / f"part-{number}{form.suffix}").write_bytes(form.write(made[number::OBJECTS]))
        decoder, parse = form.decoder, form.parse
        return [
            Seconds(_seal(root, decoder, events), _decode(root, decoder), _parse(root, parse))
            for _ in range(rounds + 1)
        ][1:]


def main() -> None:
    """Measure the formats named, or all."""
    parser = argparse.ArgumentParser(prog="benchmarks.formats", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{'format':12} {'sealed':>8} {'decoded':>8} {'parsed':>8} {'sealed/parsed':>14} {'decoded/parsed':>15}")  # noqa: T201
    for name in given.formats or FORMATS:
        found = measure(name, given.events, given.rounds)
        seconds = [statistics.median(each) for each in zip(*found, strict=True)]
        ratios = [statistics.median(each[side] / each.parsed for each in found) for side in (0, 1)]
        shown = " ".join(f"{each:8.2f}" for each in seconds)
        print(f"{name:12} {shown} {ratios[0]:14.1f} {ratios[1]:15.1f}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
