"""An event by its place, with where it came from and what became of it; a failed rule names the event it failed on."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from assets import PROJECT
from refold import Daily, Project
from refold.log.compaction import Compactor, MergeLimits
from refold.rebuild import rebuild_all
from tests.dagster.house import House, reasons
from tests.seal.test_bad_landing import shares
from tests.support import Shop, moved, seal_and_prove

START = dt.date(2026, 1, 1)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Two days of this project: the fourth event repeats the first, the fifth contradicts it."""
    shop = Shop(tmp_path, PROJECT.with_cadence(Daily(START)))
    first = moved("1", "lamp", 5)
    shop.land("dt=2026-01-01/a.jsonl", first, moved("2", "lamp", -9))
    shop.land("dt=2026-01-02/b.jsonl", moved("3", "lamp", 2), first, moved("1", "lamp", 6))
    shop.land("product_changes/dt=2026-01-01/a.jsonl")
    return shop


def place_of(shop: Shop, log_seq: int) -> str:
    """Log partition and offset of an event, found by another way."""
    events = shop.engine().builder.ledger_rows(shop.project.store("stock"), shop.engine().chain.get()).to_pylist()
    return next(f"{e['log_partition']}:{e['log_offset']}" for e in events if e["log_seq"] == log_seq)


EXPECTED = [
    (0, "stock_events/dt=2026-01-01/a.jsonl:1", "the first of its id", "Store stock: applied"),
    (1, "stock_events/dt=2026-01-01/a.jsonl:2", "the first of its id", "Store stock: rejected (INSUFFICIENT_STOCK)"),
    (2, "stock_events/dt=2026-01-02/b.jsonl:1", "the first of its id", "Store stock: applied"),
    (3, "stock_events/dt=2026-01-02/b.jsonl:2", "duplicate of the event with log_seq 0", "Store stock: duplicate"),
    (4, "stock_events/dt=2026-01-02/b.jsonl:3", "conflict of the event with log_seq 0", "Store stock: conflict"),
]


@pytest.mark.parametrize("compacted", [False, True])
def test_an_event_is_shown_with_its_columns_origin_and_outcome(shop: Shop, compacted: bool):
    """Also out of a compacted segment, which holds the events of several snapshots."""
    seal_and_prove(shop.engine())
    if compacted:
        engine = shop.engine()
        compactor = Compactor(
            engine.objects, engine.chain, engine.project.log("stock_events"), MergeLimits(files_min=2)
        )
        assert compactor.apply(compactor.plan()).files == 1
    for log_seq, origin, delivery, outcome in EXPECTED:
        shown = shop.refold("log", "show", "stock_events", place_of(shop, log_seq))
        assert shown.exit_code == 0, shown.output
        assert f"log_seq {log_seq}, from landing {origin}" in shown.output
        assert f"Delivery: {delivery}" in shown.output
        assert outcome in shown.output
        assert "product_id" in shown.output
        assert "lamp" in shown.output


def test_what_is_not_there_is_said_with_what_is(shop: Shop):
    """A place beyond the end, an unknown log partition, a store that is not built, words that are no place."""
    for _ in shop.engine().sealing.seal():
        pass
    partition = next(p for p, end in enumerate(shop.engine().chain.get().cut("stock_events").ends) if end)
    shown = shop.refold("log", "show", "stock_events", f"{partition}:0")
    assert "Store stock: not built" in shown.output
    for place in (f"{partition}:5", "99:0"):
        missing = shop.refold("log", "show", "stock_events", place)
        assert missing.exit_code == 1
        assert f"no event at {place}; it has {partition}:0 to {partition}:4" in " ".join(missing.output.split())
    assert shop.refold("log", "show", "stock_events", "zero").exit_code == 2


def test_a_rule_that_fails_names_the_landing_object_and_line_on_the_command_line_and_in_dagster(tmp_path: Path):
    """The third event divides by zero."""
    project = Project("shares", Daily(START), [shares])
    shop = Shop(tmp_path, project)
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 8))
    shop.land("dt=2026-01-02/b.jsonl", moved("2", "lamp", 9), moved("3", "lamp", 7))
    place, told = "landing stock_events/dt=2026-01-02/b.jsonl:2", []
    with pytest.raises(Exception, match="raised ZeroDivisionError") as failed:
        rebuild_all(shop.engine())
    told.append(str(failed.value))
    house = House(replace(shop, root=tmp_path / "house", landing_folder=shop.landing))
    result = house.run("rebuild_snapshot", "2026-01-02")
    assert not result.success
    told.append(reasons(result))
    for text in told:
        assert place in text
        assert "`refold log show stock_events 0:2` prints it" in text
    shown = shop.refold("log", "show", "stock_events", "0:2")
    assert "b.jsonl:2" in shown.output
