"""Sinks that a release no longer has: they are withdrawn, so that readers are not given old content for ever.

The record of a release describes its sinks, so that one that is gone from the project can still be opened, as far as
its connection is still the one that the record names. The next release lists it as a former sink, which stops being
served before the others follow that release. A withdrawal never prevents a release: where it fails, or the sink cannot
be reached, a warning says what to run, and each later release tries again. `Project(keep=...)` leaves a former sink
alone. Nothing but the connections of the settings is ever written to: a copy of a store must not withdraw what the
original serves. Old versions of former sinks are given up by `refold.release.retention`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from refold.errors import Damaged, FixInput, RefoldError
from refold.release.pointer import FormerSink, Release, ServedSink
from refold.sinks.base import Sink, Target
from refold.sinks.connections import OBJECTS, Connections

_log = logging.getLogger("refold")


def reached(connections: Connections, sink: ServedSink, at: str | None = None) -> Sink | None:
    """The declaration of a recorded sink, where its class is known and the settings name its connection.

    With `at` also only where that connection is there, as recorded.
    """
    declared = sink.declared()
    if declared is None or declared.connection == OBJECTS:
        return declared
    name = declared.connection
    there = connections.urls.get(name) and at in (None, connections.recorded(name))
    return declared if there else None


def sinks_in(release: Release) -> Iterator[FormerSink]:
    """Every sink of a release, as one that a later release no longer has."""
    for store, sinks in release.sinks.items():
        for sink in sinks:
            declared = sink.declared()
            at = release.places.get(declared.connection, "") if declared is not None else ""
            yield FormerSink(store, sink, release.versions[store], at)


class Withdrawals:
    """Finds and withdraws the former sinks of a project.

    Args:
        keep: titles of former sinks that go on being served.
    """

    def __init__(self, connections: Connections, keep: Sequence[str]) -> None:
        self._connections = connections
        self._keep = frozenset(keep)

    def former(self, current: Release | None, titles: set[str]) -> list[FormerSink]:
        """The sinks of `current` that a release with these titles lacks, and its former ones that still serve."""
        if current is None:
            return []
        lost = [each for each in sinks_in(current) if each.title not in titles]
        gone = {each.title for each in lost} | titles
        lost += [each for each in current.former if each.title not in gone and self._serves(each) is not False]
        found = [FormerSink(e.store, e.sink, e.version, e.at, e.title in self._keep) for e in lost]
        return sorted(found, key=lambda each: each.title)

    def open(self, former: FormerSink) -> Target:
        """A former sink, connected. Raises FixInput where it cannot be reached."""
        declared = reached(self._connections, former.sink, former.at)
        if declared is None:
            raise FixInput(
                f"{former.title} in {former.sink.place} cannot be reached: its package is not installed, or the "
                "settings no longer name its connection."
            )
        return declared.open(self._connections, former.store, former.sink.key, former.sink.schema)

    def _serves(self, former: FormerSink) -> bool | None:
        """Whether a former sink still serves; None where it cannot be asked."""
        try:
            return self.open(former).released() is not None
        except Damaged:
            return True  # such as a Delta table whose withdrawal was killed
        except RefoldError:
            return None

    def left(self, release: Release) -> list[FormerSink]:
        """The former sinks of a release that still serve, and that are not kept."""
        return [each for each in release.former if not each.keep and self._serves(each)]

    def withdraw(self, release: Release, confirm: Callable[[], None]) -> None:
        """Withdraw the former sinks of a release, or warn why not. `confirm` is that of `Target.withdraw`."""
        for former in release.former:
            if former.keep or self._serves(former) is False:
                continue
            try:
                target = self.open(former)
                left = target.withdraw(confirm)
            except RefoldError as error:
                _log.warning(f"{_still(former)} It could not be withdrawn: {error}\n{ways(former)}")
                continue
            _log.warning(
                f"{former.title} was withdrawn, as the project no longer has it: nothing is served in "
                f"{target.place} any more. `refold prune` gives up its versions.{' ' + left if left else ''}"
            )

    def foretell(self, former: Sequence[FormerSink]) -> list[str]:
        """What the release that lists these former sinks will do about each, for people; writes nothing."""
        return [self._fate(each) for each in former]

    def _fate(self, former: FormerSink) -> str:
        if former.keep:
            return f"{_still(former)} The project keeps it."
        try:
            target = self.open(former)
            target.withdraw(_stop)
        except _Stopped:
            return (
                f"{former.title} of store {former.store!r} will be withdrawn: nothing will be served in "
                f"{target.place} any more. {_keeping(former)}"
            )
        except RefoldError as error:
            return f"{_still(former)} It cannot be withdrawn: {error}\n{ways(former)}"
        return f"{former.title} of store {former.store!r} serves nothing."


class _Stopped(Exception):
    """A withdrawal could be done."""


def _stop() -> None:
    raise _Stopped


def _still(former: FormerSink) -> str:
    return (
        f"{former.title} is no longer a sink of the project and still serves version {former.version} of store "
        f"{former.store!r} in {former.sink.place}."
    )


def ways(former: FormerSink) -> str:
    """What a person can do about a former sink that cannot be withdrawn."""
    declared = former.sink.declared()
    by_hand = declared.by_hand(former.sink.place) if declared is not None else f"Remove {former.sink.place} by hand."
    return f"{by_hand} {_keeping(former)}"


def _keeping(former: FormerSink) -> str:
    return f"To go on serving it as it is, declare Project(..., keep=[{former.title!r}])."
