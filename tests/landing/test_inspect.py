"""Inspecting an unknown bucket: what it finds, and that what it declares seals and proves all of it."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from refold import Daily, Log, Project, latest_by_key
from refold.cli.main import cli
from refold.landing.inspect import Findings, LogFound, inspect
from tests.support import Shop, seal_and_prove

DAYS = (dt.date(2026, 1, 30), dt.date(2026, 1, 31), dt.date(2026, 2, 1))
Rows = Sequence[Mapping[str, Any]]


def rows_of(day: int, partition: int = 0) -> list[dict[str, Any]]:
    """Four orders of a day, each of another customer; nothing of one day is repeated on another."""
    start = 100 * day + 10 * partition
    return [
        {
            "event_id": f"e{start + n}",
            "order_id": f"o{partition}{n % 3}",
            "shop_id": n % 2,
            "amount": 1.25 * (n + 1),
            "units": n,
            "paid": n % 2 == 0,
            "at": f"2026-01-1{day}T10:00:0{n}Z",
            "note": None if n else "first",
            "customer": {"id": f"c{n}", "tags": ["x"]},
        }
        for n in range(4)
    ]


def json_lines(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def glued(rows: Rows) -> bytes:
    return gzip.compress(b"".join(json.dumps(row).encode() for row in rows))


def array(rows: Rows) -> bytes:
    return json.dumps(rows, indent=1).encode()


def delimited(rows: Rows) -> bytes:
    names = [name for name in rows[0] if name != "customer"]
    lines = [names, *([_csv(row[name]) for name in names] for row in rows)]
    return "".join(",".join(line) + "\r\n" for line in lines).encode()


def _csv(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def parquet(rows: Rows) -> bytes:
    table = pa.Table.from_pylist([{**row, "at": dt.datetime.fromisoformat(row["at"])} for row in rows])
    amounts = pa.array([None if row["amount"] is None else f"{row['amount']:.2f}" for row in rows])
    table = table.set_column(table.schema.get_field_index("amount"), "amount", amounts.cast(pa.decimal128(10, 2)))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy")
    return sink.getvalue()


def avro(rows: Rows) -> bytes:
    text, note = {"type": "string"}, ["null", "string"]
    customer = {"type": "record", "name": "customer", "fields": [{"name": "id", "type": "string"}]}
    fields = {"event_id": text, "order_id": text, "shop_id": "long", "units": "long", "paid": "boolean", "note": note}
    schema = {
        "type": "record",
        "name": "order",
        "fields": [{"name": n, "type": t} for n, t in {**fields, "customer": customer}.items()],
    }
    sink = io.BytesIO()
    fastavro.writer(sink, schema, rows, codec="deflate")
    return sink.getvalue()


BUCKETS: Mapping[str, tuple[str, Callable[[Rows], bytes]]] = {
    "CONFLUENT": ("topics/shop.orders/partition={p}/shop.orders+{p}+{o:010}.json", json_lines),
    "CONFLUENT_DAILY": ("t/orders/year={y}/month={m:02}/day={d:02}/hour=05/orders+{p}+{o:010}.avro", avro),
    "CONFLUENT_FIELDS": (
        "t/orders/country=DE/orders+{p}+{o:010}.json.bz2",
        lambda rows: bz2.compress(json_lines(rows)),
    ),
    "AIVEN": ("sink/orders-{p}-{o}.gz", lambda rows: gzip.compress(json_lines(rows))),
    "LENSES": ("sink/orders({p}_{last:012}).json", json_lines),
    "FIREHOSE_DAILY": ("{y}/{m:02}/{d:02}/05/orders-1-{y}-{m:02}-{d:02}-05-00-00-{p}ab-cd", glued),
    "DMS": ("public/orders/{y}{m:02}{d:02}-10000000{p}.csv", delimited),
    'Folders("dt={date}")': ("orders/dt={y}-{m:02}-{d:02}/part-{p:05}-ab.snappy.parquet", parquet),
    'Folders("year={year}/month={month}/day={day}")': (
        "orders/year={y}/month={m}/day={d}/part-{p:05}-ab.snappy.parquet",
        parquet,
    ),
    'Folders("y={year}/m={month}/d={day}")': ("orders/y={y}/m={m:02}/d={d:02}/{p}.json", array),
    'Folders("{year}/{month}/{day}")': ("in/orders/{y}/{m:02}/{d:02}/{p}.ndjson", json_lines),
    'Names("orders_{date}{any}")': ("in/orders_{y}-{m:02}-{d:02}_{p}.csv", delimited),
    'Names("{any}", arrival="day")': ("in/export{n}.jsonl", json_lines),
}


def put(root: Path, name: str, data: bytes, day: dt.date = DAYS[0]) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    arrived = dt.datetime(day.year, day.month, day.day, 12, tzinfo=dt.UTC).timestamp()
    os.utime(path, (arrived, arrived))


def fill(root: Path, pattern: str, write: Callable[[Rows], bytes]) -> int:
    """Three days of two log partitions; returns the number of records."""
    count = 0
    for number, day in enumerate(DAYS):
        for partition in (0, 1):
            rows, offset = rows_of(number, partition), 4 * number
            fields = {"p": partition, "o": offset, "last": offset + 3, "n": 2 * number + partition}
            put(root, pattern.format(y=day.year, m=day.month, d=day.day, **fields), write(rows), day)
            count += len(rows)
    return count


def declared(found: Findings) -> list[Log]:
    """The logs of the printed declaration, as Python makes them."""
    module: dict[str, Any] = {}
    exec(found.declaration(), module)
    return [value for value in module.values() if isinstance(value, Log)]


def sealed(root: Path, landing: Path, found: Findings) -> int:
    """Seal and prove what is declared, with a store for each log; how many events, none of them quarantined."""
    logs = declared(found)
    assert len(logs) == len(found.logs)
    assert found.first_day is not None
    stores = [
        latest_by_key(
            log, f"latest_{log.name}", version=1, columns={n: c for n, c in log.columns.items() if n != log.key}
        )
        for log in logs
    ]
    shop = Shop(root, Project("found", Daily(dt.date.fromisoformat(found.first_day)), stores), landing)
    seal_and_prove(shop.engine())
    cuts = [snapshot.cut(log.name) for snapshot in shop.engine().chain for log in logs]
    assert sum(cut.quarantined for cut in cuts) == 0
    return sum(cut.events for cut in cuts)


@pytest.mark.parametrize("layout", BUCKETS)
def test_what_is_declared_for_a_bucket_seals_and_proves_every_record(layout: str, tmp_path: Path) -> None:
    pattern, write = BUCKETS[layout]
    count = fill(tmp_path / "in", pattern, write)
    found = inspect(str(tmp_path / "in"))
    (log,) = found.logs
    assert f"layout={layout}," in found.declaration()
    assert (found.strange, list(log.reasons)) == ([], [])
    assert log.keys == [str(day) for day in DAYS]
    assert log.proposal is not None
    assert (log.proposal.key, log.proposal.event_id) == ("order_id", ("event_id",))
    assert (log.proposal.checked, log.proposal.bad) == (count, {})
    assert sealed(tmp_path, tmp_path / "in", found) == count


def test_fields_have_types_nulls_ranges_and_notes(tmp_path: Path) -> None:
    fill(tmp_path, *BUCKETS["CONFLUENT"])
    (log,) = inspect(str(tmp_path)).logs
    found = {each.dotted: (str(each.type), each.nulls, each.distinct, each.minimum, each.note) for each in log.fields}
    assert found == {
        "event_id": ("text", 0, 24, "e0", ""),
        "order_id": ("text", 0, 6, "o00", ""),
        "shop_id": ("int64", 0, 2, "0", ""),
        "amount": ("decimal(18, 2)", 0, 4, "1.25", ""),
        "units": ("int64", 0, 4, "0", ""),
        "paid": ("boolean", 0, 2, "False", ""),
        "at": ("timestamp", 0, 12, "2026-01-10T10:00:00Z", ""),
        "note": ("text?", 18, 1, "first", ""),
        "customer.id": ("text", 0, 4, "c0", ""),
        "customer.tags": ("None", 0, 1, "", "not read: array"),
    }


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (1_769_860_800_000, 'timestamp(epoch="ms")'),
        (1_769_860_800, 'timestamp(epoch="s")'),
        (20_483, 'date(epoch="days")'),
        ("2026-01-31T10:00:00", 'timestamp(zone="UTC")'),
        ("17", "int64(quoted=True)"),
    ],
)
def test_what_may_be_a_time_or_number_is_declared_as_written_with_a_note(
    value: object, note: str, tmp_path: Path
) -> None:
    put(tmp_path, "dt=2026-01-30/a.jsonl", json_lines([{"id": "a", "created_at": value}]))
    (log,) = inspect(str(tmp_path)).logs
    (field,) = [each for each in log.fields if each.column == "created_at"]
    assert note in field.note
    assert str(field.type) == ("int64" if isinstance(value, int) else "text")


def debezium(op: str, lsn: int, row: Mapping[str, Any]) -> dict[str, Any]:
    source = {"connector": "postgresql", "db": "shop", "schema": "public", "table": "o", "txId": lsn, "lsn": lsn}
    sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return {**sides, "op": op, "source": source, "ts_ms": 1_769_860_800_000}


@pytest.mark.parametrize("enveloped", [False, True])
def test_changes_of_debezium_are_declared_by_their_connector(enveloped: bool, tmp_path: Path) -> None:
    changes = [debezium("c", 1, {"id": 7, "name": "a"}), debezium("u", 2, {"id": 7, "name": "b"})]
    changes += [debezium("d", 3, {"id": 7, "name": None})]
    lines = [{"schema": {}, "payload": each} if enveloped else each for each in changes]
    put(tmp_path / "in", "shop.public.o-0-0.json", json_lines(lines))
    found = inspect(str(tmp_path / "in"))
    assert ("replace(DEBEZIUM_POSTGRESQL, enveloped=True)" in found.declaration()) is enveloped
    assert sealed(tmp_path, tmp_path / "in", found) == 3


def test_rows_of_dms_have_an_operation(tmp_path: Path) -> None:
    put(tmp_path / "in", "public/orders/LOAD00000001.csv", b"I,1,red\nI,2,\n")
    put(tmp_path / "in", "public/orders/20260130-100000000.csv", b"U,1,blue\nD,2,\n")
    found = inspect(str(tmp_path / "in"))
    (log,) = declared(found)
    assert [each.value for each in log.columns["field_1"].choices or ()] == ["I", "U", "D"]
    assert sealed(tmp_path, tmp_path / "in", found) == 4


def test_several_topics_in_one_folder_are_several_logs(tmp_path: Path) -> None:
    for topic in ("orders", "stock"):
        fill(tmp_path / "in", f"sink/{topic}-{{p}}-{{o}}.json", json_lines)
    found = inspect(str(tmp_path / "in"))
    assert [log.topic for log in found.logs] == ["orders", "stock"]
    assert sealed(tmp_path, tmp_path / "in", found) == 48


def offsets_of(root: Path, *objects: tuple[int, int]) -> LogFound:
    for start, records in objects:
        lines = json_lines([{"id": start + n} for n in range(records)])
        put(root, f"t/partition=0/t+0+{start:010}.json", lines)
    (log,) = inspect(str(root)).logs
    return log


def test_gaps_and_overlaps_of_offsets_are_found_where_objects_were_read_whole(tmp_path: Path) -> None:
    (found,) = offsets_of(tmp_path, (0, 3), (3, 4), (9, 2), (10, 1)).offsets
    assert (found.first, found.last, found.compared) == (0, 10, 3)
    assert (found.gaps, found.overlaps) == ([(7, 9)], [(11, 10)])


def test_what_is_in_two_log_partitions_is_no_key(tmp_path: Path) -> None:
    for partition in (0, 1):
        put(tmp_path, f"t/partition={partition}/t+{partition}+0.json", json_lines([{"shop_id": 7, "n": 1.5}]))
    (log,) = inspect(str(tmp_path)).logs
    assert log.proposal is None
    assert "shop_id are in two log partitions" in " ".join(log.reasons)


def test_many_objects_are_sampled_and_what_was_read_is_said(tmp_path: Path) -> None:
    for day in range(1, 29):
        put(tmp_path, f"o/dt=2026-02-{day:02}/a.jsonl", json_lines(rows_of(day % 9)), dt.date(2026, 2, day))
    found = inspect(str(tmp_path), objects_max=6)
    (log,) = found.logs
    assert (len(log.sampled), log.objects) == (6, 28)
    assert {"o/dt=2026-02-01/a.jsonl", "o/dt=2026-02-28/a.jsonl"} <= {*log.sampled}
    assert log.bytes_read < log.size_bytes / 4
    assert "# 6 of 28 objects were read" in found.declaration()
    assert log.proposal is not None
    assert [name for name, column in log.proposal.columns.items() if not column.null] == ["order_id"]


def test_a_large_object_is_read_in_part(tmp_path: Path) -> None:
    rows = [{"id": n, "text": "x" * 1000} for n in range(6000)]
    put(tmp_path, "dt=2026-01-30/a.jsonl", json_lines(rows))
    put(tmp_path, "dt=2026-01-31/a.jsonl.gz", gzip.compress(json_lines([{**r, "id": r["id"] + 6000} for r in rows])))
    (log,) = inspect(str(tmp_path)).logs
    assert log.reasons == []
    assert log.proposal is not None
    assert 4000 < log.proposal.checked <= 2 * 5000
    assert log.bytes_read < 5 << 20


def refused(root: Path, data: bytes, name: str = "o/dt=2026-01-30/a.json") -> str:
    put(root, name, data)
    found = inspect(str(root))
    assert found.declaration() == ""
    return " ".join(reason for log in found.logs for reason in log.reasons)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x00\x00\x00\x00\x07\x02a", "framed messages"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no text and no format"),
        (b"just some words\nof a text\n", "neither JSON nor delimited"),
        (gzip.compress(b'{"id": 1}\n', mtime=0)[:-4], "a.json"),
        (b'[{"id": 1}', "no whole JSON array"),
        (b"PAR1 and more PAR1", "cannot be read as Parquet"),
        (b'{"ok": true}\n', "nothing can be the key"),
        (json_lines([{"op": "c", "after": {"id": 1}, "source": {"connector": "vitess"}}]), "vitess"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_why_there_is_no_declaration_is_said(data: bytes, reason: str, tmp_path: Path) -> None:
    assert reason in refused(tmp_path, data)


def test_deletes_without_order_and_several_formats_are_reasons(tmp_path: Path) -> None:
    put(tmp_path / "one", "topics/t/tombstone/t+0+3.keys.json", b"{}\n")
    put(tmp_path / "one", "topics/t/partition=0/t+0+0.json", b'{"id": 1}\n')
    (log,) = inspect(str(tmp_path / "one")).logs
    assert "deletes whose order is unknown" in " ".join(log.reasons)
    put(tmp_path / "two", "dt=2026-01-30/a.json", b'{"id": 1}\n')
    put(tmp_path / "two", "dt=2026-01-30/b.json", b'[{"id": 1}]')
    (log,) = inspect(str(tmp_path / "two")).logs
    assert "objects of several formats" in " ".join(log.reasons)


def test_the_command_prints_the_declaration_and_exits_1_where_there_is_none(tmp_path: Path) -> None:
    fill(tmp_path / "in", *BUCKETS["AIVEN"])
    shown = CliRunner().invoke(cli, ["log", "inspect", str(tmp_path / "in")])
    assert shown.exit_code == 0, shown.output
    assert inspect(str(tmp_path / "in")).declaration() in shown.output
    assert "6 of 6 objects read" in shown.output
    as_json = CliRunner().invoke(cli, ["log", "inspect", "--json", str(tmp_path / "in")])
    found = json.loads(as_json.output)
    assert found["logs"][0]["candidates"]["ids"] == [["event_id"]]
    assert [each["compared"] for each in found["logs"][0]["offsets"]] == [2, 2]
    put(tmp_path / "in", "README.txt", b"These are orders.\n")
    assert CliRunner().invoke(cli, ["log", "inspect", str(tmp_path / "in")]).exit_code == 1
    assert CliRunner().invoke(cli, ["log", "inspect", str(tmp_path / "nowhere")]).exit_code == 1
