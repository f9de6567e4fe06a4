"""Folds are described as data: another engine, in other processes, comes to the same digests, objects and proofs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refold.errors import FixInput
from refold.log.reader import LogReader
from refold.proof.prover import Prover
from refold.stores.building import Builder
from refold.stores.checkpoint import Checkpoints
from refold.stores.fold_engine import FoldTask
from tests.stores import elsewhere
from tests.stores.elsewhere import PROJECT, Elsewhere
from tests.support import Shop, changed, moved


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Three days, the last without stock events, sealed."""
    shop = Shop(tmp_path / "shop", PROJECT)
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5), moved("2", "rug", 3), moved("3", "lamp", -9))
    shop.land("dt=2026-01-02/a.jsonl", moved("4", "lamp", 7), moved("2", "rug", 3), moved("5", "vase", 2))
    shop.land("product_changes/dt=2026-01-01/a.jsonl", changed(1, "c", "lamp", "Lamp", "3.5"))
    shop.land("product_changes/dt=2026-01-03/a.jsonl", changed(2, "d", "lamp"), changed(3, "c", "rug", "Rug", "9"))
    list(shop.engine().sealing.seal())
    return shop


def built(shop: Shop, builder: Builder) -> dict[str, object]:
    """Every record, objects and digests and all, of every store of the project."""
    found = {}
    for log in PROJECT.logs:
        stores = [store for store in PROJECT.folded if store.log is log]
        for snapshot, records in builder.fold_history(stores, shop.engine().chain.get(), fresh=True):
            found |= {f"{snapshot.key} {name}": record for name, record in records.items()}
    return found


def test_another_engine_builds_the_same_objects_and_proves_them(shop: Shop, tmp_path: Path):
    engine, made = shop.engine(), list[Elsewhere]()

    def engines(reader: LogReader) -> Elsewhere:
        folder = tmp_path / f"pass {len(made)}"
        folder.mkdir()
        made.append(Elsewhere(shop.store, folder))
        return made[-1]

    there = built(shop, Builder(engine.objects, engine.chain, engines=engines))
    files = shop.files("states")
    here = built(shop, engine.builder)
    assert here == there
    assert len(here) == 9
    assert shop.files("states") == files, "the same objects, byte for byte"
    assert [len(each.ran) for each in made] == [2, 2], "a day without events is not folded again"
    first, second = made[0].ran
    assert [store["before"] for store in first["stores"]] == [None, None]
    record = here["2026-01-01 stock"]
    assert second["stores"][0]["before"]["digest"] == record.state_digest
    assert second["stores"][0]["before"]["base"]["name"] == record.base.name
    assert "def stock(row" in first["stores"][0]["declared"]["source"][0]

    proven = [engine.prover.prove(store, engine.chain.get()) for store in PROJECT.folded]
    prover = Prover(engine.objects, engine.chain, engine.builder, engines=engines)
    again = [prover.prove(store, engine.chain.get()) for store in PROJECT.folded]
    assert all(verdict.passed for verdict in [*proven, *again])
    assert [verdict.replay for verdict in again] == [verdict.replay for verdict in proven]
    assert sum(len(each.ran) for each in made) == 13


def test_a_task_survives_json_and_says_which_events_repeat(shop: Shop):
    engine = shop.engine()
    tasks = []

    class Noting:
        def fold(self, task, states):
            tasks.append(task)
            raise FixInput("noted")

    with pytest.raises(FixInput):
        built(shop, Builder(engine.objects, engine.chain, engines=lambda _: Noting()))
    (task,) = tasks
    text = json.dumps(task.to_json())
    assert FoldTask.from_json(json.loads(text)).to_json() == task.to_json()


def test_other_declarations_are_refused(shop: Shop, tmp_path: Path):
    engine = shop.engine()
    sent = []

    class Altering(Elsewhere):
        def fold(self, task, states):
            body = task.to_json()
            body["stores"][0]["code_version"] = "1-another"
            sent.append({"store": str(shop.store), "folder": str(tmp_path), "task": body})
            return super().fold(task, states)

    builder = Builder(engine.objects, engine.chain, engines=lambda _: Altering(shop.store, tmp_path))
    stores = [store for store in PROJECT.folded if store.log.name == "stock_events"]
    next(builder.fold_history(stores, engine.chain.get()))
    with pytest.raises(FixInput, match="expected code version 1-another, found 1-"):
        elsewhere.run(sent[0])
    assert Checkpoints(engine.objects).find(stores[0], engine.chain.get("2026-01-01").cut("stock_events").id)
