"""Virtual time: actors that run one at a time, and what befalls each of their operations, by seed. Not a test.

Every actor is a thread that holds the baton or waits for it. What befalls an operation follows from the seed, the
actor's name and the number of the operation, so that one fault can be left out and all others stay what they are.
"""

from __future__ import annotations

import datetime as dt
import heapq
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from refold.testing.faulty_store import Crash, Effect

LEASE_SECONDS = 10.0
QUIET_AFTER = 300.0
"""When faults end, in virtual seconds."""
STEPS_MAX = 60_000
EFFECTS = (Effect.FAIL, Effect.LOSE_ANSWER, Effect.RESEND, Effect.LATE, Effect.CRASH, Effect.CRASH_AFTER)


class Violation(AssertionError):
    """What the platform promises does not hold."""


class Stopped(BaseException):
    """The run is over."""


@dataclass(frozen=True, order=True)
class Fault:
    """Something that befalls one operation of one actor, or one of its writes to the table, both counted from 1."""

    actor: str
    operation: int
    what: str
    seconds: float = 0.0

    def __str__(self) -> str:
        how = f" for {self.seconds:.0f} s" if self.seconds else ""
        return f"{self.actor}, operation {self.operation}: {self.what}{how}"


@dataclass
class Actor:
    """One process: its work, its own clock, and how often it was started."""

    name: str
    work: Callable[[Actor], None]
    skew: float = 1.0
    starts: int = 0
    operations: int = 0
    writes: int = 0
    partitioned_until: float = 0.0
    done: bool = False
    baton: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class Scheduler:
    """Runs actors by virtual time.

    Args:
        seed: decides delays and faults.
        kept: the faults that may happen; None for all that the seed gives.
    """

    def __init__(self, seed: int, kept: frozenset[Fault] | None = None) -> None:
        self.seed, self.kept = seed, kept
        self.now = 0.0
        self.steps = 0
        self.happened: list[Fault] = []
        self.actors: list[Actor] = []
        self.current: Actor | None = None
        self._waiting: list[tuple[float, int, Actor]] = []
        self._control = threading.Semaphore(0)
        self._failed: BaseException | None = None
        self._over = False

    @property
    def quiet(self) -> bool:
        """Whether faults have ended."""
        return self.now >= QUIET_AFTER

    def calm(self) -> None:
        """End faults, after a run."""
        self.now = max(self.now, QUIET_AFTER)

    def add(self, name: str, work: Callable[[Actor], None]) -> None:
        own = random.Random(f"{self.seed} {name}")
        actor = Actor(name, work, skew=own.choice((0.5, 1.0, 1.0, 2.0)))
        self.actors.append(actor)
        self._at(self.now + own.uniform(0, 5), actor)

    def run(self) -> None:
        """Run until every actor has ended. Raises Violation, also where they do not end."""
        threads = [threading.Thread(target=self._live, args=(actor,), daemon=True) for actor in self.actors]
        for thread in threads:
            thread.start()
        try:
            while self._waiting and self._failed is None:
                self.now, _, actor = heapq.heappop(self._waiting)
                self.current = actor
                actor.baton.release()
                self._control.acquire()
        finally:
            self._over = True
            for actor in self.actors:
                actor.baton.release()
            for thread in threads:
                thread.join()
        if self._failed is not None:
            raise self._failed

    def _live(self, actor: Actor) -> None:
        actor.baton.acquire()
        try:
            while not actor.done and not self._over:
                actor.starts += 1
                try:
                    actor.work(actor)
                    actor.done = True
                except Crash:
                    self.wait(5.0)
        except Stopped:
            return
        except BaseException as error:
            self._failed = error
        finally:
            actor.done = True
            self._control.release()

    def wait(self, seconds: float) -> None:
        """Let others run for some virtual seconds."""
        actor = self.current
        assert actor is not None
        if self._over:
            raise Stopped
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Violation(f"not everything ends: {actor.name} still works after {self.now:.0f} virtual seconds")
        self._at(self.now + seconds, actor)
        self._control.release()
        actor.baton.acquire()
        if self._over:
            raise Stopped
        self.current = actor

    def _at(self, time: float, actor: Actor) -> None:
        heapq.heappush(self._waiting, (time, len(self._waiting) + self.steps * 1000, actor))

    def befall(self) -> Effect | None:
        """Let time pass before an operation, maybe much of it; returns what happens to it."""
        actor = self.current
        assert actor is not None
        actor.operations += 1
        own = random.Random(f"{self.seed} {actor.name} {actor.operations}")
        delay, effect = own.uniform(0.01, 0.5), None
        fault = self._drawn(own, actor) if not self.quiet else None
        if fault is not None and (self.kept is None or fault in self.kept):
            self.happened.append(fault)
            if fault.what == "pause":
                delay += fault.seconds
            elif fault.what == "partition":
                actor.partitioned_until = self.now + fault.seconds
            else:
                effect = Effect(fault.what)
        self.wait(delay)
        if self.now < min(actor.partitioned_until, QUIET_AFTER):
            return Effect.FAIL
        return effect

    def tears(self) -> bool:
        """Whether the next write of the current actor to the table loses a part of its content."""
        actor = self.current
        assert actor is not None
        actor.writes += 1
        fault = Fault(actor.name, actor.writes, "a torn write")
        drawn = random.Random(f"{self.seed} {actor.name} {actor.writes} torn").random() < 0.05
        if not drawn or self.quiet or (self.kept is not None and fault not in self.kept):
            return False
        self.happened.append(fault)
        return True

    @staticmethod
    def _drawn(own: random.Random, actor: Actor) -> Fault | None:
        drawn = own.random()
        if drawn < 0.02:
            return Fault(actor.name, actor.operations, "pause", own.uniform(1, 6 * LEASE_SECONDS))
        if drawn < 0.023:
            return Fault(actor.name, actor.operations, "partition", own.uniform(1, 3 * LEASE_SECONDS))
        if drawn < 0.06:
            return Fault(actor.name, actor.operations, str(own.choice(EFFECTS)))
        return None


class ActorClock:
    """The clock of one actor, which goes faster or slower than others."""

    def __init__(self, scheduler: Scheduler, actor: Actor) -> None:
        self._scheduler, self._skew = scheduler, actor.skew

    def monotonic(self) -> float:
        return self._scheduler.now * self._skew

    def sleep(self, seconds: float) -> None:
        self._scheduler.wait(max(seconds, 0.01) / self._skew)

    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=self._scheduler.now)
