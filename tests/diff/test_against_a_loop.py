"""Two rules compared by Refold and by a loop that knows neither folding nor columns."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from assets import PROJECT
from assets.stock import stock
from refold import Daily, Project
from refold.diff.compare import Comparer, Comparison
from refold.diff.shadow import Shadow
from refold.engine import Engine
from refold.stores.declaration import Store
from tests.diff import variants
from tests.support import Shop, moved

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
REFUSED = "rejected (INSUFFICIENT_STOCK)"

Answer = tuple[str, int]
Rule = Callable[[int, str, int], Answer]


def by_the_shop(level: int, kind: str, quantity: int) -> Answer:
    if kind == "add":
        return "applied", level + quantity
    return (REFUSED, level) if quantity > level else ("applied", level - quantity)


def by_credit(level: int, kind: str, quantity: int) -> Answer:
    return "applied", level + quantity if kind == "add" else level - quantity


def by_doubling(level: int, kind: str, quantity: int) -> Answer:
    return by_the_shop(level, kind, 14 if (kind, quantity) == ("add", 7) else quantity)


RULES: dict[str, Rule] = {"credit": by_credit, "doubled": by_doubling}


class Loop:
    """Levels, outcomes and the first event at which two rules part, one event at a time."""

    def __init__(self, events: Iterable[dict[str, Any]], old: Rule, new: Rule) -> None:
        self.old: dict[str, int] = {}
        self.new: dict[str, int] = {}
        self.moves: Counter[tuple[str, str]] = Counter()
        self.first: int | None = None
        seen: dict[str, dict[str, Any]] = {}
        for seq, event in enumerate(events):
            product = event["product_id"]
            first = seen.setdefault(event["event_id"], event)
            was, now = self.old.setdefault(product, 0), self.new.setdefault(product, 0)
            if first is event:
                arguments = event["event_type"], event["quantity"]
                before, self.old[product] = old(was, *arguments)
                after, self.new[product] = new(now, *arguments)
            else:
                before = after = "duplicate" if first == event else "conflict"
            if before != after:
                self.moves[before, after] += 1
            if self.first is None and (before != after or self.old[product] != self.new[product]):
                self.first = seq

    @property
    def levels(self) -> dict[str, tuple[int, int]]:
        """What changes, from old to new."""
        return {key: (self.old[key], self.new[key]) for key in self.old if self.old[key] != self.new[key]}


def compared(engine: Engine, old: Store, new: Store, limit: int = 10**6) -> tuple[Comparer, Comparison]:
    """Two declarations of one store, at the newest snapshot."""
    snapshot = engine.chain.get()
    sides = [
        Shadow(label, engine.objects, engine.chain, snapshot, {"stock": store})
        for label, store in (("old", old), ("new", new))
    ]
    comparer = Comparer(engine.chain, snapshot, *sides)
    (comparison,) = comparer.compare(["stock"], limit)
    return comparer, comparison


def must_agree(found: Comparison, loop: Loop) -> None:
    """What Refold found is what the loop did."""
    levels = {c.key["product_id"]: c.cells["level"] for c in found.rows.changes}
    assert levels == loop.levels
    assert list(levels) == sorted(levels, key=str.encode)
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (0, 0, len(loop.levels))
    (outcomes,) = found.outcomes
    assert {(old, new): count for old, new, count in outcomes.moves} == loop.moves
    assert outcomes.changed == sum(loop.moves.values())
    assert (outcomes.first and outcomes.first.log_seq) == loop.first
    assert found.differs == bool(loop.levels or loop.moves)


movements = st.builds(
    lambda number, product, quantity: moved(f"e{number}", product, quantity),
    st.integers(0, 14),
    st.sampled_from(["a", "b", "ä"]),
    st.integers(-9, 9).filter(bool),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("doubled", [[moved("e0", "a", 1)], [moved("e1", "b", 1), moved("e2", "a", 7)]])
@given(st.sampled_from(sorted(RULES)), st.lists(st.lists(movements, max_size=12), min_size=1, max_size=3))
def test_rows_outcomes_and_the_first_parting_are_those_of_a_loop(variant: str, days: list[list[dict]]):
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), Project("stock", Daily(dt.date(2026, 1, 1)), [stock]))
        for day, events in zip(DAYS, days, strict=False):
            shop.land(f"dt={day}/a.jsonl", *events)
        engine = shop.engine()
        for _ in engine.sealing.seal():
            pass
        _, found = compared(engine, stock, getattr(variants, variant))
    must_agree(found, Loop([event for day in days for event in day], by_the_shop, RULES[variant]))


@pytest.fixture(scope="module")
def retail(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Ten days of a real shop, sealed and nothing else."""
    landing = shared_data / "retail" / "landing"
    shop = Shop(tmp_path_factory.mktemp("retail"), PROJECT, landing)
    engine = shop.engine()
    for _ in engine.sealing.seal("2010-12-10"):
        pass
    return SimpleNamespace(engine=engine, events=list(_events_of(landing / "stock_events", "2010-12-10")))


def _events_of(folder: Path, through: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.jsonl.gz")):
        if path.parent.name <= f"dt={through}":
            yield from map(json.loads, gzip.decompress(path.read_bytes()).splitlines())


def test_a_real_shop_without_refusals_has_the_levels_of_a_loop(retail: SimpleNamespace):
    loop = Loop(retail.events, by_the_shop, by_credit)
    _, found = compared(retail.engine, stock, variants.credit)
    must_agree(found, loop)
    assert found.outcomes[0].events == len(retail.events)
    assert len(loop.levels) > 50


def test_rules_that_part_without_another_outcome_are_told_by_their_rows(retail: SimpleNamespace):
    loop = Loop(retail.events, by_the_shop, by_doubling)
    _, found = compared(retail.engine, stock, variants.doubled)
    must_agree(found, loop)
    first = found.outcomes[0].first
    assert first.old.outcome == first.new.outcome == "applied"
    assert (first.old.after["level"] + 7, first.event["quantity"]) == (first.new.after["level"], 7)


def test_why_shows_the_running_values_of_both_rules_side_by_side(retail: SimpleNamespace):
    comparer, found = compared(retail.engine, stock, variants.credit, limit=1)
    product = found.rows.changes[0].key["product_id"]
    expected, levels = [], (0, 0)
    for seq, event in enumerate(retail.events):
        if event["product_id"] == product:
            was, now = (rule(level, event["event_type"], event["quantity"])
                        for rule, level in zip((by_the_shop, by_credit), levels, strict=True))  # fmt: skip
            levels = was[1], now[1]
            expected.append((seq, *was, *now, was != now))
    told = comparer.why(found, [product])["stock"]
    assert [
        (e.log_seq, e.old.outcome, e.old.after["level"], e.new.outcome, e.new.after["level"], e.parts) for e in told
    ] == expected
    assert any(event.parts for event in told)
