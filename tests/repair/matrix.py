"""A store that holds every kind of object, to be damaged: what the tests of the damage matrix share. Not a test."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refold import (
    BulkNdjson,
    Delta,
    Project,
    QuarantineLimits,
    Recheck,
    Sql,
    Tantivy,
    expect,
    int64,
    open_release,
    text,
)
from refold.engine import Engine
from refold.errors import RefoldError
from refold.log.snapshot import Snapshot
from refold.proof.prover import Difference
from refold.rebuild import rebuild_all
from refold.release.pointer import title_of
from refold.release.retention import Pruner
from refold.repair.damage import Damage
from refold.seal.seen_index import newest_seen
from refold.sinks.base import Sink
from refold.storage.names import kind_of
from refold.stores.declaration import Store
from tests import shop
from tests.support import Shop, flip, seal_and_prove

DAYS = shop.DAYS
SERVED, OLDER = DAYS[3], DAYS[2]
PRODUCTS = tuple(f"product {n:02}" for n in range(12))
LATER = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def project(quantity_max: int) -> Project:
    """The same stores; what is quarantined depends on the largest quantity that is believed."""
    columns = shop.moves.columns | {"quantity": int64(1, quantity_max), "note": text(null=True)}
    little = shop.little(
        {
            "on_hand": [Sql("on_hand"), Delta("levels")],
            "last_move": [BulkNdjson("moves"), Tantivy("moves_index")],
            "turnover": [Sql("turnover")],
        },
        moves=replace(shop.moves, columns=columns, quarantine=QuarantineLimits(share_max=0.5)),
        expect=[expect("column_values_to_be_between", column="level", min_value=0)],
    )
    return replace(little, recheck=Recheck(snapshots=1, whole_every=1000))


PROJECT = project(10**6)


@dataclass(frozen=True)
class House(Shop):
    """The project in a folder, or with its tables in another database; search sinks are in the store."""

    project: Project = PROJECT
    search: str = "store/search"

    def names(self, kind: str) -> list[str]:
        """The objects of a kind, by name."""
        return [name for name in self.files() if kind_of(name) == kind]

    def asked(self) -> list[str]:
        """The runs of the seen index that sealing would ask."""
        return [file.name for file in newest_seen(self.engine().chain, "moves")[1]]

    def copy(self, root: Path) -> House:
        shutil.copytree(self.root, root)
        return replace(self, root=root)

    def damages(self) -> list[Damage]:
        """The damaged objects, as another process finds them."""
        return self.engine().audit_objects()

    def version(self, store: str, day: str = SERVED) -> str:
        """The version of a store that sinks hold for a day."""
        engine = self.engine()
        snapshot = engine.chain.get(day)
        return engine.publisher.version(snapshot, engine.builder.require(PROJECT.store(store), snapshot))

    def drift(self) -> list[str]:
        """Everything that differs, in all stores and sinks, at what is served and in what was served before."""
        engine = self.engine()
        served, stores = engine.chain.get(SERVED), PROJECT.in_order
        found = [str(d) for store in stores for d in engine.drifts.find(store, served).differences]
        return found + [str(d) for *_, differences in engine.sink_audit.earlier(served, stores) for d in differences]

    def faults(self, *stores: str) -> list[str]:
        """What differs in the sinks of some stores, as `drift` has it, without a replay of states that are whole.

        The audit of what is served finds the same, and a reader gets the proven rows or an error.
        """
        engine = self.engine()
        found = list(_differing(engine, stores))
        expected = {(s.name, title_of(sink)): d for s, sink, snapshot, d in found if snapshot.key == SERVED}
        served = {(each.store, each.sink): each.differences for each in engine.served.check() if each.store in stores}
        assert {place: differences for place, differences in served.items() if differences} == expected
        for store, title in served:
            if not self._reads_what_is_proven(engine, store, title):
                assert expected[store, title], "a reader gets an error where nothing differs"
        return [str(d) for *_, differences in found for d in differences]

    def _reads_what_is_proven(self, engine: Engine, store: str, title: str) -> bool:
        """Whether a reader of a sink gets its rows, which are then those that are proven; else it gets an error."""
        (sink,) = (each for each in PROJECT.store(store).sinks if title_of(each) == title)
        try:
            rows = open_release(str(self.store), database=self.settings.database).rows(sink.name, sink.kind)
        except RefoldError:
            return False
        assert rows.equals(engine.rows(PROJECT.store(store), engine.chain.get(SERVED)).cast(rows.schema))
        return True

    def mend(self, *stores: str) -> None:
        """Mend the sinks of some stores, as `refold repair` does: what was served before, then what is served."""
        engine = self.engine()
        for store, sink, snapshot, _ in list(_differing(engine, stores))[::-1]:
            engine.sink_audit.repair(store, sink, snapshot)


def _differing(engine: Engine, stores: Sequence[str]) -> Iterator[tuple[Store, Sink, Snapshot, list[Difference]]]:
    served, chosen = engine.chain.get(SERVED), [store for store in PROJECT.in_order if store.name in stores]
    found = [(e, sink, served, engine.sink_audit.differences(e, sink, served)) for e in chosen for sink in e.sinks]
    for store, sink, snapshot, differences in [*found, *engine.sink_audit.earlier(served, chosen)]:
        if differences:
            yield store, sink, snapshot, differences


def build(root: Path, shift: int = 0) -> House:
    """Five days, of which the fourth is served, the third kept, and the first two pruned; `shift` makes another store.

    Quarantined records were retried twice, so that there is more than one object of every kind.
    """
    house = House(root)
    for number, day in enumerate(DAYS):
        shop.land(house.landing, "moves", day, _moves(number, shift))
    for number, quantity_max in ((0, 100), (1, 1_000)):
        list(replace(house, project=project(quantity_max)).engine().sealing.seal(DAYS[number]))
        replace(house, project=project(quantity_max * 10)).engine().retry_quarantine()
    for day in DAYS[:4]:
        rebuild_all(house.engine(), day)
        if day in DAYS[1:3]:
            prune(house)
    seal_and_prove(house.engine())
    return house


def prune(house: House) -> None:
    """Give up all versions but those of the last release."""
    engine = house.engine()
    pruner = Pruner(PROJECT, engine.releaser, engine.publisher, clock=lambda: LATER)
    pruner.apply(pruner.plan(keep=1, older_than_days=0))


def _moves(number: int, shift: int) -> list[dict[str, Any]]:
    """A day of moves: new ones, one that is delivered again, and two that are too large to be believed at first.

    The last day has few, so that their ids stay a run of the seen index beside that of the others.
    """
    products = PRODUCTS[: 4 if number == len(DAYS) - 1 else None]
    again = _move(f"0-{shift}", PRODUCTS[shift], 1 + shift)
    moves = [_move(f"{number}-more-{n}", PRODUCTS[n], n + 1) for n in range(shift)]
    moves += [_move(f"{number}-{n}", product, n + number + 1) for n, product in enumerate(products)] + [again]
    return [
        *moves, _move(f"{number}-large", PRODUCTS[2], 500 + shift), _move(f"{number}-huge", PRODUCTS[3], 5_000 + shift)
    ]  # fmt: skip


def _move(identity: str, product: str, quantity: int) -> dict[str, Any]:
    return shop.move(identity, product, quantity, note=f"note of {identity}")


def exchange(one: Path, other: Path) -> None:
    """Give each of two files the content of the other."""
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


# Damages: each to `one` object of a house, with an `other` of its kind; they return the names of what they damaged.


def change_a_byte(house: House, foreign: House, one: str, other: str) -> set[str]:
    flip(house.store / one)
    return {one}


def delete(house: House, foreign: House, one: str, other: str) -> set[str]:
    (house.store / one).unlink()
    return {one}


def exchange_two(house: House, foreign: House, one: str, other: str) -> set[str]:
    exchange(house.store / one, house.store / other)
    return {one, other}


def replace_by_an_older(house: House, foreign: House, one: str, other: str) -> set[str]:
    (house.store / one).write_bytes((house.store / other).read_bytes())
    return {one}
