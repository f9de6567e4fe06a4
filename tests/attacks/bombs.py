"""Seals landing objects that are made to take all memory or time, one log after the other, and says what it took.

A program of `test_landing_bombs`, run by itself so that its peak memory is that of sealing. Not a test.
"""

from __future__ import annotations

import gzip
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from refold.errors import RefusedLanding
from tests import shop
from tests.support import Shop

MIB = 1 << 20


def packed(piece: bytes, times: int) -> bytes:
    """A gzip of a piece repeated, of as many members."""
    return gzip.compress(piece, mtime=0) * times


def sparse(path: Path, size_bytes: int) -> None:
    """A file of zeros that takes no space."""
    with path.open("wb") as file:
        file.truncate(size_bytes)


BOMBS: dict[str, Callable[[Path], object]] = {
    "newlines.jsonl.gz": lambda path: path.write_bytes(packed(b"\n" * MIB, 1000)),
    "braces.jsonl.gz": lambda path: path.write_bytes(packed(b"{}\n" * 50_000, 100)),
    "crowded.jsonl.gz": lambda path: path.write_bytes(packed(b"{}" * 50_000, 100)),
    "plain.jsonl": lambda path: sparse(path, 3 << 30),
    "line.jsonl.gz": lambda path: path.write_bytes(packed(b"x" * MIB, 1000)),
    "plain-line.jsonl": lambda path: sparse(path, (1 << 30) - 1),
}


def outcomes(root: Path) -> Iterator[tuple[str, str, str, float, int]]:
    """For each bomb how its sealing was refused, CPU seconds of that, and the peak memory so far in MiB."""
    log = replace(shop.moves, quarantine=type(shop.moves.quarantine)())
    for name, write in BOMBS.items():
        house = Shop(root / name, shop.little({"on_hand": []}, moves=log))
        folder = house.landing / "moves" / f"dt={shop.DAYS[0]}"
        folder.mkdir(parents=True)
        write(folder / name)
        started = time.process_time()
        try:
            list(house.engine().sealing.seal())
        except RefusedLanding as error:
            kind, message = error.kind, str(error)
        else:
            kind, message = "sealed", ""
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        yield name, kind, message, time.process_time() - started, peak_mib


if __name__ == "__main__":
    json.dump(list(outcomes(Path(sys.argv[1]))), sys.stdout)
