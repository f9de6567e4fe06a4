"""Seals a small day and then a large one with little memory, and says how much the process took after each.

A program of `test_large_snapshot`, run by itself so that its peak memory is that of sealing. Not a test.
"""

from __future__ import annotations

import gzip
import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

from refold.engine import Engine
from tests import shop
from tests.shop import DAYS
from tests.support import Shop


def lines(day: str, numbers: range) -> bytes:
    """Moves of many products, as JSON Lines of about 140 bytes each."""
    return "".join(
        f'{{"id":"{day} {n:064d}","product":"{n % 9973:032d}","quantity":{n % 9 + 1},"kind":"add"}}\n' for n in numbers
    ).encode()


def peak_mib() -> int:
    """The most memory that this process has had in RAM so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    house = Shop(Path(sys.argv[1]), shop.little({"on_hand": []}))
    settings = replace(house.settings, memory_limit_mb=16)
    peaks = []
    for day, events in zip(DAYS, (70_000, 500_000), strict=False):
        folder = house.landing / "moves" / f"dt={day}"
        folder.mkdir(parents=True)
        with (folder / "a.jsonl.gz").open("wb") as file:
            for start in range(0, events, 10_000):
                file.write(gzip.compress(lines(day, range(start, start + 10_000)), 1, mtime=0))
        list(Engine(house.project, settings, now=house.now).sealing.seal(day))
        peaks.append(peak_mib())
    json.dump(peaks, sys.stdout)
