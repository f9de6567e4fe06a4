"""Release: one pointer that moves the readers of all sinks to one proven snapshot at once.

The pointer is a numbered series of write-once objects below `releases/`; the highest number is what is served, and
creating the next number is the compare-and-swap. It is the only commit: sinks roll forward from it, and a run that
was killed in between is finished by the next. Backfilling the past never moves the pointer backwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from refold.errors import Conflict, Unproven
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.proof import Prover
from refold.publishing import Publisher
from refold.records import read_record, record_bytes
from refold.sinks.base import Sink, Target
from refold.storage import ObjectStore
from refold.stores.declaration import Store

Move = tuple[Target, str, Mapping[str, str]]
"""A target, the version to serve, and the lineage that goes with it."""


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


class Releaser:
    """Moves the pointer of a project, and its sinks after it."""

    def __init__(self, project: Project, objects: ObjectStore, prover: Prover, publisher: Publisher) -> None:
        self._project = project
        self._objects = objects
        self._prover = prover
        self._publisher = publisher

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
            versions[store.name] = version = self._publisher.version(snapshot, record)
            faults += self._publisher.missing(store, version)
        if faults:
            raise Unproven(
                f"Snapshot {snapshot.key} cannot be released:\n  - " + "\n  - ".join(faults),
                remedy="\nWhat is served stays as it is.",
            )
        number = current.number + 1 if current else 1
        return Release(number, snapshot.key, snapshot.ordinal, snapshot.id, versions, proofs)

    def _move(self, wanted: Release) -> None:
        try:
            self._objects.create(f"releases/{wanted.number:020d}.json", record_bytes(asdict(wanted)))
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
            lineage = self._lineage(release, store)
            for sink in store.sinks:
                target = self._publisher.target(store, sink)
                if target.released() != version:
                    moves.setdefault(type(sink).__name__, (sink, []))[1].append((target, version, lineage))
        return moves.values()

    def _lineage(self, release: Release, store: Store) -> dict[str, str]:
        name = release.proofs[store.name]
        proof = read_record(self._objects, name) or {}
        return {
            "release": str(release.number),
            "snapshot": release.snapshot,
            "snapshot_id": release.snapshot_id,
            "digest": proof.get("state_digest", ""),
            "code_version": proof.get("code_version", ""),
            "proof": name,
        }
