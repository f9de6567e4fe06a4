"""The records of some lines: many lines read at once where that is safe, one by one elsewhere.

Comes after `json_line` (what a record is) and `json_block` (many at once), and before the decoders, which say which
fields make up a column. The result does not depend on the way: a block that the fast path refuses is read in shorter
ones up to the lines that it refuses, and these one by one, so that a bad line costs no more than its neighbours.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from refold.base.parallel import each
from refold.landing import texts
from refold.landing.contract import Finding, ValueFault
from refold.landing.decoder import BadRecord
from refold.landing.documents import ROWS_BYTES_MAX, Path, rewritten
from refold.landing.json_block import Block, BlockReader, LineIndex, Refused
from refold.landing.json_line import Field, read_line

LINE_BYTES_MAX = 1 << 20
"""Default limit of one line: 1 MiB."""

BLOCK_BYTES = 1 << 20
FEW_LINES = 16
"""Shorter runs are read line by line, which is faster there than setting up a reader."""
SINGLY_MAX = 1024
"""The most lines that are read one by one before the reader is tried again."""


@dataclass(frozen=True)
class Records:
    """All records of some lines.

    Attributes:
        table: one row per record that could be parsed, by line; one column per field, named by its number.
        lines: the line (from 1 in `index`) of each row.
        faults: by row and field, the values that could not be read; they are null in the table.
        bad: the lines that are not records, by ascending line.
        raw: the exact bytes of a line (from 1), without its newline.
        control: how many lines held no row.
    """

    table: pa.Table
    lines: npt.NDArray[np.int64]
    faults: Mapping[int, Mapping[int, ValueFault]]
    bad: Sequence[BadRecord]
    raw: Callable[[int], bytes]
    control: int = 0


def taken(records: Records, rows: npt.NDArray[np.int64]) -> Records:
    """Some rows of records, in ascending order; a row may recur."""
    if len(rows) == len(records.lines) and np.array_equal(rows, np.arange(len(rows))):
        return records
    faults = {row: records.faults[old] for row, old in enumerate(rows.tolist()) if old in records.faults}
    return replace(records, table=records.table.take(pa.array(rows)), lines=records.lines[rows], faults=faults)


def read_rewritten(
    index: LineIndex,
    fields: Sequence[Field],
    line_bytes_max: int,
    texts: Sequence[Path],
    arrays: Sequence[Path],
    *,
    fast: bool = True,
) -> Records:
    """The same, with JSON texts opened and arrays taken apart first; a line of which one row is bad is bad."""
    new = rewritten(index, texts, arrays, line_bytes_max)
    found = read_records(new.index, fields, ROWS_BYTES_MAX if arrays else 2 * line_bytes_max, fast=fast)
    lines = new.numbers[found.lines - 1]
    own = {int(new.numbers[record.number - 1]): record for record in reversed(found.bad)}
    bad = [*new.bad, *(replace(each, number=line, raw=index.raw(line - 1)) for line, each in own.items())]
    good = taken(replace(found, lines=lines), np.flatnonzero(~np.isin(lines, list(own))))
    bad.sort(key=lambda record: record.number)
    return replace(good, bad=bad, raw=lambda line: index.raw(line - 1), control=new.empty)


def read_records(index: LineIndex, fields: Sequence[Field], line_bytes_max: int, *, fast: bool = True) -> Records:
    """Read the values of `fields` from every record; with `fast=False` line by line throughout, to the same result."""
    collected = _Collector(index, fields, line_bytes_max)
    blank = index.blank()
    reader = BlockReader(fields)
    plain = index.plain(line_bytes_max) if fast and reader.usable else np.zeros_like(blank)
    for low, high, is_plain in _runs(plain | (blank & fast)):
        if is_plain:
            _read_run(collected, reader, blank, low, high)
        else:
            collected.read_lines(low, high, blank)
    return collected.finish()


def _runs(marks: npt.NDArray[np.bool_]) -> list[tuple[int, int, bool]]:
    """Maximal stretches of equal marks as (low, high, mark)."""
    edges = [0, *(np.flatnonzero(np.diff(marks)) + 1).tolist(), len(marks)]
    return [(low, high, bool(marks[low])) for low, high in itertools.pairwise(edges) if low < high]


def _read_run(collected: _Collector, reader: BlockReader, blank: npt.NDArray[np.bool_], low: int, high: int) -> None:
    """Read a run of plain lines in blocks, several at once, and those that the reader refuses piece by piece."""
    read = partial(_read_block, collected.index, reader, blank)
    blocks = _blocks(collected.index, low, high)
    found = each(lambda block: read(*block), blocks, [high - low for low, high in blocks])
    for block, what in zip(blocks, found, strict=True):
        if isinstance(what, Block):
            collected.add(what.table, _lines(blank, *block), what.faults)
        else:
            _read_refused(collected, read, blank, *block, what)


def _read_refused(
    collected: _Collector,
    read: Callable[[int, int], Block | Refused],
    blank: npt.NDArray[np.bool_],
    low: int,
    high: int,
    refused: Refused | None,
) -> None:
    """Read as many lines at once as the reader takes: up to where it stopped, then twice as many with each success.

    `refused` is what the reader returned for all the lines. If it refuses the first ones, some lines are read one by
    one, and twice as many each further time in a row. What is read in vain is therefore in proportion to what is read,
    wherever the refused lines are.
    """
    reach, singly = high - low, FEW_LINES
    while low < high:
        cut = min(low + reach, high)
        lines = _lines(blank, low, cut)
        what, refused = refused or (read(low, cut) if len(lines) else None), None
        if not isinstance(what, Refused):
            if what:
                collected.add(what.table, lines, what.faults)
            low, reach, singly = cut, 2 * reach, FEW_LINES
            continue
        clean = (cut - low) // 2 if what.row is None or what.row >= len(lines) else int(lines[what.row]) - 1 - low
        if clean >= FEW_LINES:
            reach = clean
        else:  # bad lines often follow one another: one at a time, each would cost a read
            cut = min(low + singly, high)
            collected.read_lines(low, cut, blank)
            singly = min(2 * singly, SINGLY_MAX)
            low, reach = cut, max(2 * singly, reach // 2)


def _blocks(index: LineIndex, low: int, high: int) -> list[tuple[int, int]]:
    """Lines as blocks of about `BLOCK_BYTES`, with at least `FEW_LINES` except in the last."""
    blocks = []
    while low < high:
        cut = max(int(np.searchsorted(index.ends, int(index.starts[low]) + BLOCK_BYTES)), low + FEW_LINES)
        blocks.append((low, min(cut, high)))
        low = cut
    return blocks


def _lines(blank: npt.NDArray[np.bool_], low: int, high: int) -> npt.NDArray[np.int64]:
    """The lines (from 1) of a block that are records."""
    return np.arange(low, high)[~blank[low:high]] + 1


def _read_block(
    index: LineIndex, reader: BlockReader, blank: npt.NDArray[np.bool_], low: int, high: int
) -> Block | Refused:
    count = int(np.count_nonzero(~blank[low:high]))
    if high - low < FEW_LINES or not count:
        return Refused()
    found = reader.read(index.data[index.starts[low] : index.ends[high - 1]], count)
    if isinstance(found, Refused) and found.place is not None:
        line = index.line_at(int(index.starts[low]) + found.place)
        return Refused(int(np.count_nonzero(~blank[low:line])))
    return found


@dataclass
class _Collector:
    """Collects rows in the order of lines, however they were read."""

    index: LineIndex
    fields: Sequence[Field]
    line_bytes_max: int
    bad: list[BadRecord] = field(default_factory=list)
    faults: dict[int, dict[int, ValueFault]] = field(default_factory=dict)
    tables: list[pa.Table] = field(default_factory=list)
    lines: list[npt.NDArray[np.int64]] = field(default_factory=list)
    rows: int = 0
    pending: list[list[object]] = field(default_factory=list)
    pending_lines: list[int] = field(default_factory=list)

    def read_lines(self, low: int, high: int, blank: npt.NDArray[np.bool_]) -> None:
        for number in range(low, high):
            if not blank[number]:
                self._read_line(number)

    def _read_line(self, number: int) -> None:
        raw = self.index.raw(number)
        record = read_line(raw, self.fields, self.line_bytes_max)
        if isinstance(record, Finding):
            self.bad.append(BadRecord(number + 1, *record, raw))
            return
        if record.faults:
            self.faults[self.rows] = record.faults
        self.pending.append(record.values)
        self.pending_lines.append(number + 1)
        self.rows += 1

    def add(self, table: pa.Table, lines: npt.NDArray[np.int64], faults: dict[int, dict[int, ValueFault]]) -> None:
        self._flush()
        self.faults.update((self.rows + row, by_field) for row, by_field in faults.items())
        self.tables.append(table)
        self.lines.append(lines.astype(np.int64))
        self.rows += len(table)

    def _flush(self) -> None:
        if self.pending or not self.tables:
            columns = list(zip(*self.pending, strict=True)) if self.pending else [()] * len(self.fields)
            arrays = [_array(values, of) for values, of in zip(columns, self.fields, strict=True)]
            self.tables.append(pa.table(arrays, names=[str(index) for index in range(len(arrays))]))
            self.lines.append(np.array(self.pending_lines, dtype=np.int64))
            self.pending, self.pending_lines = [], []

    def finish(self) -> Records:
        self._flush()
        return Records(pa.concat_tables(self.tables), np.concatenate(self.lines), self.faults, self.bad, self._raw)

    def _raw(self, line: int) -> bytes:
        return self.index.raw(line - 1)


def _array(values: Sequence[object], of: Field) -> pa.Array:
    if of.type is None:
        return pa.array([bool(value) for value in values], pa.bool_())
    return texts.typed(cast("list[texts.Value | None]", list(values)), of.type)
