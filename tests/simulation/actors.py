"""Sealers, builders, publishers, a pruner, a compactor and readers at work on one world. Not a test.

Leases, the chain of snapshots, layouts, the pointer and its releases are Refold's own; segments, states and the table
are small ones of the same protocol, so that thousands of runs take minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from refold.errors import Damaged, NotFound, Retry
from refold.leases.fenced_store import FencedStore
from refold.leases.lease import Duty
from refold.leases.leases import Leases
from refold.leases.register import ObjectRegister
from refold.log.layout import LogLayout, SegmentFile
from refold.log.snapshot import NO_EVENTS_YET, LogCut, Snapshot, SnapshotChain, cut_id
from refold.release.pointer import Pointer, Release
from refold.storage.names import ObjectKind, name_of, parts_of
from refold.storage.objects import ObjectStore, canonical_json, sha256_hex
from refold.storage.records import read_record, write_record
from refold.storage.sink_names import version_name
from refold.storage.wrappers import Operation
from refold.testing.faulty_store import Effect, Faults, FaultyStore
from tests.simulation.scheduler import LEASE_SECONDS, Actor, ActorClock, Scheduler, Violation
from tests.simulation.world import DAYS, Rows, Safeguard, World, fold

LOG, STORE = "moves", "stock"
GRACE_SECONDS = 100.0


class ByChance(Faults):
    """The store's faults, as the scheduler gives them."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self.scheduler = scheduler

    def next(self, operation: Operation, name: str) -> Effect | None:
        effect = self.scheduler.befall()
        self._do_late()
        return effect


class Party:
    """One actor's way to the world: its store with faults, and its leases."""

    def __init__(self, world: World, faults: ByChance, actor: Actor) -> None:
        self.world, self.actor = world, actor
        inner: ObjectStore = FaultyStore(world.objects, faults)
        holder = f"{actor.name} {actor.starts}"
        clock = ActorClock(world.scheduler, actor)
        self.leases = world.leases[actor.name] = Leases(
            ObjectRegister(inner), inner, holder=holder, seconds=LEASE_SECONDS, wait_seconds=60, clock=clock,
            renews=False,
        )  # fmt: skip
        self.objects = inner if world.without is Safeguard.FENCING else FencedStore(inner, self.leases)

    def token(self) -> int:
        token = self.leases.token(Duty.PUBLISH)
        assert token is not None
        return token

    def events(self, chain: SnapshotChain, snapshot: Snapshot) -> list[list[object]]:
        """The sealed events that a snapshot added."""
        return [
            event
            for segment in chain.layout(snapshot, LOG).segments
            for event in json.loads(self.objects.get_checked(segment.name, segment.sha256))
        ]

    def segment(self, start: int, events: list[list[object]]) -> SegmentFile:
        """Store events as a segment."""
        data = canonical_json(events)
        sha256 = sha256_hex(data)
        name = name_of(ObjectKind.SEGMENT, log=LOG, partition=0, start=start, sha256=sha256)
        self.objects.put(name, data)
        return SegmentFile(0, start, start + len(events), name, sha256, {}, start, start + len(events))


def again(work: Callable[[Party], bool]) -> Callable[[World, ByChance], Callable[[Actor], None]]:
    """An actor that does something again and again until it says that nothing is left; what may pass is tried again."""

    def made(world: World, faults: ByChance) -> Callable[[Actor], None]:
        def live(actor: Actor) -> None:
            party = Party(world, faults, actor)
            while True:
                try:
                    if work(party):
                        return
                except (Retry, NotFound, Damaged):
                    party = Party(world, faults, actor)
                world.scheduler.wait(3.0)

        return live

    return made


@again
def sealer(party: Party) -> bool:
    """Seal the next day: repeats dropped, the others in the order of their producer."""
    with party.leases.holding(Duty.SEAL):
        chain = SnapshotChain(party.objects)
        day = len(chain)
        if day == len(DAYS):
            return True
        seen = {event[0] for snapshot in chain for event in party.events(chain, snapshot)}
        events = [each.to_json() for each in party.world.deliveries[day]]
        if party.world.without is not Safeguard.DEDUPLICATION:
            events = list({event[0]: event for event in events if event[0] not in seen}.values())
        if party.world.without is not Safeguard.ORDER:
            events.sort(key=lambda event: int(str(event[0])))
        head = chain.head
        before = head.cut(LOG) if head else NO_EVENTS_YET
        start, half = before.seq_end, len(events) // 2
        layout = [party.segment(start, events[:half]), party.segment(start + half, events[half:])]
        end, content = start + len(events), [sha256_hex(canonical_json(events))]
        cut = LogCut(
            id=cut_id(before.id, "", [end], content, len(events)), starts=[start], ends=[end], seq_start=start,
            seq_end=end, content=content, schema="", read=len(events), quarantined=0, control=0, objects=[],
        )  # fmt: skip
        snapshot = Snapshot(DAYS[day], day, head and head.key, head and head.sha256, {LOG: cut})
        chain.create(snapshot, {LOG: LogLayout(layout, None, None, (), {})})
        return day + 1 == len(DAYS)


def _record(snapshot: Snapshot) -> str:
    return name_of(ObjectKind.STATE_RECORD, store=STORE, code_version="1", inputs=snapshot.id)


def _rows_name(sha256: str) -> str:
    return name_of(ObjectKind.ROWS, store=STORE, sha256=sha256)


def _state(party: Party, snapshot: Snapshot) -> Rows | None:
    """The stored rows at a snapshot; None where there are none."""
    body = read_record(party.objects, _record(snapshot))
    if body is None:
        return None
    rows: Rows = json.loads(party.objects.get_checked(_rows_name(body["rows"]), body["rows"]))
    return rows


def replay(party: Party, chain: SnapshotChain, snapshot: Snapshot) -> Rows:
    """The rows by all events from the first one on."""
    rows: Rows = {}
    for each in chain.through(snapshot.key):
        rows = fold(rows, party.events(chain, each))
    return rows


@again
def builder(party: Party) -> bool:
    """Build the state at every snapshot from the one before."""
    chain = SnapshotChain(party.objects)
    rows: Rows = {}
    for snapshot in chain:
        stored = _state(party, snapshot)
        if stored is None:
            stored = fold(rows, party.events(chain, snapshot))
            data = canonical_json(stored)
            party.objects.put(_rows_name(sha256_hex(data)), data)
            write_record(party.objects, _record(snapshot), {"rows": sha256_hex(data)})
        rows = stored
    return len(chain) == len(DAYS)


@again
def publisher(party: Party) -> bool:
    """Publish the newest proven state, read it back, move the pointer, and the table after it."""
    with party.leases.holding(Duty.PUBLISH):
        pointer, chain = Pointer(party.objects), SnapshotChain(party.objects)
        current, snapshot = pointer.current(), chain.head
        if snapshot is not None and (current is None or current.ordinal < snapshot.ordinal):
            rows = _state(party, snapshot)
            if rows is not None and rows == replay(party, chain, snapshot):
                _publish(party, pointer, snapshot, rows, current)
        _roll_forward(party, pointer)
        current = pointer.current()
        return current is not None and current.ordinal + 1 == len(DAYS)


def _publish(party: Party, pointer: Pointer, snapshot: Snapshot, rows: Rows, current: Release | None) -> None:
    version = version_name(snapshot.ordinal, sha256_hex(canonical_json(rows)))
    party.world.table.publish(version, rows, party.token())
    if party.world.without is not Safeguard.READ_BACK and party.world.table.read(version) != rows:
        raise Damaged("the table gives back other rows")
    number = current.number + 1 if current else 1
    pointer.move(Release(number, snapshot.key, snapshot.ordinal, snapshot.id, {STORE: version}, {STORE: ""}))


def _roll_forward(party: Party, pointer: Pointer) -> None:
    """Let the table serve what the pointer says, as the releaser does: looked at again before and after."""
    release = pointer.current()
    while release is not None:
        if pointer.number() == release.number:
            party.world.table.release(release.versions[STORE], release.number, party.token())
        if pointer.number() == release.number:
            return
        release = pointer.current()


@again
def pruner(party: Party) -> bool:
    """Drop versions that are not served, and segments that no layout names any more, after a while."""
    with party.leases.holding(Duty.SEAL, Duty.PRUNE, Duty.PUBLISH):
        pointer, chain = Pointer(party.objects), SnapshotChain(party.objects)
        current = pointer.current()
        if current is None:
            return False
        _roll_forward(party, pointer)
        for version in list(party.world.table.versions):
            if version != current.versions[STORE] and int(version[:6]) <= current.ordinal:
                party.world.table.drop(version, party.token())
        named = {segment.name for snapshot in chain for segment in chain.layout(snapshot, LOG).segments}
        for name in list(party.world.objects.objects):
            if parts_of(ObjectKind.SEGMENT, name) and name not in named and _is_old(party, name):
                party.objects.delete(name)
        return current.ordinal + 1 == len(DAYS)


def _is_old(party: Party, name: str) -> bool:
    first = party.world.unnamed_since.setdefault(name, party.world.scheduler.now)
    return party.world.scheduler.now - first > GRACE_SECONDS


@again
def compactor(party: Party) -> bool:
    """Join the segments of every snapshot that has several."""
    with party.leases.holding(Duty.SEAL):
        chain = SnapshotChain(party.objects)
        for snapshot in chain:
            segments = chain.layout(snapshot, LOG).segments
            if len(segments) > 1:
                joined = party.segment(segments[0].start, party.events(chain, snapshot))
                chain.replace_layout(snapshot, {LOG: LogLayout([joined], None, None, (), {})})
        return len(chain) == len(DAYS)


def reader(world: World, _: ByChance) -> Callable[[Actor], None]:
    """Reads what is served, again and again, and never goes back."""

    def live(actor: Actor) -> None:
        newest = 0
        while True:
            found = world.table.look()
            if found is not None:
                number, rows = found
                world.check_read(number, rows)
                if number < newest:
                    raise Violation(f"a reader saw release {number} after {newest}")
                newest = number
                if world.day_of(number) + 1 == len(DAYS):
                    return
            world.scheduler.wait(2.0)

    return live
