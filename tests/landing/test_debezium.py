"""Debezium change events: which side of the envelope a row comes from, and envelopes that are no event."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refold.errors import DeclarationError, UnreadableObject
from refold.landing.debezium import Debezium
from refold.landing.decoder import Decoded, joined
from refold.types import decimal, enum, int64, text

DATA = Path(__file__).parents[2].parent / "shared" / "data"


class Op(Enum):
    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"


PRODUCTS = {
    "product_id": text(),
    "op": enum(Op),
    "description": text(null=True),
    "unit_price": decimal(18, 4, null=True),
    "lsn": int64(0),
}
LSN = {"lsn": ("source.lsn",)}
NEW = {"product_id": "p", "description": "new", "unit_price": "1.50"}
OLD = {"product_id": "p", "description": "old", "unit_price": "1.25"}


def envelope(op: object, before: object = None, after: object = None, **more: object) -> bytes:
    return json.dumps({"before": before, "after": after, "op": op, "source": {"lsn": 7}, **more}).encode()


def decode(*lines: bytes, fast: bool = True, **options: object) -> Decoded:
    return joined(PRODUCTS, Debezium(LSN, **options).pieces("a.jsonl", [b"\n".join(lines)], PRODUCTS, fast=fast))


def outcome(line: bytes, **options: object) -> object:
    """The one row, or the reason that it is bad; the same among many of its kind."""
    alone, crowd = decode(line, **options), decode(*[line] * 20, **options)
    assert (len(crowd.rows), len(crowd.bad)) == (20 * len(alone.rows), 20 * len(alone.bad))
    assert not alone.bad or alone.bad[0].raw == line
    return alone.bad[0].reason if alone.bad else tuple(alone.rows.to_pylist()[0].values())


def test_a_write_is_read_from_after_and_a_delete_from_before() -> None:
    new, old = ("p", "new", Decimal("1.5000")), ("p", "old", Decimal("1.2500"))
    assert outcome(envelope("c", None, NEW)) == (new[0], "c", *new[1:], 7)
    assert outcome(envelope("r", None, NEW)) == (new[0], "r", *new[1:], 7)
    assert outcome(envelope("u", OLD, NEW)) == (new[0], "u", *new[1:], 7)
    assert outcome(envelope("u", None, NEW)) == (new[0], "u", *new[1:], 7)
    assert outcome(envelope("d", OLD, None)) == (old[0], "d", *old[1:], 7)
    assert outcome(envelope("d", OLD, NEW)) == (old[0], "d", *old[1:], 7)


def test_an_update_that_sets_null_is_null_and_not_the_value_before() -> None:
    assert outcome(envelope("u", OLD, {**NEW, "description": None})) == ("p", "u", None, Decimal("1.5000"), 7)
    assert outcome(envelope("u", OLD, {"product_id": "p"})) == ("p", "u", None, None, 7)


def test_a_delete_needs_the_key_only() -> None:
    assert outcome(envelope("d", {"product_id": "p"})) == ("p", "d", None, None, 7)
    assert outcome(envelope("d", {"description": "old"})) == "missing"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (envelope("u", OLD, None), "missing-after"),
        (envelope("c", None, None), "missing-after"),
        (b'{"op": "r", "source": {"lsn": 7}}', "missing-after"),
        (envelope("d", None, NEW), "missing-before"),
        (envelope("t"), "unsupported-op"),
        (envelope("m", message={"prefix": "x"}), "unsupported-op"),
        (envelope("", OLD, NEW), "unsupported-op"),
        (envelope(None, OLD, NEW), "missing-op"),
        (b'{"schema": {}, "payload": ' + envelope("c", None, NEW) + b"}", "missing-op"),
        (envelope(1, OLD, NEW), "wrong-type"),
        (envelope("c", None, NEW)[:-1] + b', "op": "d"}', "duplicate-key"),
        (envelope("c", None, NEW)[:-1] + b', "after": {}}', "duplicate-key"),
        (envelope("c", None, "p"), "wrong-type"),
        (envelope("c", None, []), "wrong-type"),
        (envelope("c", None, {}), "missing"),
        (envelope("c", None, {**NEW, "unit_price": "a lot"}), "not-a-decimal"),
        (envelope("c", None, {**NEW, "product_id": 5}), "wrong-type"),
        (envelope("c", None, NEW, source=None), "missing"),
        (envelope("c", None, NEW, source={"lsn": -1}), "out-of-range"),
        (envelope("c", None, NEW, source={"lsn": "7"}), "wrong-type"),
        (b"{}", "missing-op"),
        (b"[]", "not-an-object"),
        (b"not json", "not-json"),
        (b'{"op": "c", "after": ' + b"[" * 100_000, "too-deep"),
    ],
)
def test_an_envelope_that_is_no_event_is_quarantined_with_its_own_reason(line: bytes, reason: str) -> None:
    assert outcome(line) == reason


def test_what_is_wrong_on_the_side_that_does_not_count_is_no_matter() -> None:
    assert outcome(envelope("u", {"unit_price": "junk", "product_id": 5}, NEW))[0] == "p"
    assert outcome(envelope("d", OLD, "junk"))[0] == "p"


def test_records_wrapped_in_schema_and_payload_are_read_where_declared_so() -> None:
    wrapped = b'{"schema": {"type": "struct"}, "payload": ' + envelope("c", None, NEW) + b"}"
    assert outcome(wrapped, enveloped=True) == ("p", "c", "new", Decimal("1.5000"), 7)
    assert outcome(envelope("c", None, NEW), enveloped=True) == "missing-op"
    assert "enveloped=True" in decode(wrapped).bad[0].detail


def test_tombstones_are_control_records_and_counted() -> None:
    decoded = decode(envelope("d", OLD), b"null", b" null\r", b"nil")
    assert (len(decoded.rows), decoded.control, [bad.number for bad in decoded.bad]) == (1, 2, [4])
    assert decoded.read == 4


def test_a_column_can_be_read_from_another_name_in_the_row_or_a_column_called_op() -> None:
    decoder = Debezium({"sku": ("row.code",), "op": ("row.op",), "kind": ("op",), "at": ("ts_us", "source.ts_us")})
    columns = {"sku": text(), "op": text(null=True), "kind": enum(Op), "at": int64()}
    lines = [
        envelope("u", {"code": "a", "op": "x"}, {"code": "b", "op": None}, ts_us=1),
        envelope("d", {"code": "a", "op": "x"}, source={"ts_us": 2}),
    ]
    rows = decoder.decode("a.jsonl", b"\n".join(lines), columns).rows.to_pylist()
    assert [tuple(row.values()) for row in rows] == [("b", None, "u", 1), ("a", "x", "d", 2)]


def test_a_declaration_without_any_row_column_still_needs_the_row() -> None:
    decoder = Debezium({"lsn": ("source.lsn",)})
    data = b"\n".join([envelope("c", None, NEW), envelope("c"), envelope("d", OLD)] * 20)
    decoded = decoder.decode("a.jsonl", data, {"lsn": int64()})
    assert (len(decoded.rows), len(decoded.bad)) == (40, 20)


def test_the_declaration_can_be_hashed_and_its_paths_are_checked() -> None:
    assert len({Debezium(LSN), Debezium(dict(LSN)), Debezium(LSN, enveloped=True)}) == 2
    with pytest.raises(DeclarationError, match="tuple of dotted places"):
        Debezium({"lsn": "source.lsn"})  # type: ignore[dict-item]


def test_a_damaged_gzip_is_unreadable() -> None:
    with pytest.raises(UnreadableObject):
        Debezium().decode("a.jsonl.gz", b"\x1f", PRODUCTS)


odd = st.sampled_from([None, "", "p", 5, 1.5, True, [], {}, {"lsn": 1}, {"product_id": None}])
sides = odd | st.fixed_dictionaries(
    {},
    optional={
        "product_id": st.sampled_from(["p", "q", "", None, 5]),
        "description": st.sampled_from(["d", None, 5, {}]),
        "unit_price": st.sampled_from(["1.5", 1.5, None, "x", 10**30, True]),
    },
)
ops = st.sampled_from(["c", "r", "u", "d", "c", "u", "d", "t", "m", None, 5, ""])
envelopes = st.builds(
    lambda op, before, after, source: envelope(op, before, after, source=source), ops, sides, sides, odd
)
good = st.builds(
    lambda op, lsn: envelope(op, OLD, NEW, source={"lsn": lsn}), st.sampled_from("crud"), st.integers(0, 2**63 - 1)
)
repeated = envelopes.map(lambda line: line[:-1] + b', "op": "u", "after": {"product_id": "z"}}')


@given(st.lists(good | good | envelopes | repeated | st.sampled_from([b"", b"null", b"{}", b"x"]), max_size=6))
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_fast_path_gives_what_the_general_path_gives(some: list[bytes]) -> None:
    neighbours = [envelope(op, OLD, NEW) for op in "crudcrudcrudcrudcrud"]
    lines = [*neighbours, *some, *neighbours]
    fast, general = decode(*lines), decode(*lines, fast=False)
    assert fast.rows.equals(general.rows)
    assert fast.lines.tolist() == general.lines.tolist()
    assert list(fast.bad) == list(general.bad)
    assert fast.control == general.control


def expected_outcome(record: dict) -> tuple[object, ...]:
    row = record["before"] if record["op"] == "d" else record["after"]
    price = None if row["unit_price"] is None else Decimal(row["unit_price"])
    return row["product_id"], record["op"], row["description"], price, record["source"]["lsn"]


@pytest.mark.parametrize(
    ("folder", "count"),
    [
        ("torture/landing/product_changes", 1_800),
        ("torture/late/product_changes", 200),
        ("retail/landing/product_changes", 80_001),
    ],
)
def test_the_catalogues_decode_as_plain_json_reads_them_without_one_bad_record(folder: str, count: int) -> None:
    if not DATA.is_dir():
        pytest.skip("the shared data folder is not here")
    from refold.landing.inflate import inflate

    total = 0
    for path in sorted((DATA / folder).rglob("*.jsonl*")):
        data = path.read_bytes()
        decoded = Debezium(LSN).decode(path.name, data, PRODUCTS)
        assert not decoded.bad
        total += decoded.read
        if total <= 5_000:
            plain = [json.loads(line) for line in inflate(path.name, data).split(b"\n") if line.strip()]
            rows = zip(*(decoded.rows.column(name).to_pylist() for name in PRODUCTS), strict=True)
            assert list(rows) == [expected_outcome(record) for record in plain]
    assert total == count


@pytest.mark.parametrize(
    ("name", "enveloped"), [("debezium-data-schema-exclude.txt", False), ("debezium-data-schema-include.txt", True)]
)
def test_what_flink_ships_as_samples_folds_to_its_expected_table(name: str, enveloped: bool) -> None:
    """The weights are floats in the samples, so they are no decimals here; ids, names and descriptions are checked."""
    if not DATA.is_dir():
        pytest.skip("the shared data folder is not here")
    columns = {"id": int64(), "op": enum(Op), "name": text(null=True), "description": text(null=True)}
    data = (DATA / "cdc" / "flink_json" / name).read_bytes()
    decoded = Debezium(enveloped=enveloped).decode("sample.jsonl", data, columns)
    assert not decoded.bad
    table: dict[int, dict] = {}
    for row in decoded.rows.to_pylist():
        table[row["id"]] = row
        if row["op"] == "d":
            del table[row["id"]]
    expected = json.loads((DATA / "cdc" / "flink_json" / "expected.json").read_text())[name]
    shown = [{key: row[key] for key in ("id", "name", "description")} for row in table.values()]
    assert sorted(shown, key=lambda row: row["id"]) == [
        {key: row[key] for key in ("id", "name", "description")} for row in sorted(expected, key=lambda row: row["id"])
    ]
