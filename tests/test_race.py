"""The example of a race does what its documentation says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RACE = Path(__file__).parents[1] / "docs" / "examples" / "race" / "race.py"


def test_views_part_without_a_common_order_and_are_equal_with_the_log():
    done = subprocess.run([sys.executable, str(RACE)], capture_output=True, text=True, check=True)
    without, one, other = done.stdout.splitlines()
    assert without == "Without a common order: {'one': 10, 'other': 5}"
    assert one.removeprefix("With the log, one: ") == other.removeprefix("With the log, other: ")
    assert one.startswith("With the log, one: 10, digest ")
    assert one.endswith("{'a1': 'INSUFFICIENT_STOCK', 'b1': 'applied'}")
