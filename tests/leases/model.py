"""All interleavings of processes that take one lease, commit under it and write to a sink. Not a test.

The records and their changes are those of `refold.leases.lease`. Every read, swap, creation and write is a step of its
own, and a process may rest for ever between two of them: that is a pause, a crash, and an expired lease alike, since
any process may take the lease at any time. So no clock is in the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from refold.leases.lease import LeaseRecord, Pending, deciding, freed, holds, taken

TOKENS_MAX = 3
FREE = LeaseRecord()


class Safeguard(StrEnum):
    """What can be taken out of the model."""

    DECIDE = "a commit is decided in the lease first"
    SETTLE = "who takes a lease first makes what is pending"
    SWAP = "a swap fails where another was first"
    TOKEN = "a sink refuses a token below the newest it has seen"


class Step(StrEnum):
    """What a process does next."""

    READ = "read"
    SETTLE = "settle"
    TAKE = "take"
    LOOK = "look for the next number"
    DECIDE = "decide"
    CREATE = "create"
    WRITE = "write to the sink"
    RELEASE = "release"
    FENCED = "fenced"
    DONE = "done"


@dataclass(frozen=True)
class Process:
    """A process: what it does next, and what it knows."""

    step: Step = Step.READ
    version: int = 0
    record: LeaseRecord = FREE
    number: int = 0


@dataclass(frozen=True)
class World:
    """Everything: the register, the objects that were created (by which token), the sink, and the processes.

    `newest` is the highest token that was ever taken; `seen` the highest that the sink has seen; `late` says what was
    written by a token below the newest one, or to the sink below one that it has seen.
    """

    processes: tuple[Process, ...]
    version: int = 0
    record: LeaseRecord = FREE
    objects: tuple[str, ...] = ()
    newest: int = 0
    seen: int = 0
    late: str = ""


def search(processes: int = 2, without: Safeguard | None = None) -> tuple[int, list[str]]:
    """How many states can be reached, and the shortest way to a violation; empty where there is none."""
    first = World((Process(),) * processes)
    came: dict[World, tuple[World, str] | None] = {first: None}
    waiting = deque([first])
    while waiting:
        world = waiting.popleft()
        if world.late:
            return len(came), _way(came, world)
        for said, following in steps(world, without):
            if following not in came:
                came[following] = world, said
                waiting.append(following)
    return len(came), []


def _way(came: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    found = [world.late]
    before = came[world]
    while before is not None:
        found.append(before[1])
        before = came[before[0]]
    return found[::-1]


def steps(world: World, without: Safeguard | None) -> Iterator[tuple[str, World]]:
    """Every next step of every process."""
    for place, process in enumerate(world.processes):
        if process.step not in (Step.FENCED, Step.DONE):
            for following, own in _step(world, process, f"process {place}", without):
                processes = (*world.processes[:place], own, *world.processes[place + 1 :])
                said = f"{place}: {process.step}" if own.step is not Step.FENCED else f"{place}: {process.step}: fenced"
                yield said, replace(following, processes=processes)


def _step(  # noqa: PLR0912 -- one case a step
    world: World, own: Process, name: str, without: Safeguard | None
) -> Iterator[tuple[World, Process]]:
    match own.step:
        case Step.READ:
            following = Step.TAKE if without is Safeguard.SETTLE or not world.record.pending else Step.SETTLE
            yield world, Process(following, world.version, world.record)
        case Step.SETTLE:
            assert own.record.pending is not None
            yield _created(world, own.record.pending), replace(own, step=Step.TAKE)
        case Step.TAKE if world.newest < TOKENS_MAX:
            if _free(world, own, without):
                record = taken(own.record, name, 30)
                after = replace(_swapped(world, own, record), newest=max(world.newest, record.token))
                yield after, Process(Step.LOOK, after.version, record)
                yield after, Process(Step.WRITE, after.version, record)
            else:
                yield world, Process()
        case Step.LOOK:
            numbers = [int(each.partition(" ")[0]) for each in world.objects]
            yield world, replace(own, step=Step.DECIDE, number=max(numbers, default=0) + 1)
        case Step.DECIDE if without is Safeguard.DECIDE:  # a look in its place
            held = holds(world.record, name, own.record.token)
            yield world, replace(own, step=Step.CREATE if held else Step.FENCED)
        case Step.DECIDE:
            pending = Pending(f"{own.number}", f"{own.record.token}")
            yield _if_swapped(world, own, deciding(own.record, pending), Step.CREATE, without)
        case Step.CREATE:
            pending = own.record.pending or Pending(f"{own.number}", f"{own.record.token}")
            yield _created(world, pending), replace(own, step=Step.RELEASE)
        case Step.WRITE:
            token = own.record.token
            if token < world.seen and without is not Safeguard.TOKEN:
                yield world, replace(own, step=Step.FENCED)
            else:
                late = f"the sink was written with token {token} after {world.seen}" if token < world.seen else ""
                yield replace(world, seen=max(token, world.seen), late=late), replace(own, step=Step.RELEASE)
        case Step.RELEASE:
            yield _if_swapped(world, own, freed(own.record), Step.DONE, without)


def _free(world: World, own: Process, without: Safeguard | None) -> bool:
    return world.version == own.version or without is Safeguard.SWAP


def _swapped(world: World, own: Process, record: LeaseRecord) -> World:
    return replace(world, version=own.version + 1, record=record)


def _if_swapped(
    world: World, own: Process, record: LeaseRecord, step: Step, without: Safeguard | None
) -> tuple[World, Process]:
    if not _free(world, own, without):
        return world, replace(own, step=Step.FENCED)
    after = _swapped(world, own, record)
    return after, replace(own, step=step, version=after.version, record=record)


def _created(world: World, pending: Pending) -> World:
    """The world after a creation, which changes nothing where the object exists."""
    if any(each.startswith(f"{pending.name} ") for each in world.objects):
        return world
    late = f"object {pending.name} was created with token {pending.text} after {world.newest}"
    return replace(
        world,
        objects=tuple(sorted((*world.objects, f"{pending.name} by {pending.text}"))),
        late=late if int(pending.text) < world.newest else "",
    )
