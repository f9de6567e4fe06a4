"""Object storage: where somebody else's tool lands files, and where Refold keeps logs, states and proofs."""

from dagster import ConfigurableResource
from pydantic import Field


class ObjectStorage(ConfigurableResource):
    """Two places behind URLs or paths."""

    landing_url: str | None = Field(None, description="Landing; by default REFOLD_LANDING.")
    store_url: str | None = Field(None, description="Logs, states, proofs, release pointer; by default REFOLD_STORE.")
