"""Whatever the query, and whatever changes: what is maintained is what the query gives whole, at every snapshot."""

from __future__ import annotations

import datetime as dt
import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from refold import Daily, Project, relation
from refold.stores.kinds.relation import Relation
from tests.incremental.queries import CASES, SOURCES, Case, words
from tests.relations.house import moves
from tests.support import Shop, seal_and_prove


def declared(case: Case, number: int) -> Relation:
    def question() -> str:
        return case.sql

    question.__name__ = f"q{number:02}"
    return relation(reads=SOURCES, key=case.key, returns=case.returns)(question)


DECLARED = [declared(case, number) for number, case in enumerate(CASES)]
PROJECT = Project("queries", Daily(dt.date(2026, 1, 1)), [*(s for s in SOURCES if s is s.store), *DECLARED])


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_query_is_classified(number: int):
    case, found = CASES[number], DECLARED[number].incremental
    assert tuple(field.name for field in found.partition) == case.partition, found.refusals
    assert len(found.partials) == case.partials, found.refusals
    assert {refusal.kind for refusal in found.refusals} == case.refused


_KEYS, _TEXTS = st.sampled_from("abcd"), st.sampled_from([None, "x", "y", "a", "b"])
_NUMBERS = st.none() | st.integers(-3, 9)
_MOVES = st.tuples(_KEYS, _NUMBERS, st.sampled_from([None, "0.5", "1.25", "-2"]), _TEXTS, st.none() | st.booleans())
_WORDS = st.tuples(_KEYS, _TEXTS, _NUMBERS, st.sampled_from("iiid"))
_DAYS = st.lists(st.tuples(st.lists(_MOVES, max_size=5), st.lists(_WORDS, max_size=4)), min_size=2, max_size=6)


@given(_DAYS, st.booleans())
@settings(
    max_examples=4, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=[HealthCheck.too_slow]
)
def test_what_is_maintained_is_what_the_query_gives_whole(days, daily):  # type: ignore[no-untyped-def]
    with TemporaryDirectory() as folder:
        shop = Shop(Path(folder), PROJECT)
        for number, (moved, spoken) in enumerate(days, 1):
            _land(shop, number, moved, spoken)
            if not daily and number < len(days):
                continue
            engine = shop.engine()
            seal_and_prove(engine)
            with _no_warnings():
                verdicts = list(engine.relate_history(engine.chain.get()))
            assert [str(d) for _, found in verdicts for each in found.values() for d in each.differences] == []
        again = shop.engine()
        for snapshot in again.chain:
            for declared in DECLARED:
                tables = again.builder.tables(declared, snapshot)
                whole = declared.compute(again.builder.runner, tables)
                assert again.rows(declared, snapshot).equals(whole), (declared.sql, snapshot.key)


class _no_warnings(logging.Handler):  # used as a context
    def __enter__(self) -> None:
        self.setLevel(logging.WARNING)
        logging.getLogger("refold").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("refold").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(record.getMessage())


def _land(shop: Shop, number: int, moved: list, spoken: list) -> None:  # type: ignore[type-arg]
    day = f"2026-01-{number:02}"
    lines = [
        {"id": f"m{number}.{place}", "k": k, "n": n, "p": p, "s": s, "b": b, "ts": f"{day}T0{place}:00:00Z"}
        for place, (k, n, p, s, b) in enumerate(moved)
    ]
    shop.land(f"{moves.name}/dt={day}/a.jsonl", *map(json.dumps, lines))
    lines = [
        {"id": f"w{number}.{place}", "k": k, "w": w, "g": g, "op": op} for place, (k, w, g, op) in enumerate(spoken)
    ]
    shop.land(f"{words.name}/dt={day}/a.jsonl", *map(json.dumps, lines))
