"""Values as other tools write them: each is read as its column declares, and nothing is guessed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from refold.landing.debezium import Debezium
from refold.landing.jsonl import JsonLines
from refold.types import Schema, date, decimal, int64, timestamp


def read(shared_data: Path, case: str, decoder: JsonLines | Debezium, columns: Schema) -> tuple[list, list]:
    """The rows of the object of a case, and number, reason of its bad records."""
    folder = shared_data / "field" / case / "landing"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    (path,) = [path for path in folder.rglob("*.json*") if path.is_file()]
    decoded = decoder.decode(path.name, path.read_bytes(), columns)
    return decoded.rows.to_pylist(), [(record.number, record.reason) for record in decoded.bad]


@pytest.mark.parametrize(
    ("tax", "total", "right", "bad"),
    [
        # A text of digits is base64 too: only the declaration says that records 3 and 4 are none.
        ({"encoding": "base64"}, {"encoding": "base64"}, {1: ("0.1032", "300000.00")}, {2, 5}),
        ({}, {"encoding": "scaled"}, {2: ("0.1032", "300000.00")}, {1, 3, 4, 5}),
        ({}, {}, {4: (None, "10000.00")}, {1, 2, 3, 5}),
    ],
    ids=["precise", "variable-scale", "text"],
)
def test_decimals_are_read_in_the_one_way_that_is_declared(
    shared_data: Path, tax: dict, total: dict, right: dict, bad: set[int]
) -> None:
    columns = {"w_id": int64(), "w_tax": decimal(12, 4, null=True, **tax), "w_ytd": decimal(12, 2, **total)}
    rows, found = read(shared_data, "debezium_decimals", Debezium(), columns)
    by_id = {row["w_id"]: (row["w_tax"], row["w_ytd"]) for row in rows}
    for row, (expected_tax, expected_total) in right.items():
        assert by_id[row] == (None if expected_tax is None else Decimal(expected_tax), Decimal(expected_total))
    assert {number for number, _ in found} == bad


def test_days_and_times_since_1970_are_read_in_the_declared_unit(shared_data: Path) -> None:
    columns = {
        "id": int64(),
        "day": date(epoch="days", null=True),
        "at": timestamp(epoch="us"),
        "zoned": timestamp(null=True),
    }
    rows, bad = read(shared_data, "debezium_times", Debezium(), columns)
    at = dt.datetime(2023, 11, 17, 0, 0, 0, 123456, dt.UTC)
    assert rows[0] == {"id": 1, "day": dt.date(2023, 11, 17), "at": at, "zoned": at}
    assert bad == [(3, "out-of-range")]
    rows, bad = read(shared_data, "debezium_times", Debezium(), {"id": int64(), "at": timestamp(epoch="ms")})
    assert rows[-1] == {"id": 2, "at": at.replace(microsecond=123000)}
    assert bad == [(1, "out-of-range"), (3, "out-of-range")]


def test_integers_of_64_bits_as_texts_are_exact(shared_data: Path) -> None:
    rows, bad = read(shared_data, "quoted_int64", JsonLines(), {"id": int64(quoted=True), "total": int64()})
    assert {row["id"]: row["total"] for row in rows} == {1: 50, 9007199254740993: 51}
    assert not bad
    rows, bad = read(shared_data, "quoted_int64", JsonLines(), {"id": int64(), "total": int64()})
    assert not rows
    assert [reason for _, reason in bad] == ["wrong-type", "wrong-type"]
