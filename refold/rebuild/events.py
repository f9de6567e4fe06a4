"""What happens in a rebuild: each event says what it is about, whether it is a problem, and what it warns of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from refold.errors import EventRefused, FixInput, RefoldError, RuleError, Unproven
from refold.log.declaration import Log
from refold.log.snapshot import Snapshot
from refold.log.verify import LogFinding
from refold.proof.prover import Verdict
from refold.release.pointer import Release
from refold.release.publisher import Published
from refold.repair.served import Served
from refold.seal.refusal import DryRun, joined
from refold.seal.report import SealReport
from refold.seal.sealing import Waiting
from refold.sinks.expectations import ExpectationResult
from refold.stores.declaration import Store


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
class StoreRefused(Event):
    """A store cannot take what is sealed: its rule, its query or a sink refuses. The other stores go on."""

    store: Store
    snapshot: Snapshot
    cause: RefoldError

    @property
    def warning(self) -> str:
        """Why."""
        return f"Store {self.store.name!r} is held back at snapshot {self.snapshot.key}: {self.cause}"


@dataclass(frozen=True)
class StoreHeld:
    """A store did not follow a release that others follow; `served` is the snapshot that its readers keep."""

    store: Store
    served: str | None
    cause: RefoldError

    def __str__(self) -> str:
        kept = f"keeps serving snapshot {self.served}" if self.served else "is not served"
        return f"Store {self.store.name!r} was held back and {kept}. {self.cause}"


@dataclass(frozen=True)
class StoresHeld(Event):
    """Stores did not follow a release of a snapshot: first those that refuse something, then their companions."""

    snapshot: Snapshot
    held: Sequence[StoreHeld]

    @property
    def problem(self) -> str:
        """What the readers of each see, and why."""
        lines = "".join(f"\n  - {each}" for each in self.held)
        return f"Snapshot {self.snapshot.key} is not what the readers of all stores see:{lines}"

    def error(self, remedy: str) -> RefoldError:
        """The problem, as an error of the kind of the first cause."""
        cause = self.held[0].cause
        kinds: tuple[type[RefoldError], ...] = (EventRefused, RuleError, FixInput, Unproven)
        return next((kind for kind in kinds if isinstance(cause, kind)), Unproven)(self.problem)


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
