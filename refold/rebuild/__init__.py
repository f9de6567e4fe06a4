"""The rebuild: its phases in order, what happens in each, and the stages that are planned and timed.

One description, run by the command line (`rebuild_all`) and by Dagster's history job (`refold.dagster.history`), and
named by the plan (`refold.plan.workload`). A phase yields events as they happen; whoever runs it decides what a failed
check means to them, and nothing is published before all checks of the phases before have passed.

Before this package comes `refold.engine`; after it the plan, the command line and Dagster.
"""

from refold.rebuild.events import (
    Event,
    ExpectationsChecked,
    HistoryFolded,
    LandingChecked,
    Left,
    LogVerified,
    RelationVerified,
    Released,
    Sealed,
    ServedDiffered,
    ServedVerified,
    StorePublished,
    StoreVerified,
    Vanished,
)
from refold.rebuild.phases import PHASES, Phase, RebuildRun, nothing_sealed, rebuild_all
from refold.rebuild.stages import Stage, StageKind

__all__ = [
    "PHASES",
    "Event",
    "ExpectationsChecked",
    "HistoryFolded",
    "LandingChecked",
    "Left",
    "LogVerified",
    "Phase",
    "RebuildRun",
    "RelationVerified",
    "Released",
    "Sealed",
    "ServedDiffered",
    "ServedVerified",
    "Stage",
    "StageKind",
    "StorePublished",
    "StoreVerified",
    "Vanished",
    "nothing_sealed",
    "rebuild_all",
]
