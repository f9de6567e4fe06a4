"""What evidently holds is what Great Expectations says holds, and everything else is its answer."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from refold import expect
from refold.sinks.expectations import Expectation, evidently_holds, validate, validate_all

NAN = float("nan")
COLUMNS = {
    "key": pa.array(["a", "b", "c"]),
    "level": pa.array([0, 5, None], pa.int64()),
    "same": pa.array([7, 7, None], pa.int64()),
    "large": pa.array([2**53 + 1, 2**62, -(2**62)], pa.int64()),
    "unknown": pa.array([None, None, None], pa.int64()),
    "share": pa.array([0.0, 1.0, None], pa.float64()),
    "odd": pa.array([0.5, NAN, 1.0], pa.float64()),
    "label": pa.array(["x", None, None]),
}
TABLES = {"rows": pa.table(COLUMNS), "none": pa.table(COLUMNS).slice(0, 0)}


def _expectations() -> list[Expectation]:
    found = []
    for column in [*COLUMNS, "missing"]:
        found += [expect(f"column_values_to_{name}", column=column) for name in ("be_unique", "not_be_null")]
        if column not in ("key", "label"):
            bounds: list[dict[str, Any]] = [{"min_value": 0}, {"max_value": 1}, {"min_value": 0, "max_value": 5}]
            bounds += [{}, {"min_value": 0.5}, {"min_value": None, "max_value": 7}, {"min_value": 0, "mostly": 0.5}]
            found += [expect("column_values_to_be_between", column=column, **more) for more in bounds]
            found.append(expect("column_values_to_be_between", column=column, min_value=0, strict_min=True))
    return [*found, expect("column_values_to_be_in_set", column="label", value_set=["x"])]


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_great_expectations_says_the_same_of_what_evidently_holds(table: pa.Table) -> None:
    evident = [each for each in _expectations() if evidently_holds(each, table)]
    assert len(evident) >= 10
    assert validate(evident, table, ["key"]) == validate_all(evident, table, ["key"])


def test_great_expectations_decides_what_fails_or_is_declared_otherwise() -> None:
    table = TABLES["rows"]
    others = [each for each in _expectations() if not evidently_holds(each, table)]
    assert {dict(each.arguments)["column"] for each in others} >= {"missing", "odd", "large", "unknown"}
    some = [expect("column_values_to_be_between", column="level", min_value=low) for low in (0, 1, -1)]
    assert [(each.passed, each.rows) for each in validate(some, table, ["key"])] == [
        (True, []),
        (False, [{"key": "a", "level": 0}]),
        (True, []),
    ]
