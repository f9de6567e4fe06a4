"""The engine over this project's connections: the one resource Refold's assets ask for."""

from dataclasses import replace
from pathlib import Path

from refold.config import Settings
from refold.dagster import EngineResource
from resources.database import Database
from resources.object_store import ObjectStorage
from resources.search_index import SearchIndex

ROOT = Path(__file__).resolve().parents[1]


class RefoldEngine(EngineResource):
    """Opens engines over object storage, database and search index."""

    storage: ObjectStorage
    database: Database
    search: SearchIndex

    def settings(self) -> Settings:
        """The environment's settings, overridden by what is configured here."""
        given = {
            "landing": self.storage.landing_url,
            "store": self.storage.store_url,
            "database": self.database.url,
            "search_folder": Path(self.search.folder) if self.search.folder else None,
        }
        return replace(Settings.from_environment(ROOT), **{name: value for name, value in given.items() if value})
