"""A rule whose answer hangs on something that its syntax tree does not show is caught by folding twice."""

from __future__ import annotations

import datetime as dt
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from assets.logs import stock_events
from refold import Daily, Project, fold
from refold.base import parallel
from refold.dagster import results
from refold.errors import DeclarationError, Unproven
from refold.log.reader import LogReader
from refold.rebuild import rebuild_all
from refold.stores.folding import columns_to_read, fold_unread
from refold.stores.state import State
from tests.support import Shop, moved


class Level(NamedTuple):
    level: int = 0


FEE = 1


@fold(stock_events, version=1)
def charged(row: Level, event):
    """Looks pure; what it calls is changed behind its back, after it was declared."""
    return row._replace(level=row.level + event.quantity + FEE)


PROJECT = Project("charged", Daily(dt.date(2026, 1, 1)), [charged])
_calls = itertools.count()
_kept: list[object] = []
_sum = SimpleNamespace(total=0.0)


def _counter() -> int:
    return next(_calls) % 7


def _clock() -> int:
    return time.perf_counter_ns() % 1_000_003


def _chance() -> int:
    return random.SystemRandom().randrange(1_000_003)


def _address() -> int:
    _kept.append(object())
    return id(_kept[-1]) % 1_000_003


def _float_sum() -> int:
    _sum.total += 0.1
    return int(_sum.total * 10)


def _set_order() -> int:
    _kept.append(object())
    return next(n for n, each in enumerate({*_kept[-64:]}) if each is _kept[-1])


def _sealed(root: Path, products: int) -> Shop:
    shop = Shop(root, PROJECT)
    for number in range(2):
        day = f"2026-01-0{number + 1}"
        shop.land(f"dt={day}/a.jsonl", *(moved(f"{number}-{n}", f"product {n % products}", 5 + n) for n in range(60)))
    for _ in shop.engine().sealing.seal():
        pass
    return shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return _sealed(tmp_path, products=7)


def _hide(monkeypatch: pytest.MonkeyPatch, what: Callable[[], int]) -> None:
    """Have the rule, interpreted, answer by what it cannot see; compiled, by another test, it would not ask."""
    monkeypatch.setattr(charged.rule._kernel, "_fold", None)
    monkeypatch.setattr(charged.rule._kernel, "_asked_for", 0)
    monkeypatch.setattr(Level, "_replace", lambda self, level: Level(level + what()))


@pytest.mark.parametrize("what", [_counter, _clock, _chance, _address, _float_sum, _set_order])
def test_a_rule_that_is_not_deterministic_is_never_proven(shop: Shop, monkeypatch: pytest.MonkeyPatch, what):
    _hide(monkeypatch, what)
    engine = shop.engine()
    head = engine.chain.get()
    engine.build(charged, head)
    verdict = engine.prover.prove(charged, head)
    assert not verdict.passed
    (told, *_) = [difference for difference in verdict.differences if difference.what == "rule"]
    assert "The rule of store 'charged' is not deterministic: two folds of the same events" in told.found
    assert "not on the order of a set, hash() or id(), the clock, chance, sums of floats, globals" in told.found
    assert "log partition" in told.found
    assert "raise its version" in verdict.remedy
    assert "not deterministic" in str(results.replay(verdict).metadata)
    with pytest.raises(Unproven):
        engine.prover.require(charged, head)
    with pytest.raises(Unproven, match="not deterministic"):
        rebuild_all(shop.engine())


def test_it_is_caught_even_where_what_is_stored_is_what_replay_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each day has 60 events; of the two folds of a day in replay, only the second answers otherwise."""
    engine = _sealed(tmp_path, products=1).engine()
    head = engine.chain.get()
    engine.build(charged, head)
    calls = itertools.count()
    _hide(monkeypatch, lambda: next(calls) // 60 % 2 == 1)
    verdict = engine.prover.prove(charged, head)
    assert next(calls) == 2 * 2 * 60
    assert {difference.what for difference in verdict.differences} == {"rule"}
    assert verdict.replay["state"] == verdict.record.state_digest


def test_a_rule_that_answers_otherwise_in_another_process_parts_from_what_was_built(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    """A hash seed or a setting is the same for both folds of one process, and another where the state was built."""
    engine = shop.engine()
    head = engine.chain.get()
    with monkeypatch.context() as there:
        _hide(there, lambda: 1)
        engine.build(charged, head)
    engine = shop.engine()
    verdict = engine.prover.prove(charged, head)
    assert {difference.what for difference in verdict.differences} == {"state"}
    assert verdict.divergence.cause == "rule"
    assert "answered differently in another process" in verdict.divergence.because
    assert "changed without a version" in verdict.divergence.because
    assert verdict.divergence.snapshot == "2026-01-01"


def test_a_global_that_changed_after_the_rule_was_declared_is_refused_by_name(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    engine = shop.engine()
    engine.build(charged, engine.chain.get("2026-01-01"))
    with monkeypatch.context() as later:
        later.setitem(globals(), "FEE", 2)
        with pytest.raises(DeclarationError, match="FEE is 2 now, and was 1 when the rule was declared"):
            engine.build(charged, engine.chain.get())
    engine = shop.engine()
    engine.build(charged, engine.chain.get())
    assert engine.prover.prove(charged, engine.chain.get()).passed


def test_a_sound_rule_is_folded_twice_and_proven(shop: Shop):
    engine = shop.engine()
    engine.build(charged, engine.chain.get())
    assert engine.prover.prove(charged, engine.chain.get()).passed


def test_a_compiled_rule_is_proven_all_the_same(shop: Shop):
    assert charged.rule.compile()
    interpreted = replace(charged, rule=replace(charged.rule, _kernel=None))
    for store in (charged, interpreted):
        engine = shop.declared(stores=[store]).engine()
        engine.build(store, engine.chain.get())
        assert engine.prover.prove(store, engine.chain.get()).passed


def test_of_several_log_partitions_the_first_is_named_whichever_thread_is_faster(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    """The largest begins first, so its thread is mostly done first."""
    monkeypatch.setattr(parallel, "WORTH_THREADS", 0)
    monkeypatch.setattr(parallel, "cores", lambda: 3)
    calls = itertools.count()  # never the same again, whichever thread asks
    _hide(monkeypatch, lambda: next(calls))
    engine = shop.engine()
    snapshot = next(iter(engine.chain))
    parts = LogReader(engine.objects, engine.chain, stock_events).unread(snapshot, columns_to_read(charged))
    assert len(parts) > 1 and len(parts[0]) < max(map(len, parts))
    deliveries = [np.zeros(len(part), dtype=np.uint8) for part in parts]
    ((_, unstable, _),) = fold_unread([State(charged)], parts, deliveries, twice=True)
    named = [str(error) for error in unstable]
    assert [part.partition for part in parts] == [int(text.split("log partition ")[1][0]) for text in named]
