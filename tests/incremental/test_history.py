"""The history of maintained relations: resumed, forged, damaged and thinned."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from refold import Daily, Project, int64, text
from refold.engine import Engine
from refold.incremental.passes import METHOD, STANDING
from refold.proof.prover import Differs, Verdict
from refold.stores.declaration import Store
from refold.stores.state import Result
from tests.incremental.queries import CASES, SOURCES, Case, words
from tests.incremental.test_queries import declared
from tests.relations.house import moves, newest
from tests.support import Shop, seal_and_prove

PER_KEY, BY_DAY, JOINED, FULL, COARSE, DISTINCT = (
    declared(next(case for case in CASES if part in case.sql), number)
    for number, part in enumerate(["count(*) AS n FROM newest_ledger GROUP BY k", "event_date AS d", "JOIN newest u",
                                   "l.n, r.g FROM newest l FULL", "LEFT JOIN spoken w", "count(DISTINCT s)"])
)  # fmt: skip
RELATIONS = [PER_KEY, BY_DAY, JOINED, FULL, COARSE, DISTINCT]
PROJECT = Project("history", Daily(dt.date(2026, 1, 1)), [*(s for s in SOURCES if s is s.store), *RELATIONS])


def land(shop: Shop, *days: int) -> None:
    """Some events a day: those of a key that comes back every third day, of a new key, and one that leaves."""
    for day in days:
        date = f"2026-01-{day:02}"
        rows = [{"id": f"m{day}.{i}", "k": k, "n": day * (i + 1), "p": "1.5", "s": f"s{day % 2}", "b": day % 3 == i,
                 "ts": f"{date}T0{i}:00:00Z"} for i, k in enumerate(["a", f"r{day % 3}", f"n{day}"])]  # fmt: skip
        said = [{"id": f"w{day}", "k": f"n{day - 1}", "w": "x", "g": day, "op": "i"},
                {"id": f"d{day}", "k": f"n{day - 2}", "w": None, "g": None, "op": "d"}]  # fmt: skip
        shop.land(f"{moves.name}/dt={date}/a.jsonl", *map(json.dumps, rows))
        shop.land(f"{words.name}/dt={date}/a.jsonl", *map(json.dumps, said))


def _related(engine: Engine) -> dict[str, dict[str, Verdict]]:
    return {snapshot.key: dict(found) for snapshot, found in engine.relate_history(engine.chain.get())}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Eight days, built and proven."""
    shop = Shop(tmp_path_factory.mktemp("history") / "shop", PROJECT)
    land(shop, *range(1, 9))
    engine = shop.engine()
    seal_and_prove(engine)
    assert all(verdict.passed for found in _related(engine).values() for verdict in found.values())
    return shop


@pytest.fixture
def shop(built: Shop, tmp_path: Path) -> Shop:
    """A copy of it to change."""
    shutil.copytree(built.root, tmp_path / "shop")
    return Shop(tmp_path / "shop", PROJECT)


def test_day_by_day_and_at_once_write_the_same_objects(shop: Shop, tmp_path: Path):
    slowly = Shop(tmp_path / "slowly", PROJECT)
    for day in range(1, 9):
        land(slowly, day)
        engine = slowly.engine()
        seal_and_prove(engine)
        _related(engine)
    assert slowly.files("states") == shop.files("states")
    assert any(record.changes for record in _records(shop.engine(), JOINED))


def _records(engine: Engine, store: Store):  # type: ignore[no-untyped-def]
    return [engine.builder.require(store, snapshot) for snapshot in engine.chain]


def test_older_snapshots_are_proven_by_their_changes_and_the_last_whole(shop: Shop):
    found = _related(shop.engine())
    *older, last = (found[key][JOINED.name].method for key in found)
    assert set(older) == {METHOD}
    assert last != METHOD


@pytest.mark.parametrize("store", RELATIONS, ids=lambda store: store.name)
def test_a_forged_result_is_refuted_at_its_snapshot_by_key_column_and_both_values(shop: Shop, store: Store):
    engine = shop.engine()
    snapshot = list(engine.chain)[4]
    record, rows = engine.builder.require(store, snapshot), engine.rows(store, snapshot)
    column = next(name for name in rows.column_names if name not in store.key)
    values = rows[column].to_pylist()
    values[1] = 4711 if isinstance(values[1], int) or values[1] is None else "forged"
    place = rows.column_names.index(column)
    forged = rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))
    engine.builder.checkpoints.save_result(Result(store, forged), record.inputs, None)
    found = {key: verdicts[store.name] for key, verdicts in _related(shop.engine()).items()}
    assert [key for key, verdict in found.items() if not verdict.passed] == [snapshot.key]
    (difference,) = found[snapshot.key].differences
    assert difference.what is Differs.STATE
    assert f"snapshot {snapshot.key}" in difference.where
    assert f"column {column!r}" in difference.where
    assert repr(values[1]) in difference.found
    assert engine.prover.proofs.find(engine.builder.checkpoints.find(store, record.inputs).claim) is None  # type: ignore[union-attr]


def test_changes_that_are_damaged_are_computed_again(shop: Shop):
    record = next(record for record in _records(shop.engine(), JOINED) if record.changes)
    path = shop.store / record.changes.name
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert all(verdict.passed for found in _related(shop.engine()).values() for verdict in found.values())
    assert path.read_bytes() == before


def test_a_lost_change_does_not_pass(shop: Shop):
    """A record that names the rows of the day before, as a build would that overlooked what changed."""
    engine = shop.engine()
    before, snapshot = list(engine.chain)[3:5]
    old, record = engine.rows(JOINED, before), engine.builder.require(JOINED, snapshot)
    engine.builder.checkpoints.save_result(Result(JOINED, old), record.inputs, None)
    found = _related(shop.engine())[snapshot.key][JOINED.name]
    assert not found.passed
    assert {f"k 'a', column {name!r}" in " ".join(d.where for d in found.differences) for name in ("n",)} == {True}


def test_nothing_is_proven_of_inputs_that_are_not(shop: Shop):
    """Not at older snapshots either; the others stay as they are."""
    engine = shop.engine()
    snapshot = list(engine.chain)[3]
    engine.prover.proofs.remove(engine.builder.require(newest, snapshot).claim)
    found = {key: verdicts[JOINED.name] for key, verdicts in _related(shop.engine()).items()}
    assert [key for key, verdict in found.items() if not verdict.passed] == [snapshot.key]
    assert {difference.what for difference in found[snapshot.key].differences} == {Differs.INPUT}


def test_where_inputs_were_thinned_the_proof_stands_and_later_days_are_proven_from_offset_0(shop: Shop):
    land(shop, *range(9, 29))
    engine = shop.engine()
    seal_and_prove(engine)
    expected = _related(engine)
    thinned = engine.thinner.plan(dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    assert engine.thinner.apply(thinned)
    assert {each.record.store for each in thinned} >= {"newest", JOINED.name}
    land(shop, 29)
    engine = shop.engine()
    seal_and_prove(engine)
    found = _related(engine)
    assert all(verdict.passed for verdicts in found.values() for verdict in verdicts.values())
    assert {found[key][JOINED.name].method for key in expected} == {METHOD, STANDING}
    assert found["2026-01-29"][FULL.name].passed
    for store in RELATIONS:
        snapshot = engine.chain.get()
        whole = store.compute(engine.builder.runner, engine.builder.tables(store, snapshot))
        assert engine.rows(store, snapshot).equals(whole)


_RETURNS = {"k": text(), "n": int64(null=True)}
_CAST = Case("SELECT e.k, CAST(sum(CAST(e.s AS BIGINT)) AS BIGINT) AS n FROM newest_ledger e JOIN newest u "
             "ON u.k = e.k AND u.s = e.s WHERE u.s = '3' GROUP BY e.k", _RETURNS, ("k",))  # fmt: skip
_FAILS = Case("SELECT k, max(CAST(s AS BIGINT)) AS n FROM newest_ledger GROUP BY k", _RETURNS, ("k",))


def test_a_value_that_partial_aggregates_cannot_take_fails_where_the_whole_query_does(tmp_path: Path):
    relations = [declared(_CAST, 1), declared(_FAILS, 2)]
    assert all(each.incremental.partials for each in relations)
    stores = [*(s for s in SOURCES if s is s.store), *relations]
    shop = Shop(tmp_path / "shop", Project("casts", Daily(dt.date(2026, 1, 1)), stores))
    for day, values in enumerate((["3", "3"], ["4"], ["x"], ["3"]), 1):
        date = f"2026-01-{day:02}"
        rows = [{"id": f"{day}.{i}", "k": f"k{i}", "n": 1, "p": None, "s": s, "b": True, "ts": f"{date}T00:00:00Z"}
                for i, s in enumerate(values)]  # fmt: skip
        shop.land(f"{moves.name}/dt={date}/a.jsonl", *map(json.dumps, rows))
        shop.land(f"{words.name}/dt={date}/a.jsonl")
    engine, refused = shop.engine(), []
    seal_and_prove(engine)
    last = engine.chain.get()
    found = list(engine.relate_history(last, lambda store, snapshot, error: refused.append((store.name, snapshot.key))))
    passed = [(name, snapshot.key) for snapshot, each in found for name, verdict in each.items() if verdict.passed]
    assert refused == [("q02", "2026-01-03"), ("q02", "2026-01-04")]
    assert [key for name, key in passed if name == "q01"] == [snapshot.key for snapshot in engine.chain]
    assert [key for name, key in passed if name == "q02"] == ["2026-01-01", "2026-01-02"]
