"""Publishing: proven content into sinks, unseen, read back, and checked against what its user expects of it.

Nothing here decides what readers see; that is `refold.release.releaser`.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from refold.canonical.digest import table_digest
from refold.errors import Damaged, DeclarationError
from refold.leases.fenced_store import OF_SINKS
from refold.log.snapshot import Snapshot
from refold.proof.prover import Prover
from refold.proof.records import ProofRecord
from refold.release.pointer import title_of
from refold.sinks.base import Content, Sink, Target
from refold.sinks.connections import Connections
from refold.sinks.expectations import ExpectationResult, validate
from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import canonical_json, sha256_hex
from refold.storage.records import read_record, write_record
from refold.storage.sink_names import version_name
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Store
from refold.types import describe


@dataclass(frozen=True)
class Published:
    """One version of a store in one sink, written and read back."""

    store: str
    sink: str
    version: str
    rows: int
    digest: str
    place: str


class Publisher:
    """Publishes the stores of a project."""

    def __init__(self, connections: Connections, builder: Builder, prover: Prover) -> None:
        self.connections = connections
        self._objects = connections.objects
        self._builder = builder
        self._prover = prover
        self._digests: dict[tuple[str, str], str] = {}

    def target(self, store: Store, sink: Sink) -> Target:
        """A store's sink, connected."""
        return sink.open(self.connections, store.name, store.key, store.columns)

    def require_fit(self, sinks: Iterable[tuple[Store, Sink]]) -> None:
        """Refuse sinks that do not fit the columns of their stores. Raises DeclarationError, listing all."""
        faults = [
            f"{title_of(sink)} of store {store.name!r}: {fault}"
            for store, sink in sinks
            for fault in sink.unfit(self.connections, store.columns)
        ]
        if faults:
            raise DeclarationError("The project", faults)

    def version(self, snapshot: Snapshot, record: StateRecord | ProofRecord) -> str:
        """The name of a version: the snapshot's ordinal, then content. Equal names have equal content."""
        return version_name(snapshot.ordinal, sha256_hex(canonical_json(record.claim)))

    def publish(self, store: Store, sink: Sink, snapshot: Snapshot) -> Published:
        """Write a proven state into one sink, unseen, and read it back.

        Raises:
            DeclarationError: the sink does not fit the store's columns.
            Unproven: the state has no passing full replay for exactly its digest.
            Damaged: what the sink gives back is not what was written.
            Fenced: another process took the lease of publishing.
        """
        self.require_fit([(store, sink)])
        record, proof = self._prover.require(store, snapshot)
        content = self._content(store, snapshot, record, proof)
        target = self.target(store, sink)
        # Beside the writing, of which the interpreter has little to do.
        fenced = self.connections.fenced(f"version {content.version} of {target.place}")
        with fenced, ThreadPoolExecutor(1, thread_name_prefix="refold") as pool:
            counted = pool.submit(table_digest, describe(store.columns), content.rows, store.key)
            target.publish(content)
            self._builder.checkpoints.settle(*OF_SINKS)
            rows = target.read(content.version)
        expected = counted.result()
        # The same rows in the same order have the same digest; others may still have it.
        same = rows.equals(content.rows)
        found = expected if same else table_digest(describe(store.columns), rows, store.key)
        if found != expected:
            raise Damaged(
                f"The sink {target.place} gives back other content than was written for version {content.version}: "
                f"expected digest {expected}, found {found}.",
                remedy="Check the sink's types and collation; the version stays unseen.",
            )
        self._digests[store.name, content.version] = found
        return Published(store.name, sink.name, content.version, len(content.rows), found, target.place)

    def digest(self, store: Store, snapshot: Snapshot, version: str) -> str:
        """The digest of the rows of a version: those of the store at the snapshot, which must be built."""
        if (store.name, version) not in self._digests:
            rows = self._builder.published(store, snapshot)
            self._digests[store.name, version] = table_digest(describe(store.columns), rows, store.key)
        return self._digests[store.name, version]

    def content(self, store: Store, snapshot: Snapshot) -> Content:
        """What a store's sinks should hold for a snapshot, as it is built, proven or not; for comparing.

        Raises Unproven where it is not built, and Damaged where what is stored is.
        """
        return self._content(store, snapshot, self._builder.require(store, snapshot), "")

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
        name = expectations_name(store, version)
        if all(result.passed or result.expectation.severity == "warn" for result in results):
            write_record(self._objects, name, {**_pass(store, version), "count": len(results)})
        else:
            self._objects.delete(name)
        self._builder.checkpoints.settle(ObjectKind.EXPECTATIONS)
        return results

    def missing(self, store: Store, version: str) -> list[str]:
        """Reasons against releasing a version: sinks that do not hold it, expectations that have not passed."""
        faults = [
            f"{sink.kind}/{sink.name} does not hold version {version} of store {store.name!r}: publish it first."
            for sink in store.sinks
            if version not in self.target(store, sink).versions()
        ]
        found = read_record(self._objects, expectations_name(store, version)) or {}
        expected = _pass(store, version)
        if store.expect and {name: found.get(name) for name in expected} != expected:
            faults.append(f"the expectations of store {store.name!r} have not passed: run their check first.")
        return faults


def _pass(store: Store, version: str) -> dict[str, str]:
    """What identifies a record of passed expectations; its name is made of the same parts."""
    suite = sha256_hex(canonical_json([[str(e), e.severity] for e in store.expect]))[:16]
    return {"store": store.name, "version": version, "suite": suite}


def expectations_name(store: Store, version: str) -> str:
    """The name of the record that a version has passed a store's expectations."""
    return name_of(ObjectKind.EXPECTATIONS, **_pass(store, version))
