"""The database that SQL sinks publish to."""

from dagster import ConfigurableResource
from pydantic import Field


class Database(ConfigurableResource):
    """A SQLAlchemy URL. Leave it to the environment where it holds a password, since Dagster shows configuration."""

    url: str | None = Field(None, description="SQLAlchemy URL; by default REFOLD_DATABASE.")
