"""Updates that move a row to another key, read as two rows of one record: a delete of the old key, then the update.

Without the delete the row of the old key would remain for ever. Comes between `refold.landing.json_records` and the
decoders of change events, which know where a record has its old and its new key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from refold.landing.contract import Finding, ValueFault
from refold.landing.json_records import Records, taken
from refold.landing.jsonl import Sources, pick

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class KeyMoves:
    """Finds the updates among some records that move a row.

    Attributes:
        keys: where the log's key is, as `pick` takes it: each column's places after and before the change.
        ops: the places of the operation.
        update, delete: its values for an update, and for a delete.
    """

    keys: Sources
    ops: Sequence[int]
    update: str
    delete: str

    def apart(self, records: Records) -> Records:
        """The records with a row for the delete before that of each update that moves a row."""
        if not self._moving:
            return records
        was, now = self._before(records)[0], pick(records, self.keys)[0]
        moved = self.updates(records) & self._valid(was).all(axis=1)
        moved &= _any([pc.not_equal(was[name], now[name]) for name in self.keys], len(moved))
        if not moved.any():
            return records
        rows = np.repeat(np.arange(len(moved)), 1 + moved)
        deletes = np.append(rows[1:] == rows[:-1], False)
        records = taken(records, rows)
        table = records.table
        for place in self.ops:
            column = table.column(place)
            changed = pc.if_else(pa.array(deletes), pa.scalar(self.delete, column.type), column)
            table = table.set_column(place, table.field(place), changed)
        return replace(records, table=table)

    def findings(self, records: Records) -> dict[int, Finding]:
        """The updates, by row, of which it is not known whether they move a row."""
        if not self._moving:
            return {}
        was, faults = self._before(records)
        updates, valid = self.updates(records), self._valid(was)
        found = {
            row: Finding(fault.reason, fault.sentence(f"{name}, before the change"))
            for name, by_row in faults.items()
            for row, fault in by_row.items()
            if updates[row]
        }
        for row in np.flatnonzero(updates & valid.any(axis=1) & ~valid.all(axis=1)).tolist():
            there = [name for name, is_there in zip(self._moving, valid[row], strict=True) if is_there]
            sentence = f"Expected the whole key ({', '.join(self.keys)}) or none of it before the change"
            found.setdefault(row, Finding("incomplete-key", f"{sentence}, found {', '.join(there)}."))
        return found

    def updates(self, records: Records) -> Mask:
        """Which rows are updates."""
        updates = pc.equal(records.table.column(self.ops[0]), self.update)
        return np.asarray(pc.fill_null(updates, False).to_numpy(), dtype=np.bool_)

    def without_old_key(self, records: Records) -> Mask:
        """Which rows are updates that do not show the whole key before them, unless what they show is at fault."""
        found = np.zeros(len(records.lines), dtype=np.bool_)
        for name in self._moving:
            (_, old), *_ = self.keys[name]
            was, faults = pick(records, {name: ((old, old),)})
            found |= was[name].is_null().to_numpy()
            found[list(faults.get(name, {}))] = False
        return found & self.updates(records)

    @property
    def _moving(self) -> list[str]:
        """The columns of the key that a record has before and after the change."""
        return [name for name, pairs in self.keys.items() if any(after != before for after, before in pairs)]

    def _before(self, records: Records) -> tuple[pa.Table, dict[str, dict[int, ValueFault]]]:
        every = pa.chunked_array([pa.array(np.ones(len(records.lines), dtype=np.bool_))])
        return pick(records, self.keys, every)

    def _valid(self, was: pa.Table) -> Mask:
        """Which columns that can move are there, by row; shape (rows, columns)."""
        return np.stack([was[name].is_valid().to_numpy() for name in self._moving], axis=1)


def _any(masks: Sequence[pa.ChunkedArray], count: int) -> Mask:
    found = np.zeros(count, dtype=np.bool_)
    for mask in masks:
        found |= pc.fill_null(mask, False).to_numpy()
    return found
