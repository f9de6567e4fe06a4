"""A process is killed before every request that publishing, releasing, dropping and withdrawing send to the cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.sinks.cache_killed import STAGES


def test_whoever_is_killed_leaves_the_old_or_the_new_and_the_next_run_completes_it(valkey: str):
    """Readers never find a mix, of one cache or of two; what was being built expires."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.sinks.cache_killed", valkey],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found.keys() == STAGES.keys()
    assert {stage: each["faults"] for stage, each in found.items()} == {stage: [] for stage in STAGES}
    assert min(each["kills"] for each in found.values()) >= 6
