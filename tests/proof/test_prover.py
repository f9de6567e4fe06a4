"""A proof says all it rests on, is named after its own content, and counts for exactly the claim it was made for."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from assets.daily_movement import daily_movement
from assets.stock import stock
from refold import Daily, Project
from refold.errors import Damaged, Unproven
from refold.proof import prover
from refold.proof.records import library_versions
from refold.storage.objects import canonical_json, sha256_hex
from refold.storage.records import record_bytes, write_record
from refold.stores.checkpoint import record_name
from tests.support import Shop, moved

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
PROJECT = Project("proofs", Daily(dt.date(2026, 1, 1)), [stock, daily_movement])


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Two days with events and one without, built; stock and the movements by day are proven at the first and last."""
    shop = Shop(tmp_path_factory.mktemp("proven"), PROJECT)
    for number, day in enumerate(DAYS[:2]):
        shop.land(f"dt={day}/a.jsonl", *(moved(f"{number}-{n}", f"product {n}", 5 + n) for n in range(4)))
    (shop.landing / "stock_events" / f"dt={DAYS[2]}").mkdir()
    engine = shop.engine()
    for _ in engine.sealing.seal(DAYS[2]):
        pass
    for day in (DAYS[0], DAYS[2]):
        for store in PROJECT.in_order:
            engine.build(store, engine.chain.get(day))
            assert engine.prover.prove(store, engine.chain.get(day)).passed
    return shop


@pytest.fixture
def shop(proven: Shop, tmp_path: Path) -> Shop:
    shutil.copytree(proven.root, tmp_path / "shop")
    return Shop(tmp_path / "shop", PROJECT)


def _required(shop: Shop, store=stock, day: str = DAYS[2]) -> str:
    engine = shop.engine()
    return engine.prover.require(store, engine.chain.get(day))[1]


def _body(shop: Shop, name: str) -> dict:
    return json.loads((shop.store / name).read_bytes())["body"]


def _proofs(shop: Shop) -> list[str]:
    return [name for name in shop.files() if name.startswith("proofs/")]


def test_a_proof_says_what_was_claimed_what_replay_found_and_with_which_versions(shop: Shop):
    engine = shop.engine()
    record = engine.builder.require(stock, engine.chain.get(DAYS[2]))
    body = _body(shop, _required(shop))
    seconds = body.pop("seconds")
    assert body == {
        **record.claim,
        "snapshot": DAYS[2],
        "replay": {"state": record.state_digest, "ledger": record.ledger_digest},
        "method": "full replay from offset 0",
        "rows": 4,
        "events": 8,
        "untaken": [1],  # the shop removes no more than there is
        "versions": dict(library_versions()),
    }
    assert seconds > 0
    assert {"python", "machine", "refold", "pyarrow", "numpy", "numba", "duckdb"} == set(body["versions"])


def test_a_relation_is_proven_by_the_same_kind_of_record(shop: Shop):
    body = _body(shop, _required(shop, daily_movement))
    assert body["method"] == "the same query over proven inputs with permuted rows"
    assert body["replay"] == {"state": body["state_digest"], "ledger": ""}
    assert (body["rows"], body["events"]) == (1, 8)


@pytest.mark.parametrize("store", [stock, daily_movement], ids=lambda store: store.name)
def test_a_proof_is_named_after_its_claim_and_its_own_content(shop: Shop, store):
    engine = shop.engine()
    claim = engine.builder.require(store, engine.chain.get(DAYS[2])).claim
    name = _required(shop, store)
    names = [sha256_hex(canonical_json(value))[:40] for value in (claim, _body(shop, name))]
    assert name == f"proofs/{store.name}/{names[0]}/{names[1]}.json"


def test_a_day_without_events_is_proven_by_the_proof_of_the_day_before(shop: Shop):
    files = shop.files()
    engine = shop.engine()
    assert engine.prover.prove(stock, engine.chain.get(DAYS[1])).passed
    assert shop.files() == files
    assert _required(shop, day=DAYS[1]) == _required(shop, day=DAYS[2])


def test_proving_again_writes_nothing_however_long_it_took(shop: Shop):
    files = shop.files()
    for store in PROJECT.in_order:
        engine = shop.engine()
        assert engine.prover.prove(store, engine.chain.get(DAYS[2])).passed
    assert shop.files() == files


def test_other_versions_make_another_proof_and_either_counts(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    first, count = _required(shop), len(_proofs(shop))
    monkeypatch.setattr(prover, "library_versions", lambda: {**library_versions(), "numpy": "99"})
    engine = shop.engine()
    assert engine.prover.prove(stock, engine.chain.get(DAYS[2])).passed
    assert len(_proofs(shop)) == count + 1
    second = next(
        name for name in engine.prover.proofs.names(engine.builder.require(stock, engine.chain.get()).claim)
        if name != first
    )  # fmt: skip
    for gone, left in ((first, second), (second, first)):
        data = (shop.store / gone).read_bytes()
        (shop.store / gone).write_bytes(data.replace(b'"rows":4', b'"rows":5'))
        assert _required(shop) == left
        (shop.store / gone).write_bytes(data)


def _renamed(shop: Shop, name: str) -> None:
    (shop.store / name).rename((shop.store / name).with_name("0" * 40 + ".json"))


def _of_another_state(shop: Shop, name: str) -> None:
    other = shop.store / _required(shop, day=DAYS[0])
    (shop.store / name).unlink()
    shutil.copy(other, (shop.store / name).with_name(other.name))


def _of_another_store(shop: Shop, name: str) -> None:
    other = shop.store / _required(shop, daily_movement)
    (shop.store / name).unlink()
    shutil.copy(other, (shop.store / name).with_name(other.name))


def _written(shop: Shop, name: str, **changes: object) -> None:
    """Replace a proof by one with other content, and every hash and name right."""
    body = _body(shop, name) | changes
    (shop.store / name).unlink()
    (shop.store / name).with_name(sha256_hex(canonical_json(body))[:40] + ".json").write_bytes(record_bytes(body))


def _of_other_digests(shop: Shop, name: str) -> None:
    _written(shop, name, replay={"state": "0" * 64, "ledger": _body(shop, name)["ledger_digest"]})


def _of_another_claim(shop: Shop, name: str) -> None:
    _written(shop, name, code_version="1-000000000000")


def _without_a_field(shop: Shop, name: str) -> None:
    body = {key: value for key, value in _body(shop, name).items() if key != "method"}
    (shop.store / name).unlink()
    (shop.store / name).with_name(sha256_hex(canonical_json(body))[:40] + ".json").write_bytes(record_bytes(body))


@pytest.mark.parametrize(
    "change",
    [_renamed, _of_another_state, _of_another_store, _of_other_digests, _of_another_claim, _without_a_field],
)
def test_what_is_no_proof_of_exactly_this_does_not_count_and_is_named(shop: Shop, change):
    name = _required(shop)
    change(shop, name)
    with pytest.raises(Unproven, match=r"no passing full replay.*proofs are unsound: " + name.rpartition("/")[0]):
        _required(shop)
    engine = shop.engine()
    assert engine.prover.prove(stock, engine.chain.get(DAYS[2])).passed
    assert _required(shop)


def test_a_damaged_object_refutes_no_claim_and_is_no_reason_to_forget_its_proof(shop: Shop):
    name, engine = _required(shop), shop.engine()
    head = engine.chain.get(DAYS[2])
    record = engine.builder.require(stock, head)
    for damaged in (record.ledger, record.objects[0]):
        (shop.store / damaged.name).unlink()
        assert not shop.engine().prover.prove(stock, head).passed
    assert _required(shop) == name
    with pytest.raises(Damaged):
        engine.publisher.publish(stock, stock.sinks[0], head)


def test_a_refuting_verdict_removes_every_proof_of_its_claim(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prover, "library_versions", lambda: {"python": "other"})
    engine = shop.engine()
    head = engine.chain.get(DAYS[2])
    assert engine.prover.prove(stock, head).passed
    record = engine.builder.require(stock, head)
    assert len(engine.prover.proofs.names(record.claim)) == 2
    lie = replace(record, state_digest="0" * 64)
    write_record(engine.objects, record_name(lie.store, lie.code_version, lie.inputs), asdict(lie))
    found = {"state": lie.state_digest, "ledger": lie.ledger_digest}
    for _, proof in engine.prover.proofs.sound(record.claim):
        engine.prover.proofs.keep(replace(proof, state_digest=lie.state_digest, replay=found))
    assert len(engine.prover.proofs.names(lie.claim)) == 2
    engine = shop.engine()
    assert not engine.prover.prove(stock, head).passed
    assert engine.prover.proofs.names(lie.claim) == []
    with pytest.raises(Unproven):
        _required(shop)
