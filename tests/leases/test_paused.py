"""Two processes on a real S3 server and a real PostgreSQL; one is stopped past its lease and then goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from refold.storage.objects import ObjectStore
from tests.leases.pausing import pause_past_the_lease
from tests.s3 import KEYS, Proxy


@pytest.mark.parametrize("register", ["store", "database"])
def test_a_process_that_was_stopped_past_its_lease_writes_nothing(
    register: str, s3: Proxy, postgres: str, tmp_path: Path
):
    """One winner each round, no torn write, and the loser says who won."""
    store = f"s3://refold-tests/{tmp_path.name}"
    environ = {**KEYS, "AWS_REGION": "us-east-1", "AWS_ENDPOINT": s3.address, "AWS_ALLOW_HTTP": "true"}
    place = "store" if register == "store" else postgres
    told = pause_past_the_lease(ObjectStore.open(store), store, postgres, place, environ, rounds=3)
    assert told.rounds == 3
