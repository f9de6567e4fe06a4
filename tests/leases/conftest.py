"""A register of every kind, and a real PostgreSQL and S3 for the tests that need one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from refold.leases.database_register import DatabaseRegister
from refold.leases.register import ObjectRegister, Register
from refold.storage.objects import ObjectStore
from tests.postgres import postgres, postgres_url
from tests.release.conftest import proven, published
from tests.s3 import s3, s3_address

__all__ = ["postgres", "postgres_url", "proven", "published", "s3", "s3_address"]

OpenRegister = Callable[[], Register]


@pytest.fixture(params=["folder", "sqlite", "postgres", "s3"])
def open_register(request: pytest.FixtureRequest, tmp_path: Path) -> OpenRegister:
    """Opens the same register again and again, as another process would."""
    if request.param == "folder":
        return lambda: ObjectRegister(ObjectStore.open(str(tmp_path / "store")))
    if request.param == "sqlite":
        return lambda: DatabaseRegister(f"sqlite:///{tmp_path / 'leases.db'}")
    if request.param == "postgres":
        url = request.getfixturevalue("postgres")
        return lambda: DatabaseRegister(url)
    request.getfixturevalue("s3")
    return lambda: ObjectRegister(ObjectStore.open(f"s3://refold-tests/{tmp_path.name}"))
