"""Taking, renewing, committing under, and giving up leases.

A lease that its holder does not renew for its seconds is taken by whoever waits for it; a waiter measures that by its
own clock, from when it first saw the record. So no clocks are compared, and a wrong one costs time, never safety.
"""

from __future__ import annotations

import datetime as dt
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from refold.errors import CommitUnknown, Conflict, Damaged, Fenced, FixInput, NotFound, RefoldError, Unavailable
from refold.leases.lease import LeaseRecord, Pending, deciding, freed, holds, order_of, renewed, taken
from refold.leases.register import Entry, Register
from refold.storage.objects import ObjectStore

SECONDS = 30.0
WAIT_SECONDS = 120.0
_BREAKS_MAX = 20


class Clock(Protocol):
    """The time as leases need it."""

    def monotonic(self) -> float:
        """Seconds that only rise."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def now(self) -> dt.datetime:
        """The time for people, aware."""


class SystemClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """As `time.sleep`."""
        time.sleep(seconds)

    def now(self) -> dt.datetime:
        """The time, UTC."""
        return dt.datetime.now(dt.UTC)


def unique_holder() -> str:
    """This process, named for people, and unlike any other one."""
    return f"process {os.getpid()} on {platform.node()} ({os.urandom(4).hex()})"


class Lease:
    """A lease that this process took. May be used by several threads."""

    def __init__(self, name: str, register: Register, objects: ObjectStore, version: int, record: LeaseRecord) -> None:
        self.name = name
        self.token = record.token
        self._holder = record.holder
        self._register, self._objects = register, objects
        self._version, self._record = version, record
        self._lock = threading.RLock()
        self._settled = self._sure = True
        self._lost: Fenced | None = None

    def check(self, what: str = "anything more") -> None:
        """Raise Fenced where somebody else has taken the lease, with who it is. `what` is not written then."""
        with self._lock:
            if self._lost is not None or not self._sure:
                self._sync(what)
            elif self._register.version(self.name) != self._version:
                raise self._fenced(what)

    def renew(self) -> None:
        """Show that the holder is alive. Raises Fenced."""
        with self._lock:
            self._sync("anything more")
            self._swap(renewed(self._record, settled=self._settled), "anything more")

    def commit(self, name: str, data: bytes) -> None:
        """Create an object that must not exist yet, as `ObjectStore.create` does, if the lease is still held.

        Raises:
            Fenced: somebody else has taken the lease; the object was not written and will not be.
            Conflict, Unavailable, CommitUnknown: as `ObjectStore.create`.
        """
        with self._lock:
            self._sync(name)
            self._settle()
            self._objects.sync()  # what the commit names must be there before others may make it
            self._swap(deciding(self._record, Pending(name, data.decode())), name)
            self._settled = False
            try:
                self._objects.create(name, data)
            except Conflict:
                self._settled = True  # it exists with other bytes for ever, so nobody can make it
                raise
            self._settled = True

    def release(self) -> None:
        """Give the lease up. Does nothing where it is lost already."""
        with self._lock, suppress(Fenced):
            self._sync("anything more")
            self._settle()
            self._swap(freed(self._record), "anything more")

    def _sync(self, what: str) -> None:
        """Find out what became of a change whose answer was lost. Raises Fenced."""
        if self._lost is not None:
            raise self._lost
        if self._sure:
            return
        entry = self._register.read(self.name)
        record = LeaseRecord.from_json(entry.body)
        if not holds(record, self._holder, self.token):
            raise self._fenced(what)
        self._version, self._record, self._sure = entry.version, record, True
        self._settled = record.pending is None

    def _settle(self) -> None:
        """Make what was decided and may not be made yet."""
        if not self._settled:
            settle(self._record, self._objects)
            self._settled = True

    def _swap(self, record: LeaseRecord, what: str) -> None:
        try:
            done = self._register.swap(self.name, self._version, record.to_json())
        except (Unavailable, CommitUnknown):
            self._sure = False
            raise
        if not done:
            raise self._fenced(what)
        self._version, self._record = self._version + 1, record

    def _fenced(self, what: str) -> Fenced:
        now = LeaseRecord.from_json(self._register.read(self.name).body)
        self._lost = Fenced(
            f"Lease {self.name} was lost, so {what} is not written: {self._holder} held it with token {self.token}; "
            f"{described(now)}.",
            remedy="Let that process finish, then run again.",
        )
        return self._lost


def settle(record: LeaseRecord, objects: ObjectStore) -> None:
    """Make what a record has pending, if it can still be made. Repeating it changes nothing."""
    if record.pending is not None:
        with suppress(Conflict):
            objects.create(record.pending.name, record.pending.text.encode())


def described(record: LeaseRecord) -> str:
    """Who holds a lease, in words."""
    if record.holder:
        return f"{record.holder} holds it with token {record.token} since {record.since}"
    if record.note:
        return f"it was broken ({record.note})"
    return f"{record.former} held it with token {record.token} and gave it up" if record.former else "nobody holds it"


@dataclass(frozen=True)
class ShownLease:
    """One lease for people. `age_seconds` is by the clocks of its holder and of who looks; None where it is free."""

    name: str
    record: LeaseRecord
    version: int
    age_seconds: float | None
    damage: str = ""


@dataclass
class _Held:
    lease: Lease
    depth: int = 1


class Leases:
    """The leases of one process. May be used by several threads, which then hold them together.

    Args:
        register: where they are kept.
        objects: the store that commits are made in.
        holder: a name that no other process has.
        seconds: how long this process may be silent before others take its leases.
        wait_seconds: how long to wait for one that another process holds.
        renews: whether a thread renews what is held every third of `seconds`.
    """

    def __init__(
        self,
        register: Register,
        objects: ObjectStore,
        *,
        holder: str | None = None,
        seconds: float = SECONDS,
        wait_seconds: float = WAIT_SECONDS,
        clock: Clock | None = None,
        renews: bool = True,
    ) -> None:
        if seconds <= 0 or wait_seconds < 0:
            raise FixInput(f"Expected a lease of more than 0 seconds and a wait of at least 0, found {seconds} and "
                           f"{wait_seconds}.")  # fmt: skip
        self.register = register
        self.holder = holder or unique_holder()
        self._objects = objects
        self._seconds, self._wait_seconds = seconds, wait_seconds
        self._clock = clock or SystemClock()
        self._renews = renews
        self._held: dict[str, _Held] = {}
        self._watched: dict[str, tuple[int, float]] = {}
        self._lock = threading.RLock()
        self._renewer: threading.Thread | None = None

    @contextmanager
    def holding(self, *names: str, wait_seconds: float | None = None) -> Iterator[None]:
        """Hold leases, taken in one order; those that are held already are held on.

        Each is waited for `wait_seconds`, by default those of the settings. One that comes before another one that is
        held is not waited for, so that no two processes wait for each other.

        Raises:
            Unavailable: another process holds one of them, and did not give it up in time.
        """
        with ExitStack() as stack:
            for name in sorted(names, key=order_of):
                stack.enter_context(self._one(name, wait_seconds))
            yield

    @contextmanager
    def _one(self, name: str, wait_seconds: float | None) -> Iterator[None]:
        with self._lock:
            if name in self._held:
                self._held[name].depth += 1
            else:
                in_order = all(order_of(held) < order_of(name) for held in self._held)
                self._held[name] = _Held(self.acquire(name, wait_seconds if in_order else 0))
                self._start_renewing()
        try:
            yield
        finally:
            with self._lock:
                self._held[name].depth -= 1
                if self._held[name].depth == 0:
                    with suppress(Unavailable, CommitUnknown):  # it expires
                        self._held.pop(name).lease.release()

    def acquire(self, name: str, wait_seconds: float | None = None) -> Lease:
        """Take one lease, as soon as it is free or its holder was silent for its seconds.

        Raises Unavailable where another process holds it after `wait_seconds`, naming that process.
        """
        clock = self._clock
        end = clock.monotonic() + (self._wait_seconds if wait_seconds is None else wait_seconds)
        while True:
            entry = self.register.read(name)
            record = self._readable(name, entry)
            if self._is_silent(name, entry, record):
                settle(record, self._objects)
                mine = taken(record, self.holder, self._seconds, clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
                if self.register.swap(name, entry.version, mine.to_json()):
                    return Lease(name, self.register, self._objects, entry.version + 1, mine)
            if clock.monotonic() >= end:
                raise Unavailable(
                    f"Lease {name} is not free: {described(record)}.",
                    remedy="Let that process finish. If it does not run any more, wait for "
                    f"{record.seconds:g} seconds, or run `refold locks break {name} --reason ... --by ...`.",
                )
            clock.sleep(min(0.5, record.seconds / 10 or 0.01))

    def _is_silent(self, name: str, entry: Entry, record: LeaseRecord) -> bool:
        """Whether nobody holds a lease, or this process has seen it unchanged for the seconds of its holder."""
        now = self._clock.monotonic()
        version, since = self._watched.get(name, (0, now))
        if version != entry.version:
            since = now
        self._watched[name] = entry.version, since
        return not record.holder or now - since >= record.seconds

    def _readable(self, name: str, entry: Entry) -> LeaseRecord:
        if entry.damage:
            raise Damaged(
                f"Lease {name} cannot be read: {entry.damage}",
                remedy=f"Run `refold locks break {name} --reason ... --by ...`.",
            )
        return LeaseRecord.from_json(entry.body)

    def commit(self, lease: str, name: str, data: bytes) -> None:
        """Create an object under a lease, which is taken for it where it is not held. Raises as `Lease.commit`."""
        with self.holding(lease):
            self._held[lease].lease.commit(name, data)

    def check(self, lease: str, what: str = "anything more") -> None:
        """Raise Fenced where a lease that was taken is held no more, NotFound where it was not taken."""
        held = self._held.get(lease)
        if held is None:
            raise NotFound(f"Lease {lease} is not held by this process, so {what} is not written.")
        held.lease.check(what)

    def token(self, lease: str) -> int | None:
        """The fencing token of a lease that this process took; None where it did not."""
        held = self._held.get(lease)
        return held.lease.token if held is not None else None

    def shown(self) -> list[ShownLease]:
        """All leases, by name."""
        found = []
        for name in self.register.names():
            entry = self.register.read(name)
            record = LeaseRecord.from_json(entry.body)
            age = None
            if record.holder and record.since:
                age = (self._clock.now() - dt.datetime.fromisoformat(record.since)).total_seconds()
            found.append(ShownLease(name, record, entry.version, age, entry.damage))
        return found

    def break_lease(self, name: str, reason: str, by: str) -> LeaseRecord:
        """Take a lease away from its holder, whose writes are refused from then on. Returns what it was.

        A holder that renews it or commits meanwhile does not keep it. Raises FixInput without a reason or name,
        NotFound where there is no such lease or nobody holds it, Conflict where its holder changed meanwhile.
        """
        if not reason.strip() or not by.strip():
            raise FixInput("Expected who breaks the lease and why; both go into its record.")
        held = None
        for _ in range(_BREAKS_MAX):
            entry = self.register.read(name)
            record = LeaseRecord.from_json(entry.body)
            if not record.holder and not entry.damage:
                raise NotFound(f"Nobody holds lease {name}.", remedy="`refold locks` lists those that are held.")
            if held not in (None, (record.holder, record.token)):
                break
            held = record.holder, record.token
            settle(record, self._objects)
            # The token of a damaged record is not known; its version is at least as high.
            known = replace(record, token=entry.version) if entry.damage else record
            if self.register.swap(name, entry.version, freed(known, f"by {by}: {reason}").to_json()):
                return record
        raise Conflict(f"Lease {name} changed meanwhile.", remedy="Look at `refold locks`, and break it again.")

    def _start_renewing(self) -> None:
        if self._renews and (self._renewer is None or not self._renewer.is_alive()):
            self._renewer = threading.Thread(target=self._renew, name="refold-leases", daemon=True)
            self._renewer.start()

    def _renew(self) -> None:
        while True:
            self._clock.sleep(self._seconds / 3)
            with self._lock:
                leases = [held.lease for held in self._held.values()]
                if not leases:
                    self._renewer = None
                    return
            for lease in leases:
                with suppress(RefoldError):  # the next write of the holder finds out
                    lease.renew()
