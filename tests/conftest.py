"""What all tests share: the data beside the repository."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

# Compiled rules and what rebuilds took are kept from one run of the tests to the next, and not among the user's own.
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parents[1] / ".pytest_cache" / "refold-cache")

# Tests write a gigabyte and wait for none of it where temporary files are kept in memory, and there is room.
MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= 4 << 30:
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None

pytest_plugins = ["tests.fixtures"]

settings.register_profile("refold", deadline=None)  # a first call compiles, and how long it takes is nobody's promise
settings.load_profile("refold")


LONGEST = (
    "tests/failpoints/test_killed_at_every_write.py",
    "tests/dagster/test_commands.py",
    "tests/test_second_project.py",
    "tests/dagster/test_ui.py",
    "tests/machine/test_machine_notices.py",
    "tests/engine/test_retail.py",
    "tests/machine/test_machine.py",
)
"""Files that take half a minute or more begin first, so that no process is left alone with one at the end."""

TOGETHER = dict.fromkeys(
    ("tests/dagster/test_commands.py", "tests/test_second_project.py", "tests/dagster/test_ui.py"), "commands"
)
"""Files for the same process: the first begins what the last would wait for."""


class _ByFile(LoadFileScheduling):
    """Gives a process whole files, and those that belong together one after the other."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """How `-n` shares out the tests."""
    return _ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests by file, the longest files first, for `--no-loadscope-reorder`."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data with independent expected answers, where it is kept beside the repository."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared test data is not beside the repository")
    return folder
