"""One run by its seed, what must hold at its end, and the fewest faults that still break it. Not a test."""

from __future__ import annotations

from dataclasses import dataclass

from refold.log.snapshot import SnapshotChain
from refold.release.pointer import Pointer
from tests.simulation.actors import ByChance, Party, builder, compactor, pruner, publisher, reader, replay, sealer
from tests.simulation.scheduler import Actor, Fault, Scheduler, Violation
from tests.simulation.world import DAYS, Safeguard, World

ACTORS = {
    "sealer 1": sealer, "sealer 2": sealer, "builder 1": builder, "builder 2": builder, "publisher 1": publisher,
    "publisher 2": publisher, "pruner": pruner, "compactor": compactor, "reader 1": reader, "reader 2": reader,
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a run: the violation, "" for none; the faults that happened; virtual seconds and operations."""

    seed: int
    violation: str
    faults: tuple[Fault, ...]
    seconds: float
    operations: int


def simulate(seed: int, without: Safeguard | None = None, kept: frozenset[Fault] | None = None) -> Outcome:
    """One run. The same seed, safeguards and faults give the same outcome."""
    scheduler = Scheduler(seed, kept)
    world = World(scheduler, without)
    faults = ByChance(scheduler)
    for name, make in ACTORS.items():
        scheduler.add(name, make(world, faults))
    violation, seconds = "", 0.0
    try:
        scheduler.run()
        seconds = scheduler.now
        check_end(world)
    except Violation as error:
        violation = str(error)
    operations = sum(actor.operations for actor in scheduler.actors)
    return Outcome(seed, violation, tuple(scheduler.happened), seconds or scheduler.now, operations)


def check_end(world: World) -> None:
    """The quiet point: all is sealed, built, served and equal to full replay and to what landed; nothing is pending."""
    world.scheduler.calm()
    party = Party(world, ByChance(world.scheduler), Actor("check", lambda _: None, starts=1))
    party.objects = world.objects
    chain, release = SnapshotChain(world.objects), Pointer(world.objects).current()
    if [snapshot.key for snapshot in chain] != list(DAYS):
        raise Violation(f"sealed are {[snapshot.key for snapshot in chain]}, expected {list(DAYS)}")
    for day, snapshot in enumerate(chain):
        found = replay(party, chain, snapshot)
        if found != world.expected[day]:
            raise Violation(f"full replay of {snapshot.key} gives {found}, expected {world.expected[day]}")
    if release is None or release.ordinal + 1 != len(DAYS):
        raise Violation(f"released is {release}, expected {DAYS[-1]}")
    if world.table.served is None or world.table.served[0] != release.number:
        raise Violation(f"the table serves {world.table.served}, expected release {release.number}")
    world.check_read(release.number, world.table.versions[world.table.served[1]])


def shrink(outcome: Outcome, without: Safeguard | None = None) -> Outcome:
    """The same seed with as few faults as still give a violation: none of them can be left out."""
    kept, size = list(outcome.faults), max(1, len(outcome.faults))
    best = outcome
    while kept:
        for start in range(0, len(kept), size):
            fewer = [fault for place, fault in enumerate(kept) if not start <= place < start + size]
            tried = simulate(outcome.seed, without, frozenset(fewer))
            if tried.violation:
                kept, best = [fault for fault in fewer if fault in tried.faults], tried
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
    return best
