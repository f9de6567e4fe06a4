"""The example project of the cache, run as its README says, on a real server."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import redis
from click.testing import CliRunner, Result

from refold.cli.main import cli

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "price_cache"


def test_the_example_loses_its_cache_and_serves_it_again(valkey: str, tmp_path: Path):
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder)
    day = folder / ".refold" / "landing" / "price_changes" / "dt=2026-03-01"
    day.mkdir(parents=True)
    (day / "a.jsonl").write_text(json.dumps({"change_id": "c1", "product": "bolt", "price": "1.20"}) + "\n")

    def refold(*words: str) -> Result:
        environ = {"REFOLD_CONNECTION_CACHE": valkey}
        return CliRunner().invoke(cli, ["--project", str(folder), *words], env=environ)

    price_of = runpy.run_path(str(folder / "read_price.py"))["price_of"]
    done = refold("rebuild")
    assert done.exit_code == 0, done.output
    assert price_of("bolt", valkey) == "bolt costs 1.20"
    assert price_of("nut", valkey) == "nut has no price"
    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    assert price_of("bolt", valkey).startswith("ask the database: The cache prices in unix://")
    verified = refold("verify")
    assert verified.exit_code == 1 and "none that is whole" in verified.output, verified.output
    repaired = refold("repair")
    assert repaired.exit_code == 0, repaired.output
    assert price_of("bolt", valkey) == "bolt costs 1.20"
