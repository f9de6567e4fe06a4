"""A kind of store that is declared in one module outside Refold is everything that its own kinds are."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from click.testing import CliRunner, Result

from refold import open_release
from refold.cli.main import cli
from refold.explain.computation import explain
from refold.plan.decisions import plan_rebuild, totals
from refold.rebuild import rebuild_all
from refold.rules.outcome import FoldResult
from refold.testing import assert_replay_equal
from tests.dagster.house import House
from tests.stores.highest import PROJECT, Highest, largest, largest_outcomes
from tests.support import Shop, moved, verify_reference

DAYS = {
    "2026-01-01": [moved("1", "lamp", 5), moved("2", "rug", 3), moved("3", "lamp", 4)],
    "2026-01-02": [moved("4", "lamp", 5), moved("2", "rug", 3), moved("5", "vase", 1)],
    "2026-01-03": [moved("6", "rug", 9), moved("4", "lamp", 7)],
}
ROWS = [
    {"product_id": "lamp", "quantity": 5},
    {"product_id": "rug", "quantity": 9},
    {"product_id": "vase", "quantity": 1},
]
OUTCOMES = {"applied": 4, "ignored": 1, "rejected": 1, "duplicate": 1, "conflict": 1}


class Careless(Highest):
    """Keeps the last value and calls it the highest."""

    def fold(self, rows, codes, events, live):
        found = super().fold(rows, codes, events, live)
        return FoldResult(found.rows, found.outcomes * 0, found.reasons * 0)


class Moody(Highest):
    """Answers otherwise every second time."""

    calls = 0

    def fold(self, rows, codes, events, live):
        Moody.calls += 1
        found = super().fold(rows, codes, events, live)
        return replace(found, reasons=found.reasons + np.uint8(Moody.calls % 2) * live)


def landed(root: Path, days: int = 3) -> Shop:
    shop = Shop(root, PROJECT)
    for key, events in list(DAYS.items())[:days]:
        shop.land(f"dt={key}/a.jsonl", *events)
    return shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Three days, sealed, built, proven, published and released."""
    shop = landed(tmp_path_factory.mktemp("highest"))
    rebuild_all(shop.engine())
    return shop


def test_it_is_built_day_by_day_and_in_one_pass_and_proven_by_replay():
    assert assert_replay_equal(largest, DAYS) == ROWS


def test_it_is_published_and_released_with_a_relation_over_its_ledger(shop: Shop):
    engine = shop.engine()
    snapshot = engine.chain.get()
    assert engine.builder.require(largest, snapshot).outcomes == OUTCOMES
    assert open_release(str(shop.store)).delta("largest").select(["product_id", "quantity"]).to_pylist() == ROWS
    counted = engine.rows(largest_outcomes, snapshot).to_pylist()
    assert {row["outcome"]: row["events"] for row in counted} == OUTCOMES
    told = engine.builder.ledger_rows(largest, snapshot).to_pylist()
    assert [row["event_id"] for row in told if row["reason"] == "TIE"] == ["4"]


def test_it_goes_on_from_a_checkpoint(tmp_path: Path):
    shop = landed(tmp_path, days=2)
    rebuild_all(shop.engine())
    shop.land("dt=2026-01-03/a.jsonl", *DAYS["2026-01-03"])
    plan = plan_rebuild(shop.engine())
    assert [(fold.store.name, fold.start) for fold in plan.folds] == [("largest", 2)]
    assert totals(plan)["events_to_fold"] == 2
    rebuild_all(shop.engine())
    assert [row["quantity"] for row in shop.engine().rows(largest, shop.engine().chain.get()).to_pylist()] == [5, 9, 1]


def test_the_reference_agrees_and_finds_a_careless_fold(shop: Shop, tmp_path: Path):
    assert verify_reference(shop.engine(), shop.engine().chain.get()) == []
    careless = landed(tmp_path).declared(stores=[_as(Careless)])
    engine = careless.engine()
    list(engine.sealing.seal())
    snapshot = engine.chain.get()
    engine.build(engine.project.stores[0], snapshot)
    assert engine.prover.prove(engine.project.stores[0], snapshot).passed, "replay folds by the same code"
    first = verify_reference(engine, snapshot)[0]
    assert (first.what, first.expected, first.found) == ("ledger", "ignored", "applied")


def _as(kind: type[Highest]) -> Highest:
    names = ("name", "version", "columns", "key", "log", "column")
    return kind(**{name: getattr(largest, name) for name in names})


def test_one_that_is_not_deterministic_fails_its_proof(tmp_path: Path):
    shop = landed(tmp_path, days=1).declared(stores=[_as(Moody)])
    engine = shop.engine()
    list(engine.sealing.seal())
    engine.build(engine.project.stores[0], engine.chain.get())
    verdict = engine.prover.prove(engine.project.stores[0], engine.chain.get())
    assert "rule" in {difference.what for difference in verdict.differences}


def test_a_changed_row_is_traced_to_its_event(tmp_path: Path):
    shop = landed(tmp_path)
    engine = shop.declared(stores=[_as(Careless)]).engine()
    list(engine.sealing.seal())
    engine.build(engine.project.stores[0], engine.chain.get())
    engine = shop.declared(stores=[largest]).engine()
    verdict = engine.prover.prove(largest, engine.chain.get())
    assert not verdict.passed
    assert verdict.divergence.event["event_id"] == "3"
    assert (verdict.divergence.stored_outcome, verdict.divergence.right_outcome) == ("applied", "ignored")


def test_it_is_explained(shop: Shop):
    found = explain(PROJECT, largest)
    assert (found.how, found.inputs, found.because) == ("The highest value by key.", ["log stock_events"], None)
    assert {column.name for column in found.columns if column.read} >= {"product_id", "quantity"}
    assert "never reaches the comparison" in found.repeats


def test_a_value_shows_the_events_behind_it(shop: Shop):
    engine = shop.engine()
    steps = list(engine.explainer.why(largest, ["lamp"], engine.chain.get()))
    assert [(step.event["event_id"], step.outcome, step.reason, step.after["quantity"]) for step in steps] == [
        ("1", "applied", None, 5),
        ("3", "ignored", None, 5),
        ("4", "rejected", "TIE", 5),
        ("4", "conflict", None, 5),
    ]


@pytest.fixture
def refold(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The commands on that project."""
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.stores.highest:PROJECT"\n')
    monkeypatch.setenv("REFOLD_LANDING", str(shop.landing))
    monkeypatch.setenv("REFOLD_STORE", str(shop.store))
    monkeypatch.setenv("REFOLD_DATABASE", shop.settings.database)
    monkeypatch.setenv("REFOLD_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["--project", str(tmp_path), *words])

    return run


def test_the_commands_show_it(refold):
    shown = refold("explain", "largest")
    assert shown.exit_code == 0, shown.output
    assert "largest: The highest value by key." in shown.output
    why = refold("why", "largest", "lamp")
    assert why.exit_code == 0, why.output
    assert "TIE" in why.output
    for words in (["verify", "largest"], ["verify", "largest", "--reference"], ["plan"]):
        done = refold(*words)
        assert done.exit_code == 0, done.output


def test_it_is_compared_with_another_declaration_of_itself(refold, tmp_path: Path):
    told = tmp_path / "diff.json"
    done = refold("diff", "largest", "--against", "tests.stores.highest:largest_of_few", "--json", str(told))
    assert done.exit_code == 1, done.output
    (found,) = json.loads(told.read_text())["stores"]
    assert found["rows"]["changes"] == [
        {"kind": "changed", "key": {"product_id": "rug"}, "cells": {"quantity": [3, 9]}},
    ]
    first = found["outcomes"][0]["first"]
    assert (first["event"]["event_id"], first["old"], first["new"]) == (
        "6",
        {"outcome": "ignored", "after": {"quantity": 3}},
        {"outcome": "applied", "after": {"quantity": 9}},
    )


def test_dagster_shows_it(tmp_path: Path):
    house = House(landed(tmp_path))
    assert house.rebuild().success
    assert house.materialize("state/largest", key="2026-01-03").success
    event = house.instance.get_latest_materialization_event(dg.AssetKey(["state", "largest"]))
    metadata = event.asset_materialization.metadata
    assert {name: metadata[f"events {name} so far"].value for name in OUTCOMES} == OUTCOMES
    lineage = metadata["dagster/column_lineage"].value.deps_by_column
    assert [(dep.asset_key.path, dep.column_name) for dep in lineage["quantity"]] == [
        (["log", "stock_events"], "quantity")
    ]
    graph = house.defs.resolve_asset_graph()
    assert graph.get(dg.AssetKey(["state", "largest"])).parent_keys == {dg.AssetKey(["log", "stock_events"])}
    assert "fold" in graph.get(dg.AssetKey(["state", "largest"])).kinds
