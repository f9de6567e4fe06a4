"""This project's connections, as Dagster resources: object storage, database, search index, and the engine over them.

Nothing connects when this is imported. A field that is left out takes the environment's setting, or its default under
`.refold/` of the project root, when a run starts.
"""

from resources.database import Database
from resources.engine import RefoldEngine
from resources.object_store import ObjectStorage
from resources.search_index import SearchIndex

__all__ = ["Database", "ObjectStorage", "RefoldEngine", "SearchIndex"]
