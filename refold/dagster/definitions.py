"""The one assembly point: a project and its engine resource become Dagster definitions."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from refold.dagster.assets import build_assets
from refold.dagster.automation import build_schedules, build_sensors
from refold.dagster.checks import build_checks
from refold.dagster.history import build_history_job
from refold.dagster.resource import EngineResource
from refold.project import Daily, Project


def partitions_of(cadence: Daily) -> dg.DailyPartitionsDefinition:
    """The snapshots' keys as daily partitions."""
    return dg.DailyPartitionsDefinition(
        start_date=cadence.start.isoformat(),
        end_date=cadence.end.isoformat() if cadence.end else None,
        hour_offset=0,
    )


def build_defs(
    project: Project,
    engine: EngineResource,
    *,
    assets: Sequence[Any] = (),
    resources: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """Definitions of a project.

    Args:
        project: its stores.
        engine: the resource that opens engines; tests pass one over temporary places here.
        assets: further assets of the code location.
        resources: further resources.
    """
    partitions = partitions_of(project.cadence)
    owned = build_assets(project, partitions)
    checks = build_checks(project, partitions)
    snapshot = dg.define_asset_job(
        "rebuild_snapshot",
        selection=dg.AssetSelection.assets(*[key for each in owned for key in each.keys]),
        description="Seals, builds, proves, publishes and releases one snapshot.",
    )
    verify = dg.define_asset_job(
        "verify",
        selection=dg.AssetSelection.checks(*[key for each in checks for key in each.check_keys]),
        description="Runs all checks alone on one snapshot, for CI: it fails when one fails.",
    )
    publish = dg.define_asset_job(
        "publish_and_release_newest",
        selection=dg.AssetSelection.groups("sinks"),
        description="Publishes the newest proven snapshot to all sinks, checks it there, and releases it.",
    )
    return dg.Definitions(
        assets=[*owned, *assets],
        asset_checks=checks,
        jobs=[build_history_job(project), snapshot, verify, publish],
        schedules=build_schedules(project, snapshot),
        sensors=build_sensors(project, snapshot),
        resources={"engine": engine, **(resources or {})},
    )
