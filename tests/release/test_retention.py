"""Pruning: what is kept, what is given up, and what is only listed."""

from __future__ import annotations

import datetime as dt
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deltalake import DeltaTable

import refold
from refold.errors import Conflict, FixInput, NotFound, RefoldError
from refold.repair.garbage import find_unreferenced, remove_unreferenced
from refold.storage.objects import ObjectStore
from tests.release.little import DAYS, NOW, Little, read_whole
from tests.release.test_rollback import everywhere

DAY = dt.timedelta(days=1)


def given_up(little: Little, keep: int, days: float, now: dt.datetime = NOW) -> set[int]:
    """The days whose versions a plan gives up; the same for every sink."""
    dropped = little.pruner(now).plan(keep, days).dropped
    found = {title: tuple(int(v.partition("-")[0]) for v in versions) for title, versions in dropped.items()}
    assert len(set(found.values())) <= 1
    return set(next(iter(found.values()), ()))


def prune(little: Little, keep: int, days: float = 0, now: dt.datetime = NOW) -> dict[str, list[str]]:
    pruner = little.pruner(now)
    return pruner.apply(pruner.plan(keep, days))


def test_nothing_is_given_up_before_the_first_release(little: Little):
    assert given_up(little, 1, 0) == set()
    assert prune(little, 1) == {}


def test_versions_are_kept_by_count(little: Little):
    for day in range(4):
        little.release(day)
    assert [given_up(little, keep, 0) for keep in (1, 2, 3, 4)] == [{0, 1, 2}, {0, 1}, {0}, set()]


def test_versions_are_kept_by_age(little: Little):
    for day in range(4):
        little.release(day, NOW + day * DAY)
    now = NOW + 4 * DAY
    found = {days: given_up(little, 1, days, now) for days in (0, 1.5, 2.5, 3.5, 9)}
    assert found == {0: {0, 1, 2}, 1.5: {0, 1, 2}, 2.5: {0, 1}, 3.5: {0}, 9: set()}


def test_a_plan_changes_nothing_and_says_why(little: Little):
    for day in (0, 1):
        little.release(day)
    before = {info.name: info.e_tag for info in ObjectStore.open(str(little.store)).list()}
    plan = little.pruner().plan(1, 0)
    why = {int(v.version.partition("-")[0]): (v.keep, v.why, tuple(v.releases)) for v in plan.versions}
    assert why == {
        0: (False, "was served", (1,)),
        1: (True, "served", (2,)),
        2: (True, "not released yet", ()),
        3: (True, "not released yet", ()),
    }
    assert {info.name: info.e_tag for info in ObjectStore.open(str(little.store)).list()} == before


def test_a_prune_drops_what_it_planned_from_every_sink_and_nothing_else(either: Little):
    for day in range(4):
        either.release(day)
    dropped = prune(either, 2)
    assert set(dropped) == set(everywhere(0)) and all(len(versions) == 2 for versions in dropped.values())
    assert set(map(tuple, either.held().values())) == {(2, 3)}
    files = {path.parent.name[:6] for path in Path(either.store, "delta", "levels").rglob("*.parquet")}
    assert files == {"000002", "000003"}, "files go with their version"
    assert either.released() == everywhere(3)
    assert read_whole(either) == (5, 3)
    assert prune(either, 2) == {}
    assert either.releaser().current().number == 5, "a prune with nothing to do makes no number"


def test_what_a_rollback_serves_and_what_it_may_go_back_to_are_kept(little: Little):
    for day in range(4):
        little.release(day)
    little.releaser().rollback(1)
    assert given_up(little, 1, 0) == {1, 2, 3}
    assert given_up(little, 2, 0) == {1, 2}, "the rollback is one of the last two, what it left the other"


def test_a_version_that_was_never_released_is_kept_until_nothing_was_released_for_the_age(little: Little):
    """A run may be publishing it at this moment."""
    little.release(2)
    assert given_up(little, 1, 7, NOW + 6 * DAY) == set()
    assert given_up(little, 1, 7, NOW + 8 * DAY) == {0, 1}


def test_a_rollback_beyond_what_is_kept_names_what_is_missing(little: Little):
    for day in range(3):
        little.release(day)
    prune(little, 2)
    with pytest.raises(NotFound, match="version 000000-"):
        little.releaser().rollback(1)
    assert little.releaser().rollback().snapshot == DAYS[1]


def test_what_is_published_again_after_a_prune_is_released_again(little: Little):
    for day in range(3):
        little.release(day)
    prune(little, 1)
    little.publish(0)
    assert little.releaser().rollback(1).snapshot == DAYS[0]
    assert little.released() == everywhere(0)


def test_a_prune_that_was_overtaken_gives_up_nothing(little: Little):
    for day in range(3):
        little.release(day)
    pruner = little.pruner()
    plan = pruner.plan(1, 0)
    little.releaser().rollback(1)
    with pytest.raises(Conflict, match="planned at number 3, found release 4 of snapshot 2026-01-01, rolled back to 1"):
        pruner.apply(plan)
    assert little.held() == {title: [0, 1, 2, 3] for title in little.held()}


def test_a_rollback_that_was_overtaken_by_a_prune_stops(little: Little):
    """It has seen that the sinks hold the version; the prune drops it before the pointer is moved."""
    for day in range(3):
        little.release(day)
    releaser = little.releaser()
    wanted = releaser._restored(releaser.pointer.get(1), releaser.current())
    prune(little, 1)
    with pytest.raises(Conflict, match="moved the pointer first: number 4, a prune that left snapshot 2026-01-03"):
        releaser.pointer.move(wanted)
    assert little.released() == everywhere(2)


def test_prunes_and_rollbacks_at_once_never_serve_what_is_gone(little: Little):
    """The loser gets an error; what the pointer names can be read whole after every round."""
    for day in (0, 1, 2):
        little.release(day)
    barrier = threading.Barrier(2)

    def side(work) -> str:
        barrier.wait(60)
        try:
            work()
        except RefoldError as error:
            assert isinstance(error, Conflict | NotFound), error
            return error.kind
        return "done"

    with ThreadPoolExecutor(2) as pool:
        for number in range(12):
            target = 1 + number % 2
            back = pool.submit(side, lambda target=target: little.releaser().rollback(target))
            pruned = pool.submit(side, lambda: prune(little, 1))
            back.result(), pruned.result()
            read_whole(little)
            assert set(little.released().values()) == {DAYS.index(little.releaser().current().snapshot)}
            little.publish(0, 1, 2)
            little.release(2, again=True)


def test_files_of_a_killed_publish_are_given_up_like_versions_never_released(little: Little):
    """They have no record, so that the sink does not hold the version; a publish of today is left alone."""
    little.release(0)
    little.release(1)
    version = "000000-" + "ab" * 6
    for folder in ("delta/levels", "search/bulk/moves"):
        path = Path(little.store, folder, version, "part")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    prune(little, 5, 7, NOW + DAY)
    assert len(list(little.store.rglob(f"{version}/part"))) == 2
    prune(little, 5, 7, NOW + 8 * DAY)
    assert not list(little.store.rglob(f"{version}/part"))
    assert DeltaTable(str(Path(little.store, "delta", "levels"))).to_pyarrow_table().num_rows == 5


def test_an_open_release_whose_version_is_pruned_while_read_is_told(little: Little):
    for day in (0, 1):
        little.release(day)
    opened = refold.open_release(str(little.store), number=1)
    prune(little, 1)
    with pytest.raises(NotFound, match="Where it was pruned"):
        opened.delta("levels")


@pytest.mark.parametrize(("keep", "days"), [(0, 0), (1, -1)])
def test_a_prune_that_makes_no_sense_is_refused(little: Little, keep: int, days: int):
    with pytest.raises(FixInput, match="at least 1 release"):
        little.pruner().plan(keep, days)


def age(path: Path, now: dt.datetime, days: float) -> None:
    at = (now - days * DAY).timestamp()
    os.utime(path, (at, at))


def test_everything_a_whole_store_holds_is_named(little: Little):
    little.release(3)
    objects = ObjectStore.open(str(little.store))
    assert unreferenced(objects, dt.datetime.now(dt.UTC) + 99 * DAY) == {}


def unreferenced(objects: ObjectStore, now: dt.datetime) -> dict[str, bool]:
    """What nothing names, and whether it may go; but for runs of the seen index that went into others."""
    found = find_unreferenced(objects, now)
    return {each.name: each.removable for each in found if "/seen/" not in each.name}


def test_orphans_are_listed_and_only_old_ones_that_can_be_rebuilt_are_removed(little: Little):
    now = dt.datetime.now(dt.UTC)
    little.release(3)
    name = "e" * 40
    orphans = {
        f"logs/moves/segments/0000/{0:020d}-{name[:16]}.parquet": False,
        f"states/on_hand/rows/{name}.parquet": True,
        f"states/last_move/ledger/{name}.parquet": True,
    }
    for orphan in orphans:
        path = Path(little.store, orphan)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"orphan")
    objects = ObjectStore.open(str(little.store))
    assert unreferenced(objects, now) == dict.fromkeys(orphans, False)
    assert remove_unreferenced(objects, now) == []
    for orphan in orphans:
        age(Path(little.store, orphan), now, 2)
    assert unreferenced(objects, now) == orphans
    assert sorted(name for name in remove_unreferenced(objects, now) if "/seen/" not in name) == sorted(
        name for name, goes in orphans.items() if goes
    )
    assert read_whole(little)[1] == 3
    engine = little.engine()
    for store in engine.project.stores:
        assert engine.prover.prove(store, engine.chain.get()).passed


def test_a_proof_goes_once_its_state_is_gone_unless_a_release_names_it(little: Little):
    now = dt.datetime.now(dt.UTC) + 2 * DAY
    served = little.release(1)
    for path in Path(little.store, "states", "on_hand").rglob("*.json"):
        path.unlink()
    objects = ObjectStore.open(str(little.store))
    proofs = {info.name for info in objects.list("proofs/on_hand")}
    removed = set(remove_unreferenced(objects, now))
    assert {name for name in removed if name.startswith("proofs/")} == proofs - set(served.proofs.values())
    assert objects.exists(served.proofs["on_hand"])


def test_nothing_of_a_store_is_removed_whose_records_cannot_be_read(little: Little):
    now = dt.datetime.now(dt.UTC) + 2 * DAY
    record = next(Path(little.store, "states", "on_hand").rglob("*.json"))
    orphan = Path(little.store, "states", "on_hand", "rows", "e" * 40 + ".parquet")
    orphan.write_bytes(b"orphan")
    record.write_bytes(b"{")
    removed = remove_unreferenced(ObjectStore.open(str(little.store)), now)
    assert [name for name in removed if "/seen/" not in name] == []
    assert orphan.exists()
