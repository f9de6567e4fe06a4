"""Per-partition events of a job of ops: materializations with the tags that make staleness right, and check results.

Dagster stamps such tags on what assets yield; an op that reports for many partitions writes them itself: code version,
data version, and for every input its data version and a pointer to the very event, without which a changed input
would leave its readers looking fresh.

Ops must yield these events. What `context.log_event` is given is kept back until the op returns, and lost when it
raises: the very checks that failed would not be seen.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster import AssetRecordsFilter, DagsterEventType
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
)

from refold.dagster.results import Result

Place = tuple[dg.AssetKey, str | None]
"""An asset and one of its partitions; None for an asset without."""


@contextmanager
def kept_open(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Keep a connection open to Dagster's own SQLite files, if that is its storage, while a run writes many events.

    Dagster opens and closes both files for each event, and the last to close must first fold SQLite's write-ahead log
    into the file: 20 to 35 ms an event then, 10 to 13 with this.
    """
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage  # brings Alembic, 0.1 s

    storage, held = instance.event_log_storage, list[sqlite3.Connection]()
    if isinstance(storage, SqliteEventLogStorage):
        for shard in ("index", run_id):
            held.append(sqlite3.connect(storage.path_for_shard(shard), check_same_thread=False))
            held[-1].execute("SELECT count(*) FROM sqlite_master").fetchone()
    try:
        yield
    finally:
        for connection in held:
            connection.close()


Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


class Reporter:
    """Makes the events of a run, linked to the input events they rest on; yield each before asking for the next."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._latest: dict[dg.AssetKey, Mapping[str | None, tuple[int, str]]] = {}

    def materialized(
        self, place: Place, version: str, code_version: str, inputs: Sequence[Place], metadata: dict[str, Any]
    ) -> dg.AssetMaterialization:
        """One materialization that was computed from `inputs`."""
        key, partition = place
        tags = {DATA_VERSION_TAG: version, CODE_VERSION_TAG: code_version, DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
        for source, where in inputs:
            found = self._newest(source).get(where)
            if found is not None:
                tags[f"{INPUT_EVENT_POINTER_TAG_PREFIX}/{source.to_user_string()}"] = str(found[0])
                tags[f"{INPUT_DATA_VERSION_TAG_PREFIX}/{source.to_user_string()}"] = found[1]
        self._latest.pop(key, None)
        return dg.AssetMaterialization(key, partition=partition, tags=tags, metadata=metadata)

    def _newest(self, key: dg.AssetKey) -> Mapping[str | None, tuple[int, str]]:
        """The newest materialization of each partition: storage id and data version.

        Asked once for all partitions: a fetch for each took 2 ms, and one of all events takes longer every day.
        """
        if key not in self._latest:
            storage = self._instance.event_log_storage
            kind = DagsterEventType.ASSET_MATERIALIZATION
            versions = storage.get_latest_tags_by_partition(key, kind, [DATA_VERSION_TAG])
            ids = storage.get_latest_storage_id_by_partition(key, kind)
            by_partition: dict[str | None, tuple[int, str]] = {
                partition: (ids[partition], tags[DATA_VERSION_TAG])
                for partition, tags in versions.items()
                if partition in ids and DATA_VERSION_TAG in tags
            }
            self._latest[key] = by_partition or self._newest_unpartitioned(key)
        return self._latest[key]

    def _newest_unpartitioned(self, key: dg.AssetKey) -> Mapping[str | None, tuple[int, str]]:
        records = self._instance.fetch_materializations(AssetRecordsFilter(asset_key=key), limit=1).records
        found: dict[str | None, tuple[int, str]] = {}
        for record in records:
            event = record.asset_materialization
            if event is not None and event.tags and DATA_VERSION_TAG in event.tags:
                found[None] = (record.storage_id, event.tags[DATA_VERSION_TAG])
        return found


def evaluated(place: Place, check: str, result: Result) -> dg.AssetCheckEvaluation:
    """One check result of one partition."""
    key, partition = place
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=check,
        passed=result.passed,
        partition=partition,
        severity=result.severity,
        description=result.text,
        metadata=result.metadata,
        blocking=True,
    )
