"""Outcomes: what plans said and what came of them, on this machine, one line a run.

They lie in the user's cache folder, in a file for each kind of machine, version of Python and of Refold, since rates
of one say little of another. A line is appended whole, by one write, so that runs at once and a kill leave at most a
line that is passed over. Nothing here may fail a rebuild: what cannot be read or written is told and forgotten. Nothing
here reaches the store.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refold.base.parallel import cores
from refold.plan.rates import Observation
from refold.proof.records import library_versions
from refold.rules.kernel import cache_folder

_log = logging.getLogger("refold")
_FORMAT = 1
_READ_BYTES = 4 << 20
_CALIBRATED_WEIGHT = 0.25


@dataclass(frozen=True)
class Measured:
    """One step of a run: what it was said to take, and took, in seconds; of memory in MB."""

    name: str
    kind: str
    work: Mapping[str, float]
    predicted: float
    took: float | None


@dataclass(frozen=True)
class Outcome:
    """One run and what was said of it before.

    Attributes:
        via: `command`, `dagster` or `calibration`.
        at: when it ended, UTC.
        project, through: what was rebuilt.
        basis: what the rates came from, in words.
        predicted_seconds, seconds: of the whole.
        predicted_peak_mb, peak_mb: of the process; None where it was not seen, because it had been larger before.
        steps: the parts.
    """

    via: str
    at: str
    project: str
    through: str
    basis: str
    predicted_seconds: float
    seconds: float
    predicted_peak_mb: float
    peak_mb: float | None
    steps: Sequence[Measured]

    @property
    def error_percent(self) -> float:
        """How much longer it took than was said, in percent of what was said."""
        return 100 * (self.seconds / self.predicted_seconds - 1) if self.predicted_seconds else 0.0

    @property
    def observations(self) -> list[Observation]:
        """What rates are learnt from."""
        weight = _CALIBRATED_WEIGHT if self.via == "calibration" else 1.0
        return [Observation(s.kind, s.work, s.took, weight) for s in self.steps if s.took is not None]


def machine() -> str:
    """What decides on rates: system, processor, cores, versions."""
    versions = library_versions()
    python = ".".join(versions["python"].split(".")[:2])
    text = f"{versions['machine']}-{cores()}-cores-python-{python}-refold-{versions['refold']}"
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())


def outcomes_file() -> Path:
    """The file of this machine's outcomes; it need not exist. Raises RuntimeError where the user has no home."""
    return cache_folder() / "rates" / f"{machine()}.jsonl"


def record(outcome: Outcome) -> bool:
    """Append an outcome; returns whether it could be written. Where not, a warning says why."""
    text = json.dumps({"format": _FORMAT, **asdict(outcome)}, separators=(",", ":"), allow_nan=False)
    try:
        file = outcomes_file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"\n{text}\n".encode())  # one write, after a line that a kill may have left open
        finally:
            os.close(handle)
    except (OSError, RuntimeError) as error:
        _log.warning("What this run took could not be kept for later plans: %s.", error)
        return False
    return True


def read_outcomes() -> list[Outcome]:
    """The newest outcomes of this machine, oldest first; what cannot be read is told and left out."""
    try:
        with outcomes_file().open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _READ_BYTES))
            lines = file.read().split(b"\n")[1 if size > _READ_BYTES else 0 :]
    except FileNotFoundError:
        return []
    except (OSError, RuntimeError) as error:
        _log.warning("What earlier runs took could not be read: %s.", error)
        return []
    found = [_parse(line) for line in lines if line.strip()]
    sound = [outcome for outcome in found if outcome is not None]
    if len(sound) < len(found):
        _log.warning("%d of %d lines in %s are damaged and left out.", len(found) - len(sound), len(found), file.name)
    return sound


def _parse(line: bytes) -> Outcome | None:
    try:
        body: dict[str, Any] = json.loads(line)
        if body.pop("format") != _FORMAT:
            return None
        steps = [Measured(**step) for step in body.pop("steps")]
        outcome = Outcome(steps=steps, **body)
        numbers = [outcome.predicted_seconds, outcome.seconds, *(n for s in steps for n in s.work.values())]
        numbers += [s.took for s in steps if s.took is not None]
        return outcome if all(_sound(number) for number in numbers) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _sound(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < 1e15
