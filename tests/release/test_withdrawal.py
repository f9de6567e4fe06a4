"""Sinks that a release no longer has stop serving, come back by a rollback, and are pruned; a project can keep them."""

from __future__ import annotations

import datetime as dt
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from refold import Sql
from refold.errors import FixInput, NotFound
from refold.release.releaser import Superseded
from refold.storage.names import ObjectKind, name_of
from tests import shop
from tests.release.little import DAYS, NOW, Little, database, last_move, on_hand, read_whole
from tests.release.test_following import do, unfollowed

FORMER = ("BulkNdjson/moves", "Delta/levels", "Sql/last_move", "Tantivy/moves_index")
FEWER = shop.little({"on_hand": on_hand.sinks[:1]})


def fewer(little: Little, keep: Sequence[str] = ()) -> Little:
    """The shop with one sink, `Sql/on_hand`: a store and a sink of another store are gone."""
    return replace(little, project=replace(FEWER, keep=keep))


def renamed(little: Little, view: str) -> Little:
    """The shop whose view of the stock has another name."""
    sinks = {"on_hand": [Sql(view), *on_hand.sinks[1:]], "last_move": last_move.sinks}
    return replace(little, project=shop.little(sinks))


def tables(little: Little) -> set[str]:
    """The tables and views in the database as they are named before any hash."""
    inspector = sa.inspect(database(little))
    return {name.partition("__")[0] for name in (*inspector.get_table_names(), *inspector.get_view_names())}


def views(little: Little) -> set[str]:
    return set(sa.inspect(database(little)).get_view_names())


def assert_withdrawn(little: Little) -> None:
    """Readers find nothing of what was withdrawn, by whatever way they look for it."""
    assert {title: little.released()[title] for title in FORMER} == dict.fromkeys(FORMER)
    assert views(little) == {"on_hand"}
    with pytest.raises(TableNotFoundError):
        DeltaTable(str(Path(little.store, "delta", "levels")))
    assert not list(little.store.rglob("released.json"))


def test_a_release_without_a_store_withdraws_it_from_every_sink(either: Little, caplog: pytest.LogCaptureFixture):
    either.release(0)
    with caplog.at_level(logging.WARNING, "refold"):
        release = fewer(either).release(1)
    assert [each.title for each in release.former] == sorted(FORMER)
    named = [record.getMessage().partition(" was withdrawn")[0] for record in caplog.records]
    assert named == sorted(FORMER)
    assert 'POST _aliases {"actions":[{"remove_index":{"index":"moves-*"}}]}' in caplog.text
    assert_withdrawn(either)
    assert either.released()["Sql/on_hand"] == 1
    assert either.held()["Sql/last_move"] == either.held()["Delta/levels"] == [0, 1, 2, 3]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "refold"):
        fewer(either).release(1)
        later = fewer(either).release(2)
    assert (later.number, later.former, caplog.text) == (3, [], "")


def test_a_rollback_serves_again_what_was_withdrawn_and_the_next_release_withdraws_it(either: Little):
    either.release(0)
    fewer(either).release(1)
    assert fewer(either).releaser().rollback(1).number == 3
    assert read_whole(either) == (3, 0)
    assert views(either) == {"on_hand", "last_move"}
    fewer(either).release(2)
    assert_withdrawn(either)
    either.release(3)
    assert read_whole(either) == (5, 3)


def test_a_former_sink_that_the_project_keeps_goes_on_serving_until_it_is_kept_no_more(either: Little):
    either.release(0)
    keeping = fewer(either, FORMER)
    for day in (1, 2):
        assert keeping.release(day).number == day + 1
        assert keeping.release(day).number == day + 1
    assert either.released() == dict.fromkeys(FORMER, 0) | {"Sql/on_hand": 2}
    assert fewer(either).release(2).number == 4
    assert_withdrawn(either)


def test_a_project_does_not_keep_what_it_declares():
    with pytest.raises(FixInput, match="keep names Sql/on_hand, which is declared"):
        replace(FEWER, keep=["Sql/on_hand"])


def test_a_renamed_view_is_withdrawn_under_its_old_name(either: Little):
    either.release(0)
    other = renamed(either, "stock_level")
    other.publish(1)
    other.release(1)
    assert views(either) == {"stock_level", "last_move"}


def test_a_view_that_refold_did_not_make_is_left_and_named_until_it_is_gone(
    either: Little, caplog: pytest.LogCaptureFixture
):
    either.release(0)
    do(either, "DROP VIEW last_move", "CREATE VIEW last_move AS SELECT 7 AS quantity")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "refold"):
            fewer(either).release(1)
        assert "last_move is not the view that Refold made" in caplog.text
        assert 'DROP VIEW "last_move";' in caplog.text
        assert "keep=['Sql/last_move']" in caplog.text
    assert "last_move" in views(either)
    do(either, "DROP VIEW last_move")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "refold"):
        fewer(either).release(1)
    assert "Sql/last_move was withdrawn" in caplog.text


def test_a_view_that_others_build_on_is_left_and_they_are_named(either: Little, caplog: pytest.LogCaptureFixture):
    either.release(0)
    do(either, "CREATE VIEW theirs AS SELECT quantity FROM last_move")
    with caplog.at_level(logging.WARNING, "refold"):
        release = fewer(either).release(1)
    assert "Others depend on the view last_move:\n  - view theirs" in caplog.text
    assert either.released() == dict.fromkeys(FORMER) | {"Sql/on_hand": 1, "Sql/last_move": 0}
    assert [each.title for each in fewer(either).release(2).former] == ["Sql/last_move"]
    (left,) = [each for each in fewer(either).engine().served.check() if each.differences]
    assert left.sink == "Sql/last_move" and 'DROP VIEW "last_move";' in str(left)
    do(either, "DROP VIEW theirs")
    assert fewer(either).release(2).number == release.number + 1
    assert_withdrawn(either)
    assert not [each for each in fewer(either).engine().served.check() if each.differences]


def test_a_table_that_takes_the_name_of_a_withdrawn_view_is_not_touched(either: Little):
    """The rollback that would need it is refused before it is committed."""
    either.release(0)
    fewer(either).release(1)
    do(either, "CREATE TABLE last_move (theirs INTEGER)", "INSERT INTO last_move VALUES (7)")
    with pytest.raises(FixInput, match="found one that Refold did not make"):
        fewer(either).releaser().rollback(1)
    assert fewer(either).releaser().pointer.number() == 2
    with database(either).connect() as connection:
        assert connection.scalar(sa.text("SELECT theirs FROM last_move")) == 7


def test_a_copy_of_a_store_withdraws_nothing_from_the_database_of_the_original(
    little: Little, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    little.release(0)
    shutil.copytree(little.store, tmp_path / "copy" / "store")
    copy = Little(tmp_path / "copy")
    copy.publish(1)
    with caplog.at_level(logging.WARNING, "refold"):
        fewer(copy).release(1)
    assert "Sql/last_move in table last_move in sqlite:///" in caplog.text
    assert "cannot be reached" in caplog.text
    assert little.released() == dict.fromkeys((*FORMER, "Sql/on_hand"), 0)
    assert not [each for each in fewer(copy).engine().served.check() if each.differences]


def test_a_killed_withdrawal_is_completed_by_the_next_run(either: Little):
    either.release(0)
    unfollowed(fewer(either), 1)
    assert either.released()["Sql/last_move"] == 0
    assert fewer(either).release(1).number == 2
    assert_withdrawn(either)


def test_a_withdrawal_that_a_rollback_overtook_takes_nothing_away(either: Little):
    either.release(0)
    unfollowed(fewer(either), 1)
    slow = fewer(either).releaser()
    late = slow.current()
    assert fewer(either).releaser().rollback(1).number == 3
    with pytest.raises(Superseded):
        slow.withdrawals.withdraw(late, slow.confirm(2))
    assert read_whole(either) == (3, 0)


def test_versions_of_a_former_sink_are_pruned_like_others_until_nothing_is_left(either: Little):
    def prune(day: int, keep: int) -> dict[str, list[int]]:
        """Release and prune the day after; what the former sinks hold then."""
        at = NOW + dt.timedelta(days=day)
        fewer(either).release(day, now=at)
        pruner = fewer(either).pruner(at)
        pruner.apply(pruner.plan(keep, 0))
        return {title: days for title, days in either.held().items() if title in FORMER}

    either.release(0)
    assert prune(1, 2) == {title: [0] for title in FORMER}, "the release before can still be rolled back to"
    assert prune(2, 2) == {title: [] for title in FORMER}
    assert either.held()["Sql/on_hand"] == [1, 2, 3]
    assert tables(either) == {"on_hand", "refold_release", "refold_versions"}
    left = [path for folder in ("levels", "moves", "moves_index") for path in either.store.rglob(f"{folder}/**/*")]
    assert [path.name for path in left if path.is_file() and "search" in path.parts] in ([], [".lock"])
    with pytest.raises(NotFound, match="cannot be served again"):
        fewer(either).releaser().rollback(1)


def test_a_prune_leaves_what_is_kept_and_names_what_it_cannot_reach(either: Little, tmp_path: Path):
    either.release(0)
    keeping = fewer(either, FORMER)
    keeping.release(1)
    keeping.release(2)
    found = [v for v in keeping.pruner().plan(1, 0).versions if v.sink in FORMER and v.keep]
    assert {(v.sink, v.version[:6], v.why) for v in found} >= {(title, "000000", "still served") for title in FORMER}
    elsewhere = replace(keeping, database=f"sqlite:///{tmp_path / 'other.db'}")
    (left,) = elsewhere.pruner().plan(1, 0).left
    assert left.startswith("Sql/last_move: Sql/last_move in table last_move in ")


def test_what_a_release_would_withdraw_is_told_before(either: Little):
    either.release(0)
    do(either, "CREATE VIEW theirs AS SELECT quantity FROM last_move")
    before = either.files() if not either.database else {}
    told = fewer(either, ["Delta/levels"]).releaser().foretell_withdrawals()
    assert [text.partition(" ")[0] for text in told] == sorted(FORMER)
    bulk, delta, view, index = told
    assert "will be withdrawn" in bulk and "keep=['BulkNdjson/moves']" in bulk
    assert delta.endswith("The project keeps it.")
    assert "cannot be withdrawn: Others depend on the view last_move:\n  - view theirs" in view
    assert "will be withdrawn" in index
    assert either.released() == dict.fromkeys((*FORMER, "Sql/on_hand"), 0)
    assert not before or either.files() == before
    assert either.releaser().foretell_withdrawals() == []
    fewer(either).release(1)
    (again,) = fewer(either).releaser().foretell_withdrawals()
    assert "theirs" in again


FEWER_KEEPING = replace(FEWER, keep=["Delta/levels"])


def test_commands_show_what_will_be_and_what_was_withdrawn(little: Little):
    little.release(0)
    (little.root / "pyproject.toml").write_text(
        '[tool.refold]\nproject = "tests.release.test_withdrawal:FEWER_KEEPING"\n'
    )

    def refold(*words: str) -> str:
        done = little.refold(*words, project=little.root)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    told = refold("plan")
    assert "Sql/last_move of store 'last_move' will be withdrawn" in told
    assert "Delta/levels is no longer a sink of the project and still serves version 000000-" in told
    assert len(json.loads(refold("plan", "--json"))["former_sinks"]) == len(FORMER)
    fewer(little, ["Delta/levels"]).release(1)
    shown = refold("release", "show")
    assert "Former sinks" in shown and "withdrawn" in shown and "kept" in shown
    assert "Sql/last_move" not in refold("plan")


def test_a_record_without_former_sinks_is_written_as_before(little: Little):
    """So that records and their names stay, and an earlier Refold reads them."""
    little.release(0)
    assert b'"former"' not in Path(little.store, name_of(ObjectKind.RELEASE, number=1)).read_bytes()
    fewer(little).release(1)
    body: dict[str, Any] = json.loads(Path(little.store, name_of(ObjectKind.RELEASE, number=2)).read_bytes())
    assert [each["store"] for each in body["body"]["former"]] == ["last_move", "on_hand", "last_move", "last_move"]
    assert DAYS[1] == body["body"]["snapshot"]
