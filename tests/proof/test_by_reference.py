"""`verify_reference` and `refold verify` name what differs by store, snapshot, event and key."""

from __future__ import annotations

import datetime as dt
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from assets import PROJECT
from assets.product_catalog import product_catalog
from assets.stock import stock
from refold import Daily, Project
from refold.engine import Engine
from refold.rules.outcome import FoldResult, Outcome
from refold.rules.rule import Rule
from refold.stores.declaration import Folded
from tests.support import Shop, changed, moved, verify_reference

START = dt.date(2026, 1, 1)


def folded_shop(root: Path, *stores: Folded) -> Shop:
    return Shop(root, Project("folded", Daily(START), [*stores] or [stock, product_catalog]))


def built(engine: Engine) -> None:
    for log in engine.project.logs:
        list(engine.fold_history(log.name, engine.chain.get()))


class BrokenFold(Rule):
    """A rule whose fold is wrong by one, as a fault in the engine would be; the user's function is as it was."""

    def fold(self, rows: pa.Table, codes: Any, events: pa.Table, live: Any, *, traced: bool = False) -> FoldResult:
        result = super().fold(rows, codes, events, live, traced=traced)
        levels = pc.add(result.rows["level"], 1)
        outcomes = np.where(result.outcomes == Outcome.REJECTED, np.uint8(Outcome.IGNORED), result.outcomes)
        return FoldResult(pa.table({"level": levels}, schema=result.rows.schema), outcomes, result.reasons)


broken_stock = replace(stock, rule=BrokenFold(**{f.name: getattr(stock.rule, f.name) for f in fields(stock.rule)}))


def two_days(shop: Shop) -> Shop:
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "cup", 10), moved("2", "lid", 3), moved("3", "lid", -9))
    shop.land("dt=2026-01-02/a.jsonl", moved("4", "cup", -4), moved("1", "cup", 10))
    shop.land("product_changes/dt=2026-01-01/a.jsonl", changed(1, "c", "cup", "Cup", "1.5"))
    list(shop.engine().sealing.seal())
    return shop


def test_a_fault_in_the_fold_that_replay_shares_is_seen_by_the_reference(tmp_path: Path):
    shop = two_days(folded_shop(tmp_path, broken_stock, product_catalog))
    engine = shop.engine()
    head = engine.chain.get()
    built(engine)
    assert engine.prover.prove(broken_stock, head).passed
    differences = verify_reference(engine, head)
    assert {d.what for d in differences} == {"ledger", "state"}
    assert all(d.where.startswith("store stock, snapshot 2026-01-0") for d in differences)
    (outcome,) = [d for d in differences if "offset" in d.where]
    assert "snapshot 2026-01-01, log partition " in outcome.where
    assert outcome.where.endswith("log_seq 2")
    assert (outcome.expected, outcome.found) == ("rejected (reason 1)", "ignored (reason 1)")
    cups = [d for d in differences if d.where == "store stock, snapshot 2026-01-02, key 'cup'"]
    assert ["level=6," in cups[0].expected, "level=8," in cups[0].found] == [True, True]


def test_a_store_that_is_not_built_at_the_snapshot_is_told_and_an_earlier_one_is_not(tmp_path: Path):
    shop = two_days(folded_shop(tmp_path))
    engine = shop.engine()
    engine.build(stock, engine.chain.get())
    assert [(d.what, d.where) for d in verify_reference(engine, engine.chain.get())] == [
        ("not-built", "store product_catalog, snapshot 2026-01-02")
    ]
    assert verify_reference(engine, engine.chain.get("2026-01-01"))[0].what == "not-built"


def test_a_damaged_checkpoint_is_told(tmp_path: Path):
    shop = two_days(folded_shop(tmp_path))
    built(shop.engine())
    engine = shop.engine()
    record = engine.builder.require(stock, engine.chain.get())
    path = shop.store / record.objects[0].name
    path.write_bytes(path.read_bytes()[:-1])
    (difference,) = verify_reference(engine, engine.chain.get())
    assert difference.what == "checkpoint"
    assert record.objects[0].name in difference.found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The whole shop on two hand-written days, built, proven and published."""
    shop = two_days(Shop(tmp_path_factory.mktemp("served"), PROJECT.with_cadence(Daily(START))))
    engine = shop.engine()
    built(engine)
    for log in engine.project.logs:
        list(engine.prove_history(log.name, engine.chain.get()))
    list(engine.relate_history(engine.chain.get()))
    for store in engine.project.in_order:
        for sink in store.sinks:
            engine.publisher.publish(store, sink, engine.chain.get())
    return shop


def run(shop: Shop, *arguments: str) -> tuple[int, str]:
    result = shop.refold("verify", *arguments)
    return result.exit_code, result.output


def test_verify_shows_every_store_equal_to_replay(served: Shop):
    code, output = run(served)
    assert code == 0
    shown = [line.split()[0] for line in output.splitlines() if line.rstrip().endswith("equal")]
    assert shown == [store.name for store in PROJECT.in_order]


def test_verify_by_the_reference_shows_the_folded_stores(served: Shop):
    code, output = run(served, "--reference")
    assert code == 0
    shown = [line.split() for line in output.splitlines() if line.rstrip().endswith("equal")]
    assert [(line[0], line[1]) for line in shown] == [("stock", "2026-01-02"), ("product_catalog", "2026-01-02")]
    assert output.count("reference, one event at a time") == 2


def test_verify_takes_a_store_and_a_snapshot(served: Shop):
    code, output = run(served, "stock", "--as-of", "2026-01-01", "--reference")
    assert code == 0
    assert "stock" in output
    assert "2026-01-01" in output
    assert "product_catalog" not in output


def test_verify_by_the_reference_refuses_a_relation_and_says_what_to_ask_for(served: Shop):
    code, output = run(served, "product_search", "--reference")
    assert code == 1
    assert "Verify what it reads: stock, product_catalog." in output


@pytest.mark.parametrize("method", [[], ["--reference"]], ids=["replay", "reference"])
def test_verify_exits_with_1_and_shows_what_differs(tmp_path: Path, method: list[str]):
    """States that a broken fold stored under today's code version."""
    shop = two_days(folded_shop(tmp_path, broken_stock, product_catalog))
    built(shop.engine())
    code, output = run(shop, "stock", *method)
    assert code == 1
    assert "differs" in output
    assert "rejected (reason 1)" in output
    assert "level=6" in output
    assert run(shop, "product_catalog", *method)[0] == 0
