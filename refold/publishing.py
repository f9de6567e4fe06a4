"""Publishing and release: proven content into sinks unseen, then one pointer that moves all readers at once.

The pointer is a numbered series of write-once objects below `releases/`; the highest number is what is served, and
creating the next number is the compare-and-swap. It is the only commit: sinks roll forward from it, and a run that
was killed in between is finished by the next. Backfilling the past never moves the pointer backwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from refold.digest import table_digest
from refold.errors import Conflict, Damaged, Unproven
from refold.expectations import ExpectationResult, validate
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.proof import Prover
from refold.records import read_record, write_record
from refold.sinks.base import Connections, Content, Sink, Target
from refold.storage import canonical_json, sha256_hex
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Store
from refold.types import describe

Move = tuple[Target, str, Mapping[str, str]]
"""A target, the version to serve, and the lineage that goes with it."""


@dataclass(frozen=True)
class Published:
    """One version of a store in one sink, written and read back."""

    store: str
    sink: str
    version: str
    rows: int
    digest: str
    place: str


@dataclass(frozen=True)
class Release:
    """What is served: the pointer's number, the snapshot, and the version of every store with its proof.

    `versions` maps a store to its version, `proofs` to the name of the proof it rests on.
    """

    number: int
    snapshot: str
    ordinal: int
    snapshot_id: str
    versions: Mapping[str, str]
    proofs: Mapping[str, str]


class Publisher:
    """Publishes and releases the stores of a project."""

    def __init__(self, project: Project, connections: Connections, builder: Builder, prover: Prover) -> None:
        self._project = project
        self.connections = connections
        self._objects = connections.objects
        self._builder = builder
        self._prover = prover

    def target(self, store: Store, sink: Sink) -> Target:
        """A store's sink, connected."""
        return sink.open(self.connections, store.name, store.key, store.columns)

    def version(self, snapshot: Snapshot, record: StateRecord) -> str:
        """The name of a version: the snapshot's ordinal, then content. Equal names have equal content."""
        return f"{snapshot.ordinal:06d}-{sha256_hex(canonical_json(record.claim))[:12]}"

    def publish(self, store: Store, sink: Sink, snapshot: Snapshot) -> Published:
        """Write a proven state into one sink, unseen, and read it back.

        Raises:
            Unproven: the state has no passing full replay for exactly its digest.
            Damaged: what the sink gives back is not what was written.
        """
        record, proof = self._prover.require(store, snapshot)
        content = self._content(store, snapshot, record, proof)
        expected = table_digest(describe(store.columns), content.rows, store.key)
        target = self.target(store, sink)
        target.publish(content)
        found = table_digest(describe(store.columns), target.read(content.version), store.key)
        if found != expected:
            raise Damaged(
                f"The sink {target.place} gives back other content than was written for version {content.version}: "
                f"expected digest {expected}, found {found}.",
                remedy="Check the sink's types and collation; the version stays unseen.",
            )
        return Published(store.name, sink.name, content.version, len(content.rows), found, target.place)

    def _content(self, store: Store, snapshot: Snapshot, record: StateRecord, proof: str) -> Content:
        lineage = {
            "snapshot": snapshot.key,
            "snapshot_id": snapshot.id,
            "digest": record.state_digest,
            "code_version": record.code_version,
            "proof": proof,
        }
        return Content(
            store=store.name,
            key=store.key,
            columns=store.columns,
            rows=self._builder.published(store, snapshot),
            version=self.version(snapshot, record),
            ordinal=snapshot.ordinal,
            lineage=lineage,
        )

    def check_expectations(self, store: Store, snapshot: Snapshot) -> list[ExpectationResult]:
        """Validate a store's expectations on what its sinks hold for a snapshot; remembers a pass for the release.

        Raises NotFound where a sink does not hold that version.
        """
        record = self._builder.require(store, snapshot)
        version = self.version(snapshot, record)
        results = [
            result
            for sink in store.sinks
            for result in validate(store.expect, self.target(store, sink).read(version), store.key)
        ]
        name = self._expectations_name(store, version)
        if all(result.passed or result.expectation.severity == "warn" for result in results):
            write_record(self._objects, name, {"store": store.name, "version": version, "count": len(results)})
        else:
            self._objects.delete(name)
        return results

    def _expectations_name(self, store: Store, version: str) -> str:
        suite = sha256_hex(canonical_json([[str(e), e.severity] for e in store.expect]))[:16]
        return f"expectations/{store.name}/{version}-{suite}.json"

    def current(self) -> Release | None:
        """What is served; None before the first release. Raises Damaged."""
        names = [info.name for info in self._objects.list("releases")]
        body = read_record(self._objects, names[-1]) if names else None
        return Release(**body) if body else None

    def release(self, snapshot: Snapshot) -> Release:
        """Move readers of all sinks to one snapshot; a snapshot older than what is served leaves it as it is.

        Raises:
            Unproven: a store is not proven, not published, or its expectations have not passed there.
            Conflict: somebody else released meanwhile; the message says what.
        """
        current = self.current()
        if current is not None and current.ordinal > snapshot.ordinal:
            self.roll_forward()
            return current
        wanted = self._wanted(snapshot, current)
        if current is None or asdict(current) != asdict(wanted) | {"number": current.number}:
            self._move(wanted)
            current = wanted
        self.roll_forward()
        return current

    def _wanted(self, snapshot: Snapshot, current: Release | None) -> Release:
        versions, proofs, faults = {}, {}, []
        for store in self._project.stores:
            if not store.sinks:
                continue
            try:
                record, proofs[store.name] = self._prover.require(store, snapshot)
            except Unproven as error:
                faults.append(str(error))
                continue
            versions[store.name] = version = self.version(snapshot, record)
            faults += self._missing(store, version, snapshot)
        if faults:
            raise Unproven(
                f"Snapshot {snapshot.key} cannot be released:\n  - " + "\n  - ".join(faults),
                remedy="\nWhat is served stays as it is.",
            )
        number = current.number + 1 if current else 1
        return Release(number, snapshot.key, snapshot.ordinal, snapshot.id, versions, proofs)

    def _missing(self, store: Store, version: str, snapshot: Snapshot) -> list[str]:
        faults = [
            f"{sink.kind}/{sink.name} does not hold store {store.name!r} of snapshot {snapshot.key}: publish it first."
            for sink in store.sinks
            if version not in self.target(store, sink).versions()
        ]
        if store.expect and read_record(self._objects, self._expectations_name(store, version)) is None:
            faults.append(f"the expectations of store {store.name!r} have not passed: run their check first.")
        return faults

    def _move(self, wanted: Release) -> None:
        body: dict[str, Any] = asdict(wanted)
        value = {"body": body, "sha256": sha256_hex(canonical_json(body))}
        try:
            self._objects.create(f"releases/{wanted.number:020d}.json", canonical_json(value))
        except Conflict as error:
            winner = self.current()
            served = f"release {winner.number} of snapshot {winner.snapshot}" if winner else "another release"
            raise Conflict(
                f"Somebody else released first: {served} is served; snapshot {wanted.snapshot} was not released.",
                remedy="Run the release again if it is still wanted.",
            ) from error

    def roll_forward(self) -> None:
        """Make every sink serve what the pointer says; a rerun changes nothing.

        The pointer is read again after the move: of two that roll forward at once, the one that finishes last sees
        the newest pointer.
        """
        release = self.current()
        while release is not None:
            for sink, moves in self._moves(release):
                sink.release_together(moves)
            moved, release = release, self.current()
            if release is not None and release.number == moved.number:
                return

    def _moves(self, release: Release) -> Iterable[tuple[Sink, Sequence[Move]]]:
        """The targets that do not serve a release yet, by kind of sink."""
        moves: dict[str, tuple[Sink, list[Move]]] = {}
        for store in self._project.stores:
            version = release.versions.get(store.name)
            if version is None:
                continue
            lineage = {"snapshot": release.snapshot, "snapshot_id": release.snapshot_id}
            lineage |= {"release": str(release.number), "proof": release.proofs[store.name]}
            for sink in store.sinks:
                target = self.target(store, sink)
                if target.released() != version:
                    moves.setdefault(type(sink).__name__, (sink, []))[1].append((target, version, lineage))
        return moves.values()

    def served(self, store: Store) -> Sequence[tuple[str, pa.Table]]:
        """What the sinks of a store serve, as (place, rows)."""
        targets = [self.target(store, sink) for sink in store.sinks]
        return [(target.place, target.read()) for target in targets]
