"""The whole main job without an orchestrator: seal, fold, prove, relate, publish, check, release, in one pass each."""

from __future__ import annotations

from collections.abc import Mapping

from refold.engine import Engine
from refold.errors import NotFound, Unproven
from refold.log.snapshot import Snapshot
from refold.progress import track
from refold.proof import Verdict


def rebuild_all(engine: Engine, through: str | None = None, *, fresh: bool = False) -> Snapshot:
    """Rebuild every store at every snapshot up to a key and release the last one; a rerun changes nothing.

    Returns the snapshot that was released. Progress is announced by `refold.progress`.

    Raises:
        Unproven: a store differs from full replay, or an expectation does not hold; nothing was released.
        NotFound: landing holds no data and nothing is sealed.
    """
    sealed = engine.seal(through)
    for _ in track(sealed, "seal", None, lambda report: sum(cut.events for cut in report.snapshot.logs.values())):
        pass
    if len(engine.chain) == 0:
        raise NotFound(
            f"Landing {engine.settings.shown()['landing']} holds no data folders.",
            remedy="Expected <log>/dt=YYYY-MM-DD/; `refold sample` writes one to try.",
        )
    snapshot = engine.chain.get(through)
    for log in engine.project.logs:
        built = engine.builder.fold_history(engine.stores_of(log.name), snapshot, fresh=fresh)
        for _ in track(built, f"fold {log.name}", None, lambda item, name=log.name: item[0].logs[name].events):
            pass
    total = snapshot.ordinal + 1
    for log in engine.project.logs:
        verdicts = engine.prover.prove_history(engine.stores_of(log.name), snapshot)
        for _, found in track(verdicts, f"replay {log.name}", total, lambda i, name=log.name: i[0].logs[name].events):
            _refuse_failed(found)
    for each in track(engine.chain.through(snapshot.key), "relations", total, _rows):
        for relation in engine.project.relations:
            engine.builder.build(relation, each)
            _refuse_failed({relation.name: engine.prover.prove(relation, each)})
    publish_all(engine, snapshot)
    return snapshot


def _rows(snapshot: Snapshot) -> int:
    return sum(cut.seq_end for cut in snapshot.logs.values())


def publish_all(engine: Engine, snapshot: Snapshot) -> None:
    """Publish every store at a snapshot, check its expectations, and release. Raises Unproven."""
    for store in track(engine.project.in_order, "publish", len(engine.project.stores), lambda s: len(engine.rows(s, snapshot))):
        for sink in store.sinks:
            engine.publisher.publish(store, sink, snapshot)
        broken = [r for r in engine.publisher.check_expectations(store, snapshot) if not r.passed]
        errors = [r for r in broken if r.expectation.severity == "error"]
        if errors:
            texts = "; ".join(f"{r.expectation}: {r.rows_unexpected} rows against it {r.problem}" for r in errors)
            raise Unproven(f"Store {store.name!r} does not keep its expectations at snapshot {snapshot.key}: {texts}.")
    engine.publisher.release(snapshot)


def _refuse_failed(verdicts: Mapping[str, Verdict]) -> None:
    for name, verdict in verdicts.items():
        if not verdict.passed:
            lines = "\n  - ".join(str(difference) for difference in verdict.differences[:10])
            raise Unproven(
                f"Store {name!r} at snapshot {verdict.snapshot.key} is not equal to full replay:\n  - {lines}",
                remedy="\nWhat is served stays. `refold rebuild --from-scratch` folds from offset 0.",
            )
