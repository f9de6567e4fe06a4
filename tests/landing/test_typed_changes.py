"""Changes in Avro and Parquet are read as the same changes in JSON Lines: rows, moves of keys, and bad records."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import DEBEZIUM_POSTGRESQL, DMS, Avro, ChangeOp, Log, Parquet, latest_by_key
from refold.errors import DeclarationError, UnreadableObject
from refold.landing.change_rows import ChangeRows
from refold.landing.debezium import Debezium
from refold.landing.decoder import Decoded
from refold.landing.jsonl import LineDecoder
from refold.landing.typed_rows import TypedRows
from refold.types import Schema, decimal, int64, text, timestamp

COLUMNS: Schema = {"id": int64(0, 8), "op": text(), "name": text(null=True), "n": int64(null=True), "lsn": int64()}
ROW = pa.struct([("id", pa.int64()), ("name", pa.string()), ("n", pa.int64()), ("tags", pa.list_(pa.string()))])
ENVELOPE = pa.schema(
    [("before", ROW), ("after", ROW), ("op", pa.string()), ("source", pa.struct([("lsn", pa.int64())]))]
)
AVRO_ROW = {
    "type": "record",
    "name": "Value",
    "fields": [
        {"name": "id", "type": ["null", "long"]},
        {"name": "name", "type": ["null", "string"]},
        {"name": "n", "type": ["null", "long"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
SOURCE = {"type": "record", "name": "S", "fields": [{"name": "lsn", "type": ["null", "long"]}]}


def avro(fields: dict[str, Any], rows: Sequence[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    schema = {"type": "record", "name": "E", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}
    fastavro.writer(out, schema, rows)
    return out.getvalue()


def avro_envelopes(rows: Sequence[dict[str, Any]]) -> bytes:
    op = ["null", "string"]
    return avro({"before": ["null", AVRO_ROW], "after": ["null", "Value"], "op": op, "source": ["null", SOURCE]}, rows)


def parquet_envelopes(rows: Sequence[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), ENVELOPE), out)
    return out.getvalue()


WRITERS: dict[str, tuple[TypedRows, Callable[[Sequence[dict[str, Any]]], bytes]]] = {
    "avro": (Avro(changes=Debezium({"lsn": ("source.lsn",)})), avro_envelopes),
    "parquet": (Parquet(changes=Debezium({"lsn": ("source.lsn",)})), parquet_envelopes),
}
SIDE = st.none() | st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(0, 9),
        "name": st.none() | st.sampled_from(["a", "__debezium_unavailable_value"]),
        "n": st.none() | st.integers(-3, 3),
        "tags": st.lists(st.text(max_size=2), max_size=2),
    }
)
EVENT = st.fixed_dictionaries(
    {
        "before": SIDE,
        "after": SIDE,
        "op": st.none() | st.sampled_from("crudtm"),
        "source": st.none() | st.fixed_dictionaries({"lsn": st.none() | st.integers(0, 5)}),
    }
)


def as_json(rows: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def equal(one: Decoded, other: Decoded) -> bool:
    bad = [[record[:3] for record in map(tuple_of, each.bad)] for each in (one, other)]
    return one.rows.equals(other.rows) and one.lines.tolist() == other.lines.tolist() and bad[0] == bad[1]


def tuple_of(record: Any) -> tuple[int, str, str]:
    return record.number, record.reason, record.detail


@pytest.mark.parametrize("form", WRITERS)
def test_any_envelopes_are_read_as_in_json_and_bad_ones_can_be_retried(form: str) -> None:
    decoder, write = WRITERS[form]
    changes = decoder.changes
    assert isinstance(changes, LineDecoder)

    @given(st.lists(EVENT, max_size=12))
    @settings(max_examples=150, deadline=None)
    def holds(rows: list[dict[str, Any]]) -> None:
        right = changes.decode("a.json", as_json(rows), COLUMNS, ["id"])
        found = decoder.decode("a", write(rows), COLUMNS, ["id"])
        assert equal(found, right)
        wrong = [rows[record.number - 1] for record in found.bad]
        retried = decoder.decode("r.retry.jsonl", decoder.encode([record.raw for record in found.bad]), COLUMNS, ["id"])
        assert equal(retried, changes.decode("a.json", as_json(wrong), COLUMNS, ["id"]))

    holds()


def test_a_null_that_an_update_writes_does_not_become_the_value_before_it() -> None:
    before = {"id": 1, "name": "a", "n": 2, "tags": []}
    row = {"op": "u", "before": before, "after": {**before, "n": None}, "source": {"lsn": 1}}
    for decoder, write in WRITERS.values():
        assert decoder.decode("a", write([row]), COLUMNS, ["id"]).rows["n"].to_pylist() == [None]


def test_changes_of_other_tools_are_read_in_the_same_way() -> None:
    fields = {
        "type": "string",
        "data": {"type": "record", "name": "d", "fields": [{"name": "id", "type": "long"}]},
        "old": ["null", {"type": "record", "name": "o", "fields": [{"name": "id", "type": ["null", "long"]}]}],
    }
    rows = [{"type": "insert", "data": {"id": 1}}, {"type": "update", "data": {"id": 2}, "old": {"id": 1}}]
    form = ChangeRows("type", "data", "old", ("insert", "update"), "update", "delete", ())
    decoded = Avro(changes=form).decode("a.avro", avro(fields, rows), {"id": int64(), "op": text()}, ["id"])
    assert [tuple(row.values()) for row in decoded.rows.to_pylist()] == [(1, "insert"), (1, "delete"), (2, "update")]


def test_values_of_connect_in_avro_are_those_that_columns_declare() -> None:
    fields = {
        "at": {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"},
        "price": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 4},
        "any": {
            "type": "record",
            "name": "VariableScaleDecimal",
            "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
        },
    }
    rows = [{"at": 1_500_000, "price": Decimal("1.25"), "any": {"scale": 1, "value": b"\x0f"}}]
    rows += [{"at": 1, "price": Decimal("0.0001"), "any": {"scale": 3, "value": b"\x01"}}]
    columns: Schema = {
        "at": timestamp(epoch="us"),
        "price": decimal(12, 2),
        "any": decimal(12, 2, encoding="scaled"),
    }
    decoded = Avro().decode("a.avro", avro(fields, rows), columns)
    right = {"at": dt.datetime(1970, 1, 1, 0, 0, 1, 500000, dt.UTC), "price": Decimal("1.25"), "any": Decimal("1.50")}
    assert decoded.rows.to_pylist() == [right]
    (bad,) = decoded.bad
    assert json.loads(bad.raw) == {"at": 1, "price": "0.0001", "any": {"scale": 3, "value": "AQ=="}}
    wide: Schema = {**columns, "price": decimal(12, 4), "any": decimal(12, 3, encoding="scaled")}
    assert len(Avro().decode("a.retry.jsonl", bad.raw, wide).rows) == 1


def test_a_file_without_envelope_or_with_another_type_is_refused() -> None:
    decoder = WRITERS["avro"][0]
    with pytest.raises(UnreadableObject, match=r"no after\.id or before\.id, which may not be null"):
        decoder.decode("a.avro", avro({"id": "long"}, [{"id": 1}]), COLUMNS, ["id"])
    with pytest.raises(UnreadableObject, match="int64 in op; column op is read from"):
        row = {"before": None, "after": {"id": 1, "name": "a", "n": 1, "tags": []}, "op": 1, "source": {"lsn": 1}}
        fields = {"before": ["null", AVRO_ROW], "after": ["null", "Value"], "op": "long", "source": SOURCE}
        decoder.decode("a.avro", avro(fields, [row]), COLUMNS, ["id"])


def test_a_change_source_names_its_format_and_keeps_what_its_form_says() -> None:
    from dataclasses import replace

    source = replace(DEBEZIUM_POSTGRESQL, rows=Parquet())
    log = Log.of_changes("t", source, key="id", columns={"id": int64(), "name": text(null=True)})
    latest = latest_by_key(log, "l", version=1, columns={"name": text(null=True)}, delete_when=("op", ChangeOp.DELETE))
    assert latest.latest.unchanged == {"name": "__debezium_unavailable_value"}
    fixed = Log.of_changes("t", replace(DMS, rows=Avro(), keys_change=False), key="id", columns={"id": int64()})
    assert len(fixed.assumed) == 1
    with pytest.raises(DeclarationError, match="paths in changes"):
        Avro({"id": ("x",)}, changes=Debezium())
