"""The rows in which a stored state differs from what replay gives, as a proof that was refused shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refold.log.declaration import POSITION
from refold.log.snapshot import Snapshot
from refold.proof.locate import rows_in
from refold.proof.replay import Boundary
from refold.proof.verdict import Difference, Differs
from refold.stores.declaration import Folded
from refold.stores.state import State

_ROWS_SHOWN = 5


def differing_rows(
    store: Folded, snapshot: Snapshot, stored: State, boundary: Boundary
) -> tuple[list[Difference], Sequence[int]]:
    """The first few keys whose rows differ, with both rows, and the differing buckets; only those are compared."""
    buckets = stored.tree.differing(boundary.state.tree)
    if not buckets:
        return [], []
    mine, theirs = (rows_in(buckets, store, state.table) for state in (stored, boundary.state))
    names = [*(name for name in store.state_columns if name not in POSITION), *POSITION]
    keys = [key for key in sorted(mine.keys() | theirs.keys(), key=str) if mine.get(key) != theirs.get(key)]
    shown = ((f"snapshot {snapshot.key}, key {key!r}", theirs.get(key), mine.get(key)) for key in keys[:_ROWS_SHOWN])
    return [
        Difference(Differs.STATE, at, _show(right, names), _show(found, names)) for at, right, found in shown
    ], buckets


def _show(row: Mapping[str, object] | None, names: Sequence[str]) -> str:
    return "no row" if row is None else ", ".join(f"{name}={row[name]!r}" for name in names)
