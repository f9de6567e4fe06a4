"""Release: move the readers of all sinks to one proven snapshot at once, or back to what was served before.

The pointer (`refold.release.pointer`) is the only commit. Every sink is asked first whether it can follow (`prepare`);
sinks then roll forward from the pointer, and the next run finishes one that was killed. Only a rollback moves the
pointer to an earlier snapshot. A store that is held back stays at its version, proof and snapshot.

- a rollback is a new number with the versions, proofs and snapshot of an old release, which must still be there;
- it remembers the highest snapshot that was ever rolled back from (`rolled_back_from`). A run that releases a snapshot
  up to that one with other content is refused, or a scheduled retry would undo what a person has just done. A newer
  snapshot is released as usual and ends it; `again=True` (`refold release again`) releases one in spite of it;
- equal content is never released twice, since the time of a release is not part of it.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from refold.errors import Conflict, Damaged, FixInput, NotFound, RefoldError, SinkRefused, Unproven
from refold.log.snapshot import Snapshot, SnapshotChain, require_sealed
from refold.project import Project
from refold.proof.prover import Prover
from refold.proof.records import ProofRecord, claim_folder
from refold.release.anchor import Anchor
from refold.release.pointer import Pointer, Release, ServedSink, describe_sink, holding, places, title_of
from refold.release.publisher import Publisher
from refold.release.withdrawal import Withdrawals, reached, sinks_in
from refold.sinks.base import Move, Sink, Target, refusing
from refold.storage.objects import ObjectStore
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Store

_log = logging.getLogger("refold")


class Superseded(Exception):
    """A newer release moved the pointer while sinks were rolled forward to this one."""


def utc_now() -> dt.datetime:
    """The time at the edge of the program; nothing that is folded, proven or compared knows it."""
    return dt.datetime.now(dt.UTC)


def this_process() -> str:
    """This process, named for the message that another one gets when it loses the race."""
    return f"process {os.getpid()} on {platform.node()}"


class Releaser:
    """Moves the pointer of a project, and its sinks after it.

    Args:
        clock: gives the time of a release, aware.
        by: who releases, for people.
        anchor: what every release is written to and held against.
    """

    def __init__(
        self,
        project: Project,
        objects: ObjectStore,
        prover: Prover,
        publisher: Publisher,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
        by: Callable[[], str] = this_process,
        anchor: Anchor | None = None,
    ) -> None:
        self.pointer = Pointer(objects, anchor)
        self._objects = objects
        self._project = project
        self._prover = prover
        self._publisher = publisher
        self.withdrawals = Withdrawals(publisher.connections, project.keep)
        self._clock = clock
        self._by = by

    def current(self) -> Release | None:
        """What is served; None before the first release. Raises Damaged."""
        return self.pointer.current()

    def release(self, snapshot: Snapshot, *, again: bool = False, held: Collection[str] = ()) -> Release:
        """Move readers of all sinks to one snapshot; a snapshot older than what is served leaves it as it is.

        A rerun with equal content makes no new number. `again` releases a snapshot that was rolled back from. The
        stores `held` back, and those that the project releases together with one of them, stay as they are served.

        Raises:
            Unproven: a store is not proven, not published, or its expectations have not passed there.
            Damaged: what is served is of a log that the store no longer has, such as one whose redaction was removed.
            FixInput: a rollback left this snapshot or a later one; nothing was changed.
            SinkRefused: a sink could not follow; nothing was changed.
            Conflict: another process moved the pointer meanwhile, or unsealed the snapshot.
        """
        current = self.current()
        if current is not None and current.ordinal > snapshot.ordinal:
            self.roll_forward()
            return current
        wanted = self._wanted(snapshot, current, self._project.held_with(held))
        if current is None or wanted.changes(current):
            if current is not None:
                current.require_known(self._prover.chain)
                if not again:
                    current.require_newer(snapshot)
            self._refuse_retiring(wanted, current)
            require_sealed(self._objects, snapshot)
            current = self._commit(wanted, current)
        self.roll_forward()
        return current

    def would_move(self, snapshot: Snapshot, claimed: Mapping[str, StateRecord | ProofRecord]) -> bool:
        """Whether releasing a snapshot would move readers, once what is claimed of its stores is proven and published.

        Reads only. Raises FixInput as `release` does.
        """
        current = self.current()
        if current is not None and current.ordinal > snapshot.ordinal:
            return False
        versions = {name: self._publisher.version(snapshot, record) for name, record in claimed.items()}
        proofs = {name: f"{claim_folder(record.claim)}/any.json" for name, record in claimed.items()}
        sinks = {s.name: [self._describe(s, sink) for sink in s.sinks] for s in self._project.stores if s.sinks}
        wanted = Release(0, snapshot.key, snapshot.ordinal, snapshot.id, versions, proofs, sinks)
        if current is None:
            return True
        if moves := self._stamped(wanted, current).changes(current):
            current.require_newer(snapshot)
        return moves

    def foretell_withdrawals(self) -> list[str]:
        """What the next release will do about each sink that the project no longer has, for people; writes nothing."""
        titles = {title_of(sink) for store in self._project.stores for sink in store.sinks}
        return self.withdrawals.foretell(self.withdrawals.former(self.current(), titles))

    def rollback(self, number: int | None = None) -> Release:
        """Serve the content of an earlier release again (None: of the one before), under a new number.

        Rebuilds nothing; a rerun with the same number changes nothing. A release that some sink never served is passed
        over, or where it is asked for by its number, a warning says so.

        Raises:
            NotFound: there is no such release, or a sink or proof of it is gone; names all that is missing.
            FixInput: a sink could not follow; nothing was changed.
            Conflict: another process moved the pointer meanwhile; or a prune is giving up one of its versions.
        """
        current = self.current()
        if current is None:
            raise NotFound("Nothing was released yet, so there is nothing to roll back.")
        old = self._asked(number) if number is not None else self._before(current)
        if old.versions != current.versions:
            self._refuse_retiring(old, current)
            current = self._commit(self._restored(old, current), current)
        self.roll_forward()
        return current

    def roll_forward(self) -> None:
        """Make every sink serve what the pointer says; a rerun changes nothing.

        The pointer is read before every move and after the last, so that of two at once the newer number is last. The
        error of a sink that fails is raised once all others have followed.
        """
        with self._publisher.connections.fenced("what sinks serve"):
            self._roll_forward()

    def _roll_forward(self) -> None:
        self.pointer.confirm()
        release = self.current()
        while release is not None:
            failed: list[RefoldError] = []
            try:
                # First, so that a transaction over several views never finds a former one beside a later snapshot.
                self.withdrawals.withdraw(release, self.confirm(release.number))
                for sink, moves in self._moves(release):
                    try:
                        sink.release_together([move for _, move in moves], self.confirm(release.number))
                    except RefoldError as error:
                        failed.append(error)
            except Superseded:
                release = self.current()
                continue
            if self.pointer.number() == release.number:
                if failed:
                    raise failed[0]
                return
            release = self.current()

    def _commit(self, wanted: Release, current: Release | None) -> Release:
        """Move the pointer once every sink can follow. Raises SinkRefused and Conflict."""
        self._require_followed(wanted)
        unserved = current.number if current is not None and not self._is_served(current) else None
        return self.pointer.move(replace(wanted, unserved=unserved))

    def require_followed(self, snapshot: Snapshot, held: Collection[str]) -> None:
        """Raise what `release` would raise where stores or sinks cannot follow. Moves nothing."""
        self._require_followed(self._wanted(snapshot, self.current(), self._project.held_with(held)))

    def _require_followed(self, wanted: Release) -> None:
        """Ask every sink whether it can follow. Raises SinkRefused, listing all faults."""
        faults, stores = list[str](), list[str]()
        for sink, moves in self._moves(wanted):
            try:
                sink.prepare([move for _, move in moves])
            except FixInput as error:
                faults.append(str(error))
                stores += refusing(sink, moves)
        if faults:
            listed = "\n  - ".join(faults)
            raise SinkRefused(
                f"Snapshot {wanted.snapshot} cannot be released, because a sink could not follow:\n  - {listed}",
                faults=faults,
                stores=stores,
                remedy="\nNothing was changed, and what is served stays as it is.",
            )

    def confirm(self, number: int) -> Callable[[], None]:
        """What sinks call right before they move readers. Raises Superseded where a newer release was made, Fenced."""
        return partial(self._require_current, number)

    def _require_current(self, number: int) -> None:
        if self.pointer.number() != number:
            raise Superseded
        self._publisher.connections.check_fence(f"what sinks serve of release {number}")

    def _wanted(self, snapshot: Snapshot, current: Release | None, held: Collection[str] = ()) -> Release:
        versions, proofs, sinks, digests, faults = {}, {}, {}, {}, []
        for store in self._project.stores:
            if not store.sinks or store.name in held:
                continue
            try:
                record, proofs[store.name] = self._prover.require(store, snapshot)
            except Unproven as error:
                faults.append(str(error))
                continue
            versions[store.name] = version = self._publisher.version(snapshot, record)
            sinks[store.name] = [self._describe(store, sink) for sink in store.sinks]
            digests[store.name] = self._publisher.digest(store, snapshot, version)
            faults += self._publisher.missing(store, version)
        if held and not versions:
            faults.append(f"every store is held back: {', '.join(sorted(held))}.")
        if faults:
            raise Unproven(
                f"Snapshot {snapshot.key} cannot be released:\n  - " + "\n  - ".join(faults),
                remedy="\nWhat is served stays as it is.",
            )
        release = Release(0, snapshot.key, snapshot.ordinal, snapshot.id, versions, proofs, sinks, digests=digests)
        return self._stamped(holding(release, current, held), current)

    def _stamped(self, release: Release, current: Release | None) -> Release:
        """A release with what belongs to the moment: number, time, places, and versions still being given up."""
        retiring = self.pointer.retiring(current)
        sinks = [sink for store in self._project.stores for sink in store.sinks]
        return replace(
            release,
            number=current.number + 1 if current else 1,
            released_at=self._clock().astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            released_by=self._by(),
            retired=dict(retiring),
            retired_by=current.retired_by if current and retiring else None,
            former=self.withdrawals.former(current, release.titles),
            **places(self._publisher.connections, sinks),
        )

    def _is_served(self, release: Release) -> bool:
        """Whether every sink serves a release; one that cannot be asked is not counted."""
        for name, version in release.versions.items():
            with suppress(RefoldError):  # of a sink that is no longer declared
                for _, _, target in self.sinks_of(release, name):
                    with suppress(Damaged):
                        if target.released() != version:
                            return False
        return True

    def _describe(self, store: Store, sink: Sink) -> ServedSink:
        return describe_sink(sink, self._publisher.target(store, sink).place, store.key, store.columns)

    def _asked(self, number: int) -> Release:
        release = self.pointer.get(number)
        if number + 1 in self.pointer.numbers() and self.pointer.get(number + 1).unserved == number:
            _log.warning(f"Some sink never served {release}.")
        return release

    def _before(self, current: Release) -> Release:
        """What was served before the content of a release; two rollbacks in a row go two releases back."""
        origin, unserved = current.rolled_back_to or current.number, set[int | None]()
        for release in self.pointer.newest_first():
            if release.number in unserved and not release.moves_readers:
                unserved.add(release.number - 1)  # a prune served what the number before it did
            if release.number < origin and release.moves_readers and release.versions != current.versions:
                if release.number not in unserved:
                    return release
                _log.warning(f"Passed over, because some sink never served it: {release}.")
            unserved.add(release.unserved)
        raise NotFound(f"There is nothing to roll back to: nothing was served before {current}.")

    def _restored(self, old: Release, current: Release) -> Release:
        """An old release to serve again. Raises NotFound, naming every version and proof that is gone."""
        sinks: dict[str, list[ServedSink]] = {}
        faults = [
            f"store {store.name!r}, which it did not serve: take it out of the project first"
            for store in self._project.stores
            if store.sinks and store.name not in old.versions
        ]
        chain = SnapshotChain(self._objects)
        for name, version in old.versions.items():
            if erased := chain.erased_since(old.position_of(name).snapshot, old.position_of(name).snapshot_id):
                faults.append(f"store {name!r} without what was erased since: {erased}")
            if self._prover.proofs.standing(old.proofs[name]) is None:
                faults.append(f"the proof {old.proofs[name]} of store {name!r}")
            for described, _, target in self.sinks_of(old, name, declared=True):
                if version in target.versions():
                    sinks.setdefault(name, []).append(described)
                else:
                    faults.append(f"version {version} of store {name!r} in {described.title}")
        if faults:
            raise NotFound(
                f"The content of {old} cannot be served again; missing:\n  - " + "\n  - ".join(faults),
                remedy=f"\nWhat is served stays. Publish snapshot {old.snapshot} again, or choose another release.",
            )
        left = max(current.ordinal, -1 if current.rolled_back_from is None else current.rolled_back_from)
        restored = replace(
            old,
            versions={name: old.versions[name] for name in sinks},
            proofs={name: old.proofs[name] for name in sinks},
            digests={name: digest for name, digest in old.digests.items() if name in sinks},
            sinks=sinks,
            held={name: position for name, position in old.held.items() if name in sinks},
            rolled_back_to=old.rolled_back_to or old.number,
            rolled_back_from=left if old.ordinal < left else None,
            format=Release.format,
        )
        return self._stamped(restored, current)

    def sinks_of(
        self, release: Release, name: str, *, declared: bool = False
    ) -> Iterator[tuple[ServedSink, Sink, Target]]:
        """A store's sinks in a release, each by the project's declaration, or where that is gone by the record's.

        With `declared` also those of the project that the release does not list; always where it is of format 1.
        A sink that the project no longer has counts as long as it can be reached and holds the release's version.
        """
        recorded = {each.title: each for each in sinks_in(release) if each.store == name}
        for store in self._project.stores:
            for sink in store.sinks if store.name == name else ():
                former = recorded.pop(title_of(sink), None)
                if former is not None or declared or not release.sinks:
                    described = former.sink if former is not None else self._describe(store, sink)
                    yield described, sink, self._publisher.target(store, sink)
        for former in recorded.values():
            described = former.sink
            connections = self._publisher.connections
            restored = reached(connections, former.sink)
            if restored is not None:
                target = restored.open(connections, name, described.key, described.schema)
                if release.versions[name] in target.versions():
                    yield described, restored, target

    def _moves(self, release: Release) -> Iterable[tuple[Sink, Sequence[tuple[str, Move]]]]:
        """All targets of a release by kind of sink, each with its store, also those that serve it already.

        One of them alone would make a mix.
        """
        moves: dict[str, tuple[Sink, list[tuple[str, Move]]]] = {}
        for name, version in release.versions.items():
            lineage = self.lineage(release, name)
            for described, sink, target in self.sinks_of(release, name):
                moves.setdefault(described.type, (sink, []))[1].append((name, (target, version, lineage)))
        return moves.values()

    def lineage(self, release: Release, store: str) -> dict[str, str]:
        """The lineage that every sink of a store records when it is moved to a release."""
        name, position = release.proofs[store], release.position_of(store)
        proof = self._prover.proofs.standing(name)
        return {
            "release": str(release.number),
            "released_at": release.released_at,
            "snapshot": position.snapshot,
            "snapshot_id": position.snapshot_id,
            "digest": proof.state_digest if proof else "",
            "code_version": proof.code_version if proof else "",
            "proof": name,
        }

    def _refuse_retiring(self, wanted: Release, current: Release | None) -> None:
        retiring = self.pointer.retiring(current)
        taken = [
            f"{sink.title} version {wanted.versions[store]}"
            for store, sinks in wanted.sinks.items()
            for sink in sinks
            if wanted.versions[store] in retiring.get(sink.title, ())
        ]
        if taken:
            raise Conflict(
                f"Snapshot {wanted.snapshot} cannot be released while a prune is dropping {', '.join(taken)}.",
                remedy="Let it end, or run `refold prune --apply` where it was killed; then publish it again.",
            )
