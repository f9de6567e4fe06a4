"""The one resource of Refold's assets, which opens engines over a project's connections."""

import datetime as dt
from pathlib import Path

from dagster import ConfigurableResource
from pydantic import Field

from refold.config import Settings
from refold.engine import Engine
from refold.project import Project, find_root
from refold.storage.objects import ObjectStore


class EngineResource(ConfigurableResource):  # type: ignore[type-arg]  # Dagster's own type parameter is unused here
    """Opens engines over the places that the environment names.

    A project that has its places from elsewhere subclasses it and overrides `settings`.
    """

    root: str | None = Field(
        default=None, description="The project's folder; by default found from the working folder up."
    )

    def settings(self) -> Settings:
        """The locations of this project, read when a run starts and never before.

        Raises NotFound where there is no project at the folder or above it.
        """
        return Settings.from_environment(find_root(Path(self.root) if self.root else None))

    def now(self) -> dt.datetime:
        """The time in UTC, by which days are over or not."""
        return dt.datetime.now(dt.UTC)

    def open(self, project: Project) -> Engine:
        """An engine for one step of a run."""
        return Engine(project, self.settings(), self.open_store, now=self.now())

    def open_store(self, url: str, *, must_exist: bool = False) -> ObjectStore:
        """Opens landing and store by URL; override it to wrap or replace them."""
        return ObjectStore.open(url, must_exist=must_exist)
