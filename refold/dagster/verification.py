"""The job `verify`: every check of a project on one snapshot, and nothing else; it fails when one check fails.

An asset job of checks cannot do this: without a partition its partitioned checks do not run at all, and with one the
expectations would look in the sinks for a snapshot that they may never have held. Results are recorded on the same
asset checks.
"""

from collections.abc import Callable, Iterator
from functools import partial

import dagster as dg

from refold.dagster import keys, results
from refold.dagster.assets import SnapshotConfig, raised, snapshot_of
from refold.dagster.reporting import Place, evaluated
from refold.dagster.resource import EngineResource
from refold.dagster.results import Result
from refold.engine import Engine
from refold.errors import NotFound, RefoldError, Retry
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.stores.declaration import Store

_Check = tuple[Place, str, Callable[[], Result | None]]
"""The place of a check, its name, and what runs it, which returns None where there is nothing to check."""


def build_verify_job(project: Project) -> dg.JobDefinition:
    """The job `verify`."""
    logs = _op(project, "verify_logs", _logs, "Check the structure of every log from offset 0.")
    states = _op(project, "verify_states", _states, "Compare every state with full replay.")
    sinks = _op(project, "verify_sinks", _sinks, "Compare what is served with its proof, and check the expectations.")

    @dg.job(
        name="verify",
        description="Runs all checks alone, for CI: it fails when one fails. It takes the newest snapshot, or the one "
        "that the configuration or the tag `dagster/partition` names. An older snapshot's expectations are checked in "
        "the sinks that hold it.",
    )
    def verify() -> None:
        logs()
        states()
        sinks()

    return verify


def _op(
    project: Project, name: str, checks: Callable[[Engine, Snapshot], Iterator[_Check]], description: str
) -> dg.OpDefinition:
    @dg.op(name=name, description=description, out=dg.Out(dg.Nothing))
    def run(
        context: dg.OpExecutionContext, config: SnapshotConfig, engine: EngineResource
    ) -> Iterator[dg.AssetCheckEvaluation]:
        broken = []
        try:
            opened = engine.open(project)
            for place, check, ask in checks(opened, snapshot_of(context, opened, config.snapshot)):
                result = _answer(ask)
                if result is None:
                    context.log.info(f"{place[0].to_user_string()} does not hold this snapshot: nothing to check.")
                    continue
                yield evaluated(place, check, result)
                if result.stops:
                    broken.append(f"{place[0].to_user_string()}: {check}: {result.text}")
        except RefoldError as error:
            raise raised(error) from error
        if broken:
            raise dg.Failure(f"{len(broken)} checks failed:\n" + "\n".join(broken), allow_retries=False)

    return run


def _answer(ask: Callable[[], Result | None]) -> Result | None:
    try:
        return ask()
    except Retry:
        raise
    except RefoldError as error:
        return results.could_not_run(error)


def _logs(engine: Engine, snapshot: Snapshot) -> Iterator[_Check]:
    for log in engine.project.logs:
        place = (keys.log_key(log), snapshot.key)
        yield place, keys.STRUCTURE, partial(results.structure_through, engine, log, snapshot)
        if log.has_offsets:
            yield place, keys.WHOLE, partial(results.whole_through, engine, log, snapshot)
        if log.has_order:
            yield place, keys.ORDER, partial(results.order_through, engine, log, snapshot)


def _states(engine: Engine, snapshot: Snapshot) -> Iterator[_Check]:
    for store in engine.project.in_order:
        place = (keys.state_key(store), snapshot.key)
        yield place, keys.FULL_REPLAY, partial(_replayed, engine, store, snapshot)


def _sinks(engine: Engine, snapshot: Snapshot) -> Iterator[_Check]:
    for store in engine.project.in_order:
        for key, sinks in keys.sink_groups(store).items():
            yield (key, None), keys.SERVED, partial(results.check_served, engine, store, sinks)
        sink = keys.checked_sink(store)
        if sink is not None:
            yield (sink, None), keys.EXPECTATIONS, partial(_published, engine, store, snapshot)


def _replayed(engine: Engine, store: Store, snapshot: Snapshot) -> Result:
    return results.replay(engine.prover.prove(store, snapshot, afresh=True))


def _published(engine: Engine, store: Store, snapshot: Snapshot) -> Result | None:
    try:
        return results.check_expectations(engine.publisher, store, snapshot)
    except NotFound:
        if snapshot is engine.chain.head:
            raise
        return None
