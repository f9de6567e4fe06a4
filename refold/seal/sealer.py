"""Sealing: landing objects become events with offsets, in canonical segments, under a snapshot written once.

Steps for each key: find the objects that are new, refuse changed ones, decode, stop if too much is quarantined,
assign log partition, offset and `log_seq` in the order of landing (`refold.landing.layout.landing_order`) and of lines,
deduplicate, write segments, and last create the manifest. A kill in between leaves objects that no manifest names; the
next run writes the same ones.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import zip_longest
from typing import Any

from refold.base.memory import limit_bytes, release_memory
from refold.base.parallel import each
from refold.errors import ChangedObject, Conflict, FixInput, RefusedLanding
from refold.landing.listing import Landing, LandingObject, Skipped, list_landing, read_listed, suspicious, vanished
from refold.log.declaration import Log, not_as_sealed
from refold.log.layout import NO_FILES, LogLayout, SeenFile, SegmentFile
from refold.log.quarantine import retry_objects, write_quarantine
from refold.log.segment import SEGMENT_EVENTS, write_segments
from refold.log.snapshot import (
    NO_EVENTS_YET,
    LogCut,
    SealedObject,
    Snapshot,
    SnapshotChain,
    cut_id,
    require_sealed,
    unchanged,
)
from refold.seal.arrivals import Arrivals
from refold.seal.cadence import Cadence
from refold.seal.decoding import DecodedObject, Decoding
from refold.seal.deduplication import Deduplication
from refold.seal.identity import faults_of_identity
from refold.seal.new_events import NewEvents
from refold.seal.refusal import DryRun, bad_records, check_size, joined, within_limits
from refold.seal.report import SealReport
from refold.seal.seen_index import newest_seen
from refold.storage.content import StoredObject
from refold.storage.names import is_retry
from refold.storage.objects import ObjectInfo, ObjectStore, sha256_hex


class Sealer:
    """Seals snapshots of a project's logs, key by key; lists landing once when it starts.

    A log whose landing is refused is stopped: at this key and all later ones it stays where it ended, and what waits
    enters a snapshot when it can be read, like objects that land late. The other logs are sealed, unless none of them
    has anything to seal. A log of which nothing is sealed yet stops all of them where more keys follow: its first
    objects show whether its declaration is right, and its history would end in one snapshot.

    `cadence` is the project's; it begins at the first snapshot, or at the first folder of landing, where the project
    declares no start. Of `memory_limit_mb` an eighth holds new events; the rest of them is in a temporary file.

    Raises FixInput where that folder is far from the next.
    """

    def __init__(
        self,
        landing: ObjectStore,
        objects: ObjectStore,
        chain: SnapshotChain,
        logs: Sequence[Log],
        cadence: Cadence,
        memory_limit_mb: int | None = None,
    ) -> None:
        self._objects = objects
        self._chain = chain
        self._parts = [_LogSealer(landing, objects, chain, log, limit_bytes(memory_limit_mb)) for log in logs]
        folders = {folder for part in self._parts for folder in part.landing.folders()}
        self.cadence = cadence.started(next((each.key for each in chain), None), folders)
        for part in self._parts:
            part.keys = {folder for folder in folders if self.cadence.contains(folder)}
            part.begins = self.cadence.begins
        if self.stopped and not folders:
            raise self._refusal()

    def ready(self) -> dict[str, list[LandingObject]]:
        """For each log the objects that a snapshot can take in and none holds, in order; retries in folder ''."""
        return {part.log.name: part.ready() for part in self._parts}

    def unsealed(self) -> list[LandingObject]:
        """All objects that no snapshot holds, also those in folders that are no keys of the cadence, by log."""
        return [item for part in self._parts for item in part.unsealed()]

    def pending(self) -> dict[str, list[str]]:
        """For each key the names of the objects that `ready` gives, sorted; retries under ''."""
        found: dict[str, list[str]] = {}
        for part in self._parts:
            for item in part.ready():
                found.setdefault(item.folder, []).append(item.name)
        return {folder: sorted(names) for folder, names in sorted(found.items())}

    def skipped(self) -> list[Skipped]:
        """The landing objects that are not data, by log and name."""
        return [each for part in self._parts for each in part.landing.skipped]

    def e_tags(self) -> dict[str, str]:
        """The entity tag of every object in landing, by name; another one means that somebody wrote it again."""
        return {info.name: info.e_tag for part in self._parts for info in part.landing.infos()}

    def complete(self, folder: str) -> bool:
        """Whether every log has marked the folder of a key as complete."""
        return all(folder in part.landing.marked for part in self._parts)

    def seal(self, keys: Iterable[str]) -> Iterator[SealReport]:
        """Seal keys in ascending order; a key that is sealed already is skipped.

        A key takes in all unsealed objects of folders up to itself. Yields a report for each key as it is sealed.

        Raises:
            RefusedLanding: the landing of a log is refused, and the other logs do not go on either.
            Conflict: another sealer was faster, and its snapshot is kept; or the newest snapshot was unsealed.
        """
        waiting = [key for key in keys if key not in self._chain]
        for part in self._parts:
            part.check_changed()
        try:
            for key, following in zip_longest(waiting, waiting[1:]):
                for part in self._parts:
                    part.start(key, following)
                yield self._seal(key, waiting[-1])
        finally:
            for part in self._parts:
                part.close()

    def dry_run(self, key: str) -> list[DryRun]:
        """What sealing a key would make of what waits, by log; also of a sealed key. Nothing is stored."""
        for part in self._parts:
            part.check_changed()
        try:
            return [part.dry_run(key) for part in self._parts]
        finally:
            for part in self._parts:
                part.close()

    @property
    def stopped(self) -> dict[str, RefusedLanding]:
        """The logs that are stopped so far, by name, and why."""
        return {part.log.name: part.stopped for part in self._parts if part.stopped is not None}

    def _refusal(self) -> RefusedLanding:
        return joined(list(self.stopped.values()))

    def _check_stopped(self, cuts: Mapping[str, LogCut], key: str, last: str) -> None:
        """Refuse to seal a key where logs are stopped and the others do not go on up to the last key."""
        going = [part for part in self._parts if part.stopped is None]
        waits = any(cuts[part.log.name].objects or part.due(last) for part in going)
        begins = key != last and any(part.stopped is not None and part.is_new for part in self._parts)
        if self.stopped and (begins or not waits):
            raise self._refusal()

    def _seal(self, key: str, last: str) -> SealReport:
        parent = self._chain.head
        if parent is not None and key < parent.key:
            raise FixInput(f"The key {key} is before the newest snapshot {parent.key} and can no longer be sealed.")
        cuts, layouts = {}, {}
        for part in self._parts:
            cuts[part.log.name], layouts[part.log.name] = part.seal(key, parent)
        self._check_stopped(cuts, key, last)
        for name, cut in (parent.logs if parent else {}).items():
            if name not in cuts:  # a log that is declared no more stays where it ended, and may come back
                cuts[name], layouts[name] = unchanged(cut), NO_FILES
        snapshot = Snapshot(
            key=key,
            ordinal=parent.ordinal + 1 if parent else 0,
            parent_key=parent.key if parent else None,
            parent_sha256=parent.sha256 if parent else None,
            logs=cuts,
        )
        if parent is not None:
            require_sealed(self._objects, parent)
        try:
            self._chain.create(snapshot, layouts)
        except Conflict as error:
            raise Conflict(
                f"The snapshot {key} exists with other content: another process sealed it meanwhile, or a write of an "
                "earlier run was done late. It is kept.",
                remedy="Run again to continue after it.",
            ) from error
        late = [o.name for cut in cuts.values() for o in cut.objects if o.late]
        gone = [name for part in self._parts for name in part.vanished]
        return SealReport(snapshot, late, gone, self.skipped(), self.stopped)


class _LogSealer:
    """The part of sealing that belongs to one log; objects in folders other than `keys` wait."""

    keys: Collection[str] = ()
    begins: Callable[[str], dt.datetime]

    def __init__(
        self, landing: ObjectStore, objects: ObjectStore, chain: SnapshotChain, log: Log, memory_bytes: int
    ) -> None:
        self.log = log
        self._memory_bytes = memory_bytes
        self.stopped: RefusedLanding | None = None
        self.landing = self._listed(landing)
        self._store = landing
        self._objects = objects
        self._chain = chain
        self._deduplication = Deduplication(objects, chain, log)
        self._decoding = Decoding(landing, objects, log, ahead_bytes=memory_bytes // 32)
        self._retried = [LandingObject(ObjectInfo(name, 0, ""), "", None) for name in retry_objects(objects, log)]
        self._sealed = {o.name: o for snapshot in chain for o in self._cut(snapshot).objects}
        self._is_listed = self.stopped is None
        self._refuse_other_declaration()

    def _listed(self, landing: ObjectStore) -> Landing:
        try:
            return list_landing(landing, self.log.name, self.log.endings, self.log.layout, self.log.folder)
        except RefusedLanding as error:
            self.stopped = error
            return Landing(self.log.name)

    @cached_property
    def vanished(self) -> list[str]:
        """The sealed objects that landing no longer holds, though at the newest snapshot they are not old enough."""
        head, age, held = self._chain.head, self.log.expires_after, list[str]()
        for snapshot in self._chain if self._is_listed else ():
            if not (head and age) or self.begins(head.key) - self.begins(snapshot.key) < age:
                held += [each.name for each in self._cut(snapshot).objects if not is_retry(each.name)]
        return vanished(self.landing, held)

    @property
    def is_new(self) -> bool:
        """Whether no snapshot holds anything of the log."""
        return not self._sealed

    def _cut(self, snapshot: Snapshot) -> LogCut:
        return snapshot.cut(self.log.name)

    def _refuse_other_declaration(self) -> None:
        head = self._chain.head
        if head is None:
            return
        cut = self._cut(head)
        if cut is NO_EVENTS_YET:
            return
        faults = self.log.faults_of_growth(cut.schema)
        if len(cut.ends) != self.log.partitions:
            faults.append(
                f"it was sealed with {len(cut.ends)} log partitions and is declared with {self.log.partitions}; "
                "`refold log repartition` makes one with another number"
            )
        if not faults:
            faults = faults_of_identity(self._objects, self._chain, self.log)
        if faults:
            raise not_as_sealed(self.log, faults)

    def check_changed(self) -> None:
        """Stop the log where bytes of sealed objects have changed, naming each."""
        tags = {name: tag for snapshot in self._chain for name, tag in self._layout(snapshot).e_tags.items()}
        changed = []
        for info in suspicious(self.landing, tags):
            found = sha256_hex(read_listed(self._store, info))
            if found != self._sealed[info.name].sha256:
                changed.append(f"{info.name}: sealed with sha256 {self._sealed[info.name].sha256}, now {found}")
        if changed:
            self.stopped = ChangedObject(
                f"Log {self.log.name!r}: landing objects changed after they were sealed:\n  " + "\n  ".join(changed),
                remedy="\nThe sealed events stand. Restore the objects, and land corrections as new objects.",
            )

    def _layout(self, snapshot: Snapshot) -> LogLayout:
        return self._chain.layout(snapshot, self.log.name)

    def unsealed(self) -> list[LandingObject]:
        """The objects that no snapshot holds: retried ones (folder ''), which are older, then landing's in order."""
        return [item for item in [*self._retried, *self.landing.objects] if item.name not in self._sealed]

    def ready(self) -> list[LandingObject]:
        """Those of them that are retries, or lie in the folder of a key of the cadence."""
        return [item for item in self.unsealed() if not item.folder or item.folder in self.keys]

    def due(self, key: str) -> list[LandingObject]:
        """The objects that wait for a snapshot up to a key, in the order of sealing."""
        return [item for item in self.ready() if item.folder <= key]

    def start(self, key: str, following: str | None) -> None:
        """Start to decode the objects of the next key and of the one that follows."""
        if self.stopped is None:
            self._decoding.start(self.due(following or key))

    def close(self) -> None:
        """Give up what was begun."""
        self._decoding.close()

    def seal(self, key: str, parent: Snapshot | None) -> tuple[LogCut, LogLayout]:
        """Decode, order, deduplicate and store what is new up to a key; nothing is visible before the manifest.

        Where that is refused, the log is stopped, and this and every later key has nothing new of it.
        """
        while True:
            try:
                return self._seal(key, self.due(key) if self.stopped is None else [], parent)
            except RefusedLanding as error:
                self.stopped = error  # with nothing new nothing can be refused
                self.close()

    def _seal(self, key: str, due: Sequence[LandingObject], parent: Snapshot | None) -> tuple[LogCut, LogLayout]:
        check_size(self.log, key, due)
        new = self._new_events(parent)
        arrivals = Arrivals(self.log, key, self.begins(key), due, new.add)
        objects = within_limits(self.log, key, self._decoding.decode(due, arrivals))
        arrivals.check()
        cut = self._new_cut(objects, new, parent)
        segments, repeats, seen = self._write(key, objects, new)
        self._sealed |= {o.name: o for o in cut.objects}
        quarantine = write_quarantine(self._objects, self.log, bad_records(objects))
        tags = {decoded.item.name: decoded.item.info.e_tag for decoded in objects if decoded.item.folder}
        return cut, LogLayout(segments, repeats, quarantine, seen, tags)

    def _new_events(self, parent: Snapshot | None) -> NewEvents:
        """No new events yet, after those of a snapshot."""
        before = parent.logs.get(self.log.name) if parent else None
        starts = list(before.ends) if before else [0] * self.log.partitions
        return NewEvents(self.log, starts, before.seq_end if before else 0, self._memory_bytes // 8)

    def dry_run(self, key: str) -> DryRun:
        """What sealing a key would make of what waits. Nothing is stored."""
        errors, due = [self.stopped] if self.stopped else [], self.due(key)
        self._decoding.start(due)
        readable, new = [], self._new_events(self._chain.head)
        for item in due:
            try:
                list(self._decoding.decode([item], lambda *_: None))
                readable.append(item)
            except RefusedLanding as error:
                errors.append(error)
        arrivals = Arrivals(self.log, key, self.begins(key), due, new.add)
        objects = list(self._decoding.decode(readable, arrivals))
        found = self._deduplication.found(key, objects, new, *self._deduplication.run(new)) if objects else None
        checks: list[Callable[[], Any]] = [partial(check_size, self.log, key, due)]
        checks += [partial(within_limits, self.log, key, objects), arrivals.check, *([found.check] if found else [])]
        for check in checks:
            try:
                check()
            except RefusedLanding as error:
                errors.append(error)
        return DryRun(self.log, key, len(due), errors, bad_records(objects), found)

    def _new_cut(self, objects: Sequence[DecodedObject], new: NewEvents, parent: Snapshot | None) -> LogCut:
        """The log's part of the new snapshot."""
        before, content = parent.logs.get(self.log.name) if parent else None, self.log.content
        return LogCut(
            id=cut_id(before.id if before else None, content, new.ends, new.content, len(new)),
            starts=new.starts,
            ends=new.ends,
            seq_start=new.seq_start,
            seq_end=new.seq_start + len(new),
            content=new.content,
            schema=content,
            read=sum(decoded.read for decoded in objects),
            quarantined=sum(len(decoded.bad) for decoded in objects),
            control=sum(decoded.control for decoded in objects),
            objects=[_sealed_object(decoded, parent) for decoded in objects],
            repeats_within=self.log.repeats_within,
        )

    def _write(
        self, key: str, objects: Sequence[DecodedObject], new: NewEvents
    ) -> tuple[list[SegmentFile], StoredObject | None, list[SeenFile]]:
        """Write segments and, beside that, deduplicate."""
        if not len(new):
            return [], None, list(newest_seen(self._chain, self.log.name)[1])
        sizes = [end - start for start, end in zip(new.starts, new.ends, strict=True)]
        work: list[Callable[[], Any]] = [
            partial(write_segments, self._objects, self.log, place, new.tables(place)) for place in range(len(sizes))
        ]
        if len(new) >= SEGMENT_EVENTS:
            release_memory()
        work.insert(0, partial(self._deduplication.store, key, objects, new, [self._deduplication.run(new)]))
        (repeats, seen), *written = each(lambda job: job(), work, [sum(sizes), *sizes])
        return [file for files in written for file in files], repeats, seen


def _sealed_object(decoded: DecodedObject, parent: Snapshot | None) -> SealedObject:
    item = decoded.item
    late = parent is not None and "" < item.folder <= parent.key
    return SealedObject(item.name, decoded.size_bytes, decoded.sha256, decoded.read, late)
