"""A release that a sink cannot follow is refused before it is committed, and one that none served is passed over."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg2
import pytest
import sqlalchemy as sa

from refold.cli.plan import refusals
from refold.errors import FixInput, Unavailable
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import Operation, WrapperStore, wrapped
from tests import shop
from tests.release.little import DAYS, Little, database, last_move, read_whole
from tests.release.little import on_hand as stored

T = TypeVar("T")


class Stock(NamedTuple):
    stock: int = 0


def on_hand(row: Stock, event: Any):
    """Units on hand, under another name of the column."""
    return row._replace(stock=row.stock + event.quantity)


RENAMED = shop.little({"on_hand": stored.sinks, "last_move": last_move.sinks}, rule=on_hand, version=2)


def renamed(little: Little, day: int) -> Little:
    """The shop with the column `level` renamed, its history folded anew and proven, and a day published."""
    other = replace(little, project=RENAMED)
    engine = other.engine()
    for log in engine.project.logs:
        list(engine.fold_history(log.name, engine.chain.get()))
        list(engine.prove_history(log.name, engine.chain.get()))
    other.publish(day)
    return other


def do(little: Little, *statements: str) -> None:
    with database(little).begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def test_a_release_that_a_view_of_others_prevents_is_not_committed(either: Little):
    either.release(0)
    other = renamed(either, 1)
    do(either, "CREATE VIEW theirs AS SELECT level FROM on_hand")
    with pytest.raises(FixInput, match=r"(?s)Snapshot 2026-01-02 cannot be released.*theirs.*Nothing was changed"):
        other.release(1)
    pointer, day = other.releaser().pointer, other.engine().chain.get(DAYS[1])
    assert pointer.number() == 1
    assert set(either.released().values()) == {0}
    (foretold,) = refusals(other.releaser(), day)
    assert "theirs" in foretold and "Snapshot 2026-01-02 cannot be released" in foretold
    assert refusals(other.releaser(), other.engine().chain.get(DAYS[2])) == [], "not published yet"
    do(either, "DROP VIEW theirs")
    assert refusals(other.releaser(), day) == []
    assert set(either.released().values()) == {0}
    assert other.release(1).number == 2
    assert set(other.released().values()) == {1}


def test_a_rollback_that_a_view_of_others_prevents_is_not_committed(either: Little):
    either.release(0)
    other = renamed(either, 1)
    other.release(1)
    do(either, "CREATE VIEW theirs AS SELECT stock FROM on_hand")
    with pytest.raises(FixInput, match=r"(?s)Snapshot 2026-01-01 cannot be released.*theirs.*Nothing was changed"):
        other.releaser().rollback()
    assert other.releaser().pointer.number() == 2
    assert set(other.released().values()) == {1}


def unfollowed(little: Little, day: int) -> None:
    """A release that is committed and that no sink has followed, as a kill leaves it."""
    releaser = little.releaser()
    current = releaser.current()
    wanted = releaser._wanted(little.engine().chain.get(DAYS[day]), current)
    releaser.pointer.move(wanted)


def test_a_sink_that_cannot_follow_a_committed_release_keeps_no_other_from_following(either: Little):
    """As where a view of others is created between the question and the commit; once it is gone, a rerun completes."""
    either.release(0)
    other = renamed(either, 1)
    do(either, "CREATE VIEW theirs AS SELECT level FROM on_hand")
    unfollowed(other, 1)
    with pytest.raises(FixInput, match="view theirs"):
        other.releaser().roll_forward()
    files = {title: day for title, day in other.released().items() if not title.startswith("Sql/")}
    assert files == dict.fromkeys(("Delta/levels", "BulkNdjson/moves", "Tantivy/moves_index"), 1)
    assert other.released()["Sql/on_hand"] == other.released()["Sql/last_move"] == 0
    do(either, "DROP VIEW theirs")
    assert other.release(1).number == 2
    assert set(other.released().values()) == {1}


def test_a_rollback_passes_over_a_release_that_no_sink_served_and_says_so(
    little: Little, caplog: pytest.LogCaptureFixture
):
    little.release(0)
    unfollowed(little, 1)
    assert little.release(2).unserved == 2
    with caplog.at_level(logging.WARNING, "refold"):
        assert little.releaser().rollback().rolled_back_to == 1
    assert "Passed over, because some sink never served it: release 2 of snapshot 2026-01-02" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "refold"):
        little.releaser().rollback(2)
    assert "Some sink never served release 2" in caplog.text
    assert set(little.released().values()) == {1}
    caplog.clear()
    with caplog.at_level(logging.WARNING, "refold"):
        assert little.releaser().rollback(3).unserved is None
    assert caplog.text == ""


class Locking(WrapperStore):
    """A store that lets another session lock the release rows as soon as the pointer has moved."""

    def __init__(self, inner: ObjectStore, session: Any) -> None:
        super().__init__(inner)
        self._session = session

    def around(self, operation: Operation, name: str, size_bytes: int, call: Callable[[], T]) -> T:
        done = call()
        if operation is Operation.CREATE and name.startswith("releases/"):
            self._session.cursor().execute("SELECT * FROM refold_release FOR SHARE")
        return done


def test_what_is_served_is_told_truly_while_a_lock_holds_one_sink_back(
    published: Path, tmp_path: Path, postgres: str
) -> None:
    """F6: the release rows are locked between commit and sinks: pointer and SQL were apart, without end or a word."""
    shutil.copytree(published, tmp_path / "root")
    little = Little(tmp_path / "root", database=f"{postgres}&options=-c lock_timeout=700")
    little.publish(0, 1)
    little.release(0)
    session = psycopg2.connect(postgres)
    locking = replace(little, open_store=wrapped(lambda store: Locking(store, session)))
    with pytest.raises(Unavailable, match=f"The lock is held by session {session.info.backend_pid}"):
        locking.release(1)
    assert little.released() == {**dict.fromkeys(little.released(), 1), "Sql/on_hand": 0, "Sql/last_move": 0}
    differing = {each.sink for each in little.engine().served.check() if each.differences}
    assert differing == {"Sql/on_hand", "Sql/last_move"}
    assert read_whole(little) == (2, 1)  # by its version, which every sink holds
    session.close()
    little.releaser().roll_forward()
    assert set(little.released().values()) == {1}
    assert not [each for each in little.engine().served.check() if each.differences]
