"""Proven behaviour that may not be intended: a rule that rejects most events, or has a branch that no event took.

Counted by full replay over the whole log, so that the same log and rule give the same doubts. They stop nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refold.stores.declaration import Store

_RULE = ("applied", "rejected", "ignored")
"""The outcomes of events that reached the rule."""


def doubts(store: Store, outcomes: Mapping[str, int], untaken: Sequence[int]) -> list[str]:
    """A sentence with file and line for each doubt.

    `outcomes` counts each outcome from offset 0. `untaken` are the branches of the rule that no event took, numbered as
    in `Folded.branches`.
    """
    if store.ledger is None:
        return []
    folded, reached = store.ledger.store, sum(outcomes.get(name, 0) for name in _RULE)
    found, rejected = [], outcomes.get("rejected", 0)
    if not reached:
        return []
    if 2 * rejected > reached:
        found.append(f"{folded.declared_at}: rejected {rejected:,} of {reached:,} events")
    return found + [f"{folded.branches[number]}: taken by none of {reached:,} events" for number in untaken]
