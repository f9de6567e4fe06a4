"""The rows of a store in memory: one per key, the place of each key, and the digest tree over them.

Rows never leave (a delete leaves a tombstone, or a mark), so a key keeps its place, only what changed is hashed again,
and the rows that changed since a checkpoint's base are known. `State` is of a folded store, `Result` of a relation.
Folding is `refold.stores.folding`; storing is `refold.stores.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.canonical.digest import BUCKETS, Buckets, DigestTree, buckets_of
from refold.canonical.encoding import Hashes, as_one, encode_rows
from refold.canonical.hash_table import HashTable
from refold.stores.declaration import DELETED, Folded, Store
from refold.types import ColumnKind, ColumnType, Schema, arrow_schema, describe

Rows = npt.NDArray[np.int64]


class KeyedRows:
    """Rows with unique keys at one position of their inputs.

    `changed` are the places of the rows that are not those of the base, ascending; `hashes` those of all keys, where
    they are known.
    """

    def __init__(
        self,
        columns: Schema,
        key: Sequence[str],
        table: pa.Table | None = None,
        changed: Rows | None = None,
        hashes: Hashes | None = None,
    ) -> None:
        self._key = key
        self.schema = self.schema_of(columns)
        self.table: pa.Table = self.schema.empty_table() if table is None else table.cast(self.schema)
        self._hashes = key_hashes(self.table, self._key) if hashes is None else hashes
        self._index = HashTable(self._hashes)
        self._tree = DigestTree(self.described(columns))
        self._touched = _distinct(buckets_of(self._hashes))
        self._changed = np.zeros(len(self.table), dtype=np.bool_)
        self._changed[[] if changed is None else changed] = True
        self._hashes_by = dict[tuple[pa.Field, ...], Hashes]()

    def schema_of(self, columns: Schema) -> pa.Schema:
        """The columns, each of which may be null."""
        return pa.schema([field.with_nullable(True) for field in arrow_schema(columns)])

    def described(self, columns: Schema) -> str:
        """The text of the columns that enters the digest."""
        return describe(columns)

    def __len__(self) -> int:
        return len(self.table)

    def ordered(self) -> pa.Table:
        """The rows in the order of the hashes of their keys."""
        return self.table.take(pa.array(np.argsort(self._hashes, kind="stable")))

    @property
    def tree(self) -> DigestTree:
        """The digest tree over the rows; hashes what was put since the last call."""
        if len(self._touched):
            self._tree.update(*self._digested(), self._touched)
            self._touched = self._touched[:0]
        return self._tree

    def _digested(self) -> tuple[pa.Table, Buckets]:
        """The rows that the digest covers, and their buckets."""
        return self.table, buckets_of(self._hashes)

    def digest(self) -> str:
        """The digest of the rows, tombstones and positions included."""
        return self.tree.digest()

    def locate(self, keys: pa.Table) -> Rows:
        """The row of each key, given by the key's columns, -1 where it has none yet; shape (keys,)."""
        keys = keys.select(self._key).cast(pa.schema([self.schema.field(name) for name in self._key]))
        return _places_of(self._index, keys, key_hashes(keys, self._key), self.table, self._key)

    def put(self, rows: Rows, table: pa.Table) -> Rows:
        """Replace the rows at `rows` by `table`'s, one for one; those of -1 are added, in order. Returns all places."""
        table = table.select(self.schema.names).cast(self.schema)
        self.table, places = replaced(self.table, rows, table)
        new = np.flatnonzero(rows < 0)
        hashes = key_hashes(table, self._key)
        self._hashes = np.concatenate([self._hashes, hashes[new]])
        self._index.extend(self._hashes)
        self._changed = np.concatenate([self._changed, np.ones(len(new), dtype=np.bool_)])
        self._changed[places] = True
        self._touched = _distinct(np.concatenate([self._touched, buckets_of(hashes)]))
        for columns, known in self._hashes_by.items():
            found = np.concatenate([known, np.zeros(len(new), dtype=np.uint64)])
            found[places] = hashes_by(table, columns)
            self._hashes_by[columns] = found
        return places

    def hashes_by(self, columns: tuple[pa.Field, ...]) -> Hashes:
        """The hash of each row's values in some columns, each taken as the type of its field; kept from then on."""
        if columns not in self._hashes_by:
            self._hashes_by[columns] = hashes_by(self.table, columns)
        return self._hashes_by[columns]

    @property
    def changed_count(self) -> int:
        """How many rows are not those of the base."""
        return int(np.count_nonzero(self._changed))

    def changed(self) -> pa.Table:
        """The rows that are not those of the base, in the order of their places."""
        return self.table.take(pa.array(np.flatnonzero(self._changed))).combine_chunks()

    def begin_changes(self) -> None:
        """From here on count changes against the rows as they are now."""
        self._changed[:] = False


class State(KeyedRows):
    """A folded store's rows at one position of its log, tombstones included."""

    def __init__(
        self,
        store: Folded,
        table: pa.Table | None = None,
        changed: Rows | None = None,
        hashes: Hashes | None = None,
    ) -> None:
        self.store = store
        super().__init__(store.state_columns, store.log.key_columns, table, changed, hashes)

    def row(self, key: Any) -> dict[str, Any] | None:
        """The row of one key, as `Log.key_of` gives it, tombstone or not; None where the log never had the key."""
        (place,) = self.locate(keys_table(self.store, [key])).tolist()
        return None if place < 0 else self.table.slice(place, 1).to_pylist()[0]

    def published(self) -> pa.Table:
        """The rows for readers: without tombstones, the published columns, sorted by key."""
        return published_rows(self.store, self.table)


class Result(KeyedRows):
    """A relation's rows at one snapshot; a row that left is marked and not in the digest."""

    def __init__(
        self, store: Store, table: pa.Table, changed: Rows | None = None, hashes: Hashes | None = None
    ) -> None:
        """`table` has the store's columns, with the mark or without."""
        self.store = store
        super().__init__({**store.columns, REMOVED: _MARK}, store.key, with_mark(table), changed, hashes)

    def described(self, columns: Schema) -> str:
        """That of the declared columns."""
        return describe(self.store.columns)

    @property
    def _live(self) -> npt.NDArray[np.bool_]:
        removed: npt.NDArray[np.bool_] = self.table[REMOVED].to_numpy()
        return ~removed

    def _digested(self) -> tuple[pa.Table, Buckets]:
        table, buckets, live = self.table.drop_columns([REMOVED]), buckets_of(self._hashes), self._live
        return (table, buckets) if live.all() else (table.filter(pa.array(live)), buckets[live])

    def rows(self) -> pa.Table:
        """The rows, sorted by key."""
        return sort_by(without_removed(self.table), self.store.key)

    @property
    def live_count(self) -> int:
        """How many rows there are without those that left."""
        return int(np.count_nonzero(self._live))

    def based(self) -> Result:
        """The same rows as a base: sorted, none of them changed."""
        return Result(self.store, self.rows())

    def replace(self, within: npt.NDArray[np.bool_], table: pa.Table) -> None:
        """Take `table` for the rows at the places where `within` is true; its other keys are not there yet.

        Rows that stay as they are do not count as changed.
        """
        table = with_mark(table).select(self.schema.names).cast(self.schema)
        places = self.locate(table.select(list(self.store.key)))
        gone = within & self._live
        gone[places[places >= 0]] = False
        known = np.flatnonzero(places >= 0)
        same = equal_rows(self.table.take(pa.array(places[known])), table.take(pa.array(known)))
        kept = np.ones(len(table), dtype=np.bool_)
        kept[known[same]] = False
        leaving = np.flatnonzero(gone)
        if len(leaving):
            marks = self.table.take(pa.array(leaving)).drop_columns([REMOVED])
            self.put(leaving, marks.append_column(REMOVED, pa.array(np.ones(len(leaving), dtype=np.bool_))))
        if kept.any():
            self.put(places[kept], table.filter(pa.array(kept)))


REMOVED = "__removed"
_MARK = ColumnType(ColumnKind.BOOLEAN)


def with_mark(table: pa.Table) -> pa.Table:
    """A relation's rows with the mark, where they have none yet."""
    if REMOVED in table.column_names:
        return table
    return table.append_column(REMOVED, pa.array(np.zeros(len(table), dtype=np.bool_)))


def without_removed(table: pa.Table) -> pa.Table:
    """A relation's rows without those that left, and without their mark."""
    return table.filter(pc.invert(table[REMOVED])).drop_columns([REMOVED])


def equal_rows(one: pa.Table, other: pa.Table) -> npt.NDArray[np.bool_]:
    """Where the rows of two tables of the same columns are equal, nulls too; shape (rows,)."""
    same = np.ones(len(one), dtype=np.bool_)
    for name in one.column_names:
        mine, theirs = one[name], other[name]
        equal = pc.fill_null(pc.equal(mine, theirs), False)
        same &= pc.or_(equal, pc.and_(pc.is_null(mine), pc.is_null(theirs))).to_numpy()
    return same


def hashes_by(table: pa.Table, columns: Sequence[pa.Field]) -> Hashes:
    """The hash of each row's values in some columns, each taken as the type of its field; shape (rows,)."""
    return encode_rows([table[field.name].cast(field.type) for field in columns]).hashes()


def _places_of(table: HashTable, keys: pa.Table, hashes: Hashes, among: pa.Table, names: Sequence[str]) -> Rows:
    """The place of each key, which has the columns `names`, among others, whose hashes `table` has; -1 elsewhere."""
    places = table.find(hashes)
    known = np.flatnonzero(places >= 0)
    where = pa.array(places[known])
    asked = keys if len(known) == len(keys) else keys.take(pa.array(known))
    if all(among[name].take(where).equals(asked[name]) for name in names):
        return places
    return places_of(keys_of(keys, names), keys_of(among, names))  # two keys have the same hash


def _distinct(buckets: Buckets) -> Buckets:
    """The buckets among some, each once, ascending."""
    return np.flatnonzero(np.bincount(buckets, minlength=BUCKETS)).astype(np.uint16)


def published_rows(store: Folded, table: pa.Table) -> pa.Table:
    """The rows of a state table that are published: no tombstones, declared columns and types, sorted by key bytes."""
    live = table.filter(pc.invert(table[DELETED])) if store.deletes else table
    return sort_by(live.select(list(store.columns)).cast(arrow_schema(store.columns)), store.key)


def sort_by(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """The table sorted by its key columns, text by bytes, nulls first."""
    order = pc.sort_indices(table, sort_keys=[(name, "ascending", "at_start") for name in key])
    return table.take(order).combine_chunks()


def key_hashes(table: pa.Table, key: Sequence[str]) -> Hashes:
    """The hash of each row's key, encoded as a row of its own."""
    return encode_rows([table[name] for name in key]).hashes()


def keys_of(table: pa.Table, key: Sequence[str]) -> pa.ChunkedArray:
    """The key of each row as one column."""
    return as_one([table[name] for name in key])


def keys_table(store: Folded, keys: Sequence[Any]) -> pa.Table:
    """The columns of keys that are given as `Log.key_of` gives them."""
    names, columns = store.log.key_columns, store.log.columns
    parts = [[key] for key in keys] if len(names) == 1 else keys
    return pa.table({name: pa.array([p[i] for p in parts], columns[name].arrow) for i, name in enumerate(names)})


def replace_rows(
    base: pa.Table, changes: pa.Table, key: Sequence[str], hashes: tuple[Hashes, Hashes] | None = None
) -> tuple[pa.Table, Rows, Hashes]:
    """`base` with the rows of `changes` in place of those with the same key, the others added in order.

    `hashes` are those of the keys of both, where they are known. Returns the table, the places of the changes in it,
    and the hashes of all its keys.

    >>> base, changes = pa.table({"k": ["a", "b"], "n": [1, 2]}), pa.table({"k": ["c", "a"], "n": [3, 4]})
    >>> table, places, _ = replace_rows(base, changes, ["k"])
    >>> table.to_pydict(), places.tolist()
    ({'k': ['a', 'b', 'c'], 'n': [4, 2, 3]}, [2, 0])
    """
    before, new = hashes or (key_hashes(base, key), key_hashes(changes, key))
    rows = _places_of(HashTable(before), changes, new, base, key)
    return *replaced(base, rows, changes), np.concatenate([before, new[rows < 0]])


def values_at(table: pa.Table, rows: Rows, default: pa.Table) -> pa.Table:
    """The rows of a table at some places; those of -1 are the one row of `default`.

    >>> values_at(pa.table({"n": [1, 2]}), np.array([1, -1]), pa.table({"n": [0]}))["n"].to_pylist()
    [2, 0]
    """
    source = pa.concat_tables([table, default.cast(table.schema)])
    return source.take(pa.array(np.where(rows < 0, len(table), rows))).combine_chunks()


def places_of(keys: pa.Array | pa.ChunkedArray, among: pa.ChunkedArray) -> Rows:
    """The place of each key among others, -1 where it is not there."""
    found = pc.index_in(keys, value_set=among.combine_chunks())
    return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)


def replaced(base: pa.Table, rows: Rows, table: pa.Table) -> tuple[pa.Table, Rows]:
    """`base` with the rows of `table` at the places `rows`, those of -1 added in order; and where all of them are."""
    new = np.flatnonzero(rows < 0)
    places = rows.copy()
    places[new] = len(base) + np.arange(len(new))
    order = np.arange(len(base) + len(new))
    order[places] = len(base) + np.arange(len(table))
    return pa.concat_tables([base, table]).take(pa.array(order)).combine_chunks(), places
