"""What a rebuild looks at again: one more day costs one day, and what is damaged or forged is found at its turn."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from assets.stock import stock
from refold import Daily, Project, Recheck, date, int64, relation, text
from refold.errors import Damaged, DeclarationError
from refold.plan.decisions import plan_rebuild
from refold.proof.records import ProofRecord
from refold.rebuild import rebuild_all
from refold.stores.state import State
from tests.plan.house import START, day
from tests.support import Shop, moved

DAYS = 9
RECHECK = Recheck(snapshots=2, whole_every=1000)


@relation(
    reads=[stock.ledger],
    key=["event_date"],
    returns={"event_date": date(), "events": int64(), "units": int64(), "products": int64()},
)
def movement():
    """Events, units and products by day of the event."""
    return """
        SELECT event_date, count(*) AS events, sum(quantity)::BIGINT AS units, count(DISTINCT product_id) AS products
        FROM stock_ledger GROUP BY event_date
    """


@relation(reads=[stock], key=["product_id"], returns={"product_id": text(), "level": int64()})
def cards():
    """What is on hand of a product."""
    return "SELECT product_id, level FROM stock"


@relation(reads=[movement], key=["most"], returns={"most": int64()})
def busiest():
    """A relation over a relation."""
    return "SELECT max(events)::BIGINT AS most FROM movement"


PROJECT = Project("days", Daily(START), [stock, movement, cards, busiest], recheck=RECHECK)


def land(shop: Shop, number: int) -> None:
    lines = [moved(f"e{number}-{n}", f"p{(number + n) % 5}", 3 if n % 3 else -2, occurred_at=f"{day(number)}T10:00:00Z")
             for n in range(6)]  # fmt: skip
    again = [moved(f"e{number - 1}-0", f"p{(number - 1) % 5}", -2, occurred_at=f"{day(number - 1)}T10:00:00Z")]
    shop.land(f"dt={day(number)}/a.jsonl", *lines, *(again if number > 1 else []))


def rebuilt(shop: Shop, number: int, *, fresh: bool = False) -> None:
    rebuild_all(shop.engine(), day(number), fresh=fresh)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Nine days, rebuilt from the first to the eighth at once, and then the ninth."""
    shop = Shop(tmp_path, PROJECT)
    for number in range(1, DAYS + 1):
        land(shop, number)
    rebuilt(shop, DAYS - 1)
    return shop


def proof_of(shop: Shop, store: str, number: int) -> ProofRecord:
    """The proof that was made at a day."""
    engine = shop.engine()
    record = engine.builder.require(engine.project.store(store), engine.chain.get(day(number)))
    return next(proof for _, proof in engine.prover.proofs.sound(record.claim) if proof.snapshot == day(number))


def test_one_more_day_rests_on_the_proof_before_it_and_says_so(shop: Shop) -> None:
    """The first rebuild proves from offset 0; the next goes on, names what it looked at again, and where it stopped."""
    assert proof_of(shop, "stock", DAYS - 1).rests_on is None
    rebuilt(shop, DAYS)
    proof = proof_of(shop, "stock", DAYS)
    assert proof.rests_on == {
        "snapshot": day(DAYS - 1),
        "again": [day(1), day(2)],
        "turn": 2,
        "whole_at": DAYS - 1,
        "recheck": {"snapshots": 2, "whole_every": 1000},
    }
    assert day(DAYS - 1) in proof.method
    assert proof.events < 20
    assert day(DAYS - 1) in proof_of(shop, "movement", DAYS).method
    assert proof_of(shop, "cards", DAYS).rests_on == proof.rests_on


def test_what_goes_on_gives_what_a_whole_history_gives(shop: Shop, tmp_path: Path) -> None:
    """Day by day, with an empty day between, beside one rebuild of all of it: the same records, byte for byte."""
    for number in (DAYS, DAYS + 1):
        rebuilt(shop, number)
    land(shop, DAYS + 2)
    rebuilt(shop, DAYS + 2)
    other = dataclasses.replace(shop.declared(recheck=Recheck(whole_every=1)), root=tmp_path / "whole",
                                landing_folder=shop.landing)  # fmt: skip
    rebuilt(other, DAYS + 2)
    mine, theirs = shop.files("states"), other.files("states")
    assert theirs.items() <= mine.items()
    for store in PROJECT.stores:
        engine, whole = shop.engine(), other.engine()
        rows = [each.rows(store, each.chain.get()).to_pylist() for each in (engine, whole)]
        assert rows[0] == rows[1]


def test_a_rebuild_with_nothing_to_do_writes_nothing(shop: Shop) -> None:
    """Neither after a whole history nor after one that went on."""
    for number in (DAYS - 1, DAYS):
        rebuilt(shop, number)
        before = shop.files()
        rebuilt(shop, number)
        assert shop.files() == before


def test_every_older_snapshot_has_its_turn(shop: Shop) -> None:
    """However many days a rebuild takes in, and on days without events as well."""
    seen = set[str]()
    for number in (DAYS, DAYS + 2, DAYS + 4, DAYS + 6, DAYS + 8):
        rebuilt(shop, number)
        rests = proof_of(shop, "stock", number).rests_on
        assert rests is not None
        seen.update(rests["again"])
    assert {day(number) for number in range(1, DAYS)} <= seen


@pytest.mark.parametrize("folder", ["logs/stock_events/segments", "states/stock/ledger", "states/movement/changes"])
def test_a_damaged_old_object_is_found_at_its_turn_at_the_latest(shop: Shop, folder: str) -> None:
    """A segment is an error; what can be made again is made again; a whole audit finds either at once."""
    path = sorted((shop.store / folder).rglob("*.parquet"), key=lambda path: path.stat().st_mtime)[1]
    sound = path.read_bytes()
    path.write_bytes(sound[:-9] + b"x" + sound[-8:])
    assert any(found.name.endswith(path.name) for found in shop.engine().audit_objects())
    found = None
    for number in range(DAYS, DAYS + 6):
        land(shop, number)
        try:
            rebuilt(shop, number)
        except Damaged as error:
            found = error
            break
    assert found is not None if "segments" in folder else path.read_bytes() == sound


def test_a_forged_state_of_an_old_day_is_found_at_its_turn_at_the_latest(shop: Shop) -> None:
    """Record, rows and proof agree with each other, and not with the log."""
    engine = shop.engine()
    snapshot, before = engine.chain.get(day(3)), engine.chain.get(day(2))
    record = engine.builder.require(stock, snapshot)
    other = engine.builder.checkpoints.state(stock, engine.builder.require(stock, before))
    digest = State(stock, other.table).digest()
    forged = dataclasses.replace(record, state_digest=digest, base=engine.builder.require(stock, before).base,
                                 changes=engine.builder.require(stock, before).changes)  # fmt: skip
    engine.builder.checkpoints._record(forged)
    (_, proof), *_ = engine.prover.proofs.sound(record.claim)
    replay = {"state": digest, "ledger": record.ledger_digest}
    engine.prover.proofs.keep(dataclasses.replace(proof, state_digest=digest, replay=replay))
    with pytest.raises(Exception, match=day(3)):
        for number in range(DAYS, DAYS + 6):
            land(shop, number)
            rebuilt(shop, number)


def test_everything_is_proven_again_after_so_many_snapshots(shop: Shop) -> None:
    """As declared, and once: the rebuild after it goes on."""
    often = shop.declared(recheck=Recheck(snapshots=2, whole_every=3))
    methods = []
    for number in range(DAYS, DAYS + 5):
        land(often, number)
        rebuilt(often, number)
        methods.append(proof_of(often, "stock", number).rests_on is None)
    assert methods == [False, False, True, False, False]


def test_lost_partial_aggregates_cost_a_whole_history_and_no_more(shop: Shop) -> None:
    """They are a cache: damaged or gone, the relation is proven from offset 0, and the next rebuild goes on again."""
    for path in (shop.store / "partials/movement").iterdir():
        path.unlink()
    rebuilt(shop, DAYS)
    assert proof_of(shop, "movement", DAYS).rests_on is None
    rebuilt(shop, DAYS + 1)
    assert proof_of(shop, "stock", DAYS + 1).rests_on is not None
    land(shop, DAYS + 2)
    rebuilt(shop, DAYS + 2)
    assert proof_of(shop, "movement", DAYS + 2).rests_on is not None


def test_the_plan_says_what_is_looked_at_again(shop: Shop) -> None:
    """The places that the proof then names."""
    engine = shop.engine()
    plan = plan_rebuild(engine, day(DAYS))
    course = plan.courses["stock"]
    assert (course.new, list(course.again)) == (DAYS - 1, [0, 1])
    assert "2 older ones in turn" in str(plan.recheck)


def test_a_recheck_of_nothing_is_refused() -> None:
    """A rebuild that never looked again could not find damage."""
    with pytest.raises(DeclarationError, match="snapshots is 0"):
        Recheck(snapshots=0)
