"""How writes with version vectors change the rows of a store.

The sides of a key are the writes that no other write of it has seen. A row keeps one side as its values and vector,
and several as the JSON array `sides`, with what they are resolved to as its values, and the join of their vectors as
its vector. All of that follows from the writes as a set, and so not from their order.

Most keys are written in turn, each write seeing the one before; those are folded by columns, the others write by write.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.version_vectors import Vector, beyond, dominates, joined, vector_text
from refold.errors import EventRefused
from refold.log.reader import plain
from refold.rules.outcome import FoldResult, Outcome
from refold.rules.rule import Rule
from refold.sinks.values import from_json, to_json
from refold.storage.objects import canonical_json
from refold.stores.declaration import DELETED
from refold.stores.kinds.latest_fold import DeleteWhen
from refold.stores.kinds.newest import Ints, Mask, in_turns
from refold.types import ColumnKind, ColumnType, Schema

SIDES = "sides"
"""The column with the sides of a row that has several."""

OLDER, SAME, CONCURRENT, SAME_VERSION = 1, 2, 3, 4
REASONS: Mapping[int, str] = {
    OLDER: "OLDER",
    SAME: "SAME",
    CONCURRENT: "CONCURRENT",
    SAME_VERSION: "SAME_VERSION",
}
"""Why a write is ignored: another has seen it, or is equal to it. How one that is applied meets others: it is
concurrent with one, or has the vector of one and other values."""

_CELLS_MAX = 50_000_000
_ROWS_AT_ONCE = 65_536

Values = tuple[object, ...]
"""The kept values of a write, as JSON has them."""


class Side(NamedTuple):
    """A write that no other of its key has seen; `values` are nulls where it deletes."""

    vector: Vector
    values: Values
    deleted: bool
    text: bytes


class Resolver(Protocol):
    """How several sides that do not delete become one row of values."""

    @property
    def interpreted(self) -> bool:
        """Whether Python code of the project is run."""

    @property
    def form(self) -> str:
        """What enters fingerprints."""

    def resolve(self, sides: Sequence[Sequence[Side]], columns: Schema) -> list[Values]:
        """The values of each key from its sides, which are in the order of their texts."""


@dataclass(frozen=True)
class TieBreak:
    """Of concurrent writes the one counts that is greatest by some columns, and of equals by all its values.

    Nulls are lowest, texts are compared byte for byte. Without columns any one counts, always the same.
    """

    columns: tuple[str, ...] = ()
    interpreted = False

    def __init__(self, *columns: str) -> None:
        object.__setattr__(self, "columns", columns)

    def __str__(self) -> str:
        return f"the greatest {', '.join(self.columns)}" if self.columns else "the greatest by all columns"

    @property
    def form(self) -> str:
        """The columns."""
        return f"greatest {list(self.columns)}"

    def resolve(self, sides: Sequence[Sequence[Side]], columns: Schema) -> list[Values]:
        """The values of the greatest side of each key."""
        kinds = [(list(columns).index(name), columns[name].kind) for name in self.columns]

        def rank(side: Side) -> tuple[object, ...]:
            return (*(_ordered(side.values[place], kind) for place, kind in kinds), side.text)

        return [max(each, key=rank).values for each in sides]


def _ordered(value: Any, kind: ColumnKind) -> tuple[object, ...]:
    """A JSON value as one that is compared as its column is."""
    if value is None:
        return ()
    if kind is ColumnKind.DECIMAL:
        return (Decimal(value),)
    if kind is ColumnKind.BINARY:
        return (base64.b64decode(value),)
    return (value.encode(),) if isinstance(value, str) else (value,)


@dataclass(frozen=True)
class Merge:
    """Concurrent writes are merged by a function, two at a time, in the order of their texts."""

    rule: Rule

    def __str__(self) -> str:
        return f"the merge function {self.rule.name}"

    @property
    def interpreted(self) -> bool:
        """Whether Python runs it."""
        return self.rule.interpreted_because is not None

    @property
    def form(self) -> str:
        """Its fingerprint."""
        return f"merge {self.rule.fingerprint}"

    def resolve(self, sides: Sequence[Sequence[Side]], columns: Schema) -> list[Values]:
        """The first side of each key, changed by all others."""
        codes = np.repeat(np.arange(len(sides)), [len(each) - 1 for each in sides])
        firsts = table_of([each[0].values for each in sides], columns)
        others = table_of([side.values for each in sides for side in each[1:]], columns)
        merged = self.rule.fold(firsts, codes, others, np.ones(len(codes), dtype=np.bool_)).rows
        return values_of(merged.select(list(columns)), columns)


def table_of(values: Sequence[Values], columns: Schema) -> pa.Table:
    """Values as a table of columns that may be null."""
    by_column: Sequence[Sequence[object]] = list(zip(*values, strict=True)) or [()] * len(columns)
    return pa.table({n: from_json(each, kind) for (n, kind), each in zip(columns.items(), by_column, strict=True)})


def values_of(table: pa.Table, columns: Schema) -> list[Values]:
    """The rows of a table as JSON has them."""
    if not len(table):
        return []
    return list(zip(*(to_json(plain(table[name]).cast(t.arrow), t) for name, t in columns.items()), strict=True))


@dataclass(frozen=True)
class Versions:
    """What a store of latest versions keeps.

    Attributes:
        by: the column of version vectors.
        picked: the kept columns, of the log's types.
        resolver: how concurrent sides become one row.
        delete_when: what deletes a key, if anything.
        seen: the counters that every write has seen, whether it names them or not.
        sides_max: how many sides a key may have.
    """

    by: str
    picked: Mapping[str, ColumnType]
    resolver: Resolver
    delete_when: DeleteWhen | None
    seen: Vector
    sides_max: int

    def fold(self, rows: pa.Table, codes: Ints, events: pa.Table, live: Mask) -> FoldResult:
        """See `refold.stores.declaration.Folded.fold`. Raises RuleError of a merge, EventRefused."""
        when = self.delete_when
        deletes = when.mask(events) if when else np.zeros(len(events), dtype=np.bool_)
        return _Fold(self, rows, codes, events, live, deletes).result()

    def side(self, vector: Vector, values: Values, deleted: bool) -> Side:
        """A side with its text."""
        kept = (None,) * len(self.picked) if deleted else values
        shown = {
            "version": vector_text(vector),
            "values": dict(zip(self.picked, kept, strict=True)),
            "deleted": deleted,
        }
        return Side(vector, kept, deleted, canonical_json(shown))

    def sides_in(self, text: str) -> list[Side]:
        """The sides that a row keeps."""
        found = []
        for each in json.loads(text):
            values = tuple(each["values"][name] for name in self.picked)
            found.append(self.side(json.loads(each["version"]), values, each["deleted"]))
        return found


class _Fold:
    """One fold: its inputs, and what each distinct vector is."""

    def __init__(
        self, versions: Versions, rows: pa.Table, codes: Ints, events: pa.Table, live: Mask, deletes: Mask
    ) -> None:
        self._versions, self._rows, self._events = versions, rows, events
        self._codes, self._live, self._deletes = codes, live, deletes
        texts = pa.chunked_array([*rows[versions.by].chunks, *plain(events[versions.by]).chunks], pa.string())
        coded = texts.combine_chunks().dictionary_encode()
        coded = pa.concat_arrays(coded.chunks) if isinstance(coded, pa.ChunkedArray) else coded
        self._vectors: list[Vector] = [beyond(json.loads(text), versions.seen) for text in coded.dictionary.to_pylist()]
        found = coded.indices.fill_null(-1).to_numpy().astype(np.int64)
        self._of_row, self._of_event = found[: len(rows)], found[len(rows) :]

    def result(self) -> FoldResult:
        outcomes = np.where(self._live, Outcome.APPLIED, 0).astype(np.uint8)
        reasons = np.zeros(len(outcomes), dtype=np.uint8)
        parted = self._parted()
        last = np.full(len(self._rows), -1, dtype=np.int64)
        places = np.flatnonzero(self._live)
        last[self._codes[places]] = places
        in_turn = np.flatnonzero(~parted & (last >= 0))
        tables, choice = [self._rows, self._in_turn(last[in_turn])], np.arange(len(self._rows))
        choice[in_turn] = len(self._rows) + np.arange(len(in_turn))
        slow = np.flatnonzero(parted)
        if len(slow):
            tables.append(self._write_by_write(slow, outcomes, reasons))
            choice[slow] = len(self._rows) + len(in_turn) + np.arange(len(slow))
        schema = self._rows.schema
        after = pa.concat_tables([each.select(schema.names).cast(schema) for each in tables]).take(pa.array(choice))
        return FoldResult(after, outcomes, reasons, self._versions.resolver.interpreted and len(slow) > 0)

    def _parted(self) -> Mask:
        """The keys whose live events are not a chain, each having seen the one before and the row."""
        turns = in_turns(self._codes, self._live)
        key, own = self._codes[turns], self._of_event[turns]
        first = np.append(np.ones(len(key[:1]), dtype=np.bool_), key[1:] != key[:-1])
        before = np.where(first, self._of_row[key], np.append(own[:1], own[:-1]))
        parted = np.zeros(len(self._rows), dtype=np.bool_)
        parted[key[~self._newer(before, own)]] = True
        touched = np.zeros(len(self._rows), dtype=np.bool_)
        touched[key] = True
        several = np.asarray(self._rows[SIDES].is_valid().to_numpy(), dtype=np.bool_)
        return parted | (touched & several)

    def _newer(self, before: Ints, own: Ints) -> Mask:
        """Which vectors dominate others, both given by their codes; all dominate -1."""
        names = sorted({name for vector in self._vectors for name in vector})
        if len(names) * len(self._vectors) > _CELLS_MAX:
            return before < 0
        column = {name: place for place, name in enumerate(names)}
        counts = np.zeros((len(self._vectors), len(names)), dtype=np.int64)
        for place, vector in enumerate(self._vectors):
            for name, count in vector.items():
                counts[place, column[name]] = count
        found = before < 0
        for start in range(0, len(own), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            old, new = counts[before[part]], counts[own[part]]
            found[part] |= (new >= old).all(axis=1) & (new > old).any(axis=1)
        return found

    def _in_turn(self, last: Ints) -> pa.Table:
        """The rows of keys whose last event has seen all before it."""
        taken, deleted = self._events.take(pa.array(last)), self._deletes[last]
        columns = {}
        for name, kind in self._versions.picked.items():
            values = plain(taken[name]).cast(kind.arrow)
            columns[name] = pc.if_else(pa.array(deleted), pa.scalar(None, kind.arrow), values)
        vectors = [vector_text(self._vectors[code]) for code in self._of_event[last]]
        columns[self._versions.by] = pa.array(vectors, pa.string())
        return pa.table({**columns, SIDES: pa.nulls(len(last), pa.string()), DELETED: deleted})

    def _write_by_write(self, keys: Ints, outcomes: Any, reasons: Any) -> pa.Table:
        """The rows of other keys; fills in the outcomes of their events."""
        place_of = np.full(len(self._rows), -1, dtype=np.int64)
        place_of[keys] = np.arange(len(keys))
        places = np.flatnonzero(self._live & (place_of[self._codes] >= 0))
        picked = self._versions.picked
        values = values_of(self._events.select(list(picked)).take(pa.array(places)), picked)
        sides = self._sides_before(keys)
        for place, kept in zip(places.tolist(), values, strict=True):
            number = place_of[self._codes[place]]
            vector, deleted = self._vectors[self._of_event[place]], bool(self._deletes[place])
            found = taken_in(sides[number], self._versions.side(vector, kept, deleted))
            sides[number], outcomes[place], reasons[place] = found
            if len(found[0]) > self._versions.sides_max:
                raise EventRefused(
                    f"Expected at most {self._versions.sides_max:,} concurrent writes of a key (sides_max), found "
                    f"{len(found[0]):,}: none of them has seen another.",
                    remedy="Let its writers read before they write, or raise sides_max; no write is dropped.",
                    event_index=place,
                )
        return self._resolved([sorted(each, key=lambda side: side.text) for each in sides])

    def _sides_before(self, keys: Ints) -> list[list[Side]]:
        rows, versions = self._rows.take(pa.array(keys)), self._versions
        found = []
        kept = values_of(rows.select(list(versions.picked)), versions.picked)
        more = zip(keys.tolist(), kept, rows[SIDES].to_pylist(), rows[DELETED].to_pylist(), strict=True)
        for key, values, sides, deleted in more:
            code = int(self._of_row[key])
            one = [] if code < 0 else [versions.side(self._vectors[code], values, deleted)]
            found.append(one if sides is None else versions.sides_in(sides))
        return found

    def _resolved(self, sides: Sequence[Sequence[Side]]) -> pa.Table:
        versions = self._versions
        living = [[side for side in each if not side.deleted] for each in sides]
        values = [each[0].values if each else (None,) * len(versions.picked) for each in living]
        several = [place for place, each in enumerate(living) if len(each) > 1]
        if several:
            found = versions.resolver.resolve([living[place] for place in several], versions.picked)
            for place, decided in zip(several, found, strict=True):
                values[place] = decided
        vectors = [vector_text(joined(side.vector for side in each)) for each in sides]
        texts = [f"[{','.join(s.text.decode() for s in each)}]" if len(each) > 1 else None for each in sides]
        marks = {versions.by: pa.array(vectors, pa.string()), SIDES: pa.array(texts, pa.string())}
        kept = table_of(values, versions.picked)
        deleted = pa.array([not each for each in living], pa.bool_())
        return pa.table({**{name: kept[name] for name in versions.picked}, **marks, DELETED: deleted})


def taken_in(sides: list[Side], new: Side) -> tuple[list[Side], Outcome, int]:
    """The sides of a key after one more write, and the outcome of the write with its reason."""
    if any(dominates(side.vector, new.vector) for side in sides):
        return sides, Outcome.IGNORED, OLDER
    if any(side.text == new.text for side in sides):
        return sides, Outcome.IGNORED, SAME
    others = [side for side in sides if not dominates(new.vector, side.vector)]
    equal = any(side.vector == new.vector for side in others)
    reason = SAME_VERSION if equal else CONCURRENT if others else 0
    return [*others, new], Outcome.APPLIED, reason
