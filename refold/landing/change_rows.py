"""Changes as Maxwell and AWS DMS write them: an operation beside the row, and at most what the row was before.

Lines, types and limits are those of `refold.landing.jsonl`. Debezium's envelope, which has the row twice, is
`refold.landing.debezium`; ready declarations are in `refold.landing.change_sources`.

- The row is in one place for every operation. `old` holds the columns that an update changed, or the whole key.
- An update that does not show which key the row had before (`OldRow`) is bad: `missing-before`. Were it applied, a row
  that it moves would remain under its old key.
- An update whose key in `old` is not that of the row moves it: it is read as a delete of the old key, with the other
  columns as they are after the change, and then the update.
- Records of the format itself, such as the start of a bootstrap, are control records; other operations are bad:
  `unsupported-op`. A record without operation or row is bad too: `missing-op`, `missing-row`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.landing.contract import Finding, settle, shorten
from refold.landing.decoder import Decoded
from refold.landing.json_line import Field
from refold.landing.json_records import LINE_BYTES_MAX, Records, taken
from refold.landing.jsonl import FieldFinder, LineDecoder, Plan, pick
from refold.landing.key_moves import KeyMoves
from refold.types import ColumnType, Schema, text


class OldRow(StrEnum):
    """What an update must show of the row before it: what changed, its key, or nothing, where no key ever changes."""

    CHANGES = "changes"
    KEY = "key"
    NOTHING = "nothing"


@dataclass(frozen=True)
class ChangeRows(LineDecoder):
    """Decodes changes of rows in JSON Lines.

    A declared column is read from the row; `op` is the operation, and `places` says which columns are elsewhere.

    Attributes:
        operation, row, old: the dotted places of the operation, the row, and what an update changed.
        writes, update, delete, control: the operations that write a row, that of an update, that of a delete, and those
            of the format itself.
        places: columns that are not in the row, each with its dotted place.
        old_row: what `old` must hold of an update.
        arrays, line_bytes_max: as of `JsonLines`.

    >>> from refold.types import int64, text
    >>> maxwell = ChangeRows("type", "data", "old", ("insert", "update"), "update", "delete", ())
    >>> line = b'{"type": "update", "data": {"id": 2, "n": 5}, "old": {"id": 1}}'
    >>> decoded = maxwell.decode("a.jsonl", line, {"id": int64(), "n": int64(), "op": text()}, ["id"])
    >>> [tuple(row.values()) for row in decoded.rows.to_pylist()]
    [(1, 5, 'delete'), (2, 5, 'update')]
    """

    operation: str
    row: str
    old: str
    writes: tuple[str, ...]
    update: str
    delete: str
    control: tuple[str, ...]
    places: tuple[tuple[str, str], ...] = ()
    old_row: OldRow = OldRow.CHANGES
    line_bytes_max: int = LINE_BYTES_MAX
    arrays: tuple[str, ...] = ()

    def plan(self, columns: Schema, key: Sequence[str]) -> Plan:
        """The fields of changes; see `LineDecoder`."""
        finder = FieldFinder()
        op = finder.add(Field(_path(self.operation), text()))
        row, old = (finder.add(Field(_path(place), None)) for place in (self.row, self.old))
        elsewhere = {"op": self.operation, **dict(self.places)}
        sources = {n: self._sources(finder, n, kind, elsewhere.get(n), n in key) for n, kind in columns.items()}
        ops = [op, *(n for n, place in enumerate(finder.fields) if place.path == _path(self.operation) and n != op)]
        moves = KeyMoves({column: sources[column] for column in key}, ops, self.update, self.delete)
        own_kinds = pa.array(self.control, pa.string())

        def settled(records: Records) -> Decoded:
            own = pc.fill_null(pc.is_in(records.table.column(op), own_kinds), False).to_numpy()
            records = moves.apart(taken(records, np.flatnonzero(~own)))
            table, known = pick(records, sources, pc.equal(records.table.column(op), self.delete))
            unknown = self._unknown_moves(records, moves, old)
            early = {**unknown, **moves.findings(records), **self._findings(records, op, row)}
            bad, control, lines, raw = records.bad, int(own.sum()) + records.control, records.lines, records.raw
            return settle(table, columns, lines, raw, bad=bad, known=known, early=early, control=control)

        return Plan(finder.fields, sources, settled)

    def _sources(
        self, finder: FieldFinder, column: str, kind: ColumnType, elsewhere: str | None, is_key: bool
    ) -> tuple[tuple[int, int], ...]:
        row = _path(self.row)
        path = (*row, column) if elsewhere is None else _path(elsewhere)
        now = finder.add(Field(path, kind))
        if not is_key or path[: len(row)] != row:
            return ((now, now),)
        return (now, finder.add(Field((*_path(self.old), *path[len(row) :]), kind))), (now, now)

    def _unknown_moves(self, records: Records, moves: KeyMoves, old: int) -> dict[int, Finding]:
        """The updates, by row, that do not show whether they move a row."""
        if self.old_row is OldRow.NOTHING:
            return {}
        if self.old_row is OldRow.KEY:
            expected, rows = f"the key before the change ({', '.join(moves.keys)})", moves.without_old_key(records)
        else:
            there = np.array(records.table.column(old).to_pylist(), dtype=np.bool_)
            expected, rows = "what the update changed", moves.updates(records) & ~there
        finding = Finding("missing-before", f"Expected {expected} in {self.old}, found none.")
        return dict.fromkeys(np.flatnonzero(rows).tolist(), finding)

    def _findings(self, records: Records, op: int, row: int) -> dict[int, Finding]:
        """What is wrong with whole records, by row."""
        findings, known = {}, {*self.writes, self.delete}
        expected = f"Expected one of {', '.join([*self.writes, self.delete])} in {self.operation}, found"
        there = records.table.column(row).to_pylist()
        for number, found in enumerate(records.table.column(op).to_pylist()):
            if found is None:
                findings[number] = Finding("missing-op", f"{expected} none.")
            elif found not in known:
                findings[number] = Finding("unsupported-op", f"{expected} {shorten(found)}.")
            elif not there[number]:
                findings[number] = Finding("missing-row", f"Expected the row in {self.row}, found none.")
        return findings


def _path(dotted: str) -> tuple[str, ...]:
    return tuple(dotted.split("."))
