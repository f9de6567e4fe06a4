"""Every kind of object in a store, damaged in every way: it is named, and it is mended or the remedy is said.

The kinds are enumerated from a real store, so a new kind of object fails here until it is put into the matrix.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from refold.errors import Damaged
from refold.repair.damage import Damage
from refold.repair.garbage import COLLECTORS, find_unreferenced
from refold.repair.object_audit import CHECKERS
from refold.repair.repair_objects import MENDERS, repair_objects
from refold.storage.names import OBJECTS, ObjectKind, Removal, Repair, kind_of
from refold.storage.records import record_bytes
from tests.repair.matrix import House, change_a_byte, delete, exchange_two, replace_by_an_older
from tests.support import flip

MENDED = ("repeats", "seen ids", "retry", "state record", "rows", "changes", "ledger part", "proof", "expectations")
"""What `refold repair` makes again."""

FORGOTTEN = ("content check", "partials")
"""What `refold repair` removes, since the next replay makes it again; so it may also be missing."""

RESEALED = ("segment", "quarantine")
"""What `refold repair` seals again from landing, where that still gives it."""

RESTORED = ("layout", "retry places", "release", "retired")
"""What must come back from a copy. A damaged manifest is reported when the store is opened; see below."""

REDACTION, LEASE = "redaction", "lease"
"""As a manifest; this store has none, and `tests/seal/test_redacting.py` and `tests/leases` damage them."""

OF_SINKS = ("Delta table", "search", "sink record")
"""What sinks keep in the store is damaged in `test_file_sink_damage`."""


def test_every_object_of_a_real_store_is_of_a_kind_that_the_matrix_damages(whole: House):
    found = {name: kind_of(name) for name in whole.files()}
    assert [name for name, kind in found.items() if kind is None] == []
    assert {*found.values(), REDACTION, LEASE} == set(OBJECTS) == set(ObjectKind)
    for kind in set(OBJECTS) - {REDACTION, LEASE}:
        assert len(whole.names(kind)) > 1, f"there must be two objects of kind {kind} to exchange"


def test_the_table_says_of_every_kind_what_the_matrix_shows():
    by_repair = {repair: {kind for kind, entry in OBJECTS.items() if entry.repair is repair} for repair in Repair}
    assert by_repair == {
        Repair.MAKE: set(MENDED),
        Repair.REMOVE: set(FORGOTTEN),
        Repair.RESEAL: set(RESEALED),
        Repair.NOTHING: {"manifest", REDACTION, LEASE, *RESTORED},
        Repair.PUBLISH: set(OF_SINKS),
    }
    assert set(CHECKERS) == set(ObjectKind) - set(OF_SINKS)
    assert set(MENDERS) == {*MENDED, *FORGOTTEN}


def test_nothing_is_damaged_in_the_stores_as_they_were_built(whole: House, foreign: House):
    assert whole.damages() == foreign.damages() == []
    assert whole.drift() == foreign.drift() == []


def _replace_by_a_strangers(house: House, foreign: House, one: str, other: str) -> set[str]:
    kind = kind_of(one)
    assert kind is not None
    theirs = one if one in foreign.names(kind) else foreign.names(kind)[-1]
    (house.store / one).write_bytes((foreign.store / theirs).read_bytes())
    return {one}


DAMAGES = [change_a_byte, delete, exchange_two, replace_by_an_older, _replace_by_a_strangers]


def _two(house: House, kind: str) -> tuple[str, str]:
    """The newest object of a kind that something rests on, and the oldest."""
    names = house.names(kind)
    if kind == "proof":  # whether one is missing, only a release can tell
        release = house.engine().releaser.current()
        assert release is not None
        named = release.proofs["turnover"]
        for each in (house.store / named).parent.iterdir():  # verifying has proven it in another way as well
            if each != house.store / named:
                each.unlink()
        return named, next(name for name in names if name not in release.proofs.values())
    if kind == "expectations":  # those of what is served, and of what was served before and is kept
        kept = [name for name in names if name.startswith("expectations/on_hand/")]
        return kept[-1], kept[-2]
    if kind == "seen ids":  # earlier runs went into these
        first, *_, last = house.asked()
        return last, first
    return (names[-2], names[0]) if kind == "release" else (names[-1], names[0])


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", [*MENDED, *FORGOTTEN, *RESEALED, *RESTORED])
def test_a_damaged_object_is_named_exactly_and_mended_or_told_to_be_restored(
    house: House, whole: House, foreign: House, kind: str, damage: Callable[[House, House, str, str], set[str]]
):
    one, other = _two(house, kind)
    names = damage(house, foreign, one, other)
    if house.files() == whole.files():
        assert (kind, damage) == ("retired", _replace_by_a_strangers), "the same bytes are in every store"
        return
    if kind in FORGOTTEN and damage is delete:
        assert house.damages() == []
        return
    if (kind, damage) == ("retired", delete):  # no more than a prune that is still to be finished
        pointer = house.engine().releaser.pointer
        assert pointer.retiring(pointer.get(pointer.get(5).number))
        return

    damages = house.damages()

    assert {each.name for each in damages} == names
    assert {each.kind for each in damages} == {kind}
    for each in damages:
        assert each.expected != each.found
        assert each.remedy
        assert each.name in str(each)
    if kind in MENDED:
        assert repair_objects(house.engine, damages) == []
        _assert_as_it_was(house, whole)
    elif kind in FORGOTTEN:
        assert repair_objects(house.engine, damages) == []
        assert set(house.names(kind)) == set(whole.names(kind)) - names
        engine = house.engine()
        for _ in engine.prove_history("moves", engine.chain.get()):
            pass
        _assert_as_it_was(house, whole)
    elif kind in RESEALED:
        # The first days were sealed while fewer quantities were believed, so landing would give other events now.
        left = {each.name for each in repair_objects(house.engine, damages)}
        assert left == (names - {one} if kind == "segment" else names)
        for name in left:
            (house.store / name).write_bytes((whole.store / name).read_bytes())
        _assert_as_it_was(house, whole)
    else:
        assert repair_objects(house.engine, damages) == damages
        assert all("copy" in each.remedy or "refold prune" in each.remedy for each in damages)
        for name in names:
            (house.store / name).write_bytes((whole.store / name).read_bytes())
        assert house.damages() == []


def _assert_as_it_was(house: House, whole: House) -> None:
    """Byte for byte, but for proofs, which say when they were made, and what only the next snapshot leaves again."""
    now, before = house.files(), whole.files()
    left_out = ("proof", "partials")
    assert {name: sha for name, sha in now.items() if kind_of(name) not in left_out} == {
        name: sha for name, sha in before.items() if kind_of(name) not in left_out
    }
    assert house.damages() == []
    if {name for name in now if kind_of(name) == "proof"} != {name for name in before if kind_of(name) == "proof"}:
        assert house.drift() == []  # else it is the store that was verified at the beginning


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", ["oldest", "middle", "newest"])
def test_a_damaged_manifest_is_named_when_the_store_is_opened(
    house: House, foreign: House, place: str, damage: Callable[[House, House, str, str], set[str]]
):
    names = house.names("manifest")
    one = {"oldest": names[0], "middle": names[2], "newest": names[-1]}[place]
    damage(house, foreign, one, names[1])

    (told, *_) = _told_of(house)

    assert one in told or (damage is delete and Path(one).stem in told)
    assert "restore" in told.lower() or "sha256" in told or "another key" in told


def _told_of(house: House) -> list[str]:
    try:
        return [str(each) for each in house.damages()]
    except Damaged as error:
        return [str(error)]


def test_a_newest_manifest_with_its_own_hashes_right_is_named_by_its_layout(house: House):
    (name, *_) = reversed(house.names("manifest"))
    body = json.loads((house.store / name).read_bytes())["body"]
    body["logs"]["moves"]["read"] += 1
    (house.store / name).write_bytes(record_bytes(body))
    assert [(each.kind, each.name) for each in house.damages()] == [("manifest", name)]


ADDED_AND_NAMED = ("manifest", "layout", "retry", "retry places", "state record", "release", "retired")
UNREFERENCED = ("segment", "repeats", "quarantine", "seen ids", "rows", "changes", "ledger part", "partials")
HARMLESS = ("expectations", "content check")
"""A pass for a version or segments that no store has; its name says of which, so it can pass nothing else."""


def test_every_kind_of_object_is_also_added():
    assert {*ADDED_AND_NAMED, *UNREFERENCED, *HARMLESS, "proof", REDACTION, LEASE, *OF_SINKS} == set(OBJECTS)
    by_removal = {removal: {kind for kind, entry in OBJECTS.items() if entry.removal is removal} for removal in Removal}
    assert by_removal[Removal.NEVER] == {*ADDED_AND_NAMED, *HARMLESS, REDACTION}
    assert by_removal[Removal.VERSION] == set(OF_SINKS)
    assert set(COLLECTORS) == {*UNREFERENCED, "proof"}


@pytest.mark.parametrize("kind", ADDED_AND_NAMED)
def test_a_strangers_object_that_would_count_is_named(house: House, foreign: House, kind: str):
    name = _add(house, foreign, kind)
    told = _told_of(house)
    assert len(told) == 1
    assert name.removesuffix(".places") in told[0]


def _add(house: House, foreign: House, kind: str) -> str:
    """Put a stranger's object where it would be taken for one of ours; returns its name."""
    theirs = [name for name in foreign.names(kind) if name not in house.files()] or foreign.names(kind)
    if kind == "state record":  # one of a relation is named by the rows it lacks
        theirs = [name for name in theirs if name.startswith("states/on_hand/")]
    name, data = theirs[-1], (foreign.store / theirs[-1]).read_bytes()
    if kind == "manifest":
        name = "snapshots/2026-01-06.json"
    elif kind == "layout":
        name = f"{house.names(kind)[-1].rpartition('/')[0]}/00000001.json"
        data = (house.store / house.names(kind)[-1]).read_bytes()
    elif kind == "retry":
        (house.store / f"{name}.places").write_bytes((foreign.store / f"{name}.places").read_bytes())
    elif kind in ("release", "retired"):
        number = {"release": 7, "retired": 6}[kind]
        name, body = f"{name.partition('/')[0]}/{number:020d}.json", json.loads(data)["body"]
        data = record_bytes(body | {"number": number})
    path = house.store / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name


@pytest.mark.parametrize("kind", UNREFERENCED)
def test_a_strangers_object_that_nothing_names_is_listed_by_prune_and_changes_nothing(
    house: House, foreign: House, kind: str
):
    name = _add(house, foreign, kind)
    listed = {each.name for each in find_unreferenced(house.engine().objects, dt.datetime.now(dt.UTC))}
    assert name in listed
    assert house.damages() == []
    assert house.drift() == []


def test_a_strangers_pass_of_expectations_changes_nothing(house: House, foreign: House):
    _add(house, foreign, "expectations")
    assert house.damages() == []
    assert house.drift() == []


def test_a_strangers_proof_is_named_and_removed(house: House, foreign: House, whole: House):
    name = _add(house, foreign, "proof")
    damages = house.damages()
    assert len(damages) == 1
    assert name in str(damages[0])
    assert repair_objects(house.engine, damages) == []
    assert house.files() == whole.files()


def test_a_proof_that_is_missing_below_no_release_stops_publishing(house: House):
    engine = house.engine()
    newest, store = engine.chain.get(), engine.project.store("on_hand")
    _, name = engine.prover.require(store, newest)
    (house.store / name).unlink()
    with pytest.raises(Exception, match=r"on_hand.*has no passing full replay"):
        house.engine().publisher.publish(store, store.sinks[0], newest)


def test_a_newest_release_that_was_removed_is_named_by_the_tables_that_served_it(house: House):
    name = house.names("release")[-1]
    (house.store / name).unlink()
    engine = house.engine()
    served = engine.releaser.current()
    assert served is not None
    assert any(name in told for told in _differences(house, served.snapshot))


def _differences(house: House, key: str) -> list[str]:
    engine = house.engine()
    snapshot = engine.chain.get(key)
    return [str(d) for store in engine.project.in_order for d in engine.drifts.find(store, snapshot).differences]


def test_damage_is_sorted_by_name_and_told_once_for_an_object(house: House):
    for kind in ("segment", "rows", "proof"):
        flip(house.store / house.names(kind)[0])
    damages: list[Damage] = house.damages()
    assert [each.name for each in damages] == sorted({each.name for each in damages})
    assert len(damages) == 3
