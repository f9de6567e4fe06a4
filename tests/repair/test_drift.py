"""Damage in what is published is found at its cell, and repaired by rebuilding just that."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from assets import PROJECT
from examples.shop_landing import write
from refold.config import Settings
from refold.engine import Engine
from refold.rebuild import rebuild_all
from refold.stores.checkpoint import record_name
from tests.support import LONG_AFTER

LAST = "2010-12-03"


def places(folder: Path) -> Settings:
    database = f"sqlite:///{folder / 'shop.db'}"
    return Settings(str(folder / "landing"), str(folder / "store"), database, folder / "search")


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rebuilt")
    write(folder / "landing", days=7)
    rebuild_all(Engine(PROJECT, places(folder), now=LONG_AFTER), LAST)
    return folder


@pytest.fixture
def settings(rebuilt: Path, tmp_path: Path) -> Settings:
    shutil.copytree(rebuilt, tmp_path / "copy")
    return places(tmp_path / "copy")


def drift_of(settings: Settings, store: str):
    engine = Engine(PROJECT, settings, now=LONG_AFTER)
    return engine, engine.drifts.find(PROJECT.store(store), engine.chain.get(LAST))


def rows_of(settings: Settings, query: str, *values: object) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(settings.database.removeprefix("sqlite:///"))
    with connection:
        rows = connection.execute(query, values).fetchall()
    connection.close()
    return rows


def versions_table(settings: Settings, view: str) -> str:
    ((name,),) = rows_of(settings, "SELECT rows_table FROM refold_release WHERE table_name = ?", view)
    return f'"{name}"'


@pytest.mark.parametrize("store", [store.name for store in PROJECT.stores])
def test_nothing_drifts_after_a_rebuild(settings: Settings, store: str) -> None:
    _, drift = drift_of(settings, store)
    assert drift.differences == []
    assert drift.verdict.passed


def test_a_changed_sql_cell_is_named_with_both_values_and_mended(settings: Settings) -> None:
    ((product, level),) = rows_of(settings, "SELECT product_id, level FROM stock_view ORDER BY product_id LIMIT 1")
    table = versions_table(settings, "stock_view")
    rows_of(settings, f"UPDATE {table} SET level = level + 5 WHERE product_id = ?", product)

    engine, drift = drift_of(settings, "stock")

    (difference,) = drift.differences
    assert f"key {product!r}, column level" in difference.where
    assert (difference.expected, difference.found) == (repr(level), repr(level + 5))
    assert engine.drifts.repair(drift).passed
    assert [(level,)] == rows_of(settings, "SELECT level FROM stock_view WHERE product_id = ?", product)
    assert drift_of(settings, "stock")[1].differences == []


def test_a_deleted_and_an_added_sql_row_are_named(settings: Settings) -> None:
    ((product,),) = rows_of(settings, "SELECT product_id FROM product_catalog ORDER BY product_id LIMIT 1")
    table = versions_table(settings, "product_catalog")
    rows_of(settings, f"UPDATE {table} SET product_id = 'ghost' WHERE product_id = ?", product)

    engine, drift = drift_of(settings, "product_catalog")

    found = {(d.where.rpartition("key ")[2], d.expected, d.found) for d in drift.differences}
    assert {(repr(product), "1 rows", "0 rows"), ("'ghost'", "0 rows", "1 rows")} == found
    engine.drifts.repair(drift)
    assert drift_of(settings, "product_catalog")[1].differences == []


def test_a_damaged_delta_file_is_named_and_mended(settings: Settings) -> None:
    (file,) = (Path(settings.store) / "delta" / "daily_movement").glob("*/*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))

    engine, drift = drift_of(settings, "daily_movement")

    assert drift.verdict.passed, "the state is sound; only what was published is not"
    assert drift.differences
    assert "daily_movement" in drift.differences[0].where
    engine.drifts.repair(drift)
    assert drift_of(settings, "daily_movement")[1].differences == []


def test_a_changed_search_document_is_named_and_mended(settings: Settings) -> None:
    (file,) = (Path(settings.store) / "search" / "bulk").glob("product_search/*/bulk-*.ndjson")
    lines = file.read_bytes().split(b"\n")
    document = json.loads(lines[1])
    document["level"] = 123456
    lines[1] = json.dumps(document).encode()
    file.write_bytes(b"\n".join(lines))

    engine, drift = drift_of(settings, "product_search")

    assert drift.differences
    engine.drifts.repair(drift)
    assert drift_of(settings, "product_search")[1].differences == []


def test_a_damaged_checkpoint_is_named_and_folded_again(settings: Settings) -> None:
    engine = Engine(PROJECT, settings, now=LONG_AFTER)
    stock, snapshot = PROJECT.store("stock"), engine.chain.get(LAST)
    record = engine.builder.require(stock, snapshot)
    file = Path(settings.store) / record.objects[0].name
    file.write_bytes(file.read_bytes()[:-20])

    engine, drift = drift_of(settings, "stock")

    assert not drift.verdict.passed
    assert record.objects[0].name in str(drift.verdict.differences[0])
    assert engine.drifts.repair(drift).passed
    assert drift_of(settings, "stock")[1].differences == []


def test_a_damaged_state_record_is_named_and_written_again(settings: Settings) -> None:
    engine = Engine(PROJECT, settings, now=LONG_AFTER)
    stock, snapshot = PROJECT.store("stock"), engine.chain.get(LAST)
    name = record_name(stock.name, stock.code_version, engine.builder.inputs(stock, snapshot))
    file = Path(settings.store) / name
    file.write_bytes(file.read_bytes().replace(b'"applied":', b'"applied":1'))

    engine, drift = drift_of(settings, "stock")

    assert name in str(drift.verdict.differences[0])
    assert engine.drifts.repair(drift).passed
