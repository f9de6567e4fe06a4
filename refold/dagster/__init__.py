"""Refold in Dagster: assets, checks, jobs, schedules and sensors built from a project.

The only room of Refold that imports Dagster. `build_defs` is the one assembly point; importing it, or calling it,
touches neither network nor environment.
"""

from refold.dagster.definitions import build_defs
from refold.dagster.resource import EngineResource

__all__ = ["EngineResource", "build_defs"]
