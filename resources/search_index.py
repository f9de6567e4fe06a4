"""The local search indexes."""

from dagster import ConfigurableResource
from pydantic import Field


class SearchIndex(ConfigurableResource):
    """A local folder with one index per version."""

    folder: str | None = Field(None, description="Folder of the indexes; by default beside the store.")
