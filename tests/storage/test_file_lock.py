"""A lock between processes: waited for a while, given back also by a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from refold.errors import Unavailable
from refold.storage.file_lock import locked

HOLD = "import sys, time; from pathlib import Path; from refold.storage.file_lock import locked\n"
HOLD += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_held_lock_is_waited_for_named_and_free_after_a_kill(tmp_path: Path) -> None:
    """F6: the folder of a search index is locked by another process, which does not end."""
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match=rf"{path} has been locked .* more than 0.2 s"), locked(path, 0.2):
            pass
        holder.kill()
    with locked(path, 5):
        pass
