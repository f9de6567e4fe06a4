"""F3: one store that cannot take an event is held back by name, and the others are released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from refold import Sql, decimal, fold, open_release, relation, text
from refold.errors import FixInput, RuleError
from refold.rebuild.phases import rebuild_all
from refold.stores.declaration import Store
from tests import shop
from tests.postgres import postgres, postgres_url
from tests.shop import DAYS, move
from tests.support import Shop

__all__ = ["postgres", "postgres_url"]

POISON = 666


class Share(NamedTuple):
    share: int = 0


def share(row: Share, event: Any):
    """A thousandth of the last quantity; fails on one quantity."""
    return row._replace(share=1000 // (event.quantity - 666))


def declared(store: Any = None, *, together: Sequence[Sequence[str]] = ()) -> Any:
    """The shop with `on_hand`, `last_move`, `offers`, and one more store, by default `share`."""

    def more(*made: Store) -> list[Store]:
        return [store(*made) if store else fold(shop.moves, version=1, sinks=[Sql("share")])(share)]

    sinks = {name: [Sql(name)] for name in ("on_hand", "last_move", "offers")}
    return replace(shop.little(sinks, more=more), release_together=together)


def wide(on_hand: Any, *_: Store) -> Store:
    """A relation whose column holds less than an event may bring."""

    @relation(
        reads=[on_hand.ledger],
        key=["product"],
        returns={"product": text(), "worth": decimal(5, 2)},
        sinks=[Sql("worth")],
    )
    def worth() -> str:
        """What the last movements are worth."""
        return "SELECT product, max(quantity) * 2 AS worth FROM on_hand_ledger GROUP BY product"

    return worth


def poisoned(root: Path, project: Any) -> Shop:
    """A day that is served, and a second day with the event that one store refuses."""
    house = Shop(root, project)
    for day, quantities in zip(DAYS, ([1], [5, POISON, 7]), strict=False):
        events = [
            move(f"{day} {n}", f"cup {n}", quantity) for n, quantity in enumerate(quantities, start=len(quantities) - 1)
        ]
        shop.land(house.landing, "moves", day, events)
        shop.land(house.landing, "prices", day, [{"id": day, "product": "cup", "price": int(day[-1])}])
    rebuild_all(house.engine(), DAYS[0])
    return house


def served(house: Shop) -> dict[str, str]:
    release = open_release(str(house.store))
    return {name: release.snapshot_of(name) for name in release.release.versions}


def test_events_that_postgresql_cannot_hold_plainly_stop_no_release(tmp_path: Path, postgres: str):
    """F3: one event with U+0000 or a key of 9,000 characters had every later day refused."""
    house = Shop(tmp_path, shop.little({"on_hand": [Sql("on_hand")]}), database=postgres)
    keys = ["cup", "c\x00up", "k" * 9000]
    for day in DAYS[:2]:
        shop.land(house.landing, "moves", day, [move(f"{day} {n}", key, 1) for n, key in enumerate(keys)])
    rebuild_all(house.engine())
    assert open_release(str(house.store), database=postgres).sql("on_hand").select(
        ["product", "level"]
    ).to_pylist() == [{"product": key, "level": 2} for key in sorted(keys)]


@pytest.mark.parametrize("again", [False, True])
def test_a_rule_that_fails_on_an_event_holds_back_its_store_alone(tmp_path: Path, again: bool):
    """F3: all stores of the log stopped; now one does, its error names the event, and the exit code is not 0."""
    house = poisoned(tmp_path, declared())
    if again:
        with pytest.raises(RuleError):
            rebuild_all(house.engine())
    with pytest.raises(RuleError, match=r"(?s)Snapshot 2026-01-02 is .*'share' was held back and keeps serving "
                       r"snapshot 2026-01-01\..*product 'cup 3', landing moves/dt=2026-01-02/\S*:2\)"):  # fmt: skip
        rebuild_all(house.engine())
    assert served(house) == {"on_hand": DAYS[1], "last_move": DAYS[1], "offers": DAYS[1], "share": DAYS[0]}
    release = open_release(str(house.store))
    assert release.sql("on_hand").num_rows == 4 and release.sql("share").num_rows == 1
    assert not any(each.differences for each in house.engine().served.check())
    assert house.engine().audit_objects() == []
    with sa.create_engine(house.database_url).connect() as connection:
        rows = connection.execute(sa.text("SELECT table_name, snapshot FROM refold_release ORDER BY 1")).all()
    assert dict(rows) == served(house)


def test_a_relation_that_an_event_overflows_is_held_back_alone_and_names_the_event(tmp_path: Path):
    """F3: a value within its bounds, which a relation cannot hold, stopped every release."""
    house = poisoned(tmp_path, declared(wide))
    with pytest.raises(RuleError, match=r"(?s)'worth' was held back and .*It refuses from the event "
                       r"at log 'moves'.*product 'cup 3', landing moves/dt=2026-01-02/\S*:2\)"):  # fmt: skip
        rebuild_all(house.engine())
    assert served(house) == {"on_hand": DAYS[1], "last_move": DAYS[1], "offers": DAYS[1], "worth": DAYS[0]}


def test_stores_that_are_declared_to_be_released_together_are_held_back_together(tmp_path: Path):
    """F3: where readers join stores, one that is held back keeps the others of its group."""
    house = poisoned(tmp_path, declared(together=[("share", "on_hand")]))
    with pytest.raises(RuleError, match=r"(?s)'share' was.*'on_hand' was.*It is released together with 'share'"):
        rebuild_all(house.engine())
    assert served(house) == {"on_hand": DAYS[0], "last_move": DAYS[1], "offers": DAYS[1], "share": DAYS[0]}


class Stock(NamedTuple):
    stock: int = 0


def on_hand(row: Stock, event: Any):
    """Units on hand, under another name of the column."""
    return row._replace(stock=row.stock + event.quantity)


def test_a_sink_that_refuses_holds_back_its_store_alone(tmp_path: Path):
    """F3: a view that cannot change its columns, since another one reads it, stopped every release."""
    house = Shop(tmp_path, shop.little({name: [Sql(name)] for name in ("on_hand", "last_move", "offers")}))
    for day in DAYS[:2]:
        shop.land(house.landing, "moves", day, [move(day, "cup", 1)])
        shop.land(house.landing, "prices", day, [{"id": day, "product": "cup", "price": int(day[-1])}])
    rebuild_all(house.engine(), DAYS[0])
    with sa.create_engine(house.database_url).begin() as connection:
        connection.execute(sa.text("CREATE VIEW theirs AS SELECT level FROM on_hand"))
    sinks = {name: [Sql(name)] for name in ("on_hand", "last_move", "offers")}
    renamed = replace(house, project=shop.little(sinks, rule=on_hand, version=2))
    for _ in range(2):
        with pytest.raises(FixInput, match=r"(?s)'on_hand' was held back and keeps serving snapshot.*theirs"):
            rebuild_all(renamed.engine())
        assert served(renamed) == {"on_hand": DAYS[0], "last_move": DAYS[1], "offers": DAYS[1]}
    with sa.create_engine(house.database_url).begin() as connection:
        connection.execute(sa.text("DROP VIEW theirs"))
    rebuild_all(renamed.engine())
    assert set(served(renamed).values()) == {DAYS[1]}


def test_a_store_that_is_mended_joins_the_others_again(tmp_path: Path):
    """F3: once its rule handles the event, all stores are at one snapshot, and the command ends with 0."""
    house = poisoned(tmp_path, declared())
    with pytest.raises(RuleError):
        rebuild_all(house.engine())

    def share(row: Share, event: Any):
        """The same, and 0 for that quantity."""
        return row if event.quantity == 666 else row._replace(share=1000 // (event.quantity - 666))

    mended = replace(house, project=declared(lambda *_: fold(shop.moves, version=2, sinks=[Sql("share")])(share)))
    rebuild_all(mended.engine())
    assert set(served(mended).values()) == {DAYS[1]}


def test_a_group_of_unknown_stores_is_refused():
    with pytest.raises(Exception, match="release_together names 'shares'"):
        declared(together=[("shares", "on_hand")])
