"""Terminals and pipes whose encoding has no letter for what is shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_command_ends_in_any_encoding_as_it_would_elsewhere(tmp_path: Path, encoding: str):
    """What has no letter is escaped: a rebuild that has released must not fail at its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "refold", "--project", str(ROOT), "sample", str(tmp_path / "\u0141amp")],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    assert (done.returncode, b"\\u0141amp" in done.stdout) == (0, True)
