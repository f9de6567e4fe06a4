"""One snapshot folded again: its events, what is right, what is stored, and the events that may be to blame.

Nothing is read here: `refold.proof.locate` reads, and names the event; `refold.proof.causes` gives the cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.dedup.deliveries import Deliveries
from refold.log.declaration import POSITION
from refold.proof.divergence import Row
from refold.proof.slips import Found, KeyFold, Slip, find_slip
from refold.stores.declaration import Folded
from refold.stores.ledger import LedgerPart
from refold.stores.state import State, keys_of, keys_table

_KEYS_SEARCHED = 20


@dataclass(frozen=True)
class Refolded:
    """What is known of one snapshot: its events in the order of the ledger, what is right, and what is stored."""

    store: Folded
    events: pa.Table
    deliveries: Deliveries
    before: State
    right: State
    part: LedgerPart
    stored: State | None
    stored_part: LedgerPart | None
    keys: Sequence[object]

    @property
    def aligned(self) -> LedgerPart | None:
        """The stored outcomes, where there is one for every event."""
        part = self.stored_part
        return part if part is not None and len(part.outcomes) == len(self.events) else None

    def seq(self, place: int) -> int:
        """The `log_seq` of the event at a place."""
        return int(self.events["log_seq"][place].as_py())

    def event(self, place: int) -> Row:
        """The event at a place, position, id and key first."""
        row: dict[str, object] = self.events.slice(place, 1).to_pylist()[0]
        names = [*POSITION, *self.store.log.id_columns, *self.store.log.key_columns]
        return {name: row[name] for name in names} | row

    def places(self, keys: Sequence[object]) -> Mapping[object, list[int]]:
        """The places of the events of keys, in the order of the log."""
        names = self.store.log.key_columns
        wanted = keys_of(keys_table(self.store, keys), names)
        mine = np.flatnonzero(pc.is_in(keys_of(self.events, names), wanted).to_numpy())
        found: dict[object, list[int]] = {key: [] for key in keys}
        events = self.events.select(names).take(pa.array(mine)).to_pylist()
        for place, event in zip(mine.tolist(), events, strict=True):
            found[self.store.log.key_of(event)].append(place)
        return found

    def wrong_outcome(self) -> int | None:
        """The place of the first event in the log with another outcome than is right; None where all are right."""
        part = self.stored_part
        if part is None:
            return None
        n = min(len(part.outcomes), len(self.events))
        differ = (part.outcomes[:n] != self.part.outcomes[:n]) | (part.reasons[:n] != self.part.reasons[:n])
        wrong = np.flatnonzero(differ)
        if len(wrong):
            return int(wrong[np.argmin(self.events["log_seq"].to_numpy()[wrong])])
        return min(n, len(self.events) - 1) if len(part.outcomes) != len(self.events) else None

    def slip(self, key: object, places: Sequence[int]) -> Found | None:
        """The slip that explains the wrong row of a key."""
        stored = self.stored.row(key) if self.stored is not None else None
        if stored is None or not places:
            return None
        own = self.before.locate(keys_table(self.store, [key]))
        part = self.aligned
        mine = LedgerPart(part.outcomes[places], part.reasons[places]) if part is not None else None
        events, before = self.events.take(pa.array(places)), self.before.table.take(pa.array(own[own >= 0]))
        return find_slip(KeyFold(self.store, before, events, self.deliveries[list(places)], stored, mine))


@dataclass(frozen=True)
class Suspect:
    """An event at which the rows of a key may have parted: certainly not before `start`, certainly by `end`."""

    key: object
    start: int
    end: int
    slip: Slip | None


def suspects(refolded: Refolded) -> list[Suspect]:
    """One for every differing key that has events here, and one for the first wrong outcome."""
    places = refolded.places(refolded.keys)
    touched = sorted((key for key in refolded.keys if places[key]), key=lambda key: refolded.seq(places[key][0]))
    slips = _slips(refolded, {key: places[key] for key in touched[:_KEYS_SEARCHED]})
    found = [_suspect(key, places[key], slips.get(key)) for key in touched]
    wrong = refolded.wrong_outcome()
    if wrong is None:
        return found
    key = refolded.store.log.key_of(refolded.event(wrong))
    return found if key in slips else [*(each for each in found if each.key != key), Suspect(key, wrong, wrong, None)]


def _slips(refolded: Refolded, places: Mapping[object, list[int]]) -> dict[object, Found]:
    """The slip that explains each key, by key; none where they do not explain every one.

    A fold by another rule leaves some rows that a lost event would leave too.
    """
    found = {key: slip for key, own in places.items() if (slip := refolded.slip(key, own)) is not None}
    return found if len(found) == len(places) else {}


def _suspect(key: object, own: Sequence[int], slip: Found | None) -> Suspect:
    if slip is None:
        return Suspect(key, own[0], own[-1], None)
    return Suspect(key, own[slip.first], own[slip.last], slip.slip)
