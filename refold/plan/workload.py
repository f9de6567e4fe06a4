"""How much work a plan is, stage by stage, in the units of `refold.plan.rates`.

All numbers follow from the plan and from what is stored; of a history that is not sealed yet they are estimates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.declaration import Log
from refold.log.snapshot import SnapshotChain
from refold.plan.decisions import Plan, PlannedFold, PlannedRelation
from refold.plan.history import Bytes, Day
from refold.rebuild import Stage, StageKind
from refold.rules.rule import COMPILED_FROM_EVENTS
from refold.stores.building import Builder
from refold.stores.declaration import Folded, Store, Work
from refold.stores.folding import columns_to_read

_ROWS_GUESSED = (6.0, 0.6)
"""Rows of a state of n events where nothing was ever built of it: 6 n^0.6, and never more than n."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a rebuild and its work.

    Attributes:
        due: whether it produces anything new; else it only checks what is there.
        reasons: why, in words.
        work: units by the names in `refold.plan.rates.UNIT_SECONDS`.
        events, rows, objects, size_bytes: what it reads or writes, for people.
    """

    stage: Stage
    due: bool
    reasons: Sequence[str]
    work: Mapping[str, float]
    events: int = 0
    rows: int = 0
    objects: int = 0
    size_bytes: int = 0

    @property
    def name(self) -> str:
        """The name of the stage, such as `fold stock_events`."""
        return str(self.stage)

    @property
    def kind(self) -> StageKind:
        """The kind of the stage."""
        return self.stage.kind


def stages_of(engine: Engine, plan: Plan) -> list[PlannedStage]:
    """The stages of a rebuild in the order of work."""
    logs = [_LogWork(engine, plan, log) for log in engine.project.logs]
    rows = {name: counts for each in logs for name, counts in each.rows.items()}
    rows |= {
        each.relation.name: [_rows_of(engine.builder, each.relation, plan)] * len(plan.days) for each in plan.relations
    }
    stages = [_seal(plan), *(each.fold() for each in logs), *(each.replay() for each in logs)]
    if plan.relations:
        stages.append(_relate(engine.chain, plan, rows))
    stages += _publishing(engine.project.in_order, plan, rows)
    notes = [text for text in (plan.release, plan.note) if text]
    work = {"starts": 1, "sinks": len(plan.versions) if plan.release else 0}
    return [*stages, PlannedStage(Stage(StageKind.RELEASE), bool(plan.release), notes, work)]


def _seal(plan: Plan) -> PlannedStage:
    days = plan.to_seal
    parts = [part for day in days for part in day.logs.values()]
    if days and not any(part.objects for part in parts):
        reasons = ["days without landing objects are sealed as well"]
    else:
        reasons = [f"new landing objects, {days[0].key} to {days[-1].key}"] if days else []
    size = sum(item.info.size_bytes for part in parts for item in part.objects)
    objects, events = sum(len(part.objects) for part in parts), sum(part.events for part in parts)
    work = {"starts": min(len(days), 1), "keys": len(days), "objects": objects, "events": events}
    return PlannedStage(
        Stage(StageKind.SEAL), bool(days), reasons, work, events=events, objects=objects, size_bytes=size
    )


_Rows = Mapping[str, Sequence[int]]


class _LogWork:
    """Folding and replaying the stores of one log; `rows` is how many rows each has after each day."""

    def __init__(self, engine: Engine, plan: Plan, log: Log) -> None:
        self._chain = engine.chain
        self._plan = plan
        self._log = log
        self._folds = [fold for fold in plan.folds if fold.store.log is log]
        self.rows: _Rows = {fold.store.name: _rows_by_day(engine.builder, plan, fold) for fold in self._folds}

    def fold(self) -> PlannedStage:
        """Folding each store from where it goes on."""
        folds = self._folds
        days = [day for day in self._plan.days[min(fold.start for fold in folds) :] if self._events(day)]
        work = self._work([range(fold.start, len(self._plan.days)) for fold in folds])
        work["compiled"] = sum(self._compiles(fold, fold.start) for fold in folds)
        work["checked"] = 0 if self._plan.fresh else sum(bool(day.snapshot) for day in self._plan.days) * len(folds)
        due = [fold for fold in folds if self._plan.folded(fold)]
        reasons = [f"{fold.store.name}: {reason}" for fold in due for reason in fold.reasons]
        columns = [column for fold in folds for column in columns_to_read(fold.store)]
        return self._stage(StageKind.FOLD, reasons, work, days, columns, due)

    def replay(self) -> PlannedStage:
        """Replaying stores from offset 0, or what is new and some of the rest; what folding compiled stays compiled."""
        folds, log = self._folds, self._log
        places = [looked_at(self._plan, fold.store) for fold in folds]
        every = sorted({place for some in places for place in some})
        days = [self._plan.days[place] for place in every if self._events(self._plan.days[place])]
        work = self._work(places)
        work["compiled"] = sum(self._compiles(fold, 0) and not self._compiles(fold, fold.start) for fold in folds)
        proofs = [each for each in self._plan.proofs if any(each.store is fold.store for fold in folds)]
        work["unproven"] = sum(each.missing for each in proofs)
        found = [f"{each.store.name}: {reason}" for each in proofs if each.missing for reason in each.reasons]
        columns = [*log.id_columns, "log_seq", *(column for fold in folds for column in columns_to_read(fold.store))]
        reasons = found or [_again(self._plan, [fold.store for fold in folds])]
        return self._stage(StageKind.REPLAY, reasons, work, days, columns, folds, due=bool(found))

    def _stage(
        self,
        kind: StageKind,
        reasons: Sequence[str],
        work: Mapping[str, float],
        days: Sequence[Day],
        columns: Sequence[str],
        folds: Sequence[PlannedFold],
        *,
        due: bool | None = None,
    ) -> PlannedStage:
        return PlannedStage(
            Stage(kind, self._log.name),
            bool(folds) if due is None else due,
            reasons,
            work,
            events=sum(map(self._events, days)),
            rows=sum(self.rows[fold.store.name][-1] for fold in folds),
            objects=self._segments(days),
            size_bytes=Bytes(self._chain, self._log).of(days, columns),
        )

    def _events(self, day: Day) -> int:
        return day.logs[self._log.name].events

    def _work(self, places: Sequence[Sequence[int]]) -> dict[str, float]:
        """Folding each store at some places in history."""
        days = self._plan.days
        every = {place for some in places for place in some}
        work = {"events": float(sum(self._events(days[place]) for place in every)), "folds": 0.0, "rows": 0.0}
        work["interpreted"] = 0.0
        for fold, some in zip(self._folds, places, strict=True):
            changed = [(self._events(days[n]), self.rows[fold.store.name][n]) for n in some]
            work["folds"] += sum(events > 0 for events, _ in changed)
            work["rows"] += sum(min(events, rows) for events, rows in changed)
            work["interpreted"] += sum(events for events, _ in changed) * (fold.store.work is Work.INTERPRETED)
        return work

    def _compiles(self, fold: PlannedFold, start: int) -> bool:
        """Whether a fold from `start` has so many events that the rule is compiled for it, for the first time."""
        events = sum(map(self._events, self._plan.days[start:]))
        return fold.to_compile and fold.store.work is Work.COMPILED and events >= COMPILED_FROM_EVENTS

    def _segments(self, days: Sequence[Day]) -> int:
        """How many segments hold the events of some days."""
        layouts = [self._chain.layout(day.snapshot, self._log.name) for day in days if day.snapshot]
        ahead = [min(self._log.partitions, self._events(day)) for day in days if not day.snapshot]
        return len({file.name for layout in layouts for file in layout.segments}) + sum(ahead)


def _rows_by_day(builder: Builder, plan: Plan, fold: PlannedFold) -> list[int]:
    """How many rows the state of a store has after each day: from its records, else in proportion.

    New keys arrive more slowly than events; the rows of a day are taken to grow with the root of its events.
    """
    through = [day.logs[fold.store.log.name].through for day in plan.days]
    known = [_rows_at(builder, fold.store, day) for day in plan.days]
    sealed = max((n for n, day in zip(through, plan.days, strict=True) if day.snapshot), default=0)
    places = [place for place, rows in enumerate(known) if rows is not None]
    if places:
        at, rows = through[places[-1]], known[places[-1]]
    else:
        at, rows = sealed or (through[-1] if through else 0), fold.rows
    return [each if each is not None else _guessed(n, at, rows) for each, n in zip(known, through, strict=True)]


def _guessed(events: int, at: int, rows: int | None) -> int:
    """Rows after some events, where there were `rows` after `at` of them; None where that is unknown."""
    factor, power = _ROWS_GUESSED
    guessed = factor * float(events) ** power if rows is None or not at else rows * math.sqrt(events / at)
    return min(events, round(guessed))


def _rows_at(builder: Builder, store: Store, day: Day) -> int | None:
    try:
        record = builder.find(store, day.snapshot) if day.snapshot else None
    except RefoldError:
        return None
    return record.rows if record is not None else None


def _rows_of(builder: Builder, store: Store, plan: Plan) -> int:
    """Rows of a relation as last computed; a thousand where that is unknown."""
    found = (_rows_at(builder, store, day) for day in reversed(plan.days))
    return next((rows for rows in found if rows is not None), 1_000)


def _relate(chain: SnapshotChain, plan: Plan, rows: _Rows) -> PlannedStage:
    work = dict.fromkeys(("runs", "reads", "input_rows", "rows"), 0.0)
    ledgers = dict[str, Folded]()
    for each in plan.relations:
        course = plan.courses[each.relation.name]
        due = range(len(plan.days) if course.proven == len(plan.days) else course.new, len(plan.days))
        for place in sorted({*each.computed, *(place for place in each.read if place in due)}):
            times = 2 if place in each.computed else 1
            work["runs"] += times
            work["reads"] += times == 1
            read = _input_rows(each.relation, plan.days[place], place, rows)
            written = rows[each.relation.name][place]
            if each.relation.is_maintained and place < len(plan.days) - 1:
                new = _new_events(each.relation, plan.days[place])
                read, written = min(read, new), min(written, new)
            work["input_rows"] += times * read
            work["rows"] += (times + 1) * written
        ledgers |= {ledger.name: ledger.store for ledger in each.relation.ledgers_read}
    computed = [each for each in plan.relations if each.computed]
    proofs = [p for p in plan.proofs if p.store.ledger is None and p.missing]
    reasons = [_summary(each) for each in computed] or [
        f"{p.store.name}: {reason}" for p in proofs for reason in p.reasons
    ]
    return PlannedStage(
        Stage(StageKind.RELATIONS),
        bool(computed or proofs),
        reasons or [_again(plan, [each.relation for each in plan.relations])],
        work,
        events=sum(plan.days[-1].logs[store.log.name].through for store in ledgers.values()),
        rows=int(work["input_rows"]),
        size_bytes=sum(Bytes(chain, store.log).of(plan.days, None) for store in ledgers.values()),
    )


def looked_at(plan: Plan, store: Store) -> list[int]:
    """The places in history at which a folded store would be replayed; the distance to a checkpoint is not counted."""
    course = plan.courses[store.name]
    return [*course.again, *range(course.new, len(plan.days))]


def _again(plan: Plan, stores: Sequence[Store]) -> str:
    """What is looked at again where all is proven."""
    courses = {plan.courses[store.name] for store in stores}
    if any(course.whole for course in courses):
        return "all proven; proven again from offset 0"
    older = sorted({place for course in courses for place in course.again})
    keys = f"{plan.days[older[0]].key} to {plan.days[older[-1]].key}" if older else "none"
    return f"all proven; looked at again: {plan.through}, and of the older ones {keys}"


def _summary(each: PlannedRelation) -> str:
    return f"{each.relation.name}: {'; '.join(each.reasons)} ({len(each.computed)} snapshots)"


def _new_events(relation: Store, day: Day) -> int:
    """The events that a snapshot adds to the logs behind a relation."""
    logs = {ledger.store.log.name for store in relation.all_inputs if (ledger := store.ledger) is not None}
    return sum(day.logs[log].events for log in logs)


def _input_rows(relation: Store, day: Day, place: int, rows: _Rows) -> int:
    return sum(
        source.read(ledger=lambda store: day.logs[store.log.name].through, rows=lambda store: rows[store.name][place])
        for source in relation.sources
    )


def _publishing(stores: Sequence[Store], plan: Plan, rows: _Rows) -> Iterator[PlannedStage]:
    imports = 1
    for store in stores:
        mine = [each for each in plan.versions if each.store is store]
        count = rows[store.name][-1]
        cells = count * len(store.columns)
        for each in mine:
            work = {"sinks": 1, "cells": cells, "written": cells if each.writes else 0}
            reasons = each.reasons or ["held already; compared again"]
            yield PlannedStage(Stage(StageKind.PUBLISH, each.sink), each.writes, reasons, work, rows=count)
        if mine and store.expect:
            work = {"imports": imports, "cells": cells * len(mine), "checks": len(store.expect) * len(mine)}
            due, imports = any(each.writes for each in mine), 0
            yield PlannedStage(Stage(StageKind.EXPECTATIONS, store.name), due, [], work, rows=count * len(mine))
