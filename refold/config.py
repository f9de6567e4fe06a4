"""Where things are: the three settings that the environment may give, the same for Dagster and the command line.

Read only when work starts, never while definitions are imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refold.storage import local_path, mask_url


@dataclass(frozen=True)
class Settings:
    """The places of one project.

    Attributes:
        landing: URL or path of the folder with one folder per log.
        store: URL or path where logs, states, proofs and the release pointer are kept.
        database: SQLAlchemy URL of the database for SQL sinks.
        search_folder: local folder of the search indexes.
    """

    landing: str
    store: str
    database: str
    search_folder: Path

    @classmethod
    def from_environment(cls, root: Path, environ: Mapping[str, str] | None = None) -> Settings:
        """REFOLD_LANDING, REFOLD_STORE and REFOLD_DATABASE, with defaults under `.refold/` of the project root.

        Search indexes lie inside a local store, and inside `.refold/` where the store is remote.

        Raises:
            FixInput: REFOLD_STORE is the URL of a folder that cannot be one of this machine.
        """
        environ = os.environ if environ is None else environ
        home = root.resolve() / ".refold"
        store = environ.get("REFOLD_STORE") or str(home / "store")
        folder = local_path(store) or home
        return cls(
            landing=environ.get("REFOLD_LANDING") or str(home / "landing"),
            store=store,
            database=environ.get("REFOLD_DATABASE") or f"sqlite:///{home / 'refold.db'}",
            search_folder=folder / "search",
        )

    def shown(self) -> dict[str, str]:
        """The settings with secrets masked, for people."""
        return {"landing": mask_url(self.landing), "store": mask_url(self.store), "database": mask_url(self.database)}
