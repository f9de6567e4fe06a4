"""A process with leases dies before every write of a release, and many of a prune; the next one completes it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from refold.engine import Engine
from refold.errors import NotFound
from refold.release.retention import Pruner
from refold.storage.wrappers import WRITES
from refold.testing.faulty_store import Crash, Effect, Faults
from tests.leases.test_project import Leased
from tests.release.little import DAYS
from tests.support import LONG_AFTER


def work(engine: Engine) -> None:
    """Release day 2, then give up all other versions."""
    engine.releaser.release(engine.chain.get(DAYS[2]))
    pruner = Pruner(engine.project, engine.releaser, engine.publisher, clock=lambda: LONG_AFTER)
    pruner.apply(pruner.plan(1, 0))


def test_whoever_dies_leaves_what_the_next_one_completes(published: Path, tmp_path: Path):
    """The old release or the new one is served meanwhile, and in the end what an undisturbed run leaves."""
    shutil.copytree(published, tmp_path / "first")
    first = Leased(tmp_path / "first").own
    first.releaser.release(first.chain.get(DAYS[0]))
    shutil.copytree(tmp_path / "first", tmp_path / "undisturbed")
    work(Leased(tmp_path / "undisturbed").own)
    for place in (*range(16), *range(16, 400, 7)):
        root = tmp_path / f"dies-{place}"
        shutil.copytree(tmp_path / "first", root)
        faults = Faults()
        faults.plan(WRITES, Effect.CRASH, after=place, times=None)
        try:
            work(Leased(root, open_store=faults.open, seconds=60).own)
        except Crash:
            served = Leased(root).engine().releaser.current()
            assert served is not None and served.ordinal in (0, 2)
        else:
            break
        following = Leased(root).own
        assert following.leases is not None
        with suppress(NotFound):
            following.leases.break_lease("publish", "it died", "the test")
        work(following)
        undisturbed = Leased(tmp_path / "undisturbed")
        assert Leased(root).released() == undisturbed.released()
        assert Leased(root).held() == undisturbed.held()
        assert place % 10 or following.audit_objects() == []
        shutil.rmtree(root)
    assert place > 15


@pytest.mark.parametrize("effect", [Effect.LOSE_ANSWER, Effect.RESEND])
def test_lost_answers_and_repeated_requests_change_nothing(effect: Effect, published: Path, tmp_path: Path):
    """Of every conditional write: those of the lease and those of the commit."""
    shutil.copytree(published, tmp_path / "root")
    faults = Faults()
    for names in ("leases/", "releases/"):
        faults.plan(WRITES[1], effect, names=names, times=None)
    engine = Leased(tmp_path / "root", open_store=faults.open).own
    try:
        engine.releaser.release(engine.chain.get(DAYS[0]))
    finally:
        faults.clear()
    assert len(faults.happened) > 3
    assert set(Leased(tmp_path / "root").released().values()) == {0}
