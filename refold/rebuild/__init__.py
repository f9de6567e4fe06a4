"""The rebuild: its phases in order, what happens in each, and the stages that are planned and timed.

One description, run by the command line (`rebuild_all`) and by Dagster's history job (`refold.dagster.history`), and
named by the plan (`refold.plan.workload`). A phase yields events as they happen; whoever runs it decides what a failed
check means to them, and nothing is published before all checks of the phases before have passed.

`events` has the events. Before this package comes `refold.engine`; after it the plan, the command line and Dagster.
"""

from refold.rebuild.phases import PHASES, Phase, RebuildRun, nothing_sealed, rebuild_all
from refold.rebuild.stages import Stage, StageKind

__all__ = ["PHASES", "Phase", "RebuildRun", "Stage", "StageKind", "nothing_sealed", "rebuild_all"]
