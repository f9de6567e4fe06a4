"""Results of checks, in words and numbers: the same for asset checks, the history job and the verify job.

Put running a check in the engine and describing its result here. `refold.dagster.checks`, `refold.dagster.history` and
`refold.dagster.verification` call it and record the results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from refold.base.outside import as_markdown
from refold.dagster import metadata as md
from refold.engine import Engine
from refold.errors import NotFound, RefoldError
from refold.log.declaration import Log
from refold.log.ordering import OrderFinding
from refold.log.snapshot import Snapshot
from refold.log.verify import LogFinding
from refold.proof.prover import Verdict
from refold.release.pointer import title_of
from refold.release.publisher import Publisher
from refold.repair.served import Served
from refold.seal.refusal import DryRun
from refold.sinks.base import Sink
from refold.sinks.expectations import ExpectationResult
from refold.stores.declaration import Store


@dataclass(frozen=True)
class Result:
    """The result of one check: passed or not, a sentence, numbers; with `warns` a failure stops nothing."""

    passed: bool
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    warns: bool = False

    @property
    def description(self) -> str:
        """The sentence as Dagster shows it, which takes it for Markdown."""
        return as_markdown(self.text)

    @property
    def stops(self) -> bool:
        """Whether nothing may use what was checked."""
        return not self.passed and not self.warns

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """The severity that Dagster shows."""
        return dg.AssetCheckSeverity.WARN if self.warns else dg.AssetCheckSeverity.ERROR


def structure(findings: Sequence[LogFinding], events: int) -> Result:
    """The result of the structural checks over `events` events of a log."""
    more = f" ({len(findings)} findings)" if len(findings) > 1 else ""
    text = f"{findings[0].message}{more}" if findings else f"The log is whole: {events:,} events verified."
    return Result(not findings, text, md.findings_metadata(findings, events))


def structure_through(engine: Engine, log: Log, snapshot: Snapshot) -> Result:
    """Verify a log from offset 0 to a snapshot."""
    findings = [finding for _, found in engine.verify_log(log.name, snapshot) for finding in found]
    return structure(findings, snapshot.cut(log.name).seq_end)


def order_through(engine: Engine, log: Log, snapshot: Snapshot) -> Result:
    """Compare deliveries from offset 0 to a snapshot with what is declared of them; a difference warns."""
    return order(engine.order_check(log.name).through(snapshot))


def order(found: Sequence[OrderFinding]) -> Result:
    """The result of the check `order`."""
    more = f" ({len(found)} findings)" if len(found) > 1 else ""
    text = f"{found[0]}{more}" if found else "Events came in time and in the order of their producers' numbers."
    return Result(not found, text, md.order_metadata(found), warns=True)


def whole_through(engine: Engine, log: Log, snapshot: Snapshot) -> Result:
    """Find gaps and overlaps of source offsets up to a snapshot, and snapshots out of proportion; these warn."""
    found = engine.completeness(log.name, snapshot)
    more = f" ({len(found.findings)} findings)" if len(found.findings) > 1 else ""
    text = f"{found.findings[0].what}{more}" if found.findings else "Source offsets are whole, each in one object."
    return Result(not found.findings, text, md.whole_metadata(found), warns=True)


def landing(run: DryRun) -> Result:
    """The result of a dry run of sealing what waits for a log."""
    text = f"Nothing is refused; {run.objects} objects wait for the next snapshot."
    return Result(not run.errors, "\n".join(map(str, run.errors)) or text, md.landing_metadata(run))


def check_landing(engine: Engine, snapshot: Snapshot) -> dict[Log, Result]:
    """Seal what waits up to a snapshot in a dry run, by log."""
    try:
        return {run.log: landing(run) for run in engine.sealing.dry_run(snapshot.key)}
    except NotFound:  # sealed snapshots outlive their landing
        return {log: Result(True, "There is no landing, so nothing waits.") for log in engine.project.logs}


def replay(verdict: Verdict) -> Result:
    """The result of full replay of a store."""
    text = f"Equal: {verdict.method}." if verdict.passed else str(verdict.differences[0])
    if verdict.divergence is not None:
        text = f"{text}. {verdict.divergence}"
    return Result(verdict.passed, text, md.verdict_metadata(verdict))


def check_expectations(publisher: Publisher, store: Store, snapshot: Snapshot, *, may_be_held: bool = False) -> Result:
    """Check what a store's sinks hold for a snapshot. A store that may be held back only warns where it was.

    Raises NotFound where a sink does not hold it.
    """
    try:
        return expectations(store, snapshot, publisher.check_expectations(store, snapshot))
    except NotFound as error:
        if not may_be_held:
            raise
        return Result(False, f"Store {store.name!r} is held back: {error}", {"snapshot": snapshot.key}, warns=True)


def expectations(store: Store, snapshot: Snapshot, results: Sequence[ExpectationResult]) -> Result:
    """The result of checking a store's expectations. A failed expectation of severity warn only warns."""
    broken = [result for result in results if not result.passed]
    names = "".join(f" Broken: {result.expectation}." for result in broken)
    return Result(
        passed=not broken,
        text=f"{len(results) - len(broken)} of {len(results)} expectations hold.{names}",
        metadata={"snapshot": snapshot.key, **md.expectations_metadata(store, results)},
        warns=bool(broken) and all(result.expectation.severity == "warn" for result in broken),
    )


def served(found: Sequence[Served], replaced_by: str | None = None) -> Result:
    """The result of comparing what is served with its proofs.

    `replaced_by` is the snapshot that this run releases next. What differs is then a warning where that one is newer,
    since the release replaces it.
    """
    wrong = [each for each in found if each.differences]
    if not found:
        return Result(True, "Nothing is released yet.")
    text = " ".join(map(str, wrong or found))
    warns = bool(wrong) and replaced_by is not None and all(replaced_by > each.snapshot for each in wrong)
    return Result(not wrong, text, md.served_metadata(found), warns)


def check_served(engine: Engine, store: Store, sinks: Sequence[Sink], replaced_by: str | None = None) -> Result:
    """Read back what some sinks of a store serve, and compare it with its proof. Raises NotAnchored."""
    engine.require_anchored()
    return served(of_sinks(engine.served.check(store.name), store, sinks), replaced_by)


def of_sinks(found: Sequence[Served], store: Store, sinks: Sequence[Sink]) -> list[Served]:
    """What is about some sinks of a store."""
    titles = [title_of(sink) for sink in sinks]
    return [each for each in found if each.store == store.name and each.sink in titles]


def could_not_run(error: RefoldError) -> Result:
    """A check that could not run has failed, with the reason."""
    return Result(False, str(error), {"kind of error": error.kind})
