"""What follows a release or a prune that was killed, where it is not the same again: `tests.failpoints` does that."""

from __future__ import annotations

import signal

import pytest

from refold.errors import Conflict, NotFound
from tests.release.little import DAYS, Little, database, read_whole, shown
from tests.release.racing import PROCESSES, do_and_die

PREPARED = 2
"""The SQL tables of the little project, each moved once in a transaction that is rolled back."""

FLIPS = 5
"""The sinks of the little project, each flipped once."""


def killed(little: Little, what: str, call: int) -> None:
    process = PROCESSES.Process(target=do_and_die, args=(str(little.root), little.database, what, call))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def check(little: Little, old: int, new: int, moved: bool) -> None:
    """What readers see after a kill: by the pointer the one or the other, by the views one of the two, whole."""
    _, day = read_whole(little)
    assert day == (new if moved else old)
    assert shown(database(little))[0] in {old, new}
    assert set(little.released().values()) <= {old, new}


@pytest.mark.parametrize("call", range(PREPARED + FLIPS + 2))
def test_a_killed_release_is_rolled_forward_by_the_next_run(little: Little, call: int):
    """Killed while sinks are prepared, before the pointer is written, before each flip, and after the last one."""
    little.release(0)
    killed(little, "release", call)
    check(little, old=0, new=1, moved=call > PREPARED)
    little.release(1 if call % 2 else 0)  # any next run, also one that has nothing of its own to release
    day = 1 if call > PREPARED or call % 2 else 0
    assert set(little.released().values()) == {day}
    assert read_whole(little)[1] == shown(database(little))[0] == day
    assert little.release(1).number == 2


@pytest.mark.parametrize("call", range(8))
def test_a_killed_prune_is_finished_by_the_next_and_nothing_half_dropped_is_released(little: Little, call: int):
    """Killed before its number of the pointer (0), before each drop, and before it notes that all is dropped."""
    for day in (0, 1):
        little.release(day)
    held = little.held()
    killed(little, "prune", call)
    assert read_whole(little)[1] == shown(database(little))[0] == 1
    pending = 0 < call < 7
    if call == 0:
        assert little.held() == held
    if pending:
        with pytest.raises(Conflict, match=r"while a prune is dropping .*prune --apply"):
            little.releaser().rollback(1)
    released = little.release(2)
    if pending:
        assert released.retired_by == 3, "what is being given up is remembered over releases"
        with pytest.raises(Conflict, match="while a prune is dropping"):
            little.releaser().rollback(1)
    pruner = little.pruner()
    pruner.apply(pruner.plan(2, 0))
    assert all(0 not in days for days in little.held().values())
    with pytest.raises(NotFound, match="cannot be served again"):
        little.releaser().rollback(1)
    little.publish(0)
    assert little.releaser().rollback(1).snapshot == DAYS[0]
    assert read_whole(little)[1] == 0
