"""Ids and values at the edges: compiled, interpreted and reference folds agree with a dictionary on all of them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from assets.logs import Movement, stock_events
from assets.stock import Stock, Why, stock
from refold import Log, fold, int64, latest_by_key, reject, text
from refold.errors import RuleError
from refold.log import event_ids
from refold.stores.kinds.rule import RuleStore
from refold.types import INT64_MAX
from tests.seal.sealing import STOCK_ONLY
from tests.support import Shop, moved, verify_reference

WORD = (1 << 64) - 1


class Countries(NamedTuple):
    known: int = 0
    unknown: int = 0
    last: str | None = None


@fold(stock_events, version=1)
def interpreted(row: Stock, event):
    """The rule of `stock` once more, behind a loop, which is not compiled."""
    for _ in (1,):
        if event.event_type is Movement.ADD:
            return row._replace(level=row.level + event.quantity)
        if event.quantity > row.level:
            return reject(Why.INSUFFICIENT_STOCK)
    return row._replace(level=row.level - event.quantity)


@fold(stock_events, version=1)
def countries(row: Countries, event):
    """How many events of a product have a country."""
    if event.country is None:
        return row._replace(unknown=row.unknown + 1, last=None)
    return row._replace(known=row.known + 1, last=event.country)


newest = latest_by_key(stock_events, "newest", version=1, columns={"country": text(null=True)})


def finalized(word: int) -> int:
    """The finalizer of MurmurHash3, which a UUID's halves go through."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        word = (word ^ word >> 33) * factor & WORD
    return word ^ word >> 33


def colliding(first_half: int) -> str:
    """A UUID with the hash of the one whose bytes are all zero."""
    halves = (half.to_bytes(8, "little") for half in (first_half, finalized(first_half)))
    return str(uuid.UUID(bytes=b"".join(halves)))


ZERO = str(uuid.UUID(int=0))
TWINS = [ZERO, *(colliding(half) for half in (1, 2, WORD))]
LONG = "x" * 10_240
ODD = ["", " ", "not a uuid", ZERO.replace("-", ""), ZERO.replace("0", "O"), TWINS[1].upper(), "\U0001f40b", LONG]
IDS = [*TWINS, *ODD, LONG + "y", LONG[:-1] + "y"]


def shop_of(root: Path) -> Shop:
    assert stock.rule.compile(), stock.rule.interpreted_because
    assert interpreted.rule.interpreted_because is not None
    return Shop(root, STOCK_ONLY).declared(stores=[stock, interpreted, countries, newest])


def test_the_crafted_ids_have_one_hash():
    hashes = event_ids.hashes(pa.chunked_array([TWINS]))
    assert len(set(TWINS)) == 4
    assert set(hashes.tolist()) == {0}


@pytest.mark.parametrize("ids", [IDS, TWINS], ids=["mixed forms", "uuids of one hash"])
def test_every_fold_says_what_a_dictionary_says(tmp_path: Path, ids: list[str]):
    """Each id comes first, again as it was, again with other units, and once more a day later; values are null."""
    shop = shop_of(tmp_path)
    first = [
        moved(name, "lamp" if i % 2 else "sofa", i + 1, country=None if i % 3 else "FR") for i, name in enumerate(ids)
    ]
    other = [{**record, "quantity": record["quantity"] + 1} for record in first]
    taken = [moved(f"take {i}", "lamp", -(i + 40)) for i in range(3)]
    days = [[*first, *first[::2], *other[1::2]], [*other[::3], *first, *taken, *taken[:1]]]
    for day, records in enumerate(days, start=1):
        shop.land(f"dt=2026-01-0{day}/a.jsonl", *records)
    engine = shop.engine()
    list(engine.sealing.seal())
    head = engine.chain.get()

    seen: dict[str, dict] = {}
    levels, expected = {"lamp": 0, "sofa": 0}, []
    for record in (record for records in days for record in records):
        name, units = record["event_id"], record["quantity"]
        known = name in seen
        before = seen.setdefault(name, record)
        if known:
            outcome = "duplicate" if before == record else "conflict"
        elif record["event_type"] == "remove" and units > levels[record["product_id"]]:
            outcome = "rejected"
        else:
            outcome = "applied"
            levels[record["product_id"]] += units if record["event_type"] == "add" else -units
        expected.append((name, outcome))

    for store in engine.project.stores:
        engine.builder.build(store, head)
    for store in (stock, interpreted):
        rows = engine.rows(store, head)
        ledger = engine.builder.ledger_rows(store, head).sort_by("log_seq")
        assert dict(zip(rows["product_id"].to_pylist(), rows["level"].to_pylist(), strict=True)) == levels
        assert list(zip(ledger["event_id"].to_pylist(), ledger["outcome"].to_pylist(), strict=True)) == expected
    assert engine.rows(stock, head).equals(engine.rows(interpreted, head))
    distinct = [r for r in seen.values() if r["product_id"] == "lamp"]
    lamp = engine.rows(countries, head).to_pylist()[0]
    assert lamp["known"] == sum(r.get("country") is not None for r in distinct)
    assert lamp["unknown"] == sum(r.get("country") is None for r in distinct)
    assert verify_reference(engine, head) == []
    assert [engine.prover.prove(store, head).differences for store in engine.project.stores] == [[]] * 4


ENTRIES = Log("entries", key="account", event_id="id", columns={"id": text(), "account": text(), "amount": int64()})


class Account(NamedTuple):
    balance: int = 0


@fold(ENTRIES, version=1)
def balances(row: Account, event):
    """What is on an account."""
    return row._replace(balance=row.balance + event.amount)


@fold(ENTRIES, version=1)
def balances_interpreted(row: Account, event):
    """The same, and not compiled."""
    for _ in (1,):
        row = row._replace(balance=row.balance + event.amount)
    return row


@pytest.mark.parametrize("store", [balances, balances_interpreted], ids=lambda store: store.name)
def test_a_balance_beyond_64_bits_is_an_error_that_names_the_event_in_every_fold(tmp_path: Path, store: RuleStore):
    """The second amount still fits, the last does not: nothing wraps, and nothing is built."""
    assert store.rule.compile() == (store is balances)
    shop = Shop(tmp_path, STOCK_ONLY).declared(stores=[store])
    steps = [("a", INT64_MAX - 1), ("a", 1), ("b", 5), ("a", 1)]
    records = ({"id": f"e{i}", "account": account, "amount": amount} for i, (account, amount) in enumerate(steps))
    shop.land("entries/dt=2026-01-01/a.jsonl", *records)
    list(shop.engine().sealing.seal())
    engine = shop.engine()
    for attempt in (engine.builder.build, lambda store, head: verify_reference(engine, head)):
        with pytest.raises(RuleError) as failure:
            attempt(store, engine.chain.get())
        assert "log_seq 3" in str(failure.value)
        assert str(INT64_MAX + 1) in str(failure.value)
    assert engine.builder.find(store, engine.chain.get()) is None


def test_a_row_that_only_passes_through_64_bits_is_exact_compiled_too():
    """Python's integers have no end; a compiled fold that cannot follow hands over to the interpreter."""
    events = pa.table({"quantity": [INT64_MAX, INT64_MAX, 1], "event_type": ["add", "remove", "add"]})
    codes, live = np.zeros(3, np.int64), np.ones(3, bool)
    results = [rule.fold(rule.default_rows(1), codes, events, live) for rule in (stock.rule, interpreted.rule)]
    assert [result.rows.to_pylist() for result in results] == [[{"level": 1}]] * 2
