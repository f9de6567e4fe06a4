"""Every register: of all swaps of one version one succeeds, and versions only rise."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from refold.errors import CommitUnknown, Unavailable
from refold.leases.register import KEPT, Entry, ObjectRegister
from refold.storage.objects import ObjectStore
from refold.storage.wrappers import Operation
from refold.testing.faulty_store import Effect, Faults
from tests.leases.conftest import OpenRegister


def test_a_value_is_swapped_only_where_it_is_what_was_read(open_register: OpenRegister):
    """Names do not touch each other, and a failed swap changes nothing."""
    first, second = open_register(), open_register()
    assert first.read("seal") == Entry(0, None)
    assert first.swap("seal", 0, {"by": "a"})
    assert not second.swap("seal", 0, {"by": "b"})
    assert second.read("seal") == Entry(1, {"by": "a"})
    assert second.swap("seal", 1, {"by": "b"})
    assert not first.swap("seal", 1, {"by": "a", "again": True})
    assert first.read("seal") == Entry(2, {"by": "b"})
    assert first.swap("log/moves/0003", 0, {"by": "a"})
    assert first.names() == ["log/moves/0003", "seal"]
    assert first.version("seal") == 2


def test_of_racing_swaps_one_succeeds(open_register: OpenRegister):
    """Four threads, each with a register of its own; no number is left out."""
    barrier, wins = threading.Barrier(4), []

    def race(racer: int) -> None:
        register = open_register()
        for version in range(4):
            barrier.wait()
            if register.swap("seal", version, {"by": racer, "version": version}):
                wins.append((version, racer))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(race, range(4)))
    assert sorted(version for version, _ in wins) == [0, 1, 2, 3]
    assert open_register().read("seal") == Entry(4, {"by": dict(wins)[3], "version": 3})


def test_old_numbers_are_removed_and_a_late_swap_of_one_does_not_count(tmp_path: Path):
    """A process that slept through more changes than are kept creates a number that was removed."""
    objects = ObjectStore.open(str(tmp_path))
    register = ObjectRegister(objects)
    for version in range(KEPT + 3):
        assert register.swap("seal", version, {"version": version})
    assert len(objects.list("leases")) == KEPT
    with pytest.raises(CommitUnknown):
        register.swap("seal", 1, {"by": "one that slept"})
    assert register.read("seal") == Entry(KEPT + 3, {"version": KEPT + 2})


def test_a_lost_answer_is_read_back():
    """A swap that was done is done, although its answer is lost; one that was not is not."""
    faults = Faults()
    register = ObjectRegister(faults.open("memory://"))
    faults.plan(Operation.CREATE, Effect.LOSE_ANSWER)
    assert register.swap("seal", 0, {"by": "a"})
    faults.plan(Operation.CREATE, Effect.FAIL)
    with pytest.raises(Unavailable):
        register.swap("seal", 1, {"by": "a"})
    assert register.read("seal") == Entry(1, {"by": "a"})


def test_a_damaged_value_has_a_version(tmp_path: Path):
    """So that it can be followed by another one."""
    objects = ObjectStore.open(str(tmp_path))
    register = ObjectRegister(objects)
    register.swap("seal", 0, {"by": "a"})
    objects.put("leases/seal/00000000000000000001.json", b"{}")
    assert register.read("seal").version == 1
    assert register.read("seal").body is None
    assert "damaged" in register.read("seal").damage
