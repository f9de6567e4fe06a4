"""Folding: the next snapshot's events applied to a state, by columns, with one outcome for every event.

Each kind of store defines how events change a row (`refold.stores.declaration.Folded.fold`). This module deals with
keys, places, threads and outcomes, and not with storage, snapshots or proof. Incremental builds and full replay share
the fold; they do not share checkpoints or deduplication.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.base.parallel import each
from refold.dedup.deliveries import SET_ASIDE, Deliveries, Delivery
from refold.errors import EventRefused, NotDeterministic, RuleError
from refold.log.reader import Part, UnreadPart, parts_of, plain, position
from refold.rules.outcome import FoldResult
from refold.stores.declaration import Folded
from refold.stores.ledger import NO_EVENTS, LedgerPart
from refold.stores.state import Rows, State, keys_of, places_of, replaced, values_at

Codes = npt.NDArray[np.int64]

NOT_ALLOWED = (
    "A rule may depend on its row and its event alone: not on the order of a set, hash() or id(), the clock, chance, "
    "sums of floats, globals, closures or class attributes that change, files, the environment, or other threads."
)
"""Causes of a rule that does not give the same result again, for messages."""


class FoldedPart(NamedTuple):
    """The result of folding a snapshot's events into one state.

    Attributes:
        ledger: their outcomes, in the order (log partition, offset).
        unstable: how two runs of the fold differed, where it was run twice.
        taken: the branches of a rule that they took, as bits; None where that was not counted.
    """

    ledger: LedgerPart
    unstable: list[NotDeterministic]
    taken: int | None = None


def either_taken(taken: Sequence[int | None]) -> int | None:
    """The branches that any of some folds took; None where one did not count them.

    >>> either_taken([1, 4]), either_taken([1, None])
    (5, None)
    """
    return None if None in taken else reduce(or_, (each for each in taken if each is not None), 0)


def columns_to_read(store: Folded) -> list[str]:
    """The segment columns a fold needs: key, what the fold reads, and the position."""
    names = [*store.log.key_columns, *store.columns_read, "log_offset", "log_seq"]
    return list(dict.fromkeys(names))


def fold_events(state: State, events: pa.Table, deliveries: Deliveries, *, twice: bool = False) -> LedgerPart:
    """Apply events, in the order (log partition, offset), to a state in place; see `fold_unread`.

    `events` has the columns to read, `log_partition` and `log_offset`. With `twice` what is interpreted of a rule is
    run two times over the same rows and events, and must say the same.

    Raises:
        RuleError: a rule fails; the message names the event.
        NotDeterministic: the two runs of a rule differ; the state is that of the first.
    """
    parts = parts_of(events)
    bounds = np.cumsum([0, *map(len, parts)])
    pieces = [deliveries[low:high] for low, high in pairwise(bounds)]
    (found,) = fold_unread([state], [UnreadPart.of(part) for part in parts], pieces, twice=twice)
    if found.unstable:
        raise found.unstable[0]
    return found.ledger


def fold_unread(
    states: Sequence[State], unread: Sequence[UnreadPart], deliveries: Sequence[Deliveries], *, twice: bool = False
) -> list[FoldedPart]:
    """Apply the events of log partitions, in ascending order and without empty ones, to states in place.

    Each segment is read once and let go, so that memory holds one for each thread. Log partitions are folded at once by
    several threads where they share no key, as they do where keys decide on them, else they are read again and folded
    one after the other. A key's row exists from its first event, whatever the outcome, and carries the position of its
    last event; events that were put aside (`refold.dedup.deliveries.SET_ASIDE`) make and change no row. With `twice`
    what is interpreted is run two times over the same rows and events; the first run counts.

    Returns a result for each state. Raises RuleError, naming the first such event, where a rule fails, and what reading
    raises.
    """
    work = list(zip(unread, deliveries, strict=True))
    shares = each(lambda item: _shares(states, *item, twice=twice), work, [len(part) for part in unread])
    return [_taken(state, [mine[i] for mine in shares], work, twice=twice) for i, state in enumerate(states)]


def _taken(
    state: State, shares: Sequence[_Share], work: Sequence[tuple[UnreadPart, Deliveries]], *, twice: bool
) -> FoldedPart:
    """Take the shares of all log partitions into a state: all at once if no key is in two of them, else one by one."""
    if any(share.error for share in shares) or not _disjoint(shares):
        shares = list(_in_turn(state, work, twice=twice))
    elif shares:
        state.put(np.concatenate([share.places for share in shares]), pa.concat_tables([s.rows for s in shares]))
    ledger = [part for share in shares for part in share.ledger]
    unstable = [error for share in shares for error in share.unstable]
    return FoldedPart(_joined(ledger), unstable, either_taken([share.taken for share in shares]))


def _in_turn(state: State, work: Sequence[tuple[UnreadPart, Deliveries]], *, twice: bool) -> Iterator[_Share]:
    for part, deliveries in work:
        (share,) = _shares([state], part, deliveries, twice=twice)
        if share.error is not None:
            raise share.error
        state.put(share.places, share.rows)
        yield share


def _shares(states: Sequence[State], unread: UnreadPart, deliveries: Deliveries, *, twice: bool) -> list[_Share]:
    """Fold the events of one log partition; states are only read, because other threads fold other partitions."""
    shares, low = [_Share(state, twice) for state in states], 0
    for part in unread.pieces():
        mine = deliveries[low : low + len(part)]
        low += len(part)
        for share in shares:
            share.fold(part, mine)
    return shares


class _Share:
    """One log partition's share of a fold: the rows of the keys that it has met so far, over a state as it was before.

    `places` are the places of these rows in the state, -1 for new ones. After an `error` nothing more is folded.
    """

    def __init__(self, state: State, twice: bool) -> None:
        self.store = state.store
        self.schema = state.schema
        self.rows: pa.Table = state.schema.empty_table()
        self.places: Rows = np.zeros(0, dtype=np.int64)
        self.ledger: list[LedgerPart] = []
        self.unstable: list[NotDeterministic] = []
        self.error: RuleError | None = None
        self.taken: int | None = 0
        self._state = state
        self._twice = twice

    @property
    def table(self) -> pa.Table:
        """The rows of the state, then those met so far, which replace the ones of the same keys before them."""
        return pa.concat_tables([self._state.table, self.rows]) if len(self.rows) else self._state.table

    def fold(self, part: Part, deliveries: Deliveries) -> None:
        """Take in the next events."""
        if self.error is not None:
            return
        kept = ~np.isin(deliveries, SET_ASIDE)
        if not kept.all():
            self._fold_kept(part, deliveries, np.flatnonzero(kept))
            return
        names = self.store.log.key_columns
        keys, codes = _keys(part.table, names)
        own = places_of(keys_of(keys, names), keys_of(self.rows, names))
        new = np.flatnonzero(own < 0)
        places = self._state.locate(keys.take(pa.array(new)))
        rows = len(self._state) + own
        rows[new] = places
        encoded = _Encoded(keys, rows, codes)
        try:
            values, ledger = self._folded(encoded, part, deliveries)
        except RuleError as error:
            self.error = error
            return
        last = _last_of(codes, len(keys))
        position = {
            "log_partition": pa.array(np.full(len(last), part.partition)),
            "log_offset": pa.array(part.offsets(last)),
            "log_seq": part.table["log_seq"].take(pa.array(last)),
        }
        columns = {**{n: keys[n] for n in names}, **{n: values[n] for n in values.column_names}, **position}
        after = pa.table(columns).select(self.schema.names).cast(self.schema)
        self.rows, _ = replaced(self.rows, own, after)
        self.places = np.concatenate([self.places, places])
        self.ledger.append(ledger)

    def _fold_kept(self, part: Part, deliveries: Deliveries, places: Rows) -> None:
        """Take in the events at places; the others were put aside, and change no row."""
        table, origin = part.table.take(pa.array(places)), part.origin
        if "log_offset" not in table.column_names:
            table = table.append_column("log_offset", pa.array(part.offsets(places)))
        own = NO_EVENTS
        if len(places):
            at = None if origin is None else lambda place: origin(int(places[place]))
            self.fold(Part(part.partition, part.start, table, at), deliveries[places])
            if self.error is not None:
                return
            own = self.ledger.pop()
        outcomes = deliveries.astype(np.uint8)
        reasons = np.zeros(len(part), dtype=np.uint8)
        outcomes[places], reasons[places] = own.outcomes, own.reasons
        self.ledger.append(LedgerPart(outcomes, reasons))

    def _folded(self, encoded: _Encoded, part: Part, deliveries: Deliveries) -> tuple[pa.Table, LedgerPart]:
        store, codes, live = self.store, encoded.codes, deliveries == Delivery.FIRST
        before = values_at(self.table.select(store.folded_columns), encoded.rows, store.row_before)
        try:
            result = store.fold(before, codes, part.table, live)
            taken = result.taken
            if self._twice and result.interpreted:
                again = store.fold_again(before, codes, part.table, live)
                self.unstable += _unlike(store, part, codes, result, again)
                taken = again.taken
            self.taken = either_taken([self.taken, taken])
        except RuleError as error:
            raise _named(store, part, error) from error
        outcomes = np.where(live, result.outcomes, deliveries).astype(np.uint8)
        return result.rows, LedgerPart(outcomes, np.where(live, result.reasons, 0).astype(np.uint8))


@dataclass(frozen=True)
class _Encoded:
    """Events by key: distinct keys, the places of their rows (-1: new), a code per event."""

    keys: pa.Table
    rows: Rows
    codes: Codes


def _keys(events: pa.Table, names: Sequence[str]) -> tuple[pa.Table, Codes]:
    """The distinct keys of events, and for each event which it has."""
    keys, codes = _distinct(keys_of(events, names))
    if len(names) == 1:
        return pa.table([keys], names=names), codes
    firsts = _last_of(codes[::-1], len(keys))
    table = events.select(names).take(pa.array(len(codes) - 1 - firsts))
    return pa.table({name: plain(table[name]) for name in names}), codes


def _distinct(column: pa.ChunkedArray) -> tuple[pa.Array, Codes]:
    """The distinct values of a column, and for each row which it has."""
    one = column.combine_chunks()
    if isinstance(one, pa.ChunkedArray):
        one = pa.concat_arrays(one.chunks)
    one = one if pa.types.is_dictionary(one.type) else one.dictionary_encode()
    keys, codes = one.dictionary, one.indices.to_numpy().astype(np.int64)
    used = np.flatnonzero(np.bincount(codes, minlength=len(keys)))
    if len(used) < len(keys):  # a slice keeps the dictionary of the whole
        smaller = np.full(len(keys), -1, dtype=np.int64)
        smaller[used] = np.arange(len(used))
        keys, codes = keys.take(pa.array(used)), smaller[codes]
    return keys, codes


def _disjoint(shares: Sequence[_Share]) -> bool:
    if len(shares) < 2:
        return True
    keys = [chunk for share in shares for chunk in keys_of(share.rows, share.store.log.key_columns).chunks]
    return len(pa.chunked_array(keys).unique()) == sum(len(share.rows) for share in shares)


def _joined(parts: Sequence[LedgerPart]) -> LedgerPart:
    if not parts:
        return NO_EVENTS
    return LedgerPart(np.concatenate([p.outcomes for p in parts]), np.concatenate([p.reasons for p in parts]))


def _unlike(
    store: Folded, part: Part, codes: Codes, first: FoldResult, second: FoldResult
) -> Iterator[NotDeterministic]:
    """What two runs over the same rows and events say differently, naming the first event affected; nothing mostly."""
    differ = (first.outcomes != second.outcomes) | (first.reasons != second.reasons)
    if not first.rows.equals(second.rows):
        pairs = zip(first.rows.to_pylist(), second.rows.to_pylist(), strict=True)
        differ |= np.array([one != other for one, other in pairs])[codes]
    if not differ.any():
        return
    index = int(np.flatnonzero(differ)[0])
    one, other = (result.rows.slice(int(codes[index]), 1).to_pylist()[0] for result in (first, second))
    yield NotDeterministic(
        f"The rule of store {store.name!r} is not deterministic: two folds of the same events on the same rows gave "
        f"{_key_at(store, part, index)} {one} and {other}, from {_place(store, part, index)} on at the earliest.",
        remedy=f"{NOT_ALLOWED} Correct the rule and raise its version.",
        event_index=index,
    )


def _place(store: Folded, part: Part, index: int) -> str:
    """The place of an event in the log and in landing, with its key."""
    partition, offset, seq = position([part], index)
    origin = f", landing {part.origin(index)}" if part.origin is not None else ""
    return f"log partition {partition}, offset {offset} (log_seq {seq}, {_key_at(store, part, index)}{origin})"


def _key_at(store: Folded, part: Part, index: int) -> str:
    """The key of an event, with the names of its columns."""
    values = {name: part.table[name][index].as_py() for name in store.log.key_columns}
    return f"{', '.join(values)} {store.log.key_of(values)!r}"


def _last_of(codes: Codes, keys: int) -> Rows:
    """The index of each key's last event; numpy assigns the last of repeated indices."""
    last = np.zeros(keys, dtype=np.int64)
    last[codes] = np.arange(len(codes))
    return last


def _named(store: Folded, part: Part, error: RuleError) -> RuleError:
    """The error of a rule with the event that it failed on."""
    index = error.event_index
    if index is None:
        return error
    partition, offset, _ = position([part], index)
    what = str(error).removesuffix(error.remedy).rstrip()
    if isinstance(error, EventRefused):
        return EventRefused(
            f"Store {store.name!r} cannot take the event at {_place(store, part, index)}: {what}",
            remedy=f"{error.remedy} `refold log show {store.log.name} {partition}:{offset}` prints the event.",
        )
    return RuleError(
        f"The rule of store {store.name!r} failed at {_place(store, part, index)}: {what}",
        remedy=f"Correct the rule and raise its version, or handle such an event by reject(...); "
        f"`refold log show {store.log.name} {partition}:{offset}` prints it.",
    )
