"""A small project in Dagster, in a folder of its own: what the tests of this room share.

Two stores over the shop's log of stock events: `levels`, folded and published to two kinds of sinks, and `movement`,
a relation over its ledger. Small, so that a whole run takes a second.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from assets.stock import stock
from refold import Daily, Delta, Project, Sql, date, expect, int64, relation
from refold.config import Settings
from refold.dagster import EngineResource, build_defs
from refold.dagster.failures import failure_texts
from refold.engine import Engine
from refold.storage.records import write_record
from refold.stores.checkpoint import record_name
from tests.diff.variants import credit
from tests.support import Shop

START = dt.date(2026, 1, 1)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def small_project(*, refuses: bool = True, expectations: Iterable[Any] = (), end: dt.date | None = None) -> Project:
    """The two stores. With `refuses=False` the rule is another one: it lets levels fall below zero."""
    rule = stock if refuses else credit
    levels = replace(rule, name="levels", sinks=(Sql("levels"), Delta("levels")), expect=tuple(expectations))

    @relation(
        reads=[levels.ledger],
        key=["event_date"],
        returns={"event_date": date(), "events": int64(), "refused": int64()},
        sinks=[Delta("movement")],
        owner="team:analytics",
    )
    def movement():
        """Events and refusals by day."""
        return """
            SELECT event_date, count(*) AS events, count(*) FILTER (outcome = 'rejected') AS refused
            FROM levels_ledger GROUP BY event_date
        """

    return Project("small", cadence=Daily(START, end or START + dt.timedelta(days=20)), stores=[levels, movement])


NOT_NEGATIVE = expect("column_values_to_be_between", column="level", min_value=0)


class Places(EngineResource):
    """An engine over given places, at a given time."""

    landing: str
    store: str
    database: str
    search: str
    time: str

    def settings(self) -> Settings:
        return Settings(self.landing, self.store, self.database, Path(self.search))

    def now(self) -> dt.datetime:
        return dt.datetime.fromisoformat(self.time)


def day(number: int) -> str:
    """The key of the n-th day, from 1."""
    return (START + dt.timedelta(days=number - 1)).isoformat()


@dataclass
class House:
    """A project at work in a folder, and the Dagster instance that watches it."""

    shop: Shop
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)
    database: str | None = None
    time: str = "2026-06-01T00:00:00+00:00"
    rows_shown: int = 5

    @property
    def engine(self) -> Engine:
        return self.shop.engine()

    def places(self, **changes: str) -> Places:
        found = self.shop.settings
        database = self.database or found.database
        return Places(
            landing=found.landing, store=found.store, database=database, search=str(found.search_folder), **changes
        )

    @property
    def defs(self) -> dg.Definitions:
        return build_defs(self.shop.project, self.places(time=self.time), rows_shown=self.rows_shown)

    def declared(self, project: Project) -> House:
        """The same folder and instance under another project."""
        return House(Shop(self.shop.root, project), self.instance, self.database)

    def run(
        self,
        job: str,
        key: str | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run a job in this process."""
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=key,
            run_config={**QUIET, **(config or {})},
            tags=tags,
            raise_on_error=False,
        )

    def rebuild(self, **config: Any) -> dg.ExecuteInProcessResult:
        """Run the history job."""
        job = self.defs.resolve_job_def("rebuild_history")
        return self.run("rebuild_history", config={"ops": {node.name: {"config": config} for node in job.nodes}})

    def materialize(self, *assets: str, key: str | None = None, checks: bool = True) -> dg.ExecuteInProcessResult:
        """Materialize assets alone in one run, with or without their checks."""
        selection = dg.AssetSelection.assets(*map(dg.AssetKey.from_user_string, assets))
        return self._some(selection if checks else selection.without_checks(), key)

    def check(self, asset: str, key: str) -> dg.ExecuteInProcessResult:
        """Run an asset's checks alone on one partition."""
        asset_key = dg.AssetKey.from_user_string(asset)
        return self._some(dg.AssetSelection.checks_for_assets(asset_key), key)

    def _some(self, selection: dg.AssetSelection, key: str | None) -> dg.ExecuteInProcessResult:
        defs = dg.Definitions.merge(self.defs, dg.Definitions(jobs=[dg.define_asset_job("some", selection)]))
        return defs.resolve_job_def("some").execute_in_process(
            instance=self.instance,
            tags={"dagster/partition": key} if key else None,
            run_config=QUIET,
            raise_on_error=False,
        )

    def versions(self) -> dict[tuple[str, str | None], str]:
        """The newest data version of every asset and partition that was materialized."""
        found = {}
        for asset in self.defs.resolve_asset_graph().materializable_asset_keys:
            records = self.instance.fetch_materializations(asset, limit=1000).records
            for record in reversed(records):
                version = record.asset_materialization.tags["dagster/data_version"]
                found[asset.to_user_string(), record.partition_key] = version
        return found

    def statuses(self, *keys: str) -> dict[tuple[str, str | None], str]:
        """FRESH, STALE or MISSING, as the UI says it, of every asset and of the given partitions."""
        graph = self.defs.resolve_asset_graph()
        resolver = CachingStaleStatusResolver(self.instance, graph, LoadingContextForTest(self.instance))
        found = {}
        for asset in sorted(graph.materializable_asset_keys):
            for key in keys if graph.get(asset).is_partitioned else (None,):
                found[asset.to_user_string(), key] = resolver.get_status(asset, key).value
        return found

    def stale(self, *keys: str) -> set[tuple[str, str | None]]:
        """The assets and partitions that are not fresh."""
        return {place for place, status in self.statuses(*keys).items() if status != "FRESH"}


def checks_of(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str, str | None], bool]:
    """The check results of a run by asset, check and partition."""
    return {
        (found.asset_key.to_user_string(), found.check_name, found.partition): found.passed
        for found in result.get_asset_check_evaluations()
    }


def damage(house: House, store: str, key: str) -> None:
    """Change the stored rows of a state, as a broken disk would."""
    record = house.engine.builder.require(house.shop.project.store(store), house.engine.chain.get(key))
    path = house.shop.store / record.objects[0].name
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)


def falsify(house: House, store: str, key: str, other: str) -> None:
    """Let the record of a state name the rows of another day: sound in itself, and wrong."""
    engine, declared = house.engine, house.shop.project.store(store)
    record, wrong = (engine.builder.require(declared, engine.chain.get(each)) for each in (key, other))
    rows = {name: getattr(wrong, name) for name in ("base", "changes", "changes_since_base", "state_digest", "rows")}
    lie = replace(record, **rows)
    write_record(engine.objects, record_name(lie.store, lie.code_version, lie.inputs), asdict(lie))


def levels(house: House) -> dict[str, int]:
    """What readers of the SQL view are served."""
    with sqlite3.connect(house.shop.root / "refold.db") as connection:
        return dict(connection.execute("SELECT product_id, level FROM levels"))


def reasons(result: dg.ExecuteInProcessResult) -> str:
    """Why the steps of a run failed, in the words an operator reads."""
    return "\n".join(failure_texts(result.all_events))
