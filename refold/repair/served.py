"""What readers are served now, compared with what was proven for the release, and published again where it differs.

`refold.repair.sink_audit` compares a version with the state that the project's declarations give. Here the question is
the release: also where declarations have changed since, or a store is no longer declared, its rows must have the digest
that the release recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from refold.canonical.digest import table_digest
from refold.errors import Damaged, FixInput, NotFound, RefoldError, Unproven
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.project import Project
from refold.proof.prover import Difference, Differs, Prover
from refold.release.pointer import FormerSink, Release, ServedSink, title_of
from refold.release.publisher import Publisher
from refold.release.releaser import Releaser
from refold.release.withdrawal import ways
from refold.repair.sink_audit import SinkAudit
from refold.sinks.base import Content, Sink
from refold.stores.declaration import Store
from refold.types import describe


@dataclass(frozen=True)
class Served:
    """What one sink serves of a release, compared with its proof.

    Attributes:
        store, sink: the store's name and the sink's title, such as `Sql/stock_view`.
        place: where a person finds it, secrets masked.
        release, snapshot: the number and the snapshot that should be served.
        differences: what differs from what was proven; empty where it is equal.
        repaired: whether what differed was published again, and is equal now.
    """

    store: str
    sink: str
    place: str
    release: int
    snapshot: str
    differences: Sequence[Difference]
    repaired: bool = False

    def __str__(self) -> str:
        at = f"{self.place} serves store {self.store!r} of release {self.release}, snapshot {self.snapshot}"
        if not self.differences:
            return f"{at}, equal to its proof."
        more = f" ({len(self.differences)} differences)" if len(self.differences) > 1 else ""
        if self.repaired:
            return f"{at}, and differed from its proof: {self.differences[0]}{more}. It was published again."
        return f"{at}, and differs from its proof: {self.differences[0]}{more}."


class ServedAudit:
    """Compares what is served with its proofs."""

    def __init__(
        self, project: Project, chain: SnapshotChain, prover: Prover, publisher: Publisher, releaser: Releaser,
        sinks: SinkAudit,
    ) -> None:  # fmt: skip
        self._project = project
        self._chain = chain
        self._prover = prover
        self._publisher = publisher
        self._releaser = releaser
        self._sinks = sinks

    def check(self, store: str | None = None, sink: str | None = None) -> list[Served]:
        """Every sink that the release of now serves, or those of a store and title; empty before the first release.

        A former sink that was not withdrawn differs: nothing should be served there.

        Reads the rows of each; writes nothing. Raises Damaged where the record of the release is.
        """
        release = self._releaser.current()
        if release is None:
            return []
        found = [
            self._compared(release, name, described, declared)
            for name in release.versions
            if store in (None, name)
            for described, declared, _ in self._releaser.sinks_of(release, name)
            if sink in (None, described.title)
        ]
        return found + [
            self._left(release, former)
            for former in self._releaser.withdrawals.left(release)
            if store in (None, former.store) and sink in (None, former.title)
        ]

    def serves_other_rows(self, store: Store, snapshot: Snapshot) -> bool:
        """Whether the release of now serves a store of a built snapshot, and other rows than those built today.

        So it is where a rollback serves what another declaration made, or what was there before a redaction.
        """
        release = self._releaser.current()
        if release is None or store.name not in release.versions:
            return False
        if release.position_of(store.name).snapshot != snapshot.key:
            return False
        return self._publisher.content(store, snapshot).version != release.versions[store.name]

    def repair(self, store: Store, sink: Sink) -> Served | None:
        """Publish again, as it was proven, what a sink serves and differs; None where nothing differs.

        What cannot be computed any more stays as it is until the next release.
        """
        differed = [served for served in self.check(store.name, title_of(sink)) if served.differences]
        for served in differed:
            with suppress(FixInput, Unproven, Damaged, NotFound):
                if served.snapshot in self._chain:
                    self._sinks.repair(store, sink, self._chain.get(served.snapshot))
            left = [each for each in self.check(store.name, title_of(sink)) if each.differences]
            return replace(served, repaired=not left)
        return None

    def _compared(self, release: Release, name: str, described: ServedSink, sink: Sink) -> Served:
        proof = self._prover.proofs.standing(release.proofs[name])
        if proof is None:
            missing = Difference(Differs.RELEASE, release.proofs[name], "the proof of what is served", "none")
            return self._served(release, name, described, [missing])
        store = next((each for each in self._project.in_order if each.name == name), None)
        content = self._content(store, release) if store is not None and sink in store.sinks else None
        if store is not None and content is not None:
            found = self._sinks.compare(store, sink, content)
        else:
            found = self._digest_differences(release, name, described, sink)
        return self._served(release, name, described, found)

    def _left(self, release: Release, former: FormerSink) -> Served:
        expected = "nothing to be served, as the project no longer has this sink"
        found = [Difference(Differs.SINK, former.sink.place, expected, f"version {former.version}. {ways(former)}")]
        return Served(former.store, former.title, former.sink.place, release.number, release.snapshot, found)

    def _served(self, release: Release, name: str, described: ServedSink, found: Sequence[Difference]) -> Served:
        return Served(name, described.title, described.place, release.number, release.position_of(name).snapshot, found)

    def _content(self, store: Store, release: Release) -> Content | None:
        """What the release should serve of a store, where the present declarations still give it."""
        try:
            key = release.position_of(store.name).snapshot
            if key not in self._chain:
                return None
            content = self._publisher.content(store, self._chain.get(key))
        except (Damaged, Unproven):
            return None
        return content if content.version == release.versions[store.name] else None

    def _digest_differences(self, release: Release, name: str, described: ServedSink, sink: Sink) -> list[Difference]:
        """The rows as a whole against the digest in the record, under the columns they were released with."""
        version, where = release.versions[name], f"{described.place}, version {release.versions[name]}"
        try:
            target = sink.open(self._publisher.connections, name, described.key, described.schema)
            serves = target.released()
            rows = target.salvage(version, served=True)
        except RefoldError as error:
            return [Difference(Differs.SINK, described.place, "a sink that can be read", str(error))]
        if serves != version:
            return [Difference(Differs.SINK, described.place, f"to serve version {version}", f"it serves {serves}")]
        if rows is None:
            return [Difference(Differs.SINK, where, "rows that can be read", "none")]
        expected = release.digests.get(name)
        if expected is None:
            text = "none, as an earlier Refold released it; a rebuild releases it again"
            return [Difference(Differs.RELEASE, f"release {release.number}", f"the digest of store {name!r}", text)]
        found = table_digest(describe(described.schema), rows, described.key)
        return [] if found == expected else [Difference(Differs.SINK, where, f"digest {expected}", found)]
