"""Partial aggregates that one rebuild leaves to the next, so that this need not read the whole ledger again.

They are a cache: stored by content, named by the proof of the relation at the end of a history, and those of one proof
alone are needed. What is missing or damaged is computed again from the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import pyarrow as pa
import pyarrow.ipc

from refold.errors import Damaged
from refold.log.snapshot import Snapshot
from refold.proof.records import ProofRecords
from refold.storage.content import put_content
from refold.storage.names import ObjectKind
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder
from refold.stores.kinds.relation import Relation

Carried = Mapping[str, pa.Table]


def put_carried(objects: ObjectStore, relation: Relation, tables: Carried) -> dict[str, dict[str, str]]:
    """Store partial aggregates by name; returns the objects that hold them."""
    found = {}
    for name, table in sorted(tables.items()):
        by = [(column, "ascending") for column in table.column_names]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.sort_by(by).combine_chunks())
        data = sink.getvalue().to_pybytes()
        found[name] = asdict(put_content(objects, ObjectKind.PARTIALS, data, store=relation.name))
    return found


def carried_at(
    objects: ObjectStore, builder: Builder, proofs: ProofRecords, relation: Relation, snapshot: Snapshot
) -> Carried | None:
    """The partial aggregates of a relation that were stored at a snapshot, by name; None where one is missing."""
    names = [partial.name for partial in relation.incremental.partials]
    if not names:
        return {}
    try:
        known = proofs.sound(builder.require(relation, snapshot).claim)
        stored = next((proof.partials for _, proof in known if proof.partials), {})
        return {name: _read(objects, stored[name]) for name in names}
    except (Damaged, KeyError, pa.ArrowInvalid):
        return None


def _read(objects: ObjectStore, stored: Mapping[str, str]) -> pa.Table:
    data = objects.get_checked(stored["name"], stored["sha256"])
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
