"""Computed stores: the same query over the same proven inputs, their rows in other orders, must give what is stored.

Where it does not, the query runs once more over the rows as they are stored: if that gives what is stored, the result
depends on the order of rows; else what is stored is not what the query gives. Either way key, column and both values
are named. `refold.proof.prover` calls this and keeps the proof; orders are `refold.stores.row_orders`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.digest import DigestTree, bucket_of, table_digest
from refold.errors import Damaged, RuleError, Unproven
from refold.log.snapshot import Snapshot
from refold.proof.picture import Picture
from refold.proof.verdict import Difference, Differs, Verdict
from refold.stores.building import Builder
from refold.stores.declaration import Store
from refold.stores.row_orders import STORED, RowOrder, all_orders, brief_orders
from refold.types import describe

METHOD = "the same query over proven inputs with permuted rows"
_ROWS_SHOWN = 5


def compare_reordered(
    builder: Builder, require: Callable[[Store, Snapshot], object], store: Store, snapshot: Snapshot, *, briefly: bool
) -> Verdict:
    """Compare a computed store with its query over inputs in other orders; `require` raises Unproven for an input.

    `briefly` takes one order, or two where the query takes one of the rows that tie; else all that a proof needs.
    """
    where = f"snapshot {snapshot.key}"
    verdict = Verdict(store, snapshot, None, unproven_inputs(require, store, snapshot), METHOD, 0)
    if verdict.differences:
        return verdict
    try:
        record = builder.require(store, snapshot)
        verdict = replace(verdict, record=record)
        stored = None if record.thinned else builder.checkpoints.rows(record, store.columns, store.key)
        inputs = builder.tables(store, snapshot)
    except (Damaged, Unproven) as error:
        return replace(verdict, differences=[Difference(Differs.CHECKPOINT, where, "a sound result", str(error))])
    rows, read = sum(map(len, inputs.values())), store.columns_read_of
    verdict = replace(verdict, events=rows)
    if briefly:
        orders = brief_orders(read, rows, snapshot.ordinal, ties=bool(store.takes_of_ties))
    else:
        orders = all_orders(read, rows)
    return _Comparison(builder, store, inputs, where, record.state_digest).settled(verdict, stored, orders)


def unproven_inputs(require: Callable[[Store, Snapshot], object], store: Store, snapshot: Snapshot) -> list[Difference]:
    """The sources of a computed store that are not proven at a snapshot; `require` raises Unproven for those."""
    found = []
    for source in store.sources:
        try:
            require(source.store, snapshot)
        except Unproven as error:
            where = f"snapshot {snapshot.key}"
            found.append(Difference(Differs.INPUT, where, f"a proven {source.name}", str(error)))
    return found


@dataclass
class _Comparison:
    builder: Builder
    store: Store
    inputs: Mapping[str, pa.Table]
    where: str
    claimed: str
    """The digest that is stored."""

    def settled(self, verdict: Verdict, stored: pa.Table | None, orders: Sequence[RowOrder]) -> Verdict:
        """A verdict with what replay found, or with the differences of the first order that gives something else."""
        for order in orders:
            again = self._again(order)
            if isinstance(again, RuleError):
                return self._differing(verdict, stored, again, order)
            if stored is None or not again.equals(stored):
                if self._digest(again) != self.claimed:
                    return self._differing(verdict, stored, again, order)
                stored = again
        return replace(verdict, replay={"state": self.claimed, "ledger": ""})

    def _again(self, order: RowOrder) -> pa.Table | RuleError:
        try:
            return self.store.compute(self.builder.runner, self.inputs, order)
        except RuleError as error:
            return error

    def _digest(self, table: pa.Table) -> str:
        return table_digest(describe(self.store.columns), table, self.store.key)

    def _differing(
        self, verdict: Verdict, stored: pa.Table | None, again: pa.Table | RuleError, order: RowOrder
    ) -> Verdict:
        """What differs: from the same rows in another order if that is the cause, else from what is stored."""
        fresh = self.store.compute(self.builder.runner, self.inputs)
        found = self._digest(fresh)
        drawn = [] if stored is None else [(f"keys at {verdict.snapshot.key}", self._buckets(stored, fresh))]
        if found != self.claimed and stored is None:
            differences = [Difference(Differs.STATE, self.where, found, self.claimed)]
        elif found != self.claimed:
            differences = self._differences(Differs.STATE, fresh, stored, " (computed now)", " (stored)")
        elif isinstance(again, RuleError):
            expected = f"the same result in every order of rows ({STORED})"
            differences = [Difference(Differs.RELATION, self.where, expected, f"{again} ({order})")]
        else:
            found, drawn = self._digest(again), [(f"keys at {verdict.snapshot.key}", self._buckets(fresh, again))]
            differences = self._differences(Differs.RELATION, fresh, again, f" ({STORED})", f" ({order})")
        replayed = {"state": found, "ledger": ""}
        return replace(verdict, differences=differences, replay=replayed, picture=Picture((), drawn))

    def _differences(self, what: Differs, right: pa.Table, found: pa.Table, of: str, and_of: str) -> list[Difference]:
        texts = list(_cells(self.store, self._buckets(right, found), right, found))
        shown = [
            Difference(what, f"{self.where}, {at}", f"{one}{of}", f"{other}{and_of}")
            for at, one, other in texts[:_ROWS_SHOWN]
        ]
        rest = len(texts) - len(shown)
        more = Difference(what, self.where, "no other differing value", f"{rest} more")
        return [*shown, more] if rest else shown

    def _buckets(self, one: pa.Table, other: pa.Table) -> list[int]:
        schema, key = describe(self.store.columns), self.store.key
        return DigestTree.of(schema, one, key).differing(DigestTree.of(schema, other, key))


def _cells(store: Store, buckets: Sequence[int], right: pa.Table, found: pa.Table) -> Iterator[tuple[str, str, str]]:
    """Key and column, with both values, of every value that differs in buckets of the digest tree."""
    mine, theirs = (_rows(store, buckets, table) for table in (right, found))
    for key in sorted(mine.keys() | theirs.keys(), key=str):
        one, other = mine.get(key), theirs.get(key)
        named = ", ".join(f"{name} {value!r}" for name, value in zip(store.key, key, strict=True))
        if one is None or other is None:
            yield named, "a row" if one else "no row", "a row" if other else "no row"
            continue
        for name in store.columns:
            if one[name] != other[name]:
                yield f"{named}, column {name!r}", repr(one[name]), repr(other[name])


def _rows(store: Store, buckets: Sequence[int], table: pa.Table) -> dict[tuple[object, ...], dict[str, object]]:
    places = bucket_of([table[name] for name in store.key])
    inside = table.filter(pc.is_in(pa.array(places, pa.int64()), pa.array(buckets, pa.int64())))
    return {tuple(row[name] for name in store.key): row for row in inside.to_pylist()}
