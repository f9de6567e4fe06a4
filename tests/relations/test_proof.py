"""A relation whose rows tie is caught by its proof, which names key, column, both values and both orders."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from refold import Daily, Project, int64, relation, text
from refold.engine import Engine
from refold.errors import Unproven
from refold.proof.prover import Differs, Verdict
from refold.stores.kinds.relation import Relation
from refold.stores.state import Result
from tests.relations.house import moves, newest
from tests.support import Shop, seal_and_prove


@relation(
    reads=[newest.ledger], key=["id"], returns={"id": text(), "paid": int64(null=True), "before": int64(null=True)}
)
def priced():
    """The number that held when an event happened: two that hold from the same time tie."""
    return """
        SELECT q.id, p.n AS paid, q.n AS before
        FROM newest_ledger AS q ASOF LEFT JOIN newest_ledger AS p ON q.k = p.k AND q.ts >= p.ts
    """


@relation(reads=[newest.ledger], key=["n"], returns={"n": int64(null=True), "k": text()})
def winners():
    """Who came first; the key repeats in some orders only."""
    return "SELECT max_by(n, ts) AS n, k FROM newest_ledger GROUP BY k"


def _built(root: Path, store: Relation, *days: list[tuple[str, int]]) -> Engine:
    shop = Shop(root, Project("ties", Daily(dt.date(2026, 1, 1)), [newest, store]))
    for number, events in enumerate(days, 1):
        lines = [
            {
                "id": f"e{number}{place}",
                "k": k,
                "n": n,
                "p": None,
                "s": None,
                "b": None,
                "ts": f"2026-01-0{number}T00:00:00Z",
            }
            for place, (k, n) in enumerate(events)
        ]
        shop.land(f"{moves.name}/dt=2026-01-0{number}/a.jsonl", *(json.dumps(line) for line in lines))
    engine = shop.engine()
    seal_and_prove(engine)
    return engine


def _verdicts(engine: Engine) -> list[Verdict]:
    return [verdict for _, found in engine.relate_history(engine.chain.get()) for verdict in found.values()]


def test_tied_prices_are_caught_with_two_rows(tmp_path: Path):
    engine = _built(tmp_path, priced, [("a", 10), ("a", 20)])
    (verdict,) = _verdicts(engine)
    assert not verdict.passed
    assert verdict.refutes
    found = [(d.what, d.where, {d.expected, d.found}) for d in verdict.differences]
    stored, turned = "(rows as stored, 1 thread)", "(rows reversed, 2 threads)"
    at = "snapshot 2026-01-01, id 'e1{}', column 'paid'"
    assert [(what, where) for what, where, _ in found] == [(Differs.RELATION, at.format(n)) for n in (0, 1)]
    assert all(values in ({f"10 {stored}", f"20 {turned}"}, {f"20 {stored}", f"10 {turned}"}) for *_, values in found)
    assert "depends on the order of rows: ASOF JOIN" in verdict.remedy
    with pytest.raises(Unproven):
        engine.prover.require(priced, engine.chain.get())


def test_ties_of_an_older_snapshot_are_caught_too(tmp_path: Path):
    """Nothing ties at the newest: whatever is proven of a day is proven of its own rows."""
    days = [[("a", 10), ("a", 20)], [("b", 1)], [("b", 2)]]
    engine = _built(tmp_path, priced, *days)
    assert [verdict.passed for verdict in _verdicts(engine)] == [False, False, False]
    engine = _built(tmp_path / "without", priced, [("a", 10), ("b", 20)], *days[1:])
    assert [verdict.passed for verdict in _verdicts(engine)] == [True, True, True]


def test_a_key_that_repeats_in_some_orders_only_is_caught(tmp_path: Path):
    engine = _built(tmp_path, winners, [("a", 1), ("a", 2), ("b", 3), ("b", 2)])
    (verdict,) = _verdicts(engine)
    (difference,) = verdict.differences
    assert difference.found.startswith("Relation 'winners' gave 2 rows for 1 keys")
    assert difference.found.endswith("(rows reversed, 2 threads)")
    assert verdict.refutes
    assert "max_by(…)" in verdict.remedy


def test_a_stored_value_that_the_query_does_not_give_is_named_as_such(tmp_path: Path):
    engine = _built(tmp_path, priced, [("a", 10)])
    assert _verdicts(engine)[0].passed
    head = engine.chain.get()
    record = engine.builder.require(priced, head)
    rows = engine.rows(priced, head).to_pylist()
    wrong = engine.rows(priced, head).from_pylist(
        [{**row, "paid": 11} for row in rows], engine.rows(priced, head).schema
    )
    engine.builder.checkpoints.save_result(Result(priced, wrong), record.inputs, None)
    verdict = engine.reopened().prover.prove(priced, head)
    (difference,) = verdict.differences
    assert str(difference) == (
        "state at snapshot 2026-01-01, id 'e10', column 'paid': expected 10 (computed now), found 11 (stored)"
    )
    assert verdict.remedy.startswith("Run `refold repair priced --as-of 2026-01-01`")
