"""The phases of a rebuild, and the loop that runs them from the command line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from refold.base.progress import Timings, track
from refold.engine import Engine
from refold.errors import (
    DeclarationError,
    FixInput,
    NotFound,
    RefoldError,
    RefusedLanding,
    RuleError,
    SinkRefused,
    Unproven,
)
from refold.leases.lease import Duty
from refold.log.declaration import Log
from refold.log.snapshot import Snapshot
from refold.proof.refused import refused_from
from refold.rebuild.events import (
    Event,
    ExpectationsChecked,
    HistoryFolded,
    LandingChecked,
    Left,
    LogVerified,
    RelationVerified,
    Released,
    Sealed,
    ServedDiffered,
    ServedVerified,
    StoreHeld,
    StorePublished,
    StoreRefused,
    StoresHeld,
    StoreVerified,
    Vanished,
)
from refold.rebuild.stages import Stage, StageKind
from refold.release.pointer import Release
from refold.seal.sealing import Waiting, shortened
from refold.stores.declaration import Folded, Store

_log = logging.getLogger("refold")
T = TypeVar("T")


class RebuildRun:
    """A rebuild of every store at every snapshot up to a key, phase by phase.

    Phases hand over through object storage alone, so each may run in a process of its own. A rerun changes nothing.

    Args:
        through: the last snapshot key, sealed even where it is not over; None for all that is over.
        fresh: ignore all checkpoints and fold from offset 0.
        verifies: whether the logs' structure is checked after sealing and what is served after the release; each reads
            all of it.
        known: the keys of the snapshots at which the structure of a log was checked before; see `Engine.verify_log`.
        timings: where to count how long each stage takes.
    """

    def __init__(
        self,
        engine: Engine,
        through: str | None = None,
        *,
        fresh: bool = False,
        verifies: bool = False,
        known: Callable[[Log], Collection[str]] | None = None,
        timings: Timings | None = None,
    ) -> None:
        self.engine = engine
        self.timings = timings or Timings()
        self.through = through
        self.fresh = fresh
        self._verifies = verifies
        self._known = known

    def _timed(self, stage: Stage, items: Iterable[T]) -> Iterator[T]:
        return self.timings.over(str(stage), items)

    @property
    def last(self) -> Snapshot:
        """The last snapshot of the rebuild, once it is sealed. Raises NotFound, also where nothing can be sealed."""
        if self.engine.chain.head is None:
            raise nothing_sealed(self.engine, self.engine.sealing.left())
        return self.engine.chain.get(self.through)

    def seal(self) -> Iterator[Event]:
        """Seal what has landed.

        Raises NotAnchored first where the store is not what its anchor says, and DeclarationError where a sink does not
        fit its store.
        """
        with self.engine.owning(Duty.SEAL):
            yield from self._seal()

    def _seal(self) -> Iterator[Event]:
        self.engine.require_anchored()
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
            known = self._known(log) if self._known is not None and not self.fresh else None
            verified = self.engine.verify_log(log.name, last, known)
            for snapshot, findings in self._timed(Stage(StageKind.STRUCTURE, log.name), verified):
                yield LogVerified(log, snapshot, findings)

    def fold(self) -> Iterator[Event]:
        """Fold the stores of each log, in one pass over it."""
        last = self.last
        for log in self.engine.project.logs:
            yield from self._fold(log, self.engine.stores_of(log.name))
            yield HistoryFolded(log, last)

    def _fold(self, log: Log, stores: Sequence[Folded]) -> Iterator[Event]:
        """Fold stores of a log together; where one refuses an event, each by itself."""
        built = self.engine.fold_history(log.name, self.last, fresh=self.fresh, stores=stores)
        try:
            for _ in self._timed(Stage(StageKind.FOLD, log.name), built):
                pass
        except RuleError as error:
            if len(stores) == 1:
                yield StoreRefused(stores[0], self.last, error)
                return
            for store in stores:
                yield from self._fold(log, [store])

    def replay(self) -> Iterator[Event]:
        """Replay each log from offset 0 and compare its stores at every snapshot."""
        for log in self.engine.project.logs:
            folded = [store for store in self.engine.stores_of(log.name) if self.engine.is_built(store, self.last)]
            if not folded:
                continue
            whole = self.fresh
            proven = self.engine.prove_history(log.name, self.last, folded, whole=whole, afresh=whole)
            for _, verdicts in self._timed(Stage(StageKind.REPLAY, log.name), proven):
                yield from map(StoreVerified, verdicts.values())

    def relate(self) -> Iterator[Event]:
        """Compute every relation at every snapshot, and again to compare."""
        refused: list[StoreRefused] = []

        def refuse(store: Store, snapshot: Snapshot, error: FixInput) -> None:
            refused.append(StoreRefused(store, snapshot, error))

        related = self.engine.relate_history(self.last, refuse, whole=self.fresh)
        for _, verdicts in self._timed(Stage(StageKind.RELATIONS), related):
            yield from map(RelationVerified, verdicts.values())
        yield from {each.store.name: each for each in refused}.values()

    def _is_proven(self, store: Store) -> bool:
        try:
            self.engine.prover.require(store, self.last)
        except Unproven:
            return False
        return True

    def publish_and_release(self) -> Iterator[Event]:
        """Publish every proven store, and move readers to the last snapshot where no check has failed.

        A store that is not proven there, or of which a sink refuses, is held back with those released together with it.
        """
        with self.engine.owning(Duty.PUBLISH):
            yield from self._publish_and_release()

    def _publish_and_release(self) -> Iterator[Event]:
        failed, held = False, {store.name for store in self.engine.project.stores if not self._is_proven(store)}
        for event in self._publish(held):
            failed = failed or bool(event.problem)
            if isinstance(event, StoreRefused):
                held.add(event.store.name)
            yield event
        if not failed:
            yield from self.release(held)

    def release(self, held: set[str]) -> Iterator[Event]:
        """Release without the stores held back; those that a sink refuses meanwhile are added to them."""
        project = self.engine.project
        published = {store.name for store in project.stores if store.sinks}
        while not held or published - project.held_with(held):
            try:
                with self.timings.of(str(Stage(StageKind.RELEASE))):
                    released = self.engine.releaser.release(self.last, held=held)
            except SinkRefused as error:
                refused = FixInput("A sink could not follow: " + "\n".join(error.faults))
                yield from (StoreRefused(project.store(name), self.last, refused) for name in error.stores)
                held |= set(error.stores)
                continue
            yield Released(released)
            if self._verifies:
                yield ServedVerified(self.engine.served.check())
            return

    def check_stores(self) -> Iterator[Event]:
        """Find the stores that were held back, each with what it refuses."""
        release, held = self.engine.releaser.current(), list[StoreHeld]()
        behind = self._behind(release)
        for name in behind:
            served = release.position_of(name).snapshot if release is not None and name in release.versions else None
            store = self.engine.project.store(name)
            held.append(StoreHeld(store, served, self._cause(store, behind)))
        if held:
            yield StoresHeld(self.last, sorted(held, key=lambda each: isinstance(each.cause, Unproven)))

    def _behind(self, release: Release | None) -> list[str]:
        """The stores that are not proven at the last snapshot, or that no release moved there."""
        moved = set[str]()
        if release is not None and release.ordinal >= self.last.ordinal:
            moved = release.versions.keys() - release.held.keys()
        stores = self.engine.project.in_order
        return [each.name for each in stores if (each.sinks and each.name not in moved) or not self._is_proven(each)]

    def _cause(self, store: Store, behind: Sequence[str]) -> RefoldError:
        """Why a store does not follow, found by doing again what it refused."""
        needs = list(dict.fromkeys(each.name for each in store.all_inputs if each.name in behind))
        if needs:
            return Unproven(f"It is computed from {', '.join(map(repr, needs))}.")
        try:
            self.engine.build(store, self.last)
            for sink in store.sinks:
                self.engine.publisher.publish(store, sink, self.last)
            if store.sinks:
                self.engine.releaser.require_followed(self.last, set(behind) - {store.name})
        except (RuleError, DeclarationError) as error:
            return error if store.ledger is not None else self._with_event(store, error)
        except SinkRefused as error:
            return FixInput("A sink could not follow: " + "\n".join(error.faults))
        except RefoldError as error:
            return error
        others = [name for name in behind if name != store.name and store.name in self.engine.project.held_with([name])]
        if others:
            return Unproven(f"It is released together with {', '.join(map(repr, others))}.")
        return Unproven("Nothing refuses it now.", remedy="Rebuild again.")

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

    def _with_event(self, store: Store, error: FixInput) -> RuleError:
        """The error of a relation, with the event from which on it cannot be computed."""
        engine = self.engine
        text = str(error).removesuffix(error.remedy).rstrip()
        return RuleError(
            f"{text} {refused_from(engine.objects, engine.chain, engine.builder, store, self.last)}".rstrip(),
            remedy=error.remedy,
        )

    def _publish(self, held: Collection[str]) -> Iterator[Event]:
        """Publish stores at the last snapshot, and check what their sinks served before and what they hold."""
        last, engine = self.last, self.engine
        engine.require_anchored()
        stores = [store for store in engine.project.in_order if store.name not in held]
        for store in track(stores, "publish", len(stores), lambda store: len(engine.rows(store, last))):
            for sink in store.sinks:  # before publishing, so that the state that is served is read once for all sinks
                with self.timings.of(str(Stage.publish(sink))):
                    differed = engine.served.repair(store, sink)
                if differed is not None:
                    yield ServedDiffered(differed)
            written = []
            try:
                for sink in store.sinks:
                    with self.timings.of(str(Stage.publish(sink))):
                        written.append(engine.publisher.publish(store, sink, last))
            except FixInput as error:
                yield StoreRefused(store, last, error)
                continue
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
    Phase("check_stores", "Fail where a store was held back, and say what it refuses.",
          RebuildRun.check_stores, "The check of the stores"),
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
    with engine.builder.checkpoints.grouped():
        for phase in PHASES:
            for event in phase.run(rebuild):
                if event.warning:
                    _log.warning(event.warning)
                if event.problem:
                    raise event.error(phase.remedy)
    return rebuild.last
