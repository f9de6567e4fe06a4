"""Where Arrow takes its memory from is the engine's choice, unless the environment made one."""

from __future__ import annotations

import subprocess
import sys

import pytest

OPEN_AN_ENGINE = """
import datetime as dt
import sys
from pathlib import Path
import pyarrow as pa
from assets import PROJECT
from refold.config import Settings
from refold.engine import Engine
Engine(PROJECT, Settings.from_environment(Path(sys.argv[1]), {}), now=dt.datetime.now(dt.UTC))
print(pa.default_memory_pool().backend_name)
"""


@pytest.mark.parametrize(("chosen", "expected"), [(None, "system"), ("mimalloc", "mimalloc"), ("system", "system")])
def test_an_engine_shares_its_allocator_unless_the_environment_chose(tmp_path, monkeypatch, chosen, expected):
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    if chosen is not None:
        monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", chosen)
    command = [sys.executable, "-c", OPEN_AN_ENGINE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == [expected]
