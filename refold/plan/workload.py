"""How much work a plan is, step by step, in the numbers that cost time: the features of `refold.plan.rates`.

A step has a name, that of the stage that `refold.rebuild` times, and a kind, which says what its rates are called. All
numbers follow from the plan and from what is stored; of a history that is not sealed yet they are estimates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from refold.base.parallel import cores
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.declaration import Log
from refold.log.segment import SEGMENT_EVENTS
from refold.plan.decisions import Computing, Fold, Plan
from refold.plan.history import Bytes, Day
from refold.rebuild import Stage, StageKind
from refold.rules.rule import COMPILED_FROM_EVENTS
from refold.stores.declaration import Folded, Store, Work
from refold.stores.folding import columns_to_read

_ROWS_GUESSED = (6.0, 0.6)
"""Rows of a state of n events where nothing was ever built of it: 6 n^0.6, and never more than n."""


@dataclass(frozen=True)
class Step:
    """One stage of a rebuild.

    Attributes:
        name: that of the stage, such as `fold stock_events`.
        kind: whose rates it has, such as `fold`.
        due: whether anything new comes of it; else it only looks again at what stands.
        reasons: why, in words.
        work: how much of each feature it takes.
        events, rows, objects, size_bytes: what it reads or writes, for people.
    """

    name: str
    kind: str
    due: bool
    reasons: Sequence[str]
    work: Mapping[str, float]
    events: int = 0
    rows: int = 0
    objects: int = 0
    size_bytes: int = 0


def steps_of(engine: Engine, plan: Plan) -> list[Step]:
    """The steps of a rebuild in the order of work."""
    rows = {fold.store.name: rows_by_day(engine, plan, fold) for fold in plan.folds}
    steps = [_seal(plan)]
    asked = {fold.store.name: COMPILED_FROM_EVENTS for fold in plan.folds if fold.is_loaded}
    steps += [_fold(engine, plan, log, rows, asked) for log in engine.project.logs]
    steps += [_replay(engine, plan, log, rows, asked) for log in engine.project.logs]
    rows |= {each.relation.name: [_rows_of(engine, each.relation, plan)] * len(plan.days) for each in plan.relations}
    if plan.relations:
        steps.append(_relate(engine, plan, rows))
    steps += _publishing(engine, plan, rows)
    notes = [text for text in (plan.release, plan.note) if text]
    moved = len(plan.publishing) if plan.release else 0
    return [*steps, Step(str(Stage(StageKind.RELEASE)), "release", bool(plan.release), notes, {"sinks": moved})]


def rows_by_day(engine: Engine, plan: Plan, fold: Fold) -> list[int]:
    """How many rows the state of a store has after each day: as its records say, else in proportion.

    New keys arrive more slowly than events; the rows of a day are taken to grow with the root of its events.
    """
    through = [day.logs[fold.store.log.name].through for day in plan.days]
    known = [_rows_at(engine, fold.store, day) for day in plan.days]
    sealed = max((n for n, day in zip(through, plan.days, strict=True) if day.snapshot), default=0)
    places = [place for place, rows in enumerate(known) if rows is not None]
    if places:
        at, rows = through[places[-1]], known[places[-1]]
    else:
        at, rows = sealed or (through[-1] if through else 0), fold.rows
    return [each if each is not None else _guessed(n, at, rows) for each, n in zip(known, through, strict=True)]


def _guessed(events: int, at: int, rows: int | None) -> int:
    """Rows after some events, where there were `rows` after `at` of them; None where nobody knows."""
    factor, power = _ROWS_GUESSED
    guessed = factor * float(events) ** power if rows is None or not at else rows * math.sqrt(events / at)
    return min(events, round(guessed))


def _rows_at(engine: Engine, store: Store, day: Day) -> int | None:
    try:
        record = engine.builder.find(store, day.snapshot) if day.snapshot else None
    except RefoldError:
        return None
    return record.rows if record is not None else None


def _rows_of(engine: Engine, store: Store, plan: Plan) -> int:
    """Rows of a relation as last computed; a thousand where nobody knows."""
    found = (_rows_at(engine, store, day) for day in reversed(plan.days))
    return next((rows for rows in found if rows is not None), 1_000)


def _seal(plan: Plan) -> Step:
    days = plan.to_seal
    parts = [part for day in days for part in day.logs.values()]
    if days and not any(part.objects for part in parts):
        reasons = ["days without landing objects are sealed as well"]
    else:
        reasons = [f"new landing objects, {days[0].key} to {days[-1].key}"] if days else []
    before = [day for day in plan.days if not day.is_new]
    size = sum(item.info.size_bytes for part in parts for item in part.objects)
    objects, events = sum(len(part.objects) for part in parts), sum(part.events for part in parts)
    earlier = sum(part.through for part in before[-1].logs.values()) if before and days else 0
    work = {"keys": len(days), "objects": objects, "events": events, "bytes": size, "earlier": earlier}
    return Step(
        str(Stage(StageKind.SEAL)), "seal", bool(days), reasons, work, events=events, objects=objects, size_bytes=size
    )


_Rows = Mapping[str, Sequence[int]]


def _fold(engine: Engine, plan: Plan, log: Log, rows: _Rows, asked: dict[str, int]) -> Step:
    folds = [fold for fold in plan.folds if fold.store.log is log]
    work, name = _work(plan, folds, [fold.start for fold in folds], rows, asked), log.name
    days = [day for day in plan.days[min(fold.start for fold in folds) :] if day.logs[name].events]
    columns = [column for fold in folds for column in columns_to_read(fold.store)]
    work["checked"] = 0 if plan.fresh else sum(bool(day.snapshot) for day in plan.days) * len(folds)
    work["checked_rows"] = 0 if plan.fresh else sum(rows[fold.store.name][max(fold.start - 1, 0)] for fold in folds)
    due = [fold for fold in folds if plan.folded(fold)]
    reasons = [f"{fold.store.name}: {reason}" for fold in due for reason in fold.reasons]
    return Step(str(Stage(StageKind.FOLD, name)), "fold", bool(due), reasons, work,
                events=sum(day.logs[name].events for day in days),
                rows=sum(rows[fold.store.name][-1] for fold in due),
                objects=_segments(engine, log, days), size_bytes=Bytes(engine, log).of(days, columns))  # fmt: skip


def _work(
    plan: Plan, folds: Sequence[Fold], starts: Sequence[int], rows: _Rows, asked: dict[str, int], times: int = 1
) -> dict[str, float]:
    """Folding stores from some places in history on to its end; `asked` says how many events went to a rule before."""
    log = folds[0].store.log.name
    days = [day for day in plan.days[min(starts) :] if day.logs[log].events]
    work = {"days": float(len(days)), "read": float(sum(day.logs[log].events for day in days))}
    names = ("folds", "compiled", "interpreted", "latest", "rows", "state_rows", "loads", "to_compile")
    work |= dict.fromkeys(names, 0.0)
    for fold, start in zip(folds, starts, strict=True):
        kind = fold.store.work
        for place in range(start, len(plan.days)):
            events, size = plan.days[place].logs[log].events, rows[fold.store.name][place]
            if events:
                work["folds"] += 1
                before = asked.get(fold.store.name, 0)
                asked[fold.store.name] = before + times * events
                compiled = kind is Work.COMPILED and asked[fold.store.name] >= COMPILED_FROM_EVENTS
                work[Work.INTERPRETED if kind is Work.COMPILED and not compiled else kind] += times * events
                if compiled and before < COMPILED_FROM_EVENTS:
                    work["loads"] += 1
                    work["to_compile"] += fold.to_compile
                work["rows"] += min(events, size)
                work["state_rows"] += size
    return work


def _segments(engine: Engine, log: Log, days: Sequence[Day]) -> int:
    names = {f.name for day in days if day.snapshot for f in engine.chain.layout(day.snapshot, log.name).segments}
    return len(names) + sum(min(log.partitions, day.logs[log.name].events) for day in days if not day.snapshot)


def _replay(engine: Engine, plan: Plan, log: Log, rows: _Rows, asked: dict[str, int]) -> Step:
    folds = [fold for fold in plan.folds if fold.store.log is log]
    work = _work(plan, folds, [0] * len(folds), rows, asked, times=2)
    work["proofs"] = len(plan.days) * len(folds)
    days = [day for day in plan.days if day.logs[log.name].events]
    columns = [log.event_id, "log_seq", *(column for fold in folds for column in columns_to_read(fold.store))]
    proofs = [proof for proof in plan.proofs if any(proof.store is fold.store for fold in folds) and proof.missing]
    reasons = [f"{proof.store.name}: {reason}" for proof in proofs for reason in proof.reasons]
    reasons = reasons or ["all proven; replayed again to check"]
    return Step(str(Stage(StageKind.REPLAY, log.name)), "replay", bool(proofs), reasons, work,
                events=int(work["read"]), rows=sum(rows[fold.store.name][-1] for fold in folds),
                objects=_segments(engine, log, days), size_bytes=Bytes(engine, log).of(days, columns))  # fmt: skip


def _relate(engine: Engine, plan: Plan, rows: _Rows) -> Step:
    work = dict.fromkeys(("runs", "input_rows", "rows", "read", "ledger_events"), 0.0)
    reads, events, size = dict[str, Folded](), 0, 0
    for each in plan.relations:
        for place in sorted([*each.computed, *each.read]):
            times = 2 if place in each.computed else 1
            work["runs"] += times
            work["read"] += times == 1
            work["input_rows"] += times * _input_rows(each.relation, plan.days[place], place, rows)
            work["rows"] += (times + 1) * rows[each.relation.name][place]
        reads |= {ledger.name: ledger.store for ledger in each.relation.ledgers_read}
    for store in reads.values():
        events += plan.days[-1].logs[store.log.name].through
        size += Bytes(engine, store.log).of(plan.days, None)
    work["ledger_events"] = events
    due = [each for each in plan.relations if each.computed]
    proofs = [p for p in plan.proofs if p.store.ledger is None and p.missing]
    reasons = [_summary(each) for each in due] or [f"{p.store.name}: {reason}" for p in proofs for reason in p.reasons]
    reasons = reasons or ["all proven; computed again to check"]
    return Step(str(Stage(StageKind.RELATIONS)), "relate", bool(due or proofs), reasons, work,
                events=events, rows=int(work["input_rows"]), size_bytes=size)  # fmt: skip


def _summary(each: Computing) -> str:
    return f"{each.relation.name}: {'; '.join(each.reasons)} ({len(each.computed)} snapshots)"


def _input_rows(relation: Store, day: Day, place: int, rows: _Rows) -> int:
    return sum(
        source.read(ledger=lambda store: day.logs[store.log.name].through, rows=lambda store: rows[store.name][place])
        for source in relation.sources
    )


def _publishing(engine: Engine, plan: Plan, rows: _Rows) -> Iterator[Step]:
    for store in engine.project.in_order:
        mine = [each for each in plan.publishing if each.store is store]
        count = rows[store.name][-1]
        cells = count * len(store.columns)
        for each in mine:
            work = {"cells": cells, "written": cells if each.writes else 0, "versions": float(each.writes)}
            reasons = each.reasons or ["held already; compared again"]
            kind = f"publish {each.sink.partition('/')[0]}"
            yield Step(str(Stage(StageKind.PUBLISH, each.sink)), kind, each.writes, reasons, work, rows=count)
        if mine and store.expect:
            work = {"cells": cells * len(mine), "checks": len(store.expect) * len(mine)}
            due = any(each.writes for each in mine)
            yield Step(str(Stage(StageKind.EXPECTATIONS, store.name)), "expect", due, [], work, rows=count * len(mine))


def memory_of(engine: Engine, plan: Plan, steps: Sequence[Step]) -> dict[str, float]:
    """What decides on the peak of memory, in millions: segments held at once, ids, states, what relations read."""
    segments = cores() * SEGMENT_EVENTS
    largest, ids, states, ledgers, held = 0.0, 0.0, 0.0, 0.0, 0.0
    for log in engine.project.logs:
        names = {column for store in engine.stores_of(log.name) for column in columns_to_read(store)}
        read = max(min(segments, day.logs[log.name].events) for day in plan.days)
        largest = max(largest, read * (len(names) + 1))
        ids = max(ids, plan.days[-1].logs[log.name].through)
        mine = [fold for fold in plan.folds if fold.store.log is log]
        states += sum(rows_by_day(engine, plan, fold)[-1] * len(fold.store.state_columns) for fold in mine)
    for step in steps:
        if step.kind == "relate":
            ledgers = step.work["ledger_events"]
        if step.kind.startswith("publish"):
            held = max(held, step.work["cells"])
    sealing = max((part.events for day in plan.to_seal for part in day.logs.values()), default=0)
    work = {"largest": largest, "ids": ids, "states": states, "ledgers": ledgers, "cells": held, "sealing": sealing}
    checked = any(step.kind == "expect" for step in steps)
    return {**{name: amount / 1e6 for name, amount in work.items()}, "expectations": float(checked)}
