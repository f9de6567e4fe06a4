"""`open_release`: reading exactly one release over all sinks, without the project."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

import refold
from refold import Sql, int64, latest_by_key
from refold.errors import Damaged, FixInput, NotFound
from refold.storage.objects import ObjectStore
from tests.release.little import DAYS, PRODUCTS, Little, day_of, last_move, on_hand
from tests.shop import moves

READER = """
import sys, refold
opened = refold.open_release(sys.argv[1])
frame = opened.sql("on_hand").to_pandas()
print(opened.number, opened.snapshot, list(frame["level"]), opened.delta("levels")["level"].to_pylist(),
      opened.documents("moves")["quantity"].to_pylist(), [hit.key for hit in opened.search("moves_index", "nut")])
assert not [name for name in sys.modules if name.startswith(("tests", "assets"))]
"""


def test_a_reader_needs_the_url_and_nothing_else(little: Little, tmp_path: Path):
    """In another process, another folder, and without the project."""
    little.release(1)
    command = [sys.executable, "-c", READER, str(little.store)]
    root = Path(refold.__file__).parents[1]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() == f"1 {DAYS[1]} {[3] * 5} {[3] * 5} {[2] * 5} [('nut',)]"


def test_rows_have_the_declared_types_and_order_whatever_the_sink(either: Little):
    either.release(2)
    opened = refold.open_release(str(either.store), database=either.database_url)
    expected = either.engine().rows(on_hand, either.engine().chain.get(DAYS[2]))
    for found in (opened.sql("on_hand"), opened.delta("levels"), opened.delta("on_hand")):
        assert found.schema == expected.schema
        assert found.equals(expected)
    catalog = either.engine().rows(last_move, either.engine().chain.get(DAYS[2]))
    for found in (opened.sql("last_move"), opened.documents("moves"), opened.documents("moves_index")):
        assert found.equals(catalog)
    assert (opened.snapshot, opened.snapshot_id) == (DAYS[2], either.engine().chain.get(DAYS[2]).id)


def test_a_release_becomes_a_frame_or_a_database_in_one_line_and_nothing_is_rounded(little: Little):
    little.release(2)
    opened = refold.open_release(str(little.store))
    arrow = opened.rows("on_hand")
    level = arrow["level"].to_pylist()
    assert opened.pandas("on_hand")["level"].tolist() == level
    assert str(opened.pandas("on_hand")["level"].dtype) == "int64[pyarrow]"
    assert opened.polars("on_hand").to_dicts() == arrow.to_pylist()
    query = f"SELECT sum(level), count(DISTINCT quantity) FROM on_hand JOIN last_move USING ({arrow.column_names[0]})"
    assert opened.duckdb().sql(query).fetchall() == [(sum(level), 1)]


def test_an_earlier_release_is_opened_by_its_snapshot_or_by_a_time(little: Little):
    for day in (0, 1, 2):
        little.release(day)
    by_snapshot = refold.open_release(str(little.store), snapshot=DAYS[1])
    assert (by_snapshot.number, by_snapshot.snapshot) == (2, DAYS[1])
    made = dt.datetime.fromisoformat(by_snapshot.released_at)
    assert refold.open_release(str(little.store), at=made).released_at == by_snapshot.released_at
    with pytest.raises(NotFound, match="Nothing was released at 2001"):
        refold.open_release(str(little.store), at=dt.datetime(2001, 1, 1, tzinfo=dt.UTC))
    with pytest.raises(NotFound, match="No release of snapshot 2001-01-01 was made"):
        refold.open_release(str(little.store), snapshot="2001-01-01")
    with pytest.raises(FixInput, match="at most one of number, snapshot, and a time with its zone"):
        refold.open_release(str(little.store), number=1, snapshot=DAYS[1])
    with pytest.raises(FixInput, match="zone"):
        refold.open_release(str(little.store), at=dt.datetime(2001, 1, 1))  # noqa: DTZ001  # refused


def test_an_open_release_stays_what_it_is_while_others_are_released(either: Little):
    either.release(0)
    opened = refold.open_release(str(either.store), database=either.database_url)
    either.release(3)
    levels, quantities = opened.delta("levels")["level"], opened.sql("last_move")["quantity"]
    assert day_of(levels.to_pylist(), quantities.to_pylist()) == 0
    assert opened.search("moves_index", "nail")[0].document["quantity"] == 1
    assert refold.open_release(str(either.store)).number == 2
    again = refold.open_release(str(either.store), number=1, database=either.database_url)
    assert again.sql("on_hand").equals(opened.sql("on_hand"))


def test_a_release_whose_sinks_were_not_reached_yet_is_read_whole(little: Little):
    """The pointer is the truth; sinks that have not moved hold its versions all the same."""
    little.release(0)
    releaser = little.releaser()
    releaser.pointer.move(releaser._wanted(little.engine().chain.get(DAYS[1]), releaser.current()))
    assert set(little.released().values()) == {0}
    opened = refold.open_release(str(little.store))
    assert day_of(opened.sql("on_hand")["level"].to_pylist(), opened.documents("moves")["quantity"].to_pylist()) == 1


def test_a_store_that_was_moved_is_read_where_it_is_now(little: Little, tmp_path: Path):
    little.release(1)
    shutil.move(little.store, tmp_path / "elsewhere")
    opened = refold.open_release(str(tmp_path / "elsewhere"))
    assert len(opened.delta("levels")) == len(opened.search("moves_index", "bolt nut nail screw washer")) == 5


def test_what_is_not_there_is_told_with_what_there_is(little: Little, tmp_path: Path):
    with pytest.raises(NotFound, match="Expected a folder"):
        refold.open_release(str(tmp_path / "nowhere"))
    with pytest.raises(NotFound, match="Nothing has been released"):
        refold.open_release(str(little.store))
    little.release(0)
    opened = refold.open_release(str(little.store))
    with pytest.raises(NotFound, match=r"no sql sink 'levels'; its sinks are .*Sql/on_hand \(of store on_hand\)"):
        opened.sql("levels")
    with pytest.raises(NotFound, match=r"no delta sink 'last_move'; its sinks are .*Delta/levels"):
        opened.delta("last_move")
    with pytest.raises(NotFound, match=r"no searchable sink 'moves'"):
        opened.search("moves", "nut")
    with pytest.raises(NotFound, match="no release 4"):
        refold.open_release(str(little.store), number=4)


def test_a_version_that_was_pruned_meanwhile_is_told_so(little: Little):
    little.release(0)
    opened = refold.open_release(str(little.store))
    little.release(1)
    for _, _, target in little.targets():
        target.drop(target.versions()[0])
    for read in (
        lambda: opened.sql("on_hand"),
        lambda: opened.delta("levels"),
        lambda: opened.documents("moves"),
        lambda: opened.search("moves_index", "nut"),
    ):
        with pytest.raises(NotFound, match=r"Release 1 of snapshot 2026-01-01 cannot be read .* Where it was pruned"):
            read()


def test_damage_stays_damage(little: Little):
    little.release(0)
    (file,) = Path(little.store, "delta", "levels").glob("000000-*/*.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Damaged, match="sha256"):
        refold.open_release(str(little.store)).delta("levels")


def test_a_database_whose_password_is_not_told_must_be_given(little: Little):
    little.release(0)
    release = little.releaser().current()
    masked = replace(release, number=2, database="postgresql://ann:***@db/shop")
    little.releaser().pointer.move(masked)
    with pytest.raises(FixInput, match="without its password"):
        refold.open_release(str(little.store)).sql("on_hand")
    assert len(refold.open_release(str(little.store), database=little.database_url).sql("on_hand")) == len(PRODUCTS)


def test_columns_of_then_are_read_after_the_declaration_changed(little: Little):
    """An older release keeps the columns it had, also where the project has others by now."""
    little.release(0)
    renamed = {"quantity": int64(1), "id": refold.text()}
    other = latest_by_key(moves, "last_move", version=2, columns=renamed, sinks=[Sql("last_move")])
    changed = little.declared(stores=[on_hand, other])
    engine = changed.engine()
    head = engine.chain.get(DAYS[1])
    assert engine.build(other, head) and engine.prover.prove(other, head).passed
    changed.publish(1)
    changed.release(1)
    assert "id" in refold.open_release(str(little.store)).sql("last_move").column_names
    old = refold.open_release(str(little.store), number=1).sql("last_move")
    assert old.schema.field("quantity").type == pa.int64() and "id" not in old.column_names
    changed.releaser().rollback()
    assert refold.open_release(str(little.store)).sql("last_move").equals(old)
    connection = sqlite3.connect(little.database_file)
    assert connection.execute("SELECT sum(quantity) FROM last_move").fetchone() == (5,)
    assert "id" not in [row[1] for row in connection.execute("PRAGMA table_info(last_move)")]
    connection.close()


def test_nothing_is_written_by_reading(little: Little):
    little.release(0)
    before = {info.name: info.e_tag for info in ObjectStore.open(str(little.store)).list()}
    opened = refold.open_release(str(little.store))
    opened.sql("on_hand"), opened.delta("levels"), opened.search("moves_index", "nut")
    assert {info.name: info.e_tag for info in ObjectStore.open(str(little.store)).list()} == before
