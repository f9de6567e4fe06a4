"""Cases from public reports, laid out and written as each tool does it: the answers are those of the reports.

The records of a case are put into small objects of every supported layout, compression and format. What is read is
compared with the answer, and counted: nothing is lost, whatever cannot be read.
"""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import cramjam
import fastavro
import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refold import (
    DEBEZIUM_MYSQL,
    DEBEZIUM_POSTGRESQL,
    DEBEZIUM_SQLSERVER,
    MAXWELL,
    PLACE,
    Avro,
    AvroMessages,
    ChangeOp,
    Csv,
    Daily,
    Debezium,
    Folders,
    Framed,
    Framing,
    Hourly,
    JsonArray,
    JsonLines,
    Log,
    MaxwellOp,
    Names,
    Parquet,
    Project,
    QuarantineLimits,
    date,
    decimal,
    enum,
    int64,
    latest_by_key,
    text,
    timestamp,
)
from refold.landing import names
from refold.landing.change_sources import ChangeSource
from refold.landing.decoder import Decoder
from refold.landing.layout import Layout
from refold.landing.typed_rows import TypedRows
from refold.log.reader import LogReader
from refold.seal.cadence import Cadence
from tests.support import Shop, seal_and_prove

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAY = dt.date(2026, 1, 31)
NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)

ALL_BAD = QuarantineLimits(share_max=1.0)


class Case(NamedTuple):
    """A log, where its records are, the column that is compared, and its answer by key; how many are bad or control."""

    log: Log
    folder: str
    column: str
    right: dict[Any, Any]
    bad: int = 0
    control: int = 0


def changes(name: str, source: ChangeSource, key: str | tuple[str, ...], /, **columns: Any) -> Log:
    return Log.of_changes(name, source, key=key, columns=columns, quarantine=ALL_BAD, partitions=2)


EARLY = dt.datetime(2023, 11, 17, 0, 0, 0, 123456, dt.UTC)
CASES = [
    Case(
        changes("t1", DEBEZIUM_MYSQL, "f1", f1=int64(), note=text(null=True)),
        "field/mysql_key_update",
        "note",
        {1: "stays", 45600: "new key"},
        control=1,
    ),
    Case(
        changes("tickets", DEBEZIUM_POSTGRESQL, "id", id=int64(), status=text(null=True)),
        "field/unpadded_offsets",
        "status",
        {7: "closed"},
    ),
    Case(
        changes("people", DEBEZIUM_SQLSERVER, "id", id=int64(), name=text(null=True)),
        "field/shared_lsn",
        "name",
        {2: "bob", 11: "ann"},
        control=1,
    ),
    Case(
        changes("bios", DEBEZIUM_POSTGRESQL, "id", id=int64(), bio=text(null=True)),
        "field/toast_placeholder",
        "bio",
        {1: "long text long text long text "},
    ),
    Case(
        changes("paid", DEBEZIUM_POSTGRESQL, ("emp_no", "from_date"), emp_no=int64(), from_date=date(), salary=int64()),
        "field/composite_key",
        "salary",
        {(1, dt.date(2020, 1, 1)): 10, (1, dt.date(2021, 1, 1)): 11},
    ),
    Case(
        changes("times", DEBEZIUM_POSTGRESQL, "id", id=int64(), at=timestamp(epoch="us")),
        "field/debezium_times",
        "at",
        {1: EARLY, 2: dt.datetime(1970, 1, 20, 16, 16, 19, 200123, dt.UTC)},
        bad=1,
    ),
    Case(
        changes("w", DEBEZIUM_POSTGRESQL, "w_id", w_id=int64(), w_ytd=decimal(12, 2)),
        "field/debezium_decimals",
        "w_ytd",
        {3: Decimal("1234.00"), 4: Decimal("10000.00")},
        bad=3,
    ),
    Case(
        Log("q", key="id", event_id="id", columns={"id": int64(quoted=True), "total": int64()}),
        "field/quoted_int64",
        "total",
        {1: 50, 9007199254740993: 51},
    ),
    Case(
        Log("java", key="id", event_id="id", columns={"id": text(), "n": int64(), "at": timestamp()}),
        "field/java_times",
        "n",
        {f"e{number}": 1 for number in range(300)},
    ),
    Case(
        changes("users", MAXWELL, "id", id=int64(), name=text()),
        "cdc/risingwave_cdc/maxwell_json.1",
        "name",
        {1: "tom", 2: "chi"},
    ),
    Case(
        changes("products", DEBEZIUM_MYSQL, "id", id=int64(), description=text(null=True)),
        "cdc/flink_json/debezium-data-schema-exclude.txt",
        "description",
        {},
    ),
]


def lines_of(shared_data: Path, case: Case) -> list[bytes]:
    """The records of a case, in the order of its objects."""
    place = shared_data / case.folder
    if not place.exists():
        pytest.skip(f"{place} is not there")
    paths = [place] if place.is_file() else [path for path in place.rglob("*.json*") if path.is_file()]
    paths.sort(key=lambda path: (len(path.name), path.name))
    return [line for path in paths for line in path.read_bytes().splitlines() if line.strip()]


def right_of(shared_data: Path, case: Case) -> dict[Any, Any]:
    if case.right:
        return case.right
    expected = json.loads((shared_data / "cdc" / "flink_json" / "expected.json").read_text())[Path(case.folder).name]
    return {row["id"]: row["description"] for row in expected}


def store_of(log: Log, column: str) -> Any:
    kind = replace(log.columns[column], reading=type(log.columns[column].reading)())
    delete = MaxwellOp.DELETE if "delete" in log.columns.get("op", text()).values else ChangeOp.DELETE
    options: dict[str, Any] = {"delete_when": ("op", delete)} if "op" in log.columns else {}
    return latest_by_key(log, f"{log.name}_latest", version=1, columns={column: kind}, **options)


Write = Callable[[str, int, int, int], str]
"""From the topic, the first offset, the last offset and the number of an object to its name."""

LAYOUTS: dict[str, tuple[Layout, Cadence, Write]] = {
    "folders": (Folders("dt={date}"), Daily(DAY), lambda t, a, b, n: f"dt=2026-01-31/part-{n:05}.json"),
    "hive": (
        Folders("year={year}/month={month}/day={day}"),
        Daily(DAY),
        lambda t, a, b, n: f"year=2026/month=01/day=31/part-{n:05}.json",
    ),
    "confluent": (names.CONFLUENT, Daily(DAY), lambda t, a, b, n: f"partition=0/{t}+0+{a:010}.json"),
    "confluent-daily": (
        names.CONFLUENT_DAILY,
        Daily(DAY),
        lambda t, a, b, n: f"year=2026/month=01/day=31/hour={n % 24:02}/{t}+0+{a:010}.json",
    ),
    "confluent-hourly": (
        names.CONFLUENT_HOURLY,
        Hourly(NOON),
        lambda t, a, b, n: f"year=2026/month=01/day=31/hour=12/{t}+0+{a:010}.json",
    ),
    "confluent-fields": (names.CONFLUENT_FIELDS, Daily(DAY), lambda t, a, b, n: f"kind={n % 2}/{t}+0+{a:010}.json"),
    "aiven": (names.AIVEN, Daily(DAY), lambda t, a, b, n: f"{t}-0-{a}.json"),
    "lenses": (names.LENSES, Daily(DAY), lambda t, a, b, n: f"{t}(0_{b}).json"),
    "lenses-folders": (names.LENSES, Daily(DAY), lambda t, a, b, n: f"{t}/0/{b}.json"),
    "firehose": (names.FIREHOSE, Hourly(NOON), lambda t, a, b, n: f"2026/01/31/12/{t}-1-2026-01-31-12-00-{n:03}.json"),
    "firehose-daily": (names.FIREHOSE_DAILY, Daily(DAY), lambda t, a, b, n: f"2026/01/31/{n % 24:02}/{t}-{n:03}.json"),
    "dms": (
        names.DMS,
        Daily(DAY),
        lambda t, a, b, n: "LOAD00000001.json" if n == 0 else f"20260131-10{n // 60:02}{n % 60:02}000.json",
    ),
    "template": (
        Names("{date}/{topic}.{partition}.{offset}"),
        Daily(DAY),
        lambda t, a, b, n: f"2026-01-31/{t}.0.{a}.json",
    ),
}


def java_snappy(data: bytes) -> bytes:
    raw = bytes(cramjam.snappy.compress_raw(data))
    return b"\x82SNAPPY\x00" + bytes([0, 0, 0, 1, 0, 0, 0, 1]) + len(raw).to_bytes(4, "big") + raw


COMPRESSED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", bytes),
    (".gz", gzip.compress),
    (".zst", zstd.compress),
    (".lz4", lz4.frame.compress),
    (".bz2", bz2.compress),
    (".snappy", java_snappy),
    (".snappy", lambda data: bytes(cramjam.snappy.compress(data))),
]


def parts(lines: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """The records in objects of one to three, or of fifty, with the offset of the first of each."""
    start, sizes = 0, [1, 2, 3] if len(lines) < 100 else [50]
    while start < len(lines):
        size = sizes[start % len(sizes)]
        yield start, lines[start : start + size]
        start += size


def sealed(tmp_path: Path, cases: Sequence[tuple[Case, Log]], cadence: Cadence) -> Shop:
    stores = [store_of(log, case.column) for case, log in cases]
    shop = Shop(tmp_path, Project("field", cadence, stores))
    seal_and_prove(shop.engine())
    return shop


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))


def check(shop: Shop, case: Case, log: Log, right: dict[Any, Any], lines: Sequence[bytes]) -> None:
    """The answer, and that every record is an event, quarantined or a control record."""
    engine = shop.engine()
    newest = engine.chain.get()
    found = engine.rows(engine.project.store(f"{log.name}_latest"), newest).to_pylist()
    keys = [tuple(row[name] for name in log.key_columns) for row in found]
    got = dict(zip((key if len(key) > 1 else key[0] for key in keys), (r[case.column] for r in found), strict=True))
    assert got == right, log.name
    cuts = [snapshot.cut(log.name) for snapshot in engine.chain]
    counts = [sum(getattr(cut, name) for cut in cuts) for name in ("read", "quarantined", "control")]
    assert counts == [len(lines), case.bad, case.control], log.name
    reader = LogReader(engine.objects, engine.chain, log)
    events = pa.concat_tables(reader.events(snapshot) for snapshot in engine.chain)
    places = list(zip(events["source_object"].to_pylist(), events["source_line"].to_pylist(), strict=True))
    bad = [item for item in engine.quarantine() if item.log == log.name]
    assert Counter(places).total() == len(set(places)) == len(lines) - case.bad - case.control
    assert not {(item.object, item.record.number) for item in bad} & set(places)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_case_has_its_answer_in_every_layout(shared_data: Path, tmp_path: Path, layout: str) -> None:
    declared, cadence, name_of = LAYOUTS[layout]
    logs = [replace(case.log, layout=declared) for case in CASES]
    for case, log in zip(CASES, logs, strict=True):
        for number, (start, part) in enumerate(parts(lines_of(shared_data, case))):
            suffix, compress = COMPRESSED[number % len(COMPRESSED)]
            name = name_of(log.name, start, start + len(part) - 1, number) + suffix
            write(tmp_path / "landing" / log.name / name, compress(b"\n".join(part) + b"\n"))
    shop = sealed(tmp_path, list(zip(CASES, logs, strict=True)), cadence)
    for case, log in zip(CASES, logs, strict=True):
        check(shop, case, log, right_of(shared_data, case), lines_of(shared_data, case))


def envelopes(lines: Sequence[bytes], log: Log) -> list[dict[str, Any]]:
    """Change events with the fields that the log reads: what a typed file of the same table has."""
    own = [name for name in log.columns if name != "op" and not name.startswith("source_")]
    found = []
    for line in lines:
        event = json.loads(line)
        if event is None:  # a tombstone has no row in a file
            continue
        sides = {
            side: None if event[side] is None else {name: event[side].get(name) for name in own}
            for side in ("before", "after")
        }
        found.append({**sides, "op": event["op"], "source": event["source"]})
    return found


def avro_type(kind: pa.DataType, name: str) -> Any:
    if pa.types.is_struct(kind):
        fields = [{"name": each.name, "type": avro_type(each.type, f"{name}_{each.name}")} for each in kind]
        return ["null", {"type": "record", "name": name, "fields": fields}]
    names = {pa.int64(): "long", pa.string(): "string", pa.bool_(): "boolean", pa.null(): "null"}
    return "null" if kind == pa.null() else ["null", names[kind]]


def avro_schema(schema: pa.Schema) -> dict[str, Any]:
    return {**avro_type(pa.struct(list(schema)), "event")[1], "name": "event"}


def as_parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), out)
    return out.getvalue()


def as_avro(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, avro_schema(schema), rows, codec="snappy")
    return out.getvalue()


def as_messages(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    messages = b""
    for row in rows:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, avro_schema(schema), row)
        raw = b"\0\0\0\0\7" + out.getvalue()
        messages += len(raw).to_bytes(4, "big") + raw
    return messages


def messages_of(schema: pa.Schema) -> Framed:
    return Framed(messages=AvroMessages({7: json.dumps(avro_schema(schema))}), framing=Framing.INT32)


FORMATS: dict[str, tuple[Callable[[pa.Schema], TypedRows], Callable[[list[dict[str, Any]], pa.Schema], bytes], str]] = {
    "parquet": (lambda _: Parquet(), as_parquet, ".parquet"),
    "avro": (lambda _: Avro(), as_avro, ".avro"),
    "framed": (messages_of, as_messages, ".bin"),
}
TYPED = [case for case in CASES if isinstance(case.log.decoder, Debezium) and case.log.name != "w"]


@pytest.mark.parametrize("form", FORMATS)
def test_changes_have_their_answers_in_typed_files(shared_data: Path, tmp_path: Path, form: str) -> None:
    """Decimals of the case `w` are of several types, which no typed file can hold."""
    decoder_of, encode, suffix = FORMATS[form]
    logs, events = [], []
    for case in TYPED:
        rows = envelopes(lines_of(shared_data, case), case.log)
        schema = pa.Table.from_pylist(rows).schema
        changes = case.log.decoder
        assert isinstance(changes, Debezium)
        log = replace(case.log, layout=names.CONFLUENT, decoder=decoder_of(schema).of(changes))
        for start, part in parts(rows):
            path = tmp_path / "landing" / log.name / f"partition=0/{log.name}+0+{start:010}{suffix}"
            write(path, encode(list(part), schema))
        logs.append(log)
        events.append(rows)
    shop = sealed(tmp_path, list(zip(TYPED, logs, strict=True)), Daily(DAY))
    for case, log, rows in zip(TYPED, logs, events, strict=True):
        check(shop, case._replace(control=0), log, right_of(shared_data, case), rows)


PLAIN = [case for case in CASES if isinstance(case.log.decoder, JsonLines)]
DECODERS: dict[str, tuple[Decoder, Callable[[list[dict[str, Any]]], bytes], str]] = {
    "array": (JsonArray(), lambda rows: json.dumps(rows, indent=1).encode(), ".json"),
    "firehose": (JsonLines(), lambda rows: b"".join(json.dumps(row).encode() for row in rows), ".json"),
    "text": (
        JsonLines({name: (f"body.{name}",) for name in ("id", "total", "n", "at")}, texts=("body",)),
        lambda rows: b"".join(json.dumps({"body": json.dumps(row)}).encode() + b"\n" for row in rows),
        ".json",
    ),
    "rows": (
        JsonLines({name: (f"rows.{name}",) for name in ("id", "total", "n", "at")}, arrays=("rows",)),
        lambda rows: b"".join(json.dumps({"rows": [row]}).encode() + b"\n" for row in rows),
        ".json",
    ),
    "csv": (
        Csv(),
        lambda rows: "".join(
            ",".join(map(str, row)) + "\r\n" for row in [list(rows[0]), *(r.values() for r in rows)]
        ).encode(),
        ".csv",
    ),
    "parquet": (Parquet(), lambda rows: as_parquet(rows, pa.Table.from_pylist(rows).schema), ".parquet"),
    "avro": (Avro(), lambda rows: as_avro(rows, pa.Table.from_pylist(rows).schema), ".avro"),
}


@pytest.mark.parametrize("form", DECODERS)
def test_rows_have_their_answers_in_every_format(shared_data: Path, tmp_path: Path, form: str) -> None:
    decoder, encode, suffix = DECODERS[form]
    logs = [replace(case.log, layout=names.DMS, decoder=decoder) for case in PLAIN]
    for case, log in zip(PLAIN, logs, strict=True):
        rows = [json.loads(line) for line in lines_of(shared_data, case)]
        for number, (_, part) in enumerate(parts(rows)):
            name = "LOAD00000001" if number == 0 else f"20260131-10{number // 60:02}{number % 60:02}000"
            write(tmp_path / "landing" / log.name / f"{name}{suffix}", encode(list(part)))
    shop = sealed(tmp_path, list(zip(PLAIN, logs, strict=True)), Daily(DAY))
    for case, log in zip(PLAIN, logs, strict=True):
        check(shop, case, log, case.right, lines_of(shared_data, case))


class Op(Enum):
    """The operations in DMS's files."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"


def test_files_of_dms_are_a_load_and_changes_with_their_operation(tmp_path: Path) -> None:
    """The load has no operation where DMS is not asked to write one; the same table as CSV and as Parquet."""
    columns = {"Op": enum(Op, default=Op.INSERT), "at": text(null=True), "id": int64(), "name": text(null=True)}
    load = [{"at": "", "id": 1, "name": "ann"}, {"at": "", "id": 2, "name": "bob"}]
    changed = [("U", "10:00:01", 1, "anna"), ("D", "10:00:02", 2, "bob"), ("I", "10:00:03", 3, 'c, "d"')]
    for form, decoder in (("csv", Csv()), ("parquet", Parquet())):
        log = Log("t", key="id", event_id=PLACE, columns=columns, decoder=decoder, layout=names.DMS, landing="shop/t")
        store = latest_by_key(
            log, "t_latest", version=1, columns={"name": text(null=True)}, delete_when=("Op", Op.DELETE)
        )
        later = [dict(zip(("Op", "at", "id", "name"), row, strict=True)) for row in changed]
        folder = tmp_path / form / "landing" / "shop" / "t"
        for name, rows in (("LOAD00000001", load), ("20260131-100000000", later)):
            out = io.StringIO()
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            schema = pa.Table.from_pylist(rows).schema
            write(folder / f"{name}.{form}", out.getvalue().encode() if form == "csv" else as_parquet(rows, schema))
        shop = Shop(tmp_path / form, Project("dms", Daily(DAY), [store]))
        seal_and_prove(shop.engine())
        engine = shop.engine()
        found = engine.rows(store, engine.chain.get()).to_pylist()
        assert {row["id"]: row["name"] for row in found} == {1: "anna", 3: 'c, "d"'}
