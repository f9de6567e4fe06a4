"""Records of runs: what a rebuild was predicted to take on this machine and what it took, one line per run.

They are kept in the user's cache folder, in a file for each kind of machine, Python version and Refold version, since
rates differ between them. A line is appended by one write, so runs at the same time or a kill leave at
most one line that cannot be read. Nothing here fails a rebuild: what cannot be read or written is logged as a warning.
Nothing here reaches the object store.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from refold.base.kernel_cache import cache_folder
from refold.base.parallel import cores
from refold.plan.rates import Measured
from refold.proof.records import library_versions
from refold.rebuild import StageKind

_log = logging.getLogger("refold")
_FORMAT = 2
_READ_BYTES = 4 << 20


class Via(StrEnum):
    """The program that ran a rebuild."""

    COMMAND = "command"
    DAGSTER = "dagster"


@dataclass(frozen=True)
class RunRecord:
    """One rebuild, with its prediction.

    Attributes:
        at: when it ended, UTC.
        project, through: what was rebuilt.
        basis: where the rates came from, in words.
        predicted_seconds, seconds: of the whole run.
        predicted_peak_mb, peak_mb: memory of the process; None where an earlier peak of the process hid it.
        stages: its parts.
    """

    via: Via
    at: str
    project: str
    through: str
    basis: str
    predicted_seconds: float
    seconds: float
    predicted_peak_mb: float
    peak_mb: float | None
    stages: Sequence[Measured]

    @property
    def error_percent(self) -> float:
        """How much longer it took than predicted, in percent of the prediction."""
        return 100 * (self.seconds / self.predicted_seconds - 1) if self.predicted_seconds else 0.0


def machine() -> str:
    """The machine that rates depend on: system, processor, cores, versions."""
    versions = library_versions()
    python = ".".join(versions["python"].split(".")[:2])
    text = f"{versions['machine']}-{cores()}-cores-python-{python}-refold-{versions['refold']}"
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())


def runs_file() -> Path:
    """The file of this machine's runs; it need not exist. Raises RuntimeError where the user has no home."""
    return cache_folder() / "runs" / f"{machine()}.jsonl"


def record(run: RunRecord) -> bool:
    """Append a run; returns whether it could be written, and logs a warning where not."""
    text = json.dumps({"format": _FORMAT, **asdict(run)}, separators=(",", ":"), allow_nan=False)
    try:
        file = runs_file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"\n{text}\n".encode())  # one write, after a line that a kill may have left open
        finally:
            os.close(handle)
    except (OSError, RuntimeError) as error:
        _log.warning("The run could not be recorded for later plans: %s.", error)
        return False
    return True


def read_runs() -> list[RunRecord]:
    """The newest runs of this machine, oldest first; lines that cannot be read are skipped with a warning."""
    try:
        with runs_file().open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _READ_BYTES))
            lines = file.read().split(b"\n")[1 if size > _READ_BYTES else 0 :]
    except FileNotFoundError:
        return []
    except (OSError, RuntimeError) as error:
        _log.warning("Recorded runs could not be read: %s.", error)
        return []
    found = [_parse(line) for line in lines if line.strip()]
    sound = [run for run in found if run is not None]
    if len(sound) < len(found):
        _log.warning(
            "%d of %d lines in %s are damaged or of another format, and skipped.",
            len(found) - len(sound),
            len(found),
            file.name,
        )
    return sound


def measured(body: dict[str, Any]) -> Measured:
    """A stage from its JSON object. Raises ValueError, TypeError or KeyError where it is not one."""
    return Measured(**{**body, "kind": StageKind(body["kind"])})


def _parse(line: bytes) -> RunRecord | None:
    try:
        body: dict[str, Any] = json.loads(line)
        if body.pop("format") != _FORMAT:
            return None
        stages = [measured(stage) for stage in body.pop("stages")]
        run = RunRecord(stages=stages, **{**body, "via": Via(body["via"])})
        numbers = [
            run.predicted_seconds,
            run.seconds,
            run.predicted_peak_mb,
            *(n for s in stages for n in s.work.values()),
        ]
        numbers += [number for number in (run.peak_mb, *(s.took for s in stages)) if number is not None]
        return run if all(_sound(number) for number in numbers) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _sound(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < 1e15
