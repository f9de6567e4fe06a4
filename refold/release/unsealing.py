"""Unsealing: the newest snapshots, of which nothing was released, are given up, so that their landing is sealed again.

A snapshot is gone once its manifest is. Its layout and segments stay: nothing names them, and sealing the same landing
again writes the same ones. States and proofs are found by the content of their inputs, so none can be taken for another
snapshot's; those of the content that is gone are removed all the same, since an audit would miss their snapshot.
Sealing and releasing look right before they commit whether the snapshot they build on is still there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from refold.errors import Conflict, Damaged, FixInput
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.proof.records import ProofRecords
from refold.release.pointer import Pointer, Release
from refold.storage.names import ObjectKind, folder_of, parts_of
from refold.storage.objects import ObjectStore
from refold.storage.records import read_record


@dataclass(frozen=True)
class Unsealing:
    """What unsealing would give up.

    Attributes:
        snapshots: the newest first.
        missing: the landing objects that they sealed and that landing no longer holds; their events cannot be sealed
            again.
    """

    snapshots: Sequence[Snapshot]
    missing: Sequence[str]


class Unsealer:
    """Gives up the newest snapshots of a store."""

    def __init__(self, objects: ObjectStore, chain: SnapshotChain) -> None:
        self._objects = objects
        self._chain = chain
        self._pointer = Pointer(objects)
        self._proofs = ProofRecords(objects)

    def plan(self, key: str, landed: Sequence[str]) -> Unsealing:
        """What giving up a snapshot and all after it would do; `landed` are the names of all objects in landing.

        Raises NotFound for a key that is not sealed, and FixInput where a release names one of these snapshots.
        """
        kept = self._chain.get(key).ordinal
        going = [snapshot for snapshot in self._chain if snapshot.ordinal >= kept][::-1]
        self._refuse_released(going)
        self._refuse_redacted(going)
        sealed = (o.name for s in going for cut in s.logs.values() for o in cut.objects)
        present = set(landed)
        missing = [name for name in sealed if name not in present and not self._objects.exists(name)]
        return Unsealing(going, sorted(missing))

    def apply(self, plan: Unsealing) -> None:
        """Give up the planned snapshots, the newest first; a rerun after a kill goes on.

        Raises:
            FixInput: one of them was released since.
            Conflict: one was released, or built on, at the same moment; the message says what to do.
        """
        self._refuse_released(plan.snapshots)
        number = self._pointer.number()
        proofs, states = self._proofs_at(), self._states_at(plan.snapshots)
        for snapshot in plan.snapshots:
            follows = [name for cut in snapshot.logs.values() for name in states.pop(cut.id, ())]
            for name in [*proofs.get(snapshot.key, ()), *follows, snapshot.name]:
                self._objects.delete(name)
            self._objects.sync()  # so that a power cut leaves no later snapshot without this one
        built_on = [name for name, parent in self._stored() if parent in {each.sha256 for each in plan.snapshots}]
        released = [r for r in self._releases(number) if self._rests_on(r, {s.key for s in plan.snapshots})]
        if built_on or released:
            raise Conflict(
                "While snapshots were unsealed, another process used one of them: "
                f"{', '.join([*built_on, *map(str, released)])}.",
                remedy="Where a release is named, seal the same landing again, which gives the same snapshot. Where a "
                "manifest is named, remove it: what it continues is gone, and its landing is sealed again.",
            )

    def _stored(self) -> Iterator[tuple[str, str | None]]:
        """The names of all manifests, and the sha256 of the parent that each continues."""
        for info in self._objects.list(folder_of(ObjectKind.MANIFEST)):
            body = read_record(self._objects, info.name) if parts_of(ObjectKind.MANIFEST, info.name) else None
            if body is not None:
                yield info.name, body.get("parent_sha256")

    def _refuse_released(self, going: Sequence[Snapshot]) -> None:
        keys = {snapshot.key for snapshot in going}
        released = next((release for release in self._releases(0) if self._rests_on(release, keys)), None)
        if released is not None:
            raise FixInput(
                f"The snapshots {going[-1].key} to {going[0].key} cannot be unsealed: {released} rests on one of them.",
                remedy="What was released stays sealed. Unseal a later snapshot, or land corrections as new objects.",
            )

    def _refuse_redacted(self, going: Sequence[Snapshot]) -> None:
        redacted = [r for r in self._chain.redactions if any(snapshot.key in r.cuts for snapshot in going)]
        if redacted:
            raise FixInput(
                f"The snapshots {going[-1].key} to {going[0].key} cannot be unsealed: {redacted[0]}.",
                remedy="Sealing their landing again would bring back what was redacted.",
            )

    def _releases(self, after: int) -> Iterator[Release]:
        """The numbers of the pointer after a number."""
        return (release for release in self._pointer.newest_first() if release.number > after)

    def _rests_on(self, release: Release, keys: set[str]) -> bool:
        """Whether a release serves one of some snapshots, or has a proof that was made at one."""
        proofs = (self._proofs.standing(name) for name in release.proofs.values())
        return release.snapshot in keys or any(proof.snapshot in keys for proof in proofs if proof)

    def _proofs_at(self) -> dict[str, list[str]]:
        """The names of all proofs that can be read, by the key of the snapshot at which they were made."""
        found: dict[str, list[str]] = {}
        for info in self._objects.list(folder_of(ObjectKind.PROOF)):
            with suppress(Damaged):
                body = read_record(self._objects, info.name) if parts_of(ObjectKind.PROOF, info.name) else None
                if body is not None:
                    found.setdefault(str(body["snapshot"]), []).append(info.name)
        return found

    def _states_at(self, going: Sequence[Snapshot]) -> dict[str, list[str]]:
        """The names of the state records at what a log was at some snapshots and no earlier one, by the log's id."""
        gone = {cut.id for snapshot in going for version in snapshot.versions for cut in version.logs.values()}
        gone -= {cut.id for each in self._chain if each not in going for cut in each.logs.values()}
        found: dict[str, list[str]] = {}
        for info in self._objects.list(folder_of(ObjectKind.STATE_RECORD)):
            parts = parts_of(ObjectKind.STATE_RECORD, info.name)
            id_ = next((each for each in gone if parts and each.startswith(parts["inputs"])), None)
            if id_ is not None:
                found.setdefault(id_, []).append(info.name)
        return found
