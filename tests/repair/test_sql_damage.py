"""Every table and view of SQL sinks, damaged in every way on SQLite and on PostgreSQL: named to the cell, mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from refold.errors import FixInput
from refold.sinks.sql_tables import releases, versions
from tests.repair.matrix import OLDER, PROJECT, SERVED, House

STORES = ("on_hand", "turnover")
"""The stores that have SQL sinks."""


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, whole: House, tmp_path: Path) -> House:
    """A copy to damage, on each of the databases."""
    house = whole.copy(tmp_path / "root")
    if request.param == "sqlite":
        return house
    url = sa.make_url(request.getfixturevalue("postgres")).set(drivername="postgresql+psycopg2")
    house = replace(house, database=url.render_as_string(hide_password=False))
    engine = house.engine()
    for day in (OLDER, SERVED):
        for store in PROJECT.in_order:
            for sink in store.sinks:
                if sink.kind == "sql":
                    engine.publisher.publish(store, sink, engine.chain.get(day))
    engine.releaser.roll_forward()
    return house


ON_SQLITE = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
"""For what does not depend on the database, once it was seen on PostgreSQL for something alike."""


class _Stranger:
    """Somebody with the database's password."""

    def __init__(self, house: House) -> None:
        self._engine = sa.create_engine(house.settings.database, poolclass=sa.NullPool)
        self.sqlite = self._engine.dialect.name == "sqlite"
        ((self.rows_table,),) = self.do("SELECT rows_table FROM refold_release WHERE table_name = 'on_hand'")
        names = [column["name"] for column in sa.inspect(self._engine).get_columns(str(self.rows_table))]
        self.others = ", ".join(name for name in names if name not in ("refold_version", "product"))
        self.version, self.older = house.version("on_hand"), house.version("on_hand", OLDER)

    def add_ghost(self, version: str) -> None:
        """Add a row for a product that there is none of."""
        columns = f"refold_version, product, {self.others}"
        copied = f"SELECT :v, 'ghost', {self.others} FROM \"{self.rows_table}\" WHERE product = 'product 01'"
        self.do(
            f'INSERT INTO "{self.rows_table}" ({columns}) {copied} AND refold_version = :w', v=version, w=self.version
        )

    def do(self, *statements: str, **values: object) -> list[tuple[object, ...]]:
        """Do something, all of it or nothing; gives the rows of the last statement."""
        with self._engine.begin() as connection:
            for statement in statements:
                result = connection.execute(sa.text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []


def _mended(shop: House, whole: House) -> Iterator[str]:
    """What was found, before it was repaired and everything verified equal."""
    found = shop.faults(*STORES)
    shop.mend(*STORES)
    assert shop.faults(*STORES) == []
    shown = _Stranger(shop).do("SELECT product, level FROM on_hand ORDER BY product")
    assert shown == _Stranger(whole).do("SELECT product, level FROM on_hand ORDER BY product")
    yield from found


def _place(shop: House) -> str:
    return shop.engine().publisher.target(PROJECT.store("on_hand"), PROJECT.store("on_hand").sinks[0]).place


def _rows_of(shop: House) -> str:
    return f"sink at {_place(shop)}, version {shop.version('on_hand')}, key"


class TestRows:
    def test_a_changed_cell_is_named_with_both_values(self, shop: House, whole: House):
        stranger = _Stranger(shop)
        update = f'UPDATE "{stranger.rows_table}" SET level = level + 5 WHERE product = :p AND refold_version = :v'
        stranger.do(update, p="product 01", v=stranger.version)
        ((level,),) = _Stranger(whole).do("SELECT level FROM on_hand WHERE product = 'product 01'")
        assert isinstance(level, int)
        expected = f"{_rows_of(shop)} 'product 01', column level: expected {level}, found {level + 5}"
        assert list(_mended(shop, whole)) == [expected]

    def test_a_deleted_row_is_named(self, shop: House, whole: House):
        stranger = _Stranger(shop)
        delete = f'DELETE FROM "{stranger.rows_table}" WHERE product = :p AND refold_version = :v'
        stranger.do(delete, p="product 01", v=stranger.version)
        assert list(_mended(shop, whole)) == [f"{_rows_of(shop)} 'product 01': expected 1 rows, found 0 rows"]

    def test_an_added_row_is_named(self, shop: House, whole: House):
        stranger = _Stranger(shop)
        stranger.add_ghost(stranger.version)
        assert list(_mended(shop, whole)) == [f"{_rows_of(shop)} 'ghost': expected 0 rows, found 1 rows"]

    @ON_SQLITE
    def test_two_rows_that_were_exchanged_are_both_named(self, shop: House, whole: House):
        stranger = _Stranger(shop)
        swap = f'UPDATE "{stranger.rows_table}" SET product = :b WHERE product = :a AND refold_version = :v'
        stranger.do(swap, a="product 01", b="aside", v=stranger.version)
        stranger.do(swap, a="product 07", b="product 01", v=stranger.version)
        stranger.do(swap, a="aside", b="product 07", v=stranger.version)
        found = list(_mended(shop, whole))
        named = {text.partition("key ")[2].partition(":")[0] for text in found}
        assert {"'product 01', column level", "'product 07', column level"} <= named
        assert {name.partition(",")[0] for name in named} == {"'product 01'", "'product 07'"}

    @ON_SQLITE
    def test_the_rows_of_an_older_version_in_place_of_the_served_ones_are_named(self, shop: House, whole: House):
        stranger = _Stranger(shop)
        swap = f'UPDATE "{stranger.rows_table}" SET refold_version = :b WHERE refold_version = :a'
        stranger.do(swap, a=stranger.version, b="aside")
        stranger.do(swap, a=stranger.older, b=stranger.version)
        stranger.do(swap, a="aside", b=stranger.older)
        found = list(_mended(shop, whole))
        for version in (stranger.version, stranger.older):
            assert any(f"version {version}, key 'product 00', column level: " in text for text in found)

    @ON_SQLITE
    def test_a_changed_cell_of_a_version_that_was_served_before_is_named_too(self, shop: House, whole: House):
        stranger = _Stranger(shop)
        update = f'UPDATE "{stranger.rows_table}" SET level = 0 WHERE product = :p AND refold_version = :v'
        stranger.do(update, p="product 01", v=stranger.older)
        (found,) = _mended(shop, whole)
        assert f"version {stranger.older}, key 'product 01', column level: expected " in found

    def test_rows_of_no_version_are_named_and_removed(self, shop: House, whole: House):
        stranger = _Stranger(shop)
        stranger.add_ghost("nobody's")
        found = set(_mended(shop, whole))
        assert len(found) == 1
        assert f"{stranger.rows_table}" in str(found) and "refold_version nobody's: expected no rows" in str(found)


COLUMNS = [column.name for column in releases.columns]


def _on_both(columns: list[str], *postgres_too: str) -> pytest.MarkDecorator:
    """Every column on SQLite, and those that mean something to the database on PostgreSQL too."""
    cases = [("sqlite", name) for name in columns] + [("postgres", name) for name in postgres_too]
    return pytest.mark.parametrize(("shop", "column"), cases, indirect=["shop"])


class TestReleaseRow:
    @ON_SQLITE
    def test_the_columns_are_all_there_are(self, shop: House):
        (row,) = _Stranger(shop).do("SELECT * FROM refold_release WHERE table_name = 'on_hand'")
        assert len(row) == len(COLUMNS)

    @_on_both(COLUMNS, "rows_table", "version", "digest")
    def test_a_changed_cell_is_named_with_both_values(self, shop: House, whole: House, column: str):
        stranger = _Stranger(shop)
        ((before,),) = stranger.do(f"SELECT {column} FROM refold_release WHERE table_name = 'on_hand'")
        wrong = f"{before}x" if column != "version" else stranger.older
        stranger.do(f"UPDATE refold_release SET {column} = :wrong WHERE table_name = 'on_hand'", wrong=wrong)
        found = list(_mended(shop, whole)) if column != "table_name" else shop.faults(*STORES)
        where = "sink at table refold_release in "
        if column == "table_name":  # then there is no such row, and the view shows nothing
            assert any(t.startswith(where) and t.endswith("row on_hand: expected 1 row, found 0 rows") for t in found)
            shop.mend(*STORES)
            assert shop.faults(*STORES) == []
            return
        named = f"row on_hand, column {column}: expected {before!r}, found {wrong!r}"
        assert [text.endswith(named) for text in found if text.startswith(where)] == [True]
        assert len(found) == 1

    def test_a_deleted_row_is_named(self, shop: House, whole: House):
        _Stranger(shop).do("DELETE FROM refold_release WHERE table_name = 'on_hand'")
        found = list(_mended(shop, whole))
        assert found[0].endswith("row on_hand: expected 1 row, found 0 rows")

    @ON_SQLITE
    def test_two_rows_that_were_exchanged_are_both_named(self, shop: House, whole: House):
        swap = "UPDATE refold_release SET table_name = :b WHERE table_name = :a"
        stranger = _Stranger(shop)
        for a, b in (("on_hand", "aside"), ("turnover", "on_hand"), ("aside", "turnover")):
            stranger.do(swap, a=a, b=b)
        found = "\n".join(_mended(shop, whole))
        for row, store in (("on_hand", "turnover"), ("turnover", "on_hand")):
            assert f"row {row}, column store: expected {row!r}, found {store!r}" in found

    @ON_SQLITE
    def test_an_added_row_for_a_table_that_is_not_ours_is_left(self, shop: House):
        _Stranger(shop).do("INSERT INTO refold_release (table_name, rows_table, store) VALUES ('x', 'y', 'z')")
        assert shop.faults(*STORES) == []


class TestRegistry:
    @_on_both([column.name for column in versions.columns], "rows_table", "row_count")
    def test_a_changed_cell_is_named_with_both_values(self, shop: House, whole: House, column: str):
        stranger = _Stranger(shop)
        here = "WHERE table_name = 'on_hand' AND version = :v"
        ((before,),) = stranger.do(f"SELECT {column} FROM refold_versions {here}", v=stranger.version)
        wrong = before + 1 if isinstance(before, int) else f"{before}x"
        stranger.do(f"UPDATE refold_versions SET {column} = :wrong {here}", v=stranger.version, wrong=wrong)
        if column == "version":  # a row that was never there, and one too few; only the second can be mended
            found = shop.faults(*STORES)
            assert any(text.endswith(f"{stranger.version}: expected 1 row, found 0 rows") for text in found)
            assert any(f"row on_hand {wrong}: expected 12 rows" in text and "delete the row" in text for text in found)
            return
        found = list(_mended(shop, whole))
        if column == "table_name":
            assert any(text.endswith(f"{stranger.version}: expected 1 row, found 0 rows") for text in found)
        else:
            named = f"{stranger.version}, column {column}: expected {before!r}, found {wrong!r}"
            assert [text for text in found if text.endswith(named)]

    def test_a_deleted_row_is_named(self, shop: House, whole: House):
        stranger = _Stranger(shop)
        stranger.do("DELETE FROM refold_versions WHERE version = :v", v=stranger.version)
        (found, *_) = _mended(shop, whole)
        assert found.endswith(f"{stranger.version}: expected 1 row, found 0 rows")

    @ON_SQLITE
    def test_an_added_row_is_named_with_what_to_do(self, shop: House):
        _Stranger(shop).do(
            "INSERT INTO refold_versions (table_name, version, rows_table, columns, row_count) "
            "SELECT table_name, 'ghost', rows_table, columns, row_count FROM refold_versions "
            "WHERE table_name = 'on_hand' AND version = :v", v=_Stranger(shop).version,
        )  # fmt: skip
        found = set(shop.faults(*STORES))
        assert len(found) == 1
        assert "row on_hand ghost: expected 12 rows" in str(found) and "delete the row" in str(found)

    @ON_SQLITE
    def test_a_dropped_registry_is_made_again(self, shop: House, whole: House):
        _Stranger(shop).do("DROP TABLE refold_versions")
        assert list(_mended(shop, whole))

    def test_dropped_rows_are_loaded_again(self, shop: House, whole: House):
        stranger = _Stranger(shop)
        stranger.do("DROP VIEW on_hand", f'DROP TABLE "{stranger.rows_table}"')
        found = list(_mended(shop, whole))
        assert any(f"table {stranger.rows_table} in " in text for text in found)


def _redefine(stranger: _Stranger) -> None:
    select = f"""SELECT product, level FROM "{stranger.rows_table}" WHERE refold_version = '{stranger.version}'"""
    stranger.do("DROP VIEW on_hand", f"CREATE VIEW on_hand AS {select}")


def _redefine_with_another_column(stranger: _Stranger) -> None:
    stranger.do("DROP VIEW on_hand", "CREATE VIEW on_hand AS SELECT 'product 01' AS product, 7 AS stock")


def _redefine_with_other_rows(stranger: _Stranger) -> None:
    stranger.do("DROP VIEW on_hand", "CREATE VIEW on_hand AS SELECT 'product 01' AS product, 7 AS level")


def _drop(stranger: _Stranger) -> None:
    stranger.do("DROP VIEW on_hand")


class TestView:
    @pytest.mark.parametrize("damage", [_redefine, _redefine_with_another_column, _redefine_with_other_rows, _drop])
    def test_a_view_that_is_another_is_named_with_both_definitions(
        self, shop: House, whole: House, damage: Callable[[_Stranger], None]
    ):
        damage(_Stranger(shop))
        found = [text for text in _mended(shop, whole) if text.startswith("sink at view on_hand in ")]
        assert len(found) == 1
        assert "refold_release.table_name = 'on_hand'" in found[0]
        assert ("no view" in found[0]) == (damage is _drop)

    def test_a_table_in_the_place_of_a_view_is_named_and_left_to_a_person(self, shop: House):
        _Stranger(shop).do("DROP VIEW on_hand", "CREATE TABLE on_hand (product TEXT, level INTEGER)")
        assert any(text.startswith("sink at view on_hand in ") for text in shop.faults(*STORES))
        with pytest.raises(FixInput, match="Move that table away"):
            shop.mend(*STORES)
        _Stranger(shop).do("DROP TABLE on_hand")
        shop.mend(*STORES)
        assert shop.faults(*STORES) == []
