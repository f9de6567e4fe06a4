"""Per-partition events of a job of ops: materializations with the tags that staleness depends on, and check results.

Dagster adds such tags to what assets yield; an op that reports for many partitions adds them itself: code version, data
version, and for every input its data version and a pointer to its event. Without them, assets would look fresh after
an input has changed.

Ops must yield these events. `context.log_event` holds events back until the op returns and loses them when it raises,
so the failed checks would not be shown.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg
import sqlalchemy as sa
from dagster import AssetRecordsFilter, DagsterEventType
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from refold.dagster.keys import LANDING
from refold.dagster.results import Result

if TYPE_CHECKING:
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

_PATIENCE_SECONDS = 30  # Dagster's own value

Place = tuple[dg.AssetKey, str | None]
"""An asset and one of its partitions; None for an asset without."""


@contextmanager
def kept_open(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Keep connections open to Dagster's own SQLite files, if that is its storage, while a run writes many events.

    Dagster opens a file three to five times for each event, compiles its SQL again on every connection, and waits for
    the disk at each commit: 33 ms of a processor for the seven stores' share of one snapshot, 9 with this. A commit
    still survives the end of the process; what the machine has not written when its power fails, a rerun reports again.
    """
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage  # brings Alembic, 0.1 s

    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        yield
        return
    shards = ["index", run_id]
    for shard in shards:
        with storage.run_connection(shard):
            pass  # creates the tables in the file
    kept = _Kept(storage, shards)
    # Dagster has no option for this. The attributes hide the methods of this one object until they are deleted.
    vars(storage)["_connect"], vars(storage)["has_table"] = kept.connect, cache(storage.has_table)
    try:
        yield
    finally:
        del vars(storage)["_connect"], vars(storage)["has_table"]
        kept.close()


class _Kept:
    """One SQLAlchemy engine per file of Dagster's event log, instead of one per use."""

    def __init__(self, storage: "SqliteEventLogStorage", shards: Sequence[str]) -> None:
        self._storage, self._connect, self._engines = storage, storage._connect, dict[str, sa.Engine]()
        for shard in shards:
            engine = sa.create_engine(storage.conn_string_for_shard(shard), connect_args={"timeout": _PATIENCE_SECONDS})
            sa.event.listen(engine, "connect", _wait_for_no_disk)
            self._engines[shard] = engine

    @contextmanager
    def connect(self, shard: str) -> Iterator[sa.Connection]:
        """A connection in a transaction; one at a time, as in Dagster."""
        if shard not in self._engines:
            with self._connect(shard) as connection:
                yield connection
            return
        with self._storage._db_lock, self._engines[shard].begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        for engine in self._engines.values():
            engine.dispose()


def _wait_for_no_disk(connection: sqlite3.Connection, _: object) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone() == (
        "wal",
    ):  # in other modes a power failure would damage the file
        connection.execute("PRAGMA synchronous=NORMAL")


Reported = dg.AssetMaterialization | dg.AssetCheckEvaluation


class Reporter:
    """Makes the events of a run, linked to the events of their inputs; yield each before making the next."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._reported: dict[dg.AssetKey, Mapping[str, str]] = {}
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

    def reported(self, key: dg.AssetKey, check: str, code_version: str) -> Mapping[str, str]:
        """The data versions of the partitions that are reported by a code version, with a check that passed on them.

        As of the first call of the run. Dagster finds no code versions by partition, so that of the oldest and that of
        the newest report count for those between.
        """
        if key not in self._reported:
            storage, kind = self._instance.event_log_storage, DagsterEventType.ASSET_MATERIALIZATION
            checks = storage.get_asset_check_partition_info([dg.AssetCheckKey(key, check)])
            done = AssetCheckExecutionRecordStatus.SUCCEEDED
            passed = {each.partition_key for each in checks if each.is_current and each.latest_execution_status is done}
            tags = storage.get_latest_tags_by_partition(key, kind, [DATA_VERSION_TAG])
            ids = sorted(storage.get_latest_storage_id_by_partition(key, kind).values())
            ends = AssetRecordsFilter(asset_key=key, storage_ids=[*ids[:1], *ids[-1:]])
            events = self._instance.fetch_materializations(ends, limit=2).records if ids else []
            codes = {(each.asset_materialization.tags or {}).get(CODE_VERSION_TAG) for each in events
                     if each.asset_materialization is not None}  # fmt: skip
            self._reported[key] = {
                partition: found[DATA_VERSION_TAG]
                for partition, found in tags.items()
                if partition in passed and codes == {code_version}
            }
        return self._reported[key]

    def _newest(self, key: dg.AssetKey) -> Mapping[str | None, tuple[int, str]]:
        """The newest materialization of each partition: storage id and data version.

        One query for all partitions: a query for each took 2 ms, and one of all events takes longer every day.
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
        description=result.description,
        metadata=result.metadata,
        blocking=check != LANDING,
    )
