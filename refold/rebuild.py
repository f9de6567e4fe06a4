"""The whole main job without an orchestrator: seal, fold, prove, relate, publish, check, release, in one pass each."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from refold.base.progress import Timings, track
from refold.engine import Engine
from refold.errors import NotFound, Unproven
from refold.log.snapshot import Snapshot
from refold.proof.prover import Verdict

_log = logging.getLogger("refold")


def rebuild_all(
    engine: Engine, through: str | None = None, *, fresh: bool = False, timings: Timings | None = None
) -> Snapshot:
    """Rebuild every store at every snapshot up to a key and release the last one; a rerun changes nothing.

    Returns the snapshot that was released. Progress is announced by `refold.base.progress`; how long each stage took
    goes into `timings`, by the names that the steps of `refold.plan.decisions` have.

    Raises:
        Unproven: a store differs from full replay, or an expectation does not hold; nothing was released.
        NotFound: landing holds no data and nothing is sealed.
    """
    timings = timings or Timings()
    gone = {name for report in timings.over("seal", engine.seal(through)) for name in report.vanished}
    for name in sorted(gone):
        _log.warning("The sealed object %s is no longer in landing; its sealed events stand.", name)
    snapshot = sealed(engine, through)
    for log in engine.project.logs:
        for _ in timings.over(f"fold {log.name}", engine.fold_history(log.name, snapshot, fresh=fresh)):
            pass
    for log in engine.project.logs:
        for _, verdicts in timings.over(f"replay {log.name}", engine.prove_history(log.name, snapshot)):
            _refuse_failed(verdicts)
    for _, verdicts in timings.over("relations", engine.relate_history(snapshot)):
        _refuse_failed(verdicts)
    publish_all(engine, snapshot, timings)
    return snapshot


def sealed(engine: Engine, through: str | None = None) -> Snapshot:
    """The snapshot of a key (None: the newest), once sealing is done. Raises NotFound, also where nothing landed."""
    if engine.chain.head is None:
        raise NotFound(
            f"Landing {engine.settings.shown()['landing']} holds no data folders.",
            remedy="Expected <log>/dt=YYYY-MM-DD/; `refold sample` writes one to try.",
        )
    return engine.chain.get(through)


def publish_all(engine: Engine, snapshot: Snapshot, timings: Timings | None = None) -> None:
    """Publish every store at a snapshot, check its expectations, and release. Raises Unproven."""
    timings = timings or Timings()
    stores = engine.project.in_order
    for store in track(stores, "publish", len(stores), lambda store: len(engine.rows(store, snapshot))):
        for sink in store.sinks:
            with timings.of(f"publish {type(sink).__name__}/{sink.name}"):
                engine.publisher.publish(store, sink, snapshot)
        with timings.of(f"expectations {store.name}"):
            broken = [r for r in engine.publisher.check_expectations(store, snapshot) if not r.passed]
        errors = [r for r in broken if r.expectation.severity == "error"]
        if errors:
            texts = "; ".join(f"{r.expectation}: {r.rows_unexpected} rows against it {r.problem}" for r in errors)
            raise Unproven(f"Store {store.name!r} does not keep its expectations at snapshot {snapshot.key}: {texts}.")
    with timings.of("release"):
        engine.releaser.release(snapshot)


def _refuse_failed(verdicts: Mapping[str, Verdict]) -> None:
    for name, verdict in verdicts.items():
        if not verdict.passed:
            lines = "\n  - ".join(str(difference) for difference in verdict.differences[:10])
            raise Unproven(
                f"Store {name!r} at snapshot {verdict.snapshot.key} is not equal to full replay:\n  - {lines}",
                remedy="\nWhat is served stays. `refold rebuild --from-scratch` folds from offset 0.",
            )
