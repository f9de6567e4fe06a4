"""Many events of one run through connections that stay open: the same is seen, by others as well, with less work."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import dagster as dg
import pytest

from refold.dagster.reporting import kept_open

DAYS = [f"2026-01-{n:02}" for n in range(1, 21)]
ASSET = dg.AssetKey(["state", "stock"])
MADE, CHECKED = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION
opened: list[str] = []
watching = [False]


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if event == "sqlite3.connect" and watching[0]:
        opened.append(str(arguments[0]))


sys.addaudithook(_count)


def reported(home: Path, *, kept: bool, fails: bool = False) -> tuple[dg.DagsterInstance, str]:
    """The instance and id of a run whose op reports a materialization and a check of twenty partitions."""

    @dg.op(out=dg.Out(dg.Nothing))
    def report(context: dg.OpExecutionContext) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        with kept_open(context.instance, context.run_id) if kept else nullcontext():
            watching[0] = True
            for place, day in enumerate(DAYS):
                tags = {"dagster/data_version": f"v{place}"}
                yield dg.AssetMaterialization(ASSET, partition=day, tags=tags, metadata={"rows": place})
                yield dg.AssetCheckEvaluation(
                    asset_key=ASSET, check_name="replay", passed=place % 3 > 0, partition=day, metadata={"n": place}
                )
            watching[0] = False
            _seen_and_written_by_another(home)
            if fails:
                raise ValueError("in the middle")

    home.mkdir(exist_ok=True)
    instance = dg.DagsterInstance.local_temp(str(home))
    opened.clear()
    try:
        result = dg.GraphDefinition("history", node_defs=[report]).execute_in_process(
            instance=instance, raise_on_error=False
        )
    finally:
        watching[0] = False
    assert result.success is not fails
    return instance, result.run_id


def _seen_and_written_by_another(home: Path) -> None:
    """Another process reads what is there so far, and writes, without waiting for the run to end."""
    with dg.DagsterInstance.local_temp(str(home)) as other:
        assert set(other.get_materialized_partitions(ASSET)) == set(DAYS)
        other.report_runless_asset_event(dg.AssetMaterialization("elsewhere", partition="a"))


def events_of(instance: dg.DagsterInstance, run_id: str) -> list[tuple[object, ...]]:
    """What a person can see of the run's events, in order."""
    found = []
    for record in instance.all_logs(run_id):
        event = record.dagster_event
        if event is None or event.event_type not in (MADE, CHECKED):
            continue
        if event.event_type is MADE:
            made = event.step_materialization_data.materialization
            found.append((made.asset_key, made.partition, made.tags, made.metadata))
        else:
            check = event.asset_check_evaluation_data
            found.append((check.asset_key, check.check_name, check.partition, check.passed, check.metadata))
    return found


def test_what_is_seen_is_the_same_and_the_files_are_opened_once(tmp_path: Path):
    one, first = reported(tmp_path / "one", kept=False)
    often = len(opened)
    two, second = reported(tmp_path / "two", kept=True)
    assert len(opened) <= 5, "however many events there are"
    assert often > 2 * 2 * len(DAYS), "Dagster keeps them open itself: kept_open can go"
    assert len(events_of(two, second)) == 2 * len(DAYS)
    assert events_of(two, second) == events_of(one, first)
    key = dg.AssetCheckKey(ASSET, "replay")
    histories = [
        [(r.partition, r.status) for r in each.event_log_storage.get_asset_check_execution_history(key, limit=100)]
        for each in (one, two)
    ]
    assert histories[0] == histories[1]
    assert len(histories[1]) == len(DAYS)
    for each in (one, two):
        assert each.get_materialized_partitions(dg.AssetKey("elsewhere")) == {"a"}


@pytest.mark.parametrize("fails", [False, True])
def test_the_storage_is_as_it_was_afterwards(tmp_path: Path, fails: bool):
    instance, run_id = reported(tmp_path, kept=True, fails=fails)
    storage = instance.event_log_storage
    assert not {"_connect", "has_table"} & vars(storage).keys()
    assert len(events_of(instance, run_id)) == 2 * len(DAYS)
    assert not [path.name for path in tmp_path.rglob("*.db-wal") if path.stat().st_size]


def test_a_storage_in_memory_is_left_alone():
    with dg.DagsterInstance.ephemeral() as instance, kept_open(instance, "a run"):
        assert "_connect" not in vars(instance.event_log_storage)
