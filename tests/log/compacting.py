"""A few weeks of the sample and small shops, compacted: what the tests of compaction share. Not a test."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

from assets import PROJECT
from refold.engine import Engine
from refold.log.compaction import Compacted, Compactor, MergeLimits
from refold.log.reader import LogReader
from tests.seal.sealing import STOCK_ONLY
from tests.support import Shop, moved

DAYS = 26


LIMITS = MergeLimits()


def sealed_and_proven(root: Path) -> Shop:
    """The first weeks of the sample, sealed, built and proven at every snapshot."""
    shop = Shop(root, PROJECT)
    assert PROJECT.sample is not None
    PROJECT.sample(shop.landing, False)
    engine = shop.engine()
    list(engine.sealing.seal((PROJECT.cadence.start + dt.timedelta(days=DAYS - 1)).isoformat()))
    for log in PROJECT.logs:
        for _ in engine.fold_history(log.name, engine.chain.get()):
            pass
        for _ in engine.prove_history(log.name, engine.chain.get()):
            pass
    return shop


def copied(shop: Shop, root: Path) -> Shop:
    """A copy of a shop."""
    shutil.copytree(shop.root, root)
    return Shop(root, shop.project)


def compactor(engine: Engine, log: str = "stock_events", limits: MergeLimits = LIMITS) -> Compactor:
    """What compacts one log."""
    return Compactor(engine.objects, engine.chain, engine.project.log(log), limits)


def compact(shop: Shop, log: str = "stock_events", limits: MergeLimits = LIMITS) -> Compacted:
    """Compact one log."""
    mine = compactor(shop.engine(), log, limits)
    return mine.apply(mine.plan())


def segments(engine: Engine, log: str = "stock_events") -> list[str]:
    """The names of the objects that the newest layouts name, without repetition."""
    return list({f.name: 0 for snapshot in engine.chain for f in engine.chain.layout(snapshot, log).segments})


def findings(shop: Shop) -> list[tuple[str, str, str]]:
    """What `refold log verify` says: check, snapshot and message."""
    engine = shop.engine()
    return [
        (f.check, f.snapshot, f.message)
        for log in engine.project.logs
        for _, found in engine.verify_log(log.name, engine.chain.get())
        for f in found
    ]


def everything_read(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """All events with all columns, by snapshot."""
    log = engine.project.log("stock_events")
    reader = LogReader(engine.objects, engine.chain, log)
    return {snapshot.key: reader.events(snapshot).to_pylist() for snapshot in engine.chain}


def prove_everything(shop: Shop) -> None:
    """Full replay from the segments as they are now, at every snapshot."""
    engine = shop.engine()
    for log in engine.project.logs:
        for _, verdicts in engine.prove_history(log.name, engine.chain.get()):
            assert all(verdict.passed for verdict in verdicts.values())


def small_shop(root: Path, days: list[list[int]]) -> Shop:
    """A shop of some days, each with events of so many products, folded."""
    shop, number = Shop(root, STOCK_ONLY), 0
    for ordinal, products in enumerate(days):
        day = (dt.date(2026, 1, 1) + dt.timedelta(days=ordinal)).isoformat()
        events = []
        for product in products:
            # An id of each kind, and every fifth is delivered again the next time.
            name = f"id {number}" if number % 7 == 3 else f"00000000-0000-0000-0000-{number:012d}"
            events.append(moved(name, f"product {product}", 1 + number % 3))
            number += number % 5 != 4 or product != products[-1]
        shop.land(f"dt={day}/a.jsonl", *events)
    return shop
