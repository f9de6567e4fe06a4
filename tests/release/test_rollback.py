"""Releases, rollbacks and the history of the pointer."""

from __future__ import annotations

import datetime as dt
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy as sa

from refold.errors import Conflict, FixInput, NotFound
from refold.release.pointer import places
from refold.storage.records import record_bytes
from refold.types import binary, boolean, date, decimal, int64, parse_column, ratio, text, timestamp
from tests.release.little import DAYS, NOW, Little, database, on_hand, shown

LATER = NOW + dt.timedelta(days=1)


def everywhere(day: int) -> dict[str, int]:
    titles = ("Sql/on_hand", "Delta/levels", "Sql/last_move", "BulkNdjson/moves", "Tantivy/moves_index")
    return dict.fromkeys(titles, day)


def records(little: Little) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(little.store, "releases").iterdir()}


def test_a_rollback_is_a_new_number_with_the_content_of_an_old_one_and_rewrites_nothing(little: Little):
    first = little.release(0)
    little.release(1)
    before = records(little)
    back = little.releaser(LATER).rollback(1)
    assert (back.number, back.rolled_back_to, back.rolled_back_from) == (3, 1, 1)
    assert (back.snapshot, back.snapshot_id, back.versions, back.proofs) == (
        first.snapshot,
        first.snapshot_id,
        first.versions,
        first.proofs,
    )
    assert little.released() == everywhere(0)
    after = records(little)
    assert {name: after[name] for name in before} == before


def test_a_rollback_neither_folds_nor_publishes(little: Little):
    little.release(0)
    little.release(1)
    for folder in ("logs", "states"):  # what building would need is gone
        for path in sorted(Path(little.store, folder).rglob("*.parquet")):
            path.unlink()
    little.releaser().rollback()
    assert little.released() == everywhere(0)


def test_rollbacks_without_a_number_go_back_step_by_step(little: Little):
    for day in range(4):
        little.release(day)
    served = [little.releaser().rollback().snapshot for _ in range(3)]
    assert served == [DAYS[2], DAYS[1], DAYS[0]]
    with pytest.raises(NotFound, match="nothing to roll back to"):
        little.releaser().rollback()
    assert little.released() == everywhere(0)


def test_a_rollback_to_what_is_served_changes_nothing(little: Little):
    little.release(0)
    little.release(1)
    little.releaser().rollback(1)
    before = records(little)
    assert little.releaser().rollback(1).number == 3
    assert records(little) == before


def test_an_automatic_run_does_not_undo_a_rollback_but_a_newer_snapshot_is_released(little: Little):
    """The snapshot rolled back from, and any before it, are refused and the rollback is named; the next one ends it."""
    little.release(0)
    little.release(2)
    little.releaser().rollback()
    for day in (2, 1):
        with pytest.raises(
            FixInput, match=r"would undo a rollback: release 3 of snapshot 2026-01-01, rolled back to 1"
        ):
            little.release(day)
    assert little.release(0).number == 3, "what is served is released already"
    assert little.released() == everywhere(0)
    assert little.release(3).rolled_back_from is None
    assert little.released() == everywhere(3)


def test_a_second_rollback_remembers_the_highest_snapshot_of_the_first(little: Little):
    for day in (0, 1, 2):
        little.release(day)
    little.releaser().rollback()
    assert little.releaser().rollback().rolled_back_from == 2
    with pytest.raises(FixInput, match="would undo a rollback"):
        little.release(2)


def test_releasing_again_undoes_a_rollback_on_request(little: Little):
    little.release(0)
    little.release(1)
    little.releaser().rollback()
    assert little.release(1, again=True).rolled_back_from is None
    assert little.released() == everywhere(1)


def test_a_rollback_to_the_release_rolled_back_from_serves_it_again_and_ends_the_rollback(little: Little):
    little.release(0)
    little.release(1)
    little.releaser().rollback()
    forth = little.releaser().rollback(2)
    assert (forth.number, forth.rolled_back_to, forth.rolled_back_from) == (4, 2, None)
    assert little.released() == everywhere(1)


def test_what_a_rollback_misses_is_named_sink_by_sink_and_nothing_moves(little: Little):
    first = little.release(0)
    little.release(1)
    for _, title, target in little.targets():
        if title in ("Sql/on_hand", "Tantivy/moves_index"):
            target.drop(first.versions["on_hand" if title == "Sql/on_hand" else "last_move"])
    Path(little.store, first.proofs["last_move"]).unlink()
    with pytest.raises(NotFound) as caught:
        little.releaser().rollback(1)
    assert all(
        part in str(caught.value)
        for part in (
            f"version {first.versions['on_hand']} of store 'on_hand' in Sql/on_hand",
            f"version {first.versions['last_move']} of store 'last_move' in Tantivy/moves_index",
            f"the proof {first.proofs['last_move']} of store 'last_move'",
        )
    )
    assert "Delta/levels" not in str(caught.value)
    assert little.released() == everywhere(1)


def test_there_is_no_rollback_before_a_release_and_none_to_an_unknown_number(little: Little):
    with pytest.raises(NotFound, match="nothing to roll back"):
        little.releaser().rollback()
    little.release(0)
    with pytest.raises(NotFound, match="There is no release 7: there are 1 to 1"):
        little.releaser().rollback(7)


def test_a_rollback_does_not_leave_a_store_behind_that_the_old_release_did_not_serve(little: Little):
    """Its view would show a later snapshot than the others of the same database."""
    little.declared(stores=[on_hand]).release(0)
    little.release(1)
    with pytest.raises(NotFound, match="store 'last_move', which it did not serve"):
        little.releaser().rollback(1)
    assert little.declared(stores=[on_hand]).releaser().rollback(1).snapshot == DAYS[0]


def test_a_rollback_also_moves_sinks_that_the_project_no_longer_declares(little: Little):
    little.release(0)
    little.release(1)
    fewer = little.declared(stores=[on_hand])
    assert set(fewer.releaser().rollback(1).versions) == {"on_hand", "last_move"}
    assert little.released() == everywhere(0)


def test_time_is_told_and_does_not_make_a_release(little: Little):
    first = little.release(0)
    assert first.released_at == "2026-02-01T12:00:00.000000Z"
    assert little.release(0, LATER) == first
    assert len(records(little)) == 1


def test_position_proof_and_time_of_release_stand_beside_every_view(either: Little):
    either.release(0)
    either.release(1, LATER)
    served = either.releaser(LATER).rollback()
    engine = database(either)
    query = "SELECT table_name, release, released_at, snapshot, snapshot_id, proof FROM refold_release ORDER BY 1"
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(query))]
    told = ("3", "2026-02-02T12:00:00.000000Z", DAYS[0], served.snapshot_id)
    assert rows == [(name, *told, served.proofs[name]) for name in ("last_move", "on_hand")]
    assert shown(engine) == (0, {"3"})


def test_a_database_of_before_gets_the_columns_it_lacks(little: Little):
    """Rows of release that an earlier Refold made have neither number nor time."""
    little.release(0)
    connection = sqlite3.connect(little.database_file)
    for name in ("release", "released_at", "snapshot_id"):
        connection.execute(f'ALTER TABLE refold_release DROP COLUMN "{name}"')
    connection.commit()
    little.release(1)
    assert connection.execute("SELECT DISTINCT release FROM refold_release").fetchall() == [("2",)]
    connection.close()


def test_records_of_the_first_format_are_read_and_rolled_back_to(little: Little):
    """Earlier releases told no sinks; the project's are taken."""
    release = little.release(0)
    names = ("number", "snapshot", "ordinal", "snapshot_id", "versions", "proofs")
    old = {name: asdict(release)[name] for name in names}
    Path(little.store, "releases", f"{1:020d}.json").write_bytes(record_bytes(old))
    assert little.releaser().current().format == 1
    little.release(1)
    assert little.releaser().rollback().format == 2
    assert little.released() == everywhere(0)


def test_fields_of_tomorrow_are_left_aside_and_formats_of_tomorrow_refused(little: Little):
    release = little.release(0)
    path = Path(little.store, "releases", f"{1:020d}.json")
    path.write_bytes(record_bytes({**asdict(release), "colour": "blue"}))
    assert little.releaser().current() == release
    path.write_bytes(record_bytes({**asdict(release), "format": 9}))
    with pytest.raises(FixInput, match="has format 9, expected at most 2"):
        little.releaser().current()


def test_a_release_tells_no_secret(little: Little, published: Path):
    url = "postgresql://ann:hunter2@nowhere/shop"
    releaser = Little(published, database=url).releaser()
    found = places(releaser._publisher.connections, [])
    assert found == {"database": "postgresql://ann:***@nowhere/shop", "search_folder": "search", "connections": {}}


@pytest.mark.parametrize(
    "column",
    [int64(1, 9), text(null=True), decimal(18, 4, null=True), date(), timestamp(), boolean(), binary(), ratio()],
    ids=str,
)
def test_types_are_read_back_from_their_text(column):
    found = parse_column(str(column))
    assert (found.arrow, found.null, str(found)) == (column.arrow, column.null, str(column))


@pytest.mark.parametrize("text", ["", "int65", "decimal", "decimal(a, b)", "int64??"])
def test_types_that_are_none_are_refused(text: str):
    with pytest.raises(FixInput, match="not one of this Refold's"):
        parse_column(text)


def test_whoever_comes_second_is_told_who_won(little: Little):
    current = little.release(0)
    late, pointer = little.releaser(), little.releaser().pointer
    wanted = late._wanted(little.engine().chain.get(DAYS[1]), current)
    little.release(2)
    with pytest.raises(Conflict, match=rf"release 2 of snapshot {DAYS[2]}, at 2026.* by process \d+ on"):
        pointer.move(wanted)
    assert little.releaser().current().snapshot == DAYS[2]


def test_of_two_that_want_the_same_both_are_served(little: Little):
    """As if the store had answered a create that succeeded with an error."""
    pointer = little.releaser().pointer
    wanted = little.releaser()._wanted(little.engine().chain.get(DAYS[1]), None)
    assert pointer.move(wanted) == wanted
    assert little.release(1, LATER) == wanted
    assert pointer.move(little.releaser(LATER)._wanted(little.engine().chain.get(DAYS[1]), None)) == wanted
