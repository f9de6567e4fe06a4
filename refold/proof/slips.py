"""Slips: which single slip of a fold explains a key's wrong row.

A stored row is what some fold made of a key's events. Here the key's events of one snapshot are folded again with one
slip at a time: an event left out, an event taken twice, a repeated delivery taken for a new event, the fold begun
without the key's row. A slip that gives exactly the stored row, and the stored outcomes of all other events, names the
offset. Nothing is read and nothing concluded here: `refold.proof.refolded` collects the suspects, `refold.proof.locate`
names the event, and `refold.proof.causes` the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.dedup.deliveries import Deliveries, Delivery
from refold.errors import RuleError
from refold.log.declaration import POSITION
from refold.stores.declaration import Folded
from refold.stores.folding import fold_events
from refold.stores.ledger import NO_EVENTS, LedgerPart
from refold.stores.state import State

EVENTS_MAX = 200
"""A key with more events than this in one snapshot is not searched; it would take seconds."""


class Slip(Enum):
    """A mistake that a fold may have made with one key."""

    LEFT_OUT = "the event was left out"
    TWICE = "the event was folded twice"
    REPEAT_TAKEN = "the repeated delivery was taken for a new event"
    NO_ROW_BEFORE = "the fold began without the key's row"
    NOTHING_FOLDED = "none of the key's events was folded"
    ALL_TWICE = "all of the key's events were folded twice"


@dataclass(frozen=True)
class Found:
    """A slip, and the places, among the events given, of the first and last event at which it explains the row."""

    slip: Slip
    first: int
    last: int


@dataclass(frozen=True)
class KeyFold:
    """The facts about one key in one snapshot.

    Attributes:
        store: the store.
        before: its row before, as a state table of one row or none.
        events: its events in the order of the log, with their `deliveries`.
        stored: its row as it is stored, by column.
        part: the stored outcomes of its events; None where they are not known.
    """

    store: Folded
    before: pa.Table
    events: pa.Table
    deliveries: Deliveries
    stored: dict[str, object]
    part: LedgerPart | None


def find_slip(key: KeyFold) -> Found | None:
    """The slip that explains the stored row, the smallest one first, in the order of `Slip`; None where none does."""
    if not 0 < len(key.events) <= EVENTS_MAX:
        return None
    found: list[tuple[Slip, int]] = []
    for slip, place, taken, deliveries, before in _slips(key):
        if found and slip is not found[0][0]:
            break
        if _explains(key, place, taken, deliveries, before):
            found.append((slip, place))
    return Found(found[0][0], found[0][1], found[-1][1]) if found else None


_Places = npt.NDArray[np.int64]


def _slips(key: KeyFold) -> Iterator[tuple[Slip, int, _Places, Deliveries, pa.Table]]:
    """Every slip with its event's place, the events it takes, their deliveries, and the rows it begins with."""
    every, before = np.arange(len(key.events)), key.before
    fresh = np.flatnonzero(key.deliveries == Delivery.FIRST)
    for place in fresh.tolist():
        taken = np.delete(every, place)
        yield Slip.LEFT_OUT, place, taken, key.deliveries[taken], before
    for place in fresh.tolist():
        taken = np.insert(every, place, place)
        yield Slip.TWICE, place, taken, key.deliveries[taken], before
    for place in np.flatnonzero(key.deliveries != Delivery.FIRST).tolist():
        deliveries = key.deliveries.copy()
        deliveries[place] = Delivery.FIRST
        yield Slip.REPEAT_TAKEN, place, every, deliveries, before
    if len(before):
        yield Slip.NO_ROW_BEFORE, 0, every, key.deliveries, before.slice(0, 0)
    if len(fresh) > 1:
        yield Slip.NOTHING_FOLDED, 0, every[:0], key.deliveries[:0], before
        taken = np.tile(every, 2)
        yield Slip.ALL_TWICE, 0, taken, key.deliveries[taken], before


def _explains(key: KeyFold, place: int, taken: _Places, deliveries: Deliveries, before: pa.Table) -> bool:
    state = State(key.store, before)
    try:
        part = fold_events(state, key.events.take(pa.array(taken)), deliveries) if len(taken) else NO_EVENTS
    except RuleError:
        return False
    return _same_row(key, state) and _same_outcomes(key, place, taken, part)


def _same_row(key: KeyFold, state: State) -> bool:
    row = state.table.to_pylist()[0] if len(state) else {}
    names = [name for name in key.store.state_columns if name not in POSITION]
    return all(row.get(name) == key.stored.get(name) for name in names)


def _same_outcomes(key: KeyFold, place: int, taken: _Places, part: LedgerPart) -> bool:
    """Whether all events but the one at `place` have the stored outcomes, where those can be compared."""
    if key.part is None or len(taken) == 0 or len(taken) > len(key.events) + 1:
        return True
    others = taken != place  # the outcome of the event itself is part of the slip
    same = part.outcomes[others] == key.part.outcomes[taken[others]]
    return bool(same.all() and (part.reasons[others] == key.part.reasons[taken[others]]).all())
