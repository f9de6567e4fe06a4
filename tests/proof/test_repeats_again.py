"""Repeats of one snapshot, found again by the seen index, are those that are found from the ids of the whole log."""

from __future__ import annotations

import datetime as dt
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from assets.logs import stock_events
from refold import PLACE, ConflictLimits, Daily, Log, Project, int64, latest_by_key
from refold.log.reader import LogReader
from refold.proof.repeats_again import RepeatsAgain
from refold.stores.building import stored_deliveries
from refold.testing.strategies import event_days
from tests.support import Shop

LOGS = {
    "one column": replace(stock_events, conflicts=ConflictLimits(records_max=1000)),
    "two columns": replace(stock_events, event_id=("event_id", "country"), conflicts=ConflictLimits(records_max=1000)),
    "place": replace(stock_events, event_id=PLACE),
}


def project(log: Log) -> Project:
    return Project(
        "again", Daily(dt.date(2026, 1, 1)), [latest_by_key(log, "last", version=1, columns={"quantity": int64()})]
    )


@pytest.mark.parametrize("kind", LOGS)
@settings(deadline=None, max_examples=25)
@given(days=event_days(stock_events, days_max=5, ids_max=6))
def test_what_is_found_again_is_what_sealing_found(kind: str, days: dict[str, list[dict[str, Any]]]):
    """Sealing looked up in the index as it was then; this looks up in that of the whole log."""
    log = LOGS[kind]
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), project(log))
        for key, events in days.items():
            shop.land(f"stock_events/dt={key}/a.jsonl", *events)
        engine = shop.engine()
        for _ in engine.sealing.seal():
            pass
        reader = LogReader(engine.objects, engine.chain, log)
        again = RepeatsAgain(engine.objects, engine.chain, reader)
        for snapshot in engine.chain:
            found, stored = again.deliveries(snapshot), stored_deliveries(reader, snapshot)
            assert len(found) == len(stored)
            assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, stored, strict=True))


def test_a_seen_index_that_is_lost_is_computed_again(tmp_path: Path):
    log = LOGS["one column"]
    shop = Shop(tmp_path, project(log))
    event = {"product_id": "a", "quantity": 1, "event_type": "add", "occurred_at": "2026-01-01T00:00:00Z"}
    for day in ("2026-01-01", "2026-01-02"):
        shop.land(f"stock_events/dt={day}/a.jsonl", event | {"event_id": "1"}, event | {"event_id": day})
    for _ in shop.engine().sealing.seal():
        pass
    for path in shop.store.rglob("*.run"):
        path.unlink()
    engine = shop.engine()
    again = RepeatsAgain(engine.objects, engine.chain, LogReader(engine.objects, engine.chain, log))
    (found,) = again.deliveries(engine.chain.get())
    assert found.tolist() == [1, 0]
