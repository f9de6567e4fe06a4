"""Orders of rows: how the rows of a relation's inputs are arranged so that a result that depends on them shows itself.

What an engine takes of rows that tie is the first, or the last, in some order. The reverse swaps the two; sorting by
each column in both directions puts every value first once, so that a choice among different values of a column always
shows; seeded permutations catch what is computed from several columns. Threads, the sizes of batches (none a multiple
of DuckDB's vectors of 2,048 rows) and whether DuckDB keeps the order of insertion differ among the orders as well.
`refold.stores.relating` runs a query over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_BATCHES_MAX = 100
_COLUMNS_MIN, _COLUMNS_MAX = 6, 24
_ROWS_SORTED = 3_000_000


class Arrangement(StrEnum):
    """How rows are arranged."""

    STORED = "as stored"
    REVERSED = "reversed"
    PERMUTED = "permuted"
    ASCENDING = "ascending by column"
    DESCENDING = "descending by column"


@dataclass(frozen=True)
class RowOrder:
    """One order of the rows of every input.

    Attributes:
        arrangement: how the rows are arranged.
        number: the seed of a permutation, or the place of the column to sort by among those that are read.
        threads: how many DuckDB uses.
        batch_rows: the rows of a batch; 0 is one batch.
        keeps_insertion_order: DuckDB's setting of that name.
    """

    arrangement: Arrangement = Arrangement.STORED
    number: int = 0
    threads: int = 1
    batch_rows: int = 0
    keeps_insertion_order: bool = True

    def __str__(self) -> str:
        number = f" {self.number + 1}" if self.arrangement not in (Arrangement.STORED, Arrangement.REVERSED) else ""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"rows {self.arrangement}{number}, {threads}"

    def of(self, table: pa.Table) -> pa.Table:
        """The rows of a table in this order."""
        if self.arrangement is not Arrangement.STORED:
            table = table.take(self._places(table))
        if not self.batch_rows:
            return table
        rows = max(self.batch_rows, len(table) // _BATCHES_MAX)
        return pa.Table.from_batches(table.combine_chunks().to_batches(max_chunksize=rows), table.schema)

    def _places(self, table: pa.Table) -> pa.Array:
        count = len(table)
        if self.arrangement is Arrangement.REVERSED:
            return pa.array(np.arange(count - 1, -1, -1))
        if self.arrangement is Arrangement.PERMUTED:
            return pa.array(np.random.default_rng(self.number).permutation(count))
        names = table.column_names
        direction = "ascending" if self.arrangement is Arrangement.ASCENDING else "descending"
        return pc.sort_indices(table, [(names[self.number % len(names)], direction)])


STORED = RowOrder()
_REVERSED = RowOrder(Arrangement.REVERSED, threads=2, batch_rows=999)
_PERMUTED = [
    RowOrder(Arrangement.PERMUTED, 1, threads=3, batch_rows=499, keeps_insertion_order=False),
    RowOrder(Arrangement.PERMUTED, 2, threads=2, batch_rows=1999),
    RowOrder(Arrangement.PERMUTED, 3),
    RowOrder(Arrangement.PERMUTED, 4, threads=2, batch_rows=4999, keeps_insertion_order=False),
]


def all_orders(reads: Mapping[str, Sequence[str]], rows: int) -> list[RowOrder]:
    """The orders that a proof needs, for the columns that are read of each input and the rows of all.

    By so many columns that some three million rows are sorted, and by six at least: a choice among rows that tie shows
    in the reverse and in permutations as well, but for few ties for certain in these alone.
    """
    most = max(_COLUMNS_MIN, min(_COLUMNS_MAX, _ROWS_SORTED // max(rows, 1)))
    count = min(max(map(len, reads.values()), default=0), most)
    directions = (Arrangement.ASCENDING, Arrangement.DESCENDING)
    return [_REVERSED, *_PERMUTED, *(RowOrder(way, place) for place in range(count) for way in directions)]


def brief_orders(reads: Mapping[str, Sequence[str]], rows: int, turn: int, *, ties: bool) -> list[RowOrder]:
    """The reverse; and for a query that takes one of the rows that tie another in each turn, so that all are taken."""
    rest = all_orders(reads, rows)[1:]
    return [_REVERSED, *([rest[turn % len(rest)]] if ties else [])]
