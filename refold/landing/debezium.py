"""Change events in Debezium's JSON envelope, one per line: `before`, `after`, `op`, `source`.

Here lives what an envelope must hold and from which side of it a row's columns come. Lines, types and limits are those
of `refold.landing.jsonl`, on which this builds. Key and value in one line, and Avro, are other formats.

- `c`, `r` and `u` carry the row in `after`; `d` carries it in `before`. Without it the record is bad: `missing-after`,
  `missing-before`. Other operations (`t` truncate, `m` message) change no single row: `unsupported-op`.
- A `u` whose key in `before` is not that in `after` moves a row: it is read as a delete of the old key, with the
  columns of `before`, and then the update. Where `before` has one part of the key and lacks another, the record is bad
  (`incomplete-key`); where it has none of the key, as with most settings of PostgreSQL, the key did not change.
- A line `null`, or an empty message, is the tombstone that follows a delete in Kafka; it is a control record.
- MongoDB's connector writes the row as a JSON text (`documents`). A delete has it in `before` only where collections
  keep pre-images; elsewhere only the Kafka key names the document, and the delete is bad: `missing-before`.
- A delete may carry the key alone, depending on the source's settings. Declare value columns with `null=True` where a
  log has deletes; the key is found missing where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.landing.contract import Finding, settle, shorten
from refold.landing.decoder import BadRecord, Decoded
from refold.landing.json_line import BLANK, Field
from refold.landing.json_records import LINE_BYTES_MAX, Records
from refold.landing.jsonl import NO_PATHS, FieldFinder, LineDecoder, Paths, Plan, freeze_paths, pick
from refold.landing.key_moves import KeyMoves
from refold.types import Schema, text

UPDATE, DELETE = "u", "d"
WRITES = ("c", "r", UPDATE)
ROW = "row"


class _Envelope(NamedTuple):
    """The numbers of the places that say which side of the envelope counts."""

    op: int
    after: int
    before: int


@dataclass(frozen=True)
class Debezium(LineDecoder):
    """Decodes Debezium change events in JSON Lines.

    A declared column is read from the row, `after` or `before` as the operation has it; `op` is read from the top of
    the envelope.

    Attributes:
        paths: other places for columns, dotted from the top of the envelope, such as `{"lsn": ("source.lsn",)}`; the
            first that is not null wins. A place that starts with `row.` is in the row: `{"sku": ("row.code",)}`.
            Kept as `places`, so that the declaration can be hashed.
        enveloped: whether each record is wrapped once more, as `{"schema": …, "payload": …}`.
        documents: whether rows are JSON texts, as of MongoDB. Columns of extended JSON are found by paths such as
            `{"id": ("row._id.$oid",)}`.
        line_bytes_max: a longer line is quarantined as `line-too-long`, whole.
        placeholder: the text written for a value that an update did not change, the connector's
            `unavailable.value.placeholder`. `latest_by_key` keeps the value before; elsewhere it is a text as others.

    >>> from refold.types import int64, text
    >>> line = b'{"op": "d", "before": {"id": "x"}, "after": null, "source": {"lsn": 7}}'
    >>> columns = {"id": text(), "op": text(), "lsn": int64()}
    >>> Debezium({"lsn": ("source.lsn",)}).decode("a.jsonl", line, columns).rows.to_pylist()
    [{'id': 'x', 'op': 'd', 'lsn': 7}]
    """

    paths: InitVar[Paths] = NO_PATHS
    enveloped: bool = False
    line_bytes_max: int = LINE_BYTES_MAX
    placeholder: str = "__debezium_unavailable_value"
    documents: bool = False
    places: tuple[tuple[str, tuple[str, ...]], ...] = field(init=False, default=())

    def __post_init__(self, paths: Paths) -> None:
        object.__setattr__(self, "places", freeze_paths("Debezium", paths))

    def plan(self, columns: Schema, key: Sequence[str]) -> Plan:
        """The fields of envelopes; see `LineDecoder`."""
        finder = FieldFinder()
        envelope = _Envelope(
            finder.add(Field(self._path("op"), text())),
            finder.add(Field(self._path("after"), None)),
            finder.add(Field(self._path("before"), None)),
        )
        sources = {column: self._sources(finder, column, columns) for column in columns}
        ops = [number for number, place in enumerate(finder.fields) if place.path == self._path("op")]
        moves = KeyMoves({column: sources[column] for column in key}, ops, UPDATE, DELETE)

        def settled(records: Records) -> Decoded:
            records = moves.apart(records)
            table, known = pick(records, sources, pc.equal(records.table.column(envelope.op), DELETE))
            bad = [record for record in records.bad if not _is_tombstone(record)]
            early = {**moves.findings(records), **_row_findings(records, envelope, self.enveloped)}
            control = len(records.bad) - len(bad) + records.control
            lines, raw = records.lines, records.raw
            return settle(table, columns, lines, raw, bad=bad, known=known, early=early, control=control)

        return Plan(finder.fields, sources, settled)

    @property
    def text_places(self) -> Sequence[tuple[str, ...]]:
        """The two sides of the envelope, where they are texts."""
        return [self._path(side) for side in ("after", "before")] if self.documents else []

    def _path(self, dotted: str) -> tuple[str, ...]:
        return ("payload", *dotted.split(".")) if self.enveloped else tuple(dotted.split("."))

    def _sources(self, finder: FieldFinder, column: str, columns: Schema) -> tuple[tuple[int, int], ...]:
        kind = columns[column]
        declared = dict(self.places).get(column)
        if declared is None and column != "op":
            return (self._row_source(finder, Field((column,), kind)),)
        pairs: list[tuple[int, int]] = []
        for dotted in declared or ("op",):
            first, *rest = dotted.split(".")
            if first == ROW and rest:
                pairs.append(self._row_source(finder, Field(tuple(rest), kind)))
            else:
                pairs.append((finder.add(Field(self._path(dotted), kind)),) * 2)
        return tuple(pairs)

    def _row_source(self, finder: FieldFinder, place: Field) -> tuple[int, int]:
        after = finder.add(Field((*self._path("after"), *place.path), place.type))
        return after, finder.add(Field((*self._path("before"), *place.path), place.type))


def _is_tombstone(record: BadRecord) -> bool:
    return record.raw.strip(BLANK) in (b"null", b"")


def _row_findings(records: Records, envelope: _Envelope, enveloped: bool) -> dict[int, Finding]:
    """What is wrong with whole envelopes, by row."""
    ops = records.table.column(envelope.op)
    expected = "Expected an operation c, r, u or d in op, found"
    hint = "" if enveloped else "; records wrapped in schema and payload need Debezium(enveloped=True)"
    findings: dict[int, Finding] = {}
    for row in _rows(pc.is_null(ops)):
        fault = records.faults.get(row, {}).get(envelope.op)
        missing = Finding("missing-op", f"{expected} none{hint}.")
        findings[row] = Finding(fault.reason, fault.sentence("op")) if fault else missing
    for row in _rows(pc.invert(pc.is_in(ops, pa.array([*WRITES, DELETE])))):
        findings.setdefault(row, Finding("unsupported-op", f"{expected} {shorten(ops[row].as_py())}."))
    writes, deletes = pc.is_in(ops, pa.array(WRITES)), pc.equal(ops, DELETE)
    for side, place, needed in (("after", envelope.after, writes), ("before", envelope.before, deletes)):
        for row in _rows(pc.and_(needed, pc.invert(records.table.column(place)))):
            if place not in records.faults.get(row, {}):  # something is there, and each column will say what
                sentence = f"Expected the row in {side} for the operation {ops[row].as_py()}, found none."
                findings.setdefault(row, Finding(f"missing-{side}", sentence))
    return findings


def _rows(mask: pa.ChunkedArray) -> list[int]:
    """The rows that a mask marks; a null marks none."""
    return [int(row) for row in np.flatnonzero(pc.fill_null(mask, False).to_numpy())]
