"""A store of versions, and its conflicts, are built, proven, served and explained like any other."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from refold import TieBreak, latest_by_version, open_release
from refold.errors import DeclarationError, RefoldError
from refold.explain.computation import explain
from refold.rebuild import rebuild_all
from tests.dagster.house import House
from tests.stores.carts import PROJECT, carts
from tests.support import Shop, verify_reference

DAYS = {
    "2026-01-01": [
        {"id": "1", "cart": "x", "vector": {"north": 1}, "lamps": 2, "rugs": 0},
        {"id": "2", "cart": "y", "vector": {"north": 1}, "lamps": 1, "rugs": 1},
    ],
    "2026-01-02": [
        {"id": "3", "cart": "x", "vector": {"south": 1}, "lamps": 0, "rugs": 3},
        {"id": "4", "cart": "y", "vector": {"north": 1, "south": 1}, "lamps": 0, "rugs": 1},
        {"id": "5", "cart": "y", "vector": {"north": 1}, "lamps": 1, "rugs": 1},
    ],
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Both days, sealed, built, proven, published and released; the second from a checkpoint of the first."""
    shop = Shop(tmp_path_factory.mktemp("carts"), PROJECT)
    for key, events in DAYS.items():
        folder = shop.landing / "cart_writes" / f"dt={key}"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        rebuild_all(shop.engine(), key)
    return shop


def test_rows_are_merged_and_served_with_the_conflicts(shop: Shop):
    release = open_release(str(shop.store))
    rows = release.delta("carts").select(["cart", "lamps", "rugs", "vector"]).to_pylist()
    assert rows == [
        {"cart": "x", "lamps": 2, "rugs": 3, "vector": '{"north":1,"south":1}'},
        {"cart": "y", "lamps": 0, "rugs": 1, "vector": '{"north":1,"south":1}'},
    ]
    with sqlite3.connect(shop.database_file) as database:
        found = database.execute("SELECT cart, side, vector, lamps, rugs, decided_lamps, taken FROM cart_conflicts")
        assert found.fetchall() == [("x", 1, '{"south":1}', 0, 3, 2, 0), ("x", 2, '{"north":1}', 2, 0, 2, 0)]


def test_the_ledger_says_what_each_write_met(shop: Shop):
    engine = shop.engine()
    ledger = engine.builder.ledger_rows(carts, engine.chain.get()).to_pylist()
    found = {row["id"]: (row["outcome"], row["reason"]) for row in ledger}
    assert found == {
        "1": ("applied", None),
        "2": ("applied", None),
        "3": ("applied", "CONCURRENT"),
        "4": ("applied", None),
        "5": ("ignored", "OLDER"),
    }


def test_more_concurrent_writes_than_declared_are_refused_and_none_is_dropped(tmp_path: Path):
    """Also where the first are in a state of the day before. Once more are allowed, the store goes on as it was."""
    last = {"2026-01-03": [{"id": "6", "cart": "x", "vector": {"west": 1}, "lamps": 5, "rugs": 0}]}
    bounded, wider = (
        replace(carts, sinks=(), versions=replace(carts.versions, sides_max=sides_max)) for sides_max in (2, 3)
    )
    shop = Shop(tmp_path, replace(PROJECT, stores=[bounded]))
    for key, events in (DAYS | last).items():
        folder = shop.landing / "cart_writes" / f"dt={key}"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    rebuild_all(shop.engine(), "2026-01-02")
    expected = r"'carts' .*cart 'x'.*at most 2 concurrent writes of a key \(sides_max\), found 3"
    with pytest.raises(RefoldError, match=expected):
        rebuild_all(shop.engine())
    engine = replace(shop, project=replace(PROJECT, stores=[wider])).engine()
    assert wider.code_version == bounded.code_version
    rebuild_all(engine)
    rows = engine.reopened().rows(wider, engine.reopened().chain.get()).to_pylist()
    assert [(row["lamps"], row["rugs"]) for row in rows if row["cart"] == "x"] == [(5, 3)]
    with pytest.raises(DeclarationError, match="sides_max is 1; expected at least 2"):
        latest_by_version(
            carts.log, "c", version=1, by="vector", columns=["lamps"], resolve=TieBreak("lamps"), sides_max=1
        )


def test_the_reference_agrees(shop: Shop):
    assert verify_reference(shop.engine(), shop.engine().chain.get()) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder in which commands find the project."""
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.stores.carts:PROJECT"\n')
    return tmp_path


def test_the_commands_show_it(shop: Shop, project: Path):
    assert explain(PROJECT, carts).how == (
        "The writes of each key that no other has seen, by vector; several are resolved by the merge function "
        "most_of_each."
    )
    for words, expected, code in (
        (["why", "carts", "x"], "CONCURRENT", 0),
        (["show", "cart_conflicts"], "most_of_each", 0),
        (["diff", "carts", "--against", "tests.stores.carts:fullest"], "rugs", 1),
        (["verify"], "", 0),
    ):
        shown = shop.refold(*words, project=project)
        assert (shown.exit_code, expected in shown.output) == (code, True), shown.output


def test_a_vector_that_differs_in_a_sink_is_named_and_repaired(shop: Shop, project: Path):
    with sqlite3.connect(shop.database_file) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        (table,) = {name for (name,) in names if name.startswith("carts__")}
        database.execute(f"""UPDATE {table} SET vector = '{{"north":9}}' WHERE cart = 'y'""")
    shown = shop.refold("verify", "carts", project=project)
    assert (shown.exit_code, "vector" in shown.output) == (1, True), shown.output
    assert shop.refold("repair", "carts", project=project).exit_code == 0
    assert shop.refold("verify", "carts", project=project).exit_code == 0


def test_dagster_builds_it(shop: Shop, tmp_path: Path):
    assert House(Shop(tmp_path, PROJECT, landing_folder=shop.landing)).rebuild().success
