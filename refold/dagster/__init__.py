"""Refold in Dagster: assets, checks, jobs, schedules and sensors built from a project.

The only room of Refold that imports Dagster. `build_defs` is the one assembly point; importing it, or calling it,
touches neither network nor environment.
"""

from refold.dagster.alerts import Alert, Mail, Slack, Webhook
from refold.dagster.definitions import build_defs
from refold.dagster.resource import EngineResource

__all__ = ["Alert", "EngineResource", "Mail", "Slack", "Webhook", "build_defs"]
