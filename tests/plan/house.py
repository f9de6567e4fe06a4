"""A small project whose plans are compared with the work of the rebuild, which is counted independently of the plan.

Two logs; of the one a rule and the latest row by key, of the other the latest row; a relation over a ledger and a
store. Not a test.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from assets.logs import product_changes, stock_events
from assets.stock import stock
from refold import Daily, Delta, Project, Sql, date, int64, latest_by_key, relation, text
from refold.engine import Engine
from refold.log.reader import LogReader
from refold.plan.decisions import Plan, plan_rebuild
from refold.plan.workload import stages_of
from refold.rebuild import rebuild_all
from refold.storage.wrappers import WrapperStore, wrapped
from refold.stores import building, fold_engine
from refold.stores.relating import RelationRunner
from tests.diff.variants import credit
from tests.support import Shop, changed, moved

START = dt.date(2026, 1, 1)


def project(*, changed_rule: bool = False) -> Project:
    levels = replace(credit if changed_rule else stock, name="levels", sinks=(Sql("levels"), Delta("levels")))
    newest = latest_by_key(stock_events, "newest", version=1, columns={"quantity": int64()})
    prices = latest_by_key(product_changes, "names", version=1, columns={"description": text()}, sinks=[Sql("names")])

    @relation(
        reads=[levels.ledger, prices],
        key=["event_date"],
        returns={"event_date": date(), "events": int64(), "named": int64()},
        sinks=[Delta("movement")],
    )
    def movement():
        """Events by day, and how many products have a name by now."""
        return """
            SELECT event_date, count(*) AS events, (SELECT count(*) FROM names WHERE description IS NOT NULL) AS named
            FROM levels_ledger GROUP BY event_date
        """

    return Project("small", Daily(START), [levels, newest, prices, movement])


PROJECT = project()
"""The project for commands, which import it by name."""


def day(number: int) -> str:
    return (START + dt.timedelta(days=number - 1)).isoformat()


def land_day(shop: Shop, number: int, events: int = 6) -> None:
    """One day of both logs; equally long lines, so that their number follows from their bytes."""
    lines = [moved(f"e{number:03}{n:04}", f"p{(number + n) % 5}", 3 if n % 3 else -2) for n in range(events)]
    shop.land(f"dt={day(number)}/a.jsonl", *lines)
    if number % 2:
        row = changed(number, "u", f"p{number % 5}", f"name {number}", "9.50")
        shop.land(f"product_changes/dt={day(number)}/a.jsonl", row)


@dataclass
class Work:
    """What was done: sealed keys, events folded by store, computed relations, written versions, releases.

    `bytes_read` counts the ranges of segments that folding read, by log.
    """

    sealed: list[str] = field(default_factory=list)
    objects: int = 0
    folded: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    bytes_read: dict[str, int] = field(default_factory=dict)
    computed: int = 0
    proofs: int = 0
    sinks: list[str] = field(default_factory=list)
    released: bool = False


def planned(engine: Engine, plan: Plan) -> Work:
    """The same work as a plan predicts it."""
    stages = {stage.name: stage for stage in stages_of(engine, plan)}
    logs = [log.name for log in engine.project.logs]
    return Work(
        sealed=[each.key for each in plan.to_seal],
        objects=stages["seal"].objects,
        folded={
            each.store.name: events
            for each in plan.folds
            if (events := sum(d.logs[each.store.log.name].events for d in plan.folded(each)))
        },
        read={log: stages[f"fold {log}"].events for log in logs if stages[f"fold {log}"].events},
        bytes_read={log: stages[f"fold {log}"].size_bytes for log in logs if stages[f"fold {log}"].size_bytes},
        computed=sum(len(each.computed) for each in plan.relations),
        proofs=sum(each.missing for each in plan.proofs),
        sinks=plan.changed_sinks,
        released=bool(plan.release),
    )


def rebuilt(shop: Shop, through: str | None = None, *, fresh: bool = False) -> Work:
    """Rebuild in a new engine, and count at work."""
    engine, work = replace(shop, open_store=wrapped(_Watched)).engine(), Work()
    sealed, held, proofs = {s.key for s in engine.chain}, _held(engine), set(shop.files("proofs"))
    number = getattr(engine.releaser.current(), "number", 0)
    with _counting(work, engine):
        rebuild_all(engine, through, fresh=fresh)
    after = shop.engine()
    new = [snapshot for snapshot in after.chain if snapshot.key not in sealed]
    work.sealed = [snapshot.key for snapshot in new]
    work.objects = sum(len(cut.objects) for snapshot in new for cut in snapshot.logs.values())
    work.proofs = len(set(shop.files("proofs")) - proofs)
    now = _held(after)
    work.sinks = [title for title in now if set(now[title]) - set(held.get(title, ()))]
    work.released = after.releaser.current().number != number
    return work


def _held(engine: Engine) -> dict[str, list[str]]:
    return {
        f"{type(sink).__name__}/{sink.name}": engine.publisher.target(store, sink).versions()
        for store in engine.project.in_order
        for sink in store.sinks
    }


class _Watched(WrapperStore):
    def ranged(self, name: str, wanted: Sequence[tuple[int, int]]) -> None:
        """Parts of an object are about to be read."""

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        self.ranged(name, ranges)
        return super().get_ranges(name, ranges)


@contextmanager
def _counting(work: Work, engine: Engine) -> Iterator[None]:
    """Count the work without changing it."""
    folding, log = False, ""
    fold_history, fold_unread = building.Builder.fold_history, fold_engine.fold_unread
    run, unread = RelationRunner.run, LogReader.unread

    def history(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal folding
        for item in fold_history(self, *args, **options):
            folding = False
            yield item
            folding = True
        folding = False

    def starting(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal folding
        folding = True
        return history(self, *args, **options)

    def folded(states: Any, events: Any, *args: Any, **options: Any) -> Any:
        found = sum(len(part) for part in events)
        for state in states:
            if folding and found:
                work.folded[state.store.name] = work.folded.get(state.store.name, 0) + found
        return fold_unread(states, events, *args, **options)

    def read(self: Any, *args: Any) -> Any:
        nonlocal log
        log = self.log.name
        found = unread(self, *args)
        if folding and found:
            work.read[log] = work.read.get(log, 0) + sum(len(part) for part in found)
        return found

    def ranged(name: str, wanted: Sequence[tuple[int, int]]) -> None:
        if folding and "/segments/" in name:
            work.bytes_read[log] = work.bytes_read.get(log, 0) + sum(size for _, size in wanted)

    def related(self: Any, relation: Any, inputs: Any, order: Any = None) -> Any:
        work.computed += order is None
        return run(self, relation, inputs, order)

    with (
        mock.patch.object(building.Builder, "fold_history", starting),
        mock.patch.object(fold_engine, "fold_unread", folded),
        mock.patch.object(LogReader, "unread", read),
        mock.patch.object(engine.objects, "ranged", ranged),
        mock.patch.object(RelationRunner, "run", related),
    ):
        yield


def agree(shop: Shop, through: str | None = None, *, fresh: bool = False) -> tuple[Plan, Work]:
    """Plan and rebuild; what was planned must be what was done, and planning must have written nothing."""
    before, database = shop.files(), _bytes(shop.root / "refold.db")
    plan = plan_rebuild(shop.engine(), through, fresh=fresh)
    assert shop.files() == before
    assert _bytes(shop.root / "refold.db") == database
    done = rebuilt(shop, through, fresh=fresh)
    engine = shop.engine()
    settled = plan.settled(engine.chain)
    found = planned(engine, settled)
    assert found == done, f"planned {found}\ndone    {done}"
    return plan, done


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
