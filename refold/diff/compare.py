"""Comparing two declarations of stores at one snapshot: rows by key, outcomes by event, and where they part.

Both sides are shadows of the same sealed log (`refold.diff.shadow`), so they hold the same events in the same order
and are compared place by place. `refold.diff.summary` and the command line show a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.diff.described import (
    Described,
    FoldedInput,
    SchemaChange,
    require_comparable,
    require_sealed,
    same_kind,
    schema_changes,
)
from refold.diff.rows import Flags, RowDiff, diff_rows, differing, unrelated_rows
from refold.diff.shadow import Folding, Side
from refold.errors import NotFound
from refold.log.declaration import POSITION
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.rules.outcome import Outcome

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """An event as one side folded it: its outcome, with the reason of a rejection, and the row after it."""

    outcome: str
    after: Mapping[str, Any] | None


@dataclass(frozen=True)
class ComparedEvent:
    """One event under both rules; an answer is None where a side does not fold the log of that store.

    `origin` is landing object and line; `parts` says whether the answers differ, rows by their common columns.
    """

    store: str
    snapshot: str
    log_partition: int
    log_offset: int
    log_seq: int
    origin: str
    event: Mapping[str, Any]
    old: Answer | None
    new: Answer | None
    parts: bool


@dataclass(frozen=True)
class OutcomeDiff:
    """How the ledgers of a folded store differ.

    Attributes:
        store: its name.
        events: how many events both sides folded.
        changed: how many of them have another outcome or reason.
        moves: (old outcome, new outcome, events), the most frequent first.
        first: the first event at which the two rules part, in the order of `log_seq`; see `_first_parting`.
    """

    store: str
    events: int
    changed: int
    moves: Sequence[tuple[str, str, int]]
    first: ComparedEvent | None


@dataclass(frozen=True)
class Comparison:
    """One store under two declarations at a snapshot.

    Attributes:
        old, new: what is declared; None where a side has no such store.
        schema: columns whose declarations differ; a change of key is among them as "key".
        rows: how the published rows differ; None where both declarations are the same, so that nothing was folded.
        outcomes: per folded store behind it that both sides have and declare differently.
    """

    store: str
    snapshot: Snapshot
    old: Described | None
    new: Described | None
    schema: Sequence[SchemaChange] = ()
    rows: RowDiff | None = None
    outcomes: Sequence[OutcomeDiff] = ()

    @property
    def same(self) -> bool:
        """Whether both declarations are the same, so that there was nothing to compare."""
        return self.rows is None

    @property
    def differs(self) -> bool:
        """Whether only one side has the store, or columns, rows or outcomes differ."""
        if self.rows is None:
            return False
        rows = self.rows.added or self.rows.removed or self.rows.changed
        there = self.old is not None and self.new is not None
        return bool(rows or not there or self.schema or any(each.changed or each.first for each in self.outcomes))


class Comparer:
    """Compares stores of two sides; each side folds once for all of them.

    Args:
        snapshot: where both are compared.
        old, new: the two sides, over the same sealed log.
    """

    def __init__(self, chain: SnapshotChain, snapshot: Snapshot, old: Side, new: Side) -> None:
        self._chain = chain
        self._snapshot = snapshot
        self._old, self._new = old, new
        self._outcomes: dict[str, OutcomeDiff] = {}

    def names(self) -> list[str]:
        """The stores of both sides: those of the new one in its order, then those that only the old one has."""
        return list(dict.fromkeys([*self._new.describe(), *self._old.describe()]))

    def compare(self, names: Sequence[str], limit: int) -> list[Comparison]:
        """Compare stores, with the first `limit` changed rows of each by key. Deterministic.

        Raises:
            NotFound: neither side has a store of that name.
            FixInput: the declarations of a log differ between the sides, or from what was sealed.
            RuleError, DeclarationError: a rule or a query fails.
            Damaged: a segment is damaged.
        """
        pairs = {name: self._described(name) for name in names}
        for name, (old, new) in pairs.items():
            if old and new:
                require_comparable(name, old, new)
            for side, each in ((self._old, old), (self._new, new)):
                if each and old != new:
                    require_sealed(side.label, each, self._snapshot)
        self._fold([pair for pair in pairs.values() if pair[0] != pair[1]])
        return [self._compared(name, *pair, limit) for name, pair in pairs.items()]

    def why(self, comparison: Comparison, key: Sequence[str]) -> Mapping[str, list[ComparedEvent]]:
        """The events behind the row of a key, given as text, under both rules; by folded store, in log order.

        Raises:
            FixInput: the key has another number of parts, or cannot be followed through a query.
            NotFound: the log has no event with that key.
        """
        there = ((self._old, comparison.old), (self._new, comparison.new))
        sides = [side.why(comparison.store, key) if declared else {} for side, declared in there]
        found = {
            name: _compared_events(name, sides[0].get(name), sides[1].get(name), self._common_values(name))
            for name in dict.fromkeys([*sides[1], *sides[0]])
        }
        if not any(found.values()):
            raise NotFound(
                f"Store {comparison.store!r} has no event for the key {', '.join(map(repr, key))} up to snapshot "
                f"{self._snapshot.key}."
            )
        return found

    def _described(self, name: str) -> tuple[Described | None, Described | None]:
        old, new = self._old.describe().get(name), self._new.describe().get(name)
        if old is None and new is None:
            raise NotFound(
                f"There is no store {name!r}, neither in {self._old.label} nor in {self._new.label}; they have "
                f"{', '.join(self.names()) or 'none'}."
            )
        return old, new

    def _fold(self, pairs: Sequence[tuple[Described | None, Described | None]]) -> None:
        """Fold what is needed, on both sides at the same time where they are two processes."""
        ends = []
        for place, side in enumerate((self._old, self._new)):
            inputs = {n: each for pair in pairs for n, each in getattr(pair[place], "folded", {}).items()}
            marked = {name: [n for n in each.state if n in self._common_state(name)] for name, each in inputs.items()}
            ends.append(side.fold(marked))
        for end in reversed(ends):
            end()

    def _common_state(self, name: str) -> set[str]:
        """The state columns of a folded store that both sides have with the same type; all where one side has it."""
        sides = [_folded(side).get(name) for side in (self._old, self._new)]
        if sides[0] is None or sides[1] is None:
            return {column for side in sides if side for column in side.state}
        old, new = sides[0].state, sides[1].state
        return {column for column in new if column in old and same_kind(old[column], new[column])}

    def _common_values(self, name: str) -> list[str]:
        keys = {key for side in map(_folded, (self._old, self._new)) if name in side for key in side[name].log_key}
        return sorted(self._common_state(name) - POSITION.keys() - keys)

    def _compared(self, name: str, old: Described | None, new: Described | None, limit: int) -> Comparison:
        if old == new:
            return Comparison(name, self._snapshot, old, new)
        rows = self._row_diff(name, old, new, limit)
        if old is None or new is None:
            return Comparison(name, self._snapshot, old, new, rows=rows)
        changed = [each for each, there in new.folded.items() if each in old.folded and old.folded[each] != there]
        outcomes = [self._outcomes_of(each) for each in changed]
        return Comparison(name, self._snapshot, old, new, _schema(old, new), rows, outcomes)

    def _row_diff(self, name: str, old: Described | None, new: Described | None, limit: int) -> RowDiff:
        """How the published rows differ; rows of different keys, or of one side alone, are unrelated."""
        before = self._old.rows(name) if old else pa.table({})
        after = self._new.rows(name) if new else pa.table({})
        if old is None or new is None or _key(old) != _key(new):
            return unrelated_rows(before, after, old.key if old else [], new.key if new else [], limit)
        return diff_rows(before, after, new.key, _common_columns(old, new), limit)

    def _outcomes_of(self, name: str) -> OutcomeDiff:
        if name not in self._outcomes:
            self._outcomes[name] = self._outcome_diff(name)
        return self._outcomes[name]

    def _outcome_diff(self, name: str) -> OutcomeDiff:
        old, new = self._old.folding(name), self._new.folding(name)
        before, after, texts = _outcome_codes(old, new)
        apart = np.flatnonzero(before != after)
        pairs, counts = np.unique(np.stack([before[apart], after[apart]]), axis=1, return_counts=True)
        moves = [(texts[a], texts[b], int(n)) for (a, b), n in zip(pairs.T.tolist(), counts.tolist(), strict=True)]
        moves.sort(key=lambda move: (-move[2], move[0], move[1]))
        return OutcomeDiff(name, len(new.outcomes), len(apart), moves, self._first_parting(name, old, new, apart))

    def _first_parting(self, name: str, old: Folding, new: Folding, apart: Places) -> ComparedEvent | None:
        """The first event after which outcome or row differ, within the first snapshot at whose end any does.

        Rows that differ only in the middle of a snapshot, with the same outcomes, are not found.
        """
        log = _folded(self._new)[name].log
        snapshots = self._chain.through(self._snapshot.key)
        ends = np.cumsum([snapshot.cut(log).events for snapshot in snapshots])
        marks = np.flatnonzero(old.marks != new.marks)
        found = [int(np.searchsorted(ends, apart[0], side="right"))] if len(apart) else []
        found += [int(new.snapshots[marks[0]])] if len(marks) else []
        if not found:
            return None
        first = snapshots[min(found)]
        begin, end = int(ends[first.ordinal]) - first.cut(log).events, int(ends[first.ordinal])
        events = apart[(apart >= begin) & (apart < end)] - begin
        touched = marks[new.snapshots[marks] == first.ordinal] - int(np.searchsorted(new.snapshots, first.ordinal))
        sides = [side.running(name, first.key, events, touched) for side in (self._old, self._new)]
        parts = _parting(sides[0], sides[1], self._common_values(name))
        if not parts.any():
            return None
        seqs = np.where(parts, sides[1]["log_seq"].to_numpy(), np.iinfo(np.int64).max)
        at = [side.slice(int(np.argmin(seqs)), 1) for side in sides]
        return _compared_events(name, at[0], at[1], self._common_values(name))[0]


def _folded(side: Side) -> dict[str, FoldedInput]:
    """Every folded store behind the stores of a side, by name."""
    return {name: each for store in side.describe().values() for name, each in store.folded.items()}


def _key(store: Described) -> list[tuple[str, str]]:
    return [(name, store.columns[name].rstrip("?")) for name in store.key]


def _common_columns(old: Described, new: Described) -> list[str]:
    """The columns that both declare with types whose values can be compared."""
    return [
        name
        for name, kind in new.columns.items()
        if name in old.columns and same_kind(old.columns[name], kind, alike=True)
    ]


def _schema(old: Described, new: Described) -> list[SchemaChange]:
    keys = [SchemaChange("key", ", ".join(old.key), ", ".join(new.key))] if list(old.key) != list(new.key) else []
    return [*keys, *schema_changes(old.columns, new.columns)]


def _outcome_codes(old: Folding, new: Folding) -> tuple[Places, Places, list[str]]:
    """For every event a code of its outcome and reason on each side, and the text of each code, the same for both."""
    texts: dict[str, int] = {}
    codes = []
    for side in (old, new):
        both, inverse = np.unique(side.outcomes.astype(np.int64) * 256 + side.reasons, return_inverse=True)
        names = [_outcome_text(Outcome(pair // 256).name.lower(), side.texts.get(pair % 256)) for pair in both.tolist()]
        codes.append(np.array([texts.setdefault(name, len(texts)) for name in names], dtype=np.int64)[inverse])
    return codes[0], codes[1], list(texts)


def _outcome_text(outcome: str, reason: str | None) -> str:
    return f"{outcome} ({reason})" if reason else outcome


def _parting(old: pa.Table, new: pa.Table, common: Sequence[str]) -> Flags:
    """Which events, the same on both sides, have another outcome, or another row after them in a common column."""
    parts = differing(old["outcome"], new["outcome"]) | differing(old["reason"], new["reason"])
    rows = old["after"].combine_chunks(), new["after"].combine_chunks()
    if all(pa.types.is_struct(side.type) for side in rows):
        parts |= rows[0].is_null().to_numpy(False) ^ rows[1].is_null().to_numpy(False)
        for name in common:
            parts |= differing(*(pc.struct_field(side, name) for side in rows))
    return parts


def _compared_events(
    store: str, old: pa.Table | None, new: pa.Table | None, common: Sequence[str]
) -> list[ComparedEvent]:
    """The events of one folded store on both sides, or on the one that has it."""
    there = [side.to_pylist() for side in (old, new) if side is not None]
    one_sided = old is None or new is None
    parts = [True] * len(there[0]) if one_sided else _parting(old, new, common).tolist()
    events = []
    for *sides, apart in zip(*there, parts, strict=True):
        answers = [Answer(_outcome_text(event["outcome"], event["reason"]), event["after"]) for event in sides]
        place = {name: sides[0][name] for name in ("snapshot", *POSITION, "origin")}
        event = {name: value for each in sides for name, value in each["event"].items()}
        was, now = None if old is None else answers[0], None if new is None else answers[-1]
        events.append(ComparedEvent(store=store, **place, event=event, old=was, new=now, parts=apart))
    return events
