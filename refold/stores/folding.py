"""Folding: the next snapshot's events applied to a state, by columns, with one outcome for every event.

One function per kind of folded store, and nothing else: no storage, no snapshots, no proof. Incremental builds and
full replay call the same fold; what they do not share is the checkpoint and the deduplication.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.errors import NotDeterministic, RuleError
from refold.log.repeats import Deliveries, Delivery
from refold.log.segment import Part, parts_of, plain, position
from refold.parallel import each
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
    """Apply events, in the order (log partition, offset), to a state in place; see `fold_parts`.

    `events` has the columns to read, `log_partition` and `log_offset`. With `twice` every rule is run two times over
    the same rows and events, and must say the same.

    Raises:
        RuleError: a rule fails; the message names the event.
        NotDeterministic: the two runs of a rule differ; the state is that of the first.
    """
    parts, unstable = parts_of(events), list[NotDeterministic]()
    bounds = np.cumsum([0, *map(len, parts)])
    pieces = [deliveries[low:high] for low, high in pairwise(bounds)]
    part = fold_parts(state, parts, pieces, unstable=unstable if twice else None)
    if unstable:
        raise unstable[0]
    return part


def fold_parts(
    state: State,
    parts: Sequence[Part],
    deliveries: Sequence[Deliveries],
    *,
    unstable: list[NotDeterministic] | None = None,
) -> LedgerPart:
    """Apply the events of log partitions, in ascending order and without empty ones, to a state in place.

    Log partitions are folded at once by several threads where they share no key, as they do where keys decide on
    them, else one after the other. A key's row exists from its first event, whatever the outcome, and carries the
    position of its last event. Where `unstable` is given, every rule is run two times over the same rows and events,
    and what says that they differ is added to it; the first run counts.

    Returns the ledger part. Raises RuleError, naming the first such event, where a rule fails.
    """
    if not parts:
        return NO_EVENTS
    encoded = each(lambda part: _encoded(state, part), parts, [len(part) for part in parts])
    if not _disjoint(encoded):
        ledger = [
            fold_parts(state, [part], [mine], unstable=unstable) for part, mine in zip(parts, deliveries, strict=True)
        ]
        return _joined(ledger)
    work = list(zip(parts, encoded, deliveries, strict=True))
    twice = unstable is not None
    folded = each(lambda item: _fold_part(state, *item, twice=twice), work, [len(part) for part in parts])
    state.put(np.concatenate([batch.rows for batch in encoded]), pa.concat_tables([rows for rows, _, _ in folded]))
    if unstable is not None:
        unstable += [error for _, _, errors in folded for error in errors]
    return _joined([part for _, part, _ in folded])


@dataclass(frozen=True)
class _Encoded:
    """The events of one log partition by key: distinct keys, their rows in the state (-1: new), a code per event."""

    keys: pa.Array
    rows: Rows
    codes: Codes


def _encoded(state: State, part: Part) -> _Encoded:
    column = part.table[state.store.log.key]
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
    return _Encoded(keys, state.locate(keys), codes)


def _disjoint(encoded: Sequence[_Encoded]) -> bool:
    return len(encoded) == 1 or len(pa.chunked_array([e.keys for e in encoded]).unique()) == sum(
        len(e.keys) for e in encoded
    )


def _fold_part(
    state: State, part: Part, encoded: _Encoded, deliveries: Deliveries, *, twice: bool
) -> tuple[pa.Table, LedgerPart, list[NotDeterministic]]:
    """The rows of a part's keys after its events, in the order of the keys, its piece of the ledger, and what differed.

    The state is only read, since other threads fold other parts.
    """
    store, unstable = state.store, list[NotDeterministic]()
    if isinstance(store, RuleStore):
        values, ledger = _fold_rule(store, state, encoded, part, deliveries, unstable if twice else None)
    elif isinstance(store, LatestStore):
        values, ledger = _fold_latest(store, state, encoded, part.table, deliveries)
    else:
        raise TypeError(f"{type(store).__name__} has no fold")
    last = _last_of(encoded.codes, len(encoded.keys))
    stands = {
        "log_partition": pa.array(np.full(len(last), part.partition)),
        "log_offset": pa.array(part.offsets(last)),
        "log_seq": part.table["log_seq"].take(pa.array(last)),
    }
    columns = {store.log.key: encoded.keys, **{n: values[n] for n in values.column_names}, **stands}
    return pa.table(columns).select(state.schema.names).cast(state.schema), ledger, unstable


def _joined(parts: Sequence[LedgerPart]) -> LedgerPart:
    return LedgerPart(np.concatenate([p.outcomes for p in parts]), np.concatenate([p.reasons for p in parts]))


def _fold_rule(
    store: RuleStore,
    state: State,
    encoded: _Encoded,
    part: Part,
    deliveries: Deliveries,
    unstable: list[NotDeterministic] | None,
) -> tuple[pa.Table, LedgerPart]:
    before = state.values(encoded.rows, store.rule.default_rows(1))
    live = deliveries == Delivery.FIRST
    try:
        result = store.rule.fold(before, encoded.codes, part.table, live)
        again = store.rule.fold(before, encoded.codes, part.table, live) if unstable is not None else result
    except RuleError as error:
        raise _named(store, part, error) from error
    if unstable is not None:
        unstable += _unlike(store, part, encoded.codes, result, again)
    outcomes = np.where(live, result.outcomes, deliveries).astype(np.uint8)
    return result.rows, LedgerPart(outcomes, np.where(live, result.reasons, 0).astype(np.uint8))


def _unlike(
    store: RuleStore, part: Part, codes: Codes, first: FoldResult, second: FoldResult
) -> Iterator[NotDeterministic]:
    """What two runs over the same rows and events say differently, naming the first event affected; nothing mostly."""
    differ = (first.outcomes != second.outcomes) | (first.reasons != second.reasons)
    if not first.rows.equals(second.rows):
        pairs = zip(first.rows.to_pylist(), second.rows.to_pylist(), strict=True)
        differ |= np.array([one != other for one, other in pairs])[codes]
    if not differ.any():
        return
    index = int(np.flatnonzero(differ)[0])
    key = part.table[store.log.key][index].as_py()
    one, other = (result.rows.slice(int(codes[index]), 1).to_pylist()[0] for result in (first, second))
    yield NotDeterministic(
        f"The rule of store {store.name!r} is not deterministic: two folds of the same events on the same rows gave "
        f"{store.log.key} {key!r} {one} and {other}, from {_place(part, index)} on at the earliest.",
        remedy=f"{NOT_ALLOWED} Correct the rule and raise its version.",
        event_index=index,
    )


def _place(part: Part, index: int, *more: str) -> str:
    partition, offset, seq = position([part], index)
    return f"log partition {partition}, offset {offset} ({', '.join([f'log_seq {seq}', *more])})"


def _fold_latest(
    store: LatestStore, state: State, encoded: _Encoded, events: pa.Table, deliveries: Deliveries
) -> tuple[pa.Table, LedgerPart]:
    rows, codes, names = encoded.rows, encoded.codes, [*store.values, DELETED]
    nothing = {n: pa.nulls(1, state.schema.field(n).type) for n in store.values} | {DELETED: pa.array([True])}
    before = pa.concat_tables(
        [state.table.select(names), pa.table({n: nothing[n] for n in names}).cast(state.table.select(names).schema)]
    )
    kept = before.take(pa.array(np.where(rows < 0, len(state), rows)))
    live = np.flatnonzero(deliveries == Delivery.FIRST)
    last = np.full(len(rows), -1, dtype=np.int64)
    last[codes[live]] = live
    needed = events.select(list(store.columns_read)).take(pa.array(np.where(last < 0, 0, last)))
    decoded = pa.table({name: plain(needed[name]) for name in needed.column_names})
    picked = _picked(store, decoded, names)
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


def _named(store: Folded, part: Part, error: RuleError) -> RuleError:
    index = getattr(error, "event_index", None)
    if index is None:
        return error
    key = part.table[store.log.key][index].as_py()
    return RuleError(
        f"The rule of store {store.name!r} failed at {_place(part, index, f'{store.log.key} {key!r}')}: {error}",
        remedy="Correct the rule and raise its version, or handle such an event by reject(...).",
    )
