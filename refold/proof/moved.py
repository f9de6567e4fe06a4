"""The keys of each store that a redaction changed: the states before and after it, compared by key. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from refold.errors import Unproven
from refold.log.snapshot import Snapshot
from refold.proof.locate import rows_in
from refold.stores.building import Builder
from refold.stores.declaration import Folded, Store


@dataclass(frozen=True)
class Moved:
    """The keys of one store that differ before and after a redaction.

    Attributes:
        store: the store.
        keys: the keys, in the order of their texts; None where the store was not built before.
        others: those of a folded store of which no redacted event has the key; there should be none.
    """

    store: Store
    keys: Sequence[object] | None
    others: Sequence[object] = ()


def moved(before: tuple[Builder, Snapshot], after: tuple[Builder, Snapshot], store: Store, keys: Collection[object],
          log: str) -> Moved:  # fmt: skip
    """Compare a store at one snapshot before and after the events of some keys of a log were redacted.

    Raises Unproven where the store is not built after, and Damaged where a state is.
    """
    try:
        before[0].require(store, before[1])
    except Unproven:
        return Moved(store, None)
    if store.ledger is None:
        one, other = (_rows(store, *side) for side in (before, after))
        return Moved(store, _differing(one, other))
    folded = store.ledger.store
    found = _differing(*_in_buckets(folded, before, after))
    allowed = keys if folded.log.name == log else ()
    return Moved(store, found, [key for key in found if key not in allowed])


def _differing(one: dict[object, dict[str, object]], other: dict[object, dict[str, object]]) -> list[object]:
    return sorted((key for key in one.keys() | other.keys() if one.get(key) != other.get(key)), key=str)


def _in_buckets(
    store: Folded, before: tuple[Builder, Snapshot], after: tuple[Builder, Snapshot]
) -> tuple[dict[object, dict[str, object]], dict[object, dict[str, object]]]:
    """The rows of both states in the buckets of the digest tree that differ."""
    one, other = (builder.state_at(store, snapshot) for builder, snapshot in (before, after))
    buckets = one.tree.differing(other.tree)
    return rows_in(buckets, store, one.table), rows_in(buckets, store, other.table)


def _rows(store: Store, builder: Builder, snapshot: Snapshot) -> dict[object, dict[str, object]]:
    rows = builder.published(store, snapshot).to_pylist()
    return {tuple(row[name] for name in store.key) if len(store.key) > 1 else row[store.key[0]]: row for row in rows}
