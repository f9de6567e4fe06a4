"""Folding: the next snapshot's events applied to a state, by columns, with one outcome for every event.

One function per kind of folded store, and nothing else: no storage, no snapshots, no proof. Incremental builds and
full replay call the same fold; what they do not share is the checkpoint and the deduplication.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import NotDeterministic, RuleError
from refold.log.declaration import POSITION
from refold.log.repeats import Deliveries, Delivery
from refold.rules.outcome import FoldResult
from refold.stores.declaration import DELETED, Folded, LatestStore, RuleStore
from refold.stores.ledger import NO_EVENTS, LedgerPart
from refold.stores.state import Rows, State

Codes = npt.NDArray[np.int64]

NOT_ALLOWED = (
    "A rule may depend on its row and its event alone: not on the order of a set, hash() or id(), the clock, chance, "
    "sums of floats, globals, closures or class attributes that change, files, the environment, or other threads."
)
"""What makes a rule answer differently the next time, for messages."""


def columns_to_read(store: Folded) -> list[str]:
    """The segment columns a fold needs: key, what the fold reads, and the position."""
    names = [store.log.key, *store.columns_read, "log_offset", "log_seq"]
    return list(dict.fromkeys(names))


def fold_events(state: State, events: pa.Table, deliveries: Deliveries, *, twice: bool = False) -> LedgerPart:
    """Apply events, in the order (log partition, offset), to a state in place.

    A key's row exists from its first event, whatever the outcome, and carries the position of its last event.
    With `twice` a rule is run two times over the same rows and events, and must say the same. Returns the ledger part.

    Raises:
        RuleError: a rule fails; the message names the event.
        NotDeterministic: the two runs of a rule differ; the state is as it was.
    """
    if len(events) == 0:
        return NO_EVENTS
    store = state.store
    encoded = events[store.log.key].combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    keys, codes = encoded.dictionary, encoded.indices.to_numpy().astype(np.int64)
    rows = state.locate(keys)
    if isinstance(store, RuleStore):
        values, part = _fold_rule(store, state, rows, codes, events, deliveries, twice=twice)
    elif isinstance(store, LatestStore):
        values, part = _fold_latest(store, state, rows, codes, events, deliveries)
    else:
        raise TypeError(f"{type(store).__name__} has no fold")
    last = _last_of(codes, len(keys))
    position = events.select(list(POSITION)).take(pa.array(last))
    columns = {store.log.key: keys, **{n: values[n] for n in values.column_names}, **{n: position[n] for n in POSITION}}
    state.put(rows, pa.table(columns))
    return part


def _fold_rule(
    store: RuleStore,
    state: State,
    rows: Rows,
    codes: Codes,
    events: pa.Table,
    deliveries: Deliveries,
    *,
    twice: bool,
) -> tuple[pa.Table, LedgerPart]:
    before = state.values(rows, store.rule.default_rows(1))
    live = deliveries == Delivery.FIRST
    try:
        result = store.rule.fold(before, codes, events, live)
        again = store.rule.fold(before, codes, events, live) if twice else result
    except RuleError as error:
        raise _named(store, events, error) from error
    if again is not result:
        _require_same(store, events, codes, result, again)
    outcomes = np.where(live, result.outcomes, deliveries).astype(np.uint8)
    return result.rows, LedgerPart(outcomes, np.where(live, result.reasons, 0).astype(np.uint8))


def _require_same(store: RuleStore, events: pa.Table, codes: Codes, first: FoldResult, second: FoldResult) -> None:
    """Raise NotDeterministic where two runs over the same rows and events differ, naming the first event affected."""
    differ = (first.outcomes != second.outcomes) | (first.reasons != second.reasons)
    if not first.rows.equals(second.rows):
        pairs = zip(first.rows.to_pylist(), second.rows.to_pylist(), strict=True)
        differ |= np.array([one != other for one, other in pairs])[codes]
    if not differ.any():
        return
    index = int(np.flatnonzero(differ)[0])
    key = events[store.log.key][index].as_py()
    one, other = (result.rows.slice(int(codes[index]), 1).to_pylist()[0] for result in (first, second))
    raise NotDeterministic(
        f"The rule of store {store.name!r} is not deterministic: two folds of the same events on the same rows gave "
        f"{store.log.key} {key!r} {one} and {other}, from {_place(events, index)} on at the earliest.",
        remedy=f"{NOT_ALLOWED} Correct the rule and raise its version.",
        event_index=index,
    )


def _place(events: pa.Table, index: int) -> str:
    at = {name: events[name][index].as_py() for name in POSITION}
    return f"log partition {at['log_partition']}, offset {at['log_offset']} (log_seq {at['log_seq']})"


def _fold_latest(
    store: LatestStore, state: State, rows: Rows, codes: Codes, events: pa.Table, deliveries: Deliveries
) -> tuple[pa.Table, LedgerPart]:
    names = [*store.values, DELETED]
    nothing = {n: pa.nulls(1, state.schema.field(n).type) for n in store.values} | {DELETED: pa.array([True])}
    before = pa.concat_tables(
        [state.table.select(names), pa.table({n: nothing[n] for n in names}).cast(state.table.select(names).schema)]
    )
    kept = before.take(pa.array(np.where(rows < 0, len(state), rows)))
    live = np.flatnonzero(deliveries == Delivery.FIRST)
    last = np.full(len(rows), -1, dtype=np.int64)
    last[codes[live]] = live
    picked = _picked(store, events.take(pa.array(np.where(last < 0, 0, last))), names)
    choose = pa.array(np.where(last < 0, np.arange(len(rows)), len(rows) + np.arange(len(rows))))
    values = pa.concat_tables([kept, picked.cast(kept.schema)]).take(choose)
    return values, LedgerPart(deliveries.astype(np.uint8), np.zeros(len(events), dtype=np.uint8))


def _picked(store: LatestStore, events: pa.Table, names: list[str]) -> pa.Table:
    """The values that the last events give their keys; a delete gives nulls and the mark."""
    deletes: pa.ChunkedArray | pa.Array = pa.array(np.zeros(len(events), dtype=np.bool_))
    if store.delete_when is not None:
        column, value = store.delete_when
        deletes = pc.fill_null(pc.equal(events[column], value), False)
    columns = {n: pc.if_else(deletes, pa.scalar(None, events[n].type), events[n]) for n in store.values}
    return pa.table({**columns, DELETED: deletes}).select(names)


def _last_of(codes: Codes, keys: int) -> Rows:
    """The index of each key's last event; numpy assigns the last of repeated indices."""
    last = np.zeros(keys, dtype=np.int64)
    last[codes] = np.arange(len(codes))
    return last


def _named(store: Folded, events: pa.Table, error: RuleError) -> RuleError:
    index = getattr(error, "event_index", None)
    if index is None:
        return error
    at = {name: events[name][index].as_py() for name in (*POSITION, store.log.key)}
    return RuleError(
        f"The rule of store {store.name!r} failed at log partition {at['log_partition']}, offset {at['log_offset']} "
        f"(log_seq {at['log_seq']}, {store.log.key} {at[store.log.key]!r}): {error}",
        remedy="Correct the rule and raise its version, or handle such an event by reject(...).",
    )
