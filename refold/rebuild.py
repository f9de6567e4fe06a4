"""The rebuild: its stages, in order, and what happens in each.

One description, run by the command line (`rebuild_all`) and by Dagster's history job (`refold.dagster.history`), and
named by the plan (`refold.plan.workload`). A phase yields events as they happen; whoever runs it decides what a failed
check means to them, and nothing is published before all checks of the phases before have passed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, TypeVar

from refold.base.progress import Timings, track
from refold.engine import Engine
from refold.errors import NotFound, RefoldError, RefusedLanding, Unproven
from refold.log.declaration import Log
from refold.log.snapshot import Snapshot
from refold.log.verify import LogFinding
from refold.proof.prover import Verdict
from refold.release.pointer import Release, title_of
from refold.release.publisher import Published
from refold.repair.served import Served
from refold.seal.refusal import DryRun, joined
from refold.seal.sealer import SealReport
from refold.seal.sealing import Waiting, shortened
from refold.sinks.base import Sink
from refold.sinks.expectations import ExpectationResult
from refold.stores.declaration import Store

_log = logging.getLogger("refold")
T = TypeVar("T")


class StageKind(StrEnum):
    """The kinds of stages, in the order of work; the value begins the stage's name."""

    SEAL = "seal"
    STRUCTURE = "structure"
    FOLD = "fold"
    REPLAY = "replay"
    RELATIONS = "relations"
    PUBLISH = "publish"
    EXPECTATIONS = "expectations"
    RELEASE = "release"
    BOOKKEEPING = "bookkeeping"
    """What an orchestrator records around a rebuild."""


@dataclass(frozen=True)
class Stage:
    """A part of a rebuild that is planned and timed by itself; `subject` is the log, sink or store it is about."""

    kind: StageKind
    subject: str = ""

    @classmethod
    def publish(cls, sink: Sink) -> Stage:
        """The stage that publishes to a sink."""
        return cls(StageKind.PUBLISH, title_of(sink))

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}".rstrip()


class Event:
    """Something that happened in a rebuild."""

    @property
    def problem(self) -> str:
        """Why nothing after this phase may happen; "" where all is well."""
        return ""

    @property
    def warning(self) -> str:
        """What somebody should know though the rebuild goes on; "" where there is nothing."""
        return ""

    def error(self, remedy: str) -> RefoldError:
        """The problem as an error."""
        return Unproven(self.problem, remedy=f"\n{remedy}")


@dataclass(frozen=True)
class Vanished(Event):
    """A sealed object is no longer in landing."""

    name: str

    @property
    def warning(self) -> str:
        """Its name, and that nothing is lost."""
        return f"The sealed object {self.name} is no longer in landing; its sealed events stay."


@dataclass(frozen=True)
class Sealed(Event):
    """A snapshot was sealed."""

    report: SealReport

    @property
    def warning(self) -> str:
        """That it is not over, where it was sealed all the same."""
        key = self.report.snapshot.key
        early = (
            f"{key} is not over and was sealed since it was asked for by name: what lands in its folder later enters "
        )
        return f"{early}a later snapshot, as late." if self.report.early else ""


@dataclass(frozen=True)
class Left(Event):
    """Something in landing is not sealed, and will not be by itself for long or ever."""

    waiting: Waiting

    @property
    def warning(self) -> str:
        """Where, why, and what to do."""
        return str(self.waiting)


@dataclass(frozen=True)
class LogVerified(Event):
    """The structure of a log's part of a snapshot was verified."""

    log: Log
    snapshot: Snapshot
    findings: Sequence[LogFinding]

    @property
    def problem(self) -> str:
        """The first finding."""
        return self.findings[0].message if self.findings else ""


@dataclass(frozen=True)
class HistoryFolded(Event):
    """The stores of a log have a state at every snapshot up to the last."""

    log: Log
    last: Snapshot


@dataclass(frozen=True)
class StoreVerified(Event):
    """A folded store was compared with full replay at a snapshot."""

    compared_with: ClassVar[str] = "equal to full replay"

    verdict: Verdict

    @property
    def problem(self) -> str:
        """What differs, at most ten differences."""
        if self.verdict.passed:
            return ""
        lines = [str(difference) for difference in self.verdict.differences[:10]]
        place = f"Store {self.verdict.store.name!r} at snapshot {self.verdict.snapshot.key}"
        return "\n  - ".join([f"{place} is not {self.compared_with}:", *lines])

    @property
    def warning(self) -> str:
        """What is proven and may not be meant, at the last snapshot."""
        lines = self.verdict.doubts
        return (
            "\n  - ".join([f"Store {self.verdict.store.name!r} is proven, and may not be meant:", *lines])
            if lines
            else ""
        )


class RelationVerified(StoreVerified):
    """A relation was computed at a snapshot, and computed again over other orders of rows."""

    compared_with: ClassVar[str] = "what its query gives in every order of rows"

    @property
    def problem(self) -> str:
        """What differs, and what to do about it."""
        problem = super().problem
        return f"{problem}\n{self.verdict.remedy}" if problem else ""


@dataclass(frozen=True)
class ServedDiffered(Event):
    """What a sink served was not what was proven for the release."""

    served: Served

    @property
    def warning(self) -> str:
        """Where and what, and whether it was published again."""
        return str(self.served)


@dataclass(frozen=True)
class StorePublished(Event):
    """A store's content was written to its sinks and read back; `written` are in the order of `store.sinks`."""

    store: Store
    snapshot: Snapshot
    written: Sequence[Published]


@dataclass(frozen=True)
class ExpectationsChecked(Event):
    """A store's expectations were checked on what its sinks hold."""

    store: Store
    snapshot: Snapshot
    results: Sequence[ExpectationResult]

    @property
    def problem(self) -> str:
        """The expectations of severity `error` that are not met."""
        broken = [r for r in self.results if not r.passed and r.expectation.severity == "error"]
        texts = "; ".join(f"{r.expectation}: {r.rows_unexpected} rows against it {r.problem}" for r in broken)
        met = f"Store {self.store.name!r} does not meet its expectations at snapshot {self.snapshot.key}: {texts}."
        return met if broken else ""


@dataclass(frozen=True)
class ServedVerified(Event):
    """What every sink serves after the release was read back and compared with its proof."""

    served: Sequence[Served]

    @property
    def problem(self) -> str:
        """What differs."""
        return "\n".join(str(each) for each in self.served if each.differences)


@dataclass(frozen=True)
class Released(Event):
    """Readers of all sinks were moved to a snapshot."""

    release: Release


@dataclass(frozen=True)
class LandingChecked(Event):
    """What waits in landing was sealed in a dry run, by log; what is refused was left out of all else."""

    last: Snapshot
    runs: Sequence[DryRun]

    @property
    def problem(self) -> str:
        """Why."""
        return "\n".join(str(error) for run in self.runs for error in run.errors)

    @property
    def warning(self) -> str:
        """What is served without what."""
        return " ".join(
            f"Snapshot {self.last.key} was released without the {run.objects} objects that wait for log "
            f"{run.log.name!r}."
            for run in self.runs
            if run.objects and run.errors
        )

    def error(self, remedy: str) -> RefoldError:
        """Why, of the kind that sealing raises."""
        return joined([error for run in self.runs for error in run.errors])


class RebuildRun:
    """A rebuild of every store at every snapshot up to a key, phase by phase.

    Phases hand over through object storage alone, so each may run in a process of its own. A rerun changes nothing.

    Args:
        through: the last snapshot key, sealed even where it is not over; None for all that is over.
        fresh: ignore all checkpoints and fold from offset 0.
        verifies: whether the logs' structure is checked after sealing and what is served after the release; each reads
            all of it.
        timings: where to count how long each stage takes.
    """

    def __init__(
        self,
        engine: Engine,
        through: str | None = None,
        *,
        fresh: bool = False,
        verifies: bool = False,
        timings: Timings | None = None,
    ) -> None:
        self.engine = engine
        self.timings = timings or Timings()
        self.through = through
        self.fresh = fresh
        self._verifies = verifies

    def _timed(self, stage: Stage, items: Iterable[T]) -> Iterator[T]:
        return self.timings.over(str(stage), items)

    @property
    def last(self) -> Snapshot:
        """The last snapshot of the rebuild, once it is sealed. Raises NotFound, also where nothing can be sealed."""
        if self.engine.chain.head is None:
            raise nothing_sealed(self.engine, self.engine.sealing.left())
        return self.engine.chain.get(self.through)

    def seal(self) -> Iterator[Event]:
        """Seal what has landed. Raises DeclarationError first where a sink does not fit its store."""
        self.engine.require_fit()
        vanished: set[str] = set()
        try:
            for report in self._timed(Stage(StageKind.SEAL), self.engine.sealing.seal(self.through)):
                vanished |= set(report.vanished)
                yield Sealed(report)
        except RefusedLanding:
            if self.through is not None or not self._refused_late():
                raise
        yield from map(Vanished, sorted(vanished))
        last = self.last
        if self.through is None:
            yield from (Left(each) for each in self.engine.sealing.left() if not each.is_usual)
        for log in self.engine.project.logs if self._verifies else ():
            verified = self.engine.verify_log(log.name, last)
            for snapshot, findings in self._timed(Stage(StageKind.STRUCTURE, log.name), verified):
                yield LogVerified(log, snapshot, findings)

    def fold(self) -> Iterator[Event]:
        """Fold the stores of each log, in one pass over it."""
        last = self.last
        for log in self.engine.project.logs:
            built = self.engine.fold_history(log.name, last, fresh=self.fresh)
            for _ in self._timed(Stage(StageKind.FOLD, log.name), built):
                pass
            yield HistoryFolded(log, last)

    def replay(self) -> Iterator[Event]:
        """Replay each log from offset 0 and compare its stores at every snapshot."""
        for log in self.engine.project.logs:
            proven = self.engine.prove_history(log.name, self.last)
            for _, verdicts in self._timed(Stage(StageKind.REPLAY, log.name), proven):
                yield from map(StoreVerified, verdicts.values())

    def relate(self) -> Iterator[Event]:
        """Compute every relation at every snapshot, and again to compare."""
        for _, verdicts in self._timed(Stage(StageKind.RELATIONS), self.engine.relate_history(self.last)):
            yield from map(RelationVerified, verdicts.values())

    def publish_and_release(self) -> Iterator[Event]:
        """Publish every store, and move the readers of all sinks to the last snapshot where no check has failed."""
        failed = False
        for event in self._publish():
            failed = failed or bool(event.problem)
            yield event
        if not failed:
            with self.timings.of(str(Stage(StageKind.RELEASE))):
                released = self.engine.releaser.release(self.last)
            yield Released(released)
            if self._verifies:
                yield ServedVerified(self.engine.served.check())

    def check_landing(self) -> Iterator[Event]:
        """Find the logs for which something waits in landing that sealing refuses, or whose sealed objects changed."""
        try:
            runs = self.engine.sealing.dry_run(self.last.key)
        except NotFound:
            return  # sealed snapshots outlive their landing
        yield LandingChecked(self.last, runs)

    def _refused_late(self) -> bool:
        """Whether sealed keys lack objects that are refused: what is sealed goes on, and `check_landing` fails."""
        head = self.engine.chain.head
        return head is not None and any(run.errors for run in self.engine.sealing.dry_run(head.key))

    def _publish(self) -> Iterator[Event]:
        """Publish every store at the last snapshot, and check what its sinks served before and what they hold."""
        last, engine = self.last, self.engine
        stores = engine.project.in_order
        for store in track(stores, "publish", len(stores), lambda store: len(engine.rows(store, last))):
            written = []
            for sink in store.sinks:
                with self.timings.of(str(Stage.publish(sink))):
                    differed = engine.served.repair(store, sink)
                    written.append(engine.publisher.publish(store, sink, last))
                if differed is not None:
                    yield ServedDiffered(differed)
            yield StorePublished(store, last, written)
            if store.expect:
                with self.timings.of(str(Stage(StageKind.EXPECTATIONS, store.name))):
                    results = engine.publisher.check_expectations(store, last)
                yield ExpectationsChecked(store, last, results)


@dataclass(frozen=True)
class Phase:
    """One of the steps that a rebuild takes one after the other.

    Attributes:
        name: of the step in Dagster.
        description: what it does.
        run: does it.
        check: the name of its check; "" where it has none.
        remedy: what to do where an event of it has a problem.
    """

    name: str
    description: str
    run: Callable[[RebuildRun], Iterator[Event]]
    check: str = ""
    remedy: str = ""


_KEPT = "What is served has not changed. "
_FROM_SCRATCH = f"{_KEPT}Rebuild with `--from-scratch` (in Dagster `fresh: true`): it folds from offset 0."
PHASES = (
    Phase("seal_history", "Seal every key and check the log's structure.", RebuildRun.seal,
          "The check of the logs' structure", f"{_KEPT}Restore the object from a copy."),
    Phase("fold_history", "Fold every store, one pass a log.", RebuildRun.fold),
    Phase("prove_history", "Replay every log from offset 0 and compare at every snapshot.", RebuildRun.replay,
          "Full replay", _FROM_SCRATCH),
    Phase("relate_history", "Compute every relation, and again to compare.", RebuildRun.relate,
          "The check of the relations", _KEPT.rstrip()),
    Phase("publish_and_release", "Publish the newest snapshot to all sinks, check expectations, and release it.",
          RebuildRun.publish_and_release, "The check of the expectations",
          f"{_KEPT}Fix the rule, the events or the expectation."),
    Phase("check_landing", "Fail where a log was stopped because its landing was refused.",
          RebuildRun.check_landing, "The check of landing"),
)  # fmt: skip
"""The phases of a rebuild in order; each needs all before it to have passed."""


def nothing_sealed(engine: Engine, waiting: Sequence[Waiting]) -> NotFound:
    """The error of a project of which nothing is sealed and nothing can be."""
    place = f"Landing {engine.settings.shown()['landing']}"
    if not waiting:
        return NotFound(
            f"{place} holds no data folders.",
            remedy=f"Expected <log>/{engine.project.logs[0].layout.expected}/; `refold sample` writes one to try.",
        )
    return NotFound(
        f"{place} holds nothing that can be sealed yet:\n  - " + "\n  - ".join(shortened(waiting)),
        remedy="\nA period that is not over is sealed where it is asked for by name: `refold rebuild --through KEY`.",
    )


def rebuild_all(
    engine: Engine, through: str | None = None, *, fresh: bool = False, timings: Timings | None = None
) -> Snapshot:
    """Rebuild every store at every snapshot up to a key and release the last one; a rerun changes nothing.

    Returns the snapshot that was released. Progress is announced by `refold.base.progress`; how long each stage took
    goes into `timings`, by the names of the stages.

    Raises:
        Unproven: a store differs from full replay, or an expectation is not met; nothing was released.
        NotFound: nothing is sealed, and landing holds nothing that can be; what waits is named.
        RefusedLanding: landing of a log is refused. All else was rebuilt and released where other logs go on.
    """
    rebuild = RebuildRun(engine, through, fresh=fresh, timings=timings)
    for phase in PHASES:
        for event in phase.run(rebuild):
            if event.warning:
                _log.warning(event.warning)
            if event.problem:
                raise event.error(phase.remedy)
    return rebuild.last
