"""A sink that refuses a store in a run of one snapshot: the others are released, and the run fails by its name."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from refold import Sql, open_release
from refold.dagster.failures import failure_texts
from tests import shop
from tests.attacks.test_poison import on_hand
from tests.dagster.house import House
from tests.shop import DAYS, move
from tests.support import Shop

STORES = ("on_hand", "last_move", "offers")


def served(house: House) -> dict[str, str]:
    release = open_release(str(house.shop.store))
    return {name: release.snapshot_of(name) for name in release.release.versions}


def test_the_other_stores_are_released_and_the_run_names_the_one_held_back(tmp_path: Path):
    """F3: a view that another one reads cannot change its columns: every later release was skipped."""
    sinks = {name: [Sql(name)] for name in STORES}
    house = House(Shop(tmp_path, shop.little(sinks)))
    for day in DAYS[:2]:
        shop.land(house.shop.landing, "moves", day, [move(day, "cup", 1)])
        shop.land(house.shop.landing, "prices", day, [{"id": day, "product": "cup", "price": int(day[-1])}])
    assert house.run("rebuild_snapshot", DAYS[0]).success
    with sa.create_engine(house.shop.database_url).begin() as connection:
        connection.execute(sa.text("CREATE VIEW theirs AS SELECT level FROM on_hand"))
    renamed = house.declared(shop.little(sinks, rule=on_hand, version=2))
    for _ in range(2):
        result = renamed.run("rebuild_snapshot", DAYS[1])
        assert not result.success
        (text,) = failure_texts(result.all_events)
        assert "'on_hand' was held back and keeps serving snapshot 2026-01-01" in text and "theirs" in text
        assert served(renamed) == {"on_hand": DAYS[0], "last_move": DAYS[1], "offers": DAYS[1]}
    with sa.create_engine(house.shop.database_url).begin() as connection:
        connection.execute(sa.text("DROP VIEW theirs"))
    assert renamed.run("rebuild_snapshot", DAYS[1]).success
    assert set(served(renamed).values()) == {DAYS[1]}


def test_a_table_that_cannot_be_written_holds_back_its_store_alone(tmp_path: Path):
    """F3: a trigger of the database refuses the rows of one store."""
    sinks = {name: [Sql(name)] for name in STORES}
    house = House(Shop(tmp_path, shop.little(sinks)))
    for day in DAYS[:2]:
        shop.land(house.shop.landing, "moves", day, [move(day, "cup", 1)])
        shop.land(house.shop.landing, "prices", day, [{"id": day, "product": "cup", "price": int(day[-1])}])
    assert house.run("rebuild_snapshot", DAYS[0]).success
    with sa.create_engine(house.shop.database_url).begin() as connection:
        (table,) = connection.scalars(
            sa.text("SELECT DISTINCT rows_table FROM refold_versions WHERE table_name = 'on_hand'")
        )
        refuse = f"CREATE TRIGGER theirs BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'not in this table'); END"
        connection.execute(sa.text(refuse))
    result = house.run("rebuild_snapshot", DAYS[1])
    (text,) = failure_texts(result.all_events)
    assert "'on_hand' was held back and keeps serving snapshot 2026-01-01" in text and "not in this table" in text
    assert served(house) == {"on_hand": DAYS[0], "last_move": DAYS[1], "offers": DAYS[1]}
    held = {e.asset_key.path[-1]: e.materialization.metadata for e in result.get_asset_materialization_events()}
    assert "not in this table" in str(held["on_hand"]["held back"].value)
    assert held["on_hand"]["keeps serving"].value == "snapshot 2026-01-01"
    alone = house.materialize("sql/on_hand")
    assert not alone.success and "not in this table" in "".join(failure_texts(alone.all_events))
