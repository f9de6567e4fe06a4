"""Retention: which versions in the sinks are kept, and how the others are given up.

A version is kept if it is served, if one of the last releases serves it, if a release served it that is younger than
an age, or if no release has served it yet and its snapshot is not older than what is served. In doubt it is kept, and
the reason is shown.

Giving up follows the same rule as releasing: the pointer is the only commit. A prune first creates the next number of
the pointer, with the same content and the list of what it gives up, and then drops that. So it cannot cross a
rollback: whichever moves the pointer first, the other finds the number taken and stops. No release takes a version
from the list until all of it is dropped, and a prune that was killed is finished by the next one.

Sinks that the project no longer declares are found in the records of releases. Their versions are judged in the same
way, except that one which is still served is kept (`refold.release.withdrawal`). `refold.repair.garbage` looks for
objects that nothing names. Delta tables must not be vacuumed in any other way.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from refold.errors import Conflict, FixInput, RefoldError
from refold.project import Project
from refold.release.pointer import FormerSink, Release, title_of
from refold.release.publisher import Publisher
from refold.release.releaser import Releaser, utc_now
from refold.release.withdrawal import sinks_in
from refold.sinks.base import Target
from refold.storage.sink_names import ordinal_of

KEEP, OLDER_THAN_DAYS = 10, 7.0
"""By default the last so many releases, and those within so many days, keep what they served."""


@dataclass(frozen=True)
class HeldVersion:
    """One version in one sink, and what becomes of it.

    Attributes:
        store, sink, version: whose, where (`Sql/stock_view`), which.
        releases: the numbers of the pointer that served it, oldest first.
        keep: whether it is kept.
        why: the reason, for people.
    """

    store: str
    sink: str
    version: str
    releases: Sequence[int]
    keep: bool
    why: str


@dataclass(frozen=True)
class PrunePlan:
    """What a prune would do.

    Attributes:
        number: the number of the pointer it was planned at; 0 before the first release.
        versions: every version of every sink, also of former ones that can be reached.
        unfinished: versions that a killed prune has given up and not dropped, by sink.
        left: what is not looked at, for people.
    """

    number: int
    versions: Sequence[HeldVersion]
    unfinished: Mapping[str, Sequence[str]]
    left: Sequence[str]

    @property
    def dropped(self) -> dict[str, list[str]]:
        """The versions to give up, by sink, without those that a killed prune has given up already."""
        found: dict[str, list[str]] = {}
        for each in self.versions:
            if not each.keep and each.version not in self.unfinished.get(each.sink, ()):
                found.setdefault(each.sink, []).append(each.version)
        return found


class Pruner:
    """Plans and does the removal of old versions.

    Args:
        clock: gives the time that ages are counted from, aware.
    """

    def __init__(
        self,
        project: Project,
        releaser: Releaser,
        publisher: Publisher,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._project = project
        self._releaser = releaser
        self._pointer = releaser.pointer
        self._publisher = publisher
        self._clock = clock

    def plan(self, keep: int, older_than_days: float) -> PrunePlan:
        """What to give up: versions beyond the last `keep` releases that were released longer ago than the age.

        Reads only. Raises FixInput for a number that is out of range, Damaged where the record of a release is damaged.
        """
        if keep < 1 or older_than_days < 0:
            raise FixInput(f"Expected to keep at least 1 release and an age of at least 0 days, found {keep} and "
                           f"{older_than_days}.")  # fmt: skip
        history = list(self._pointer.newest_first())
        current = history[0] if history else None
        moved = [release for release in history if release.moves_readers]
        since = self._clock().astimezone(dt.UTC) - dt.timedelta(days=older_than_days)
        versions = [
            self._judge(store, title, version, moved, keep, since)
            for title, (store, target) in self._targets().items()
            for version in target.begun()
        ]
        left = list[str]()
        for former in self._former(history):
            try:
                target = self._releaser.withdrawals.open(former)
                still, found = target.released(), target.begun()
            except RefoldError as error:
                left.append(f"{former.title}: {error}")
                continue
            judged = [self._judge(former.store, former.title, each, moved, keep, since, former=True) for each in found]
            versions += [replace(v, keep=True, why="still served") if v.version == still else v for v in judged]
        return PrunePlan(current.number if current else 0, versions, self._pointer.retiring(current), left)

    def _judge(
        self, store: str, sink: str, version: str, moved: Sequence[Release], keep: int, since: dt.datetime, *,
        former: bool = False,
    ) -> HeldVersion:  # fmt: skip
        """Whether to keep one version; `moved` are the releases that moved readers, the newest first."""
        served = [release for release in moved if _version_in(release, store, sink) == version]
        numbers, ordinal = [release.number for release in reversed(served)], ordinal_of(version)
        why = ""
        if not moved or served[:1] == moved[:1]:
            why = "served" if moved else "nothing was released yet"
        elif any(release in served for release in moved[:keep]):
            why = f"among the last {keep} releases"
        elif served:
            why = _young(served[0], since)
        elif ordinal is None:
            why = "its name is not one that Refold gives"
        elif ordinal >= moved[0].ordinal and not former:
            why = "not released yet"
        else:
            # A run may be publishing it just now; it is given up once nothing was released for that long.
            why = _young(moved[0], since)
        if why:
            return HeldVersion(store, sink, version, numbers, True, why)
        return HeldVersion(store, sink, version, numbers, False, "was served" if served else "was never released")

    def apply(self, plan: PrunePlan) -> dict[str, list[str]]:
        """Give up what a plan says and finish what a killed prune left; a rerun changes nothing.

        Returns the versions that were dropped, by sink.

        Raises:
            Conflict: another process moved the pointer since it was planned; nothing was given up.
        """
        current = self._pointer.current()
        if current is None:
            return {}
        if current.number != plan.number:
            raise Conflict(
                f"The pointer moved while the prune was planned: planned at number {plan.number}, found {current}.",
                remedy="Plan it again.",
            )
        done: dict[str, list[str]] = {}
        if plan.unfinished:
            done = self._finish(current)
        if plan.dropped:
            stamped = replace(current, number=current.number + 1, retired=plan.dropped, retired_by=current.number + 1)
            for title, versions in self._finish(self._pointer.move(stamped)).items():
                done.setdefault(title, []).extend(versions)
        return done

    def _finish(self, release: Release) -> dict[str, list[str]]:
        """Drop what a number of the pointer has given up, then note that it is done."""
        assert release.retired_by is not None, "a plan is unfinished only where a number says so"
        self._releaser.roll_forward()  # a sink may still serve an old version, where a release was killed
        targets, done = self._targets(), dict[str, list[str]]()
        for former in self._former(list(self._pointer.newest_first())):
            if former.title in release.retired:
                with suppress(FixInput):  # not reached any more; the next plan says so
                    targets[former.title] = former.store, self._releaser.withdrawals.open(former)
        for title, versions in release.retired.items():
            if title not in targets:
                continue
            store, target = targets[title]
            for version in versions:
                if self._wanted_again(release, store, title, version):
                    continue
                with self._publisher.connections.fenced(f"that version {version} of {target.place} is dropped"):
                    target.drop(version)
                done.setdefault(title, []).append(version)
        self._pointer.retired(release.retired_by)
        return done

    def _wanted_again(self, release: Release, store: str, title: str, version: str) -> bool:
        """Whether a number since takes a version; none should, since releases look at what is being given up."""
        since = (self._pointer.get(number) for number in self._pointer.numbers() if number >= release.number)
        return any(_version_in(later, store, title) == version for later in since)

    def _former(self, history: Sequence[Release]) -> list[FormerSink]:
        """The sinks that the project no longer declares, as the newest release that had them describes them."""
        found = dict[str, FormerSink]()
        for release in history:
            for each in sinks_in(release):
                found.setdefault(each.title, each)
        declared = self._targets().keys()
        return [each for title, each in sorted(found.items()) if title not in declared]

    def _targets(self) -> dict[str, tuple[str, Target]]:
        return {
            title_of(sink): (store.name, self._publisher.target(store, sink))
            for store in self._project.stores
            for sink in store.sinks
        }


def _version_in(release: Release, store: str, title: str) -> str | None:
    """The version that a release serves in a sink, or would serve of its store where it does not list its sinks."""
    if not release.sinks:
        return release.versions.get(store)
    serving = (name for name, sinks in release.sinks.items() if any(sink.title == title for sink in sinks))
    return next((release.versions[name] for name in serving), None)


def _young(release: Release, since: dt.datetime) -> str:
    """Why a version is kept for its age; "" where it is old enough to give up."""
    if not release.released_at:
        return f"release {release.number} has no recorded time"
    at = dt.datetime.fromisoformat(release.released_at)
    return f"release {release.number} was at {release.released_at}" if at > since else ""
