"""The example projects of `examples/buckets`, each from its landing to a proven store, and what inspection finds."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from refold.cli.main import cli
from refold.landing.inspect import inspect

BUCKETS = Path(__file__).parents[1] / "examples" / "buckets"


class Expected(NamedTuple):
    """The last snapshot, the query of what is served and its rows, and how inspection names the layout."""

    through: str
    query: str
    rows: list[tuple[object, ...]]
    layout: str


EXPECTED = {
    "confluent_json": Expected(
        "2026-01-06",
        "SELECT order_id, status, amount FROM orders ORDER BY 1",
        [("a", "paid", 19.99), ("b", "void", -5.0), ("c", "placed", 0.01)],
        "CONFLUENT",
    ),
    "firehose": Expected(
        "2026-01-07",
        "SELECT page, clicks FROM clicks ORDER BY 1",
        [("cart", 2), ("home", 3)],
        "FIREHOSE_DAILY",
    ),
    "dms_csv": Expected(
        "2026-01-06",
        "SELECT id, name, city FROM customers ORDER BY 1",
        [(1, "Ada, née Byron", "London"), (2, "Grace", "New York"), (4, "Barbara", "Boston")],
        "DMS",
    ),
    "debezium_aiven": Expected(
        "2026-01-06",
        "SELECT id, name, price FROM products ORDER BY 1",
        [(1, "bolt", 0.11), (3, "nut", 0.05)],
        "AIVEN",
    ),
    "hive_parquet": Expected(
        "2026-01-10",
        "SELECT shop, sales, cents FROM turnover ORDER BY 1",
        [("north", 2, 1099), ("south", 2, 1000)],
        'Folders("year={year}/month={month}/day={day}")',
    ),
}


def refold(name: str, root: Path, *words: str) -> Result:
    places = {"LANDING": root / "landing", "STORE": root / "store", "DATABASE": f"sqlite:///{root / 'refold.db'}"}
    environ = {f"REFOLD_{place}": str(where) for place, where in places.items()}
    result = CliRunner().invoke(cli, ["--project", str(BUCKETS / name), *words], env=environ)
    assert result.exit_code == 0, result.output
    return result


def test_every_project_is_tested() -> None:
    assert sorted(EXPECTED) == sorted(path.parent.name for path in BUCKETS.glob("*/pyproject.toml"))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bucket_becomes_a_proven_store(name: str, tmp_path: Path) -> None:
    expected = EXPECTED[name]
    refold(name, tmp_path, "sample", str(tmp_path / "landing"))
    refold(name, tmp_path, "rebuild", "--through", expected.through)
    with sqlite3.connect(tmp_path / "refold.db") as database:
        assert database.execute(expected.query).fetchall() == expected.rows
    refold(name, tmp_path, "verify")
    found = inspect(str(tmp_path / "landing"))
    assert f"layout={expected.layout}," in found.declaration()
    assert found.strange == []
