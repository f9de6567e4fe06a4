"""A project with leases: the same releases as without, and none by a process that lost its lease."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pytest
import sqlalchemy as sa

from refold.config import Settings
from refold.engine import Engine
from refold.errors import Fenced, FixInput, Unavailable
from refold.leases.lease import Duty
from refold.rebuild.phases import rebuild_all
from refold.release.retention import Pruner
from refold.sinks.database_fenced import FencedDatabase
from tests.release.little import DAYS, Little


@dataclass(frozen=True)
class Leased(Little):
    """The little project with leases, whose engine is that of one process."""

    leases: str = "store"
    seconds: float = 0.2

    @property
    def settings(self) -> Settings:
        return replace(super().settings, leases=self.leases, lease_seconds=self.seconds, lease_wait_seconds=0.3)

    @cached_property
    def own(self) -> Engine:
        return Engine(self.project, self.settings, self.open_store, now=self.now)


@pytest.fixture(params=["store", "database"])
def leased(request: pytest.FixtureRequest, published: Path, tmp_path: Path) -> Leased:
    """Four days published, with leases in the store or in a database."""
    shutil.copytree(published, tmp_path / "root")
    return Leased(tmp_path / "root", leases="store" if request.param == "store" else f"sqlite:///{tmp_path}/leases.db")


def serve(engine: Engine, day: int) -> None:
    engine.releaser.release(engine.chain.get(DAYS[day]))


def test_releases_rollbacks_and_prunes_are_made_under_leases(leased: Leased):
    """Each takes the lease anew, so that the token counts them, and gives it up."""
    engine = leased.own
    serve(engine, 0)
    serve(engine, 2)
    engine.releaser.rollback()
    assert set(leased.released().values()) == {0}
    pruner = Pruner(leased.project, engine.releaser, engine.publisher, clock=lambda: leased.now)
    pruner.apply(pruner.plan(1, 0))
    assert engine.leases is not None
    shown = {each.name: each.record for each in engine.leases.shown()}
    assert list(shown) == ["publish"]
    assert shown["publish"].holder == "" and shown["publish"].token >= 4
    assert engine.audit_objects() == []


def test_a_process_that_lost_its_lease_changes_nothing(leased: Leased):
    """Neither a release, nor what sinks serve, nor a version; the error names who has the lease."""
    first, second = leased.own, Leased(leased.root, leases=leased.leases).own
    serve(first, 0)
    serve(first, 2)
    assert first.leases and second.leases
    with first.owning(Duty.PUBLISH), _taken_by(second, first):
        before = _stored(leased), leased.released(), leased.held()
        store, sink = leased.project.stores[0], leased.project.stores[0].sinks[0]
        versions = first.publisher.target(store, sink).versions()
        for write in (
            lambda: serve(first, 3),
            first.releaser.rollback,
            lambda: first.publisher.publish(store, sink, first.chain.get(DAYS[0])),
            lambda: first.publisher.target(store, sink).drop(versions[1]),
        ):
            with pytest.raises(Fenced, match=r"process .* holds it with token"):
                write()
        assert (_stored(leased), leased.released(), leased.held()) == before
    serve(second, 3)
    assert set(leased.released().values()) == {3}


def _stored(leased: Leased) -> dict[str, str]:
    """What is stored but for the leases, which their holders renew."""
    return {name: sha256 for name, sha256 in leased.files().items() if not name.startswith("leases/")}


@contextmanager
def _taken_by(second: Engine, first: Engine):
    assert second.leases is not None
    second.leases.break_lease("publish", "it hangs", "Ada")
    with second.owning(Duty.PUBLISH):
        second.leases.check(Duty.PUBLISH)
        yield


def test_another_process_waits_for_its_duty_and_says_for_whom(leased: Leased):
    """The wait is bounded."""
    first, second = leased.own, Leased(leased.root, leases=leased.leases).own
    with first.owning(Duty.PUBLISH), pytest.raises(Unavailable, match=r"Lease publish is not free: process .* holds"):
        serve(second, 1)
    serve(second, 1)


def test_a_rebuild_with_leases_stores_what_one_without_stores(published: Path, tmp_path: Path):
    """Manifests and states, byte for byte."""
    stored = []
    for name, leases in (("with", "store"), ("without", "")):
        shutil.copytree(published / "landing", tmp_path / name / "landing")
        shop = Leased(tmp_path / name, leases=leases)
        rebuild_all(shop.own)
        assert any(each.startswith("leases/seal/") for each in shop.files()) == bool(leases)
        stored.append({k: v for k, v in shop.files().items() if k.startswith(("snapshots/", "states/"))})
    assert len(stored[0]) > 10
    assert stored[0] == stored[1]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    return f"sqlite:///{tmp_path}/x.db" if request.param == "sqlite" else str(request.getfixturevalue("postgres"))


def test_a_database_refuses_a_token_below_one_it_has_seen(url: str):
    """In the transaction itself, whatever the process believes of its lease."""
    table = sa.Table("shown", sa.MetaData(), sa.Column("n", sa.BigInteger))

    def with_token(token: int) -> FencedDatabase:
        @contextmanager
        def fence(_: str):
            yield token

        return FencedDatabase(url, fence)

    with with_token(2).writing() as connection:
        table.create(connection)
        connection.execute(sa.insert(table).values(n=2))
    with pytest.raises(Fenced, match="fencing token 2, so a write with token 1"), with_token(1).writing() as connection:
        connection.execute(sa.insert(table).values(n=1))
    with with_token(3).writing() as connection:
        assert connection.scalars(sa.select(table.c.n)).all() == [2]


def test_locks_are_shown_and_broken_by_name_with_a_reason(leased: Leased, tmp_path: Path):
    """Without leases the command says how to have them."""
    (leased.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.release.little:PROJECT"\n')
    first = leased.own
    assert first.leases is not None
    environ = {"REFOLD_LEASES": leased.leases}
    run = lambda *words: leased.refold(*words, project=leased.root, environ=environ)  # noqa: E731
    assert "0 of 0 leases are held" in run("locks").output
    with first.owning(Duty.SEAL):
        shown = run("locks").output
        assert "1 of 1 leases are held" in shown and "seal" in shown
        assert run("locks", "break", "seal", "--by", "Ada").exit_code == 2
        broken = run("locks", "break", "seal", "--by", "Ada", "--reason", "it hangs")
        assert broken.exit_code == 0 and f"held by {first.leases.holder} with token 1" in broken.output
        with pytest.raises(Fenced, match="by Ada: it hangs"):
            first.leases.check(Duty.SEAL)
    assert "it hangs" in run("locks").output
    refused = leased.refold("locks", project=leased.root)
    assert refused.exit_code == 1 and "REFOLD_LEASES=store" in refused.output


def test_a_damaged_lease_is_named_by_the_audit(published: Path, tmp_path: Path):
    """And the remedy is to break it."""
    shutil.copytree(published, tmp_path / "root")
    leased = Leased(tmp_path / "root")
    serve(leased.own, 0)
    assert leased.own.audit_objects() == []
    name = sorted(each for each in leased.files() if each.startswith("leases/"))[-1]
    (leased.store / name).write_bytes(b"{}")
    (damage,) = leased.own.audit_objects()
    assert (damage.kind, damage.name) == ("lease", name) and "refold locks break" in damage.remedy


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf", "nan"])
def test_seconds_that_are_no_number_above_0_are_refused(text: str, tmp_path: Path):
    with pytest.raises(FixInput, match="REFOLD_LEASE_SECONDS is"):
        Settings.from_environment(tmp_path, {"REFOLD_LEASE_SECONDS": text})
