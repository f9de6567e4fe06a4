"""Rates: how many seconds the work of a stage takes on this machine.

`UNIT_SECONDS` holds what a unit of each kind of work took on one machine, measured once. On another machine, and for
the logs and stores of a project, recorded runs correct it: the estimate is multiplied by the median ratio of measured
to estimated seconds over the recorded stages that are most similar. Only arithmetic is here; `refold.plan.runs` keeps
the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from refold.rebuild import StageKind

UNIT_SECONDS: Mapping[StageKind, Mapping[str, float]] = {
    StageKind.SEAL: {"starts": 0.05, "keys": 8e-3, "objects": 2e-3, "events": 2e-6},
    StageKind.STRUCTURE: {"snapshots": 3.5e-3, "events": 6e-7},
    StageKind.FOLD: {"checked": 3e-5, "folds": 5e-3, "events": 3e-8, "interpreted": 5e-6, "rows": 4e-7,
                     "compiled": 0.3},
    StageKind.REPLAY: {"folds": 8.5e-3, "unproven": 3e-3, "events": 4e-7, "interpreted": 1e-5, "rows": 4e-7,
                       "compiled": 0.3},
    StageKind.RELATIONS: {"runs": 7e-3, "reads": 1.5e-3, "input_rows": 3e-8, "rows": 1e-6},
    StageKind.PUBLISH: {"sinks": 5e-3, "cells": 1e-7, "written": 3e-7},
    StageKind.EXPECTATIONS: {"imports": 1.6, "checks": 9e-3, "cells": 3e-7},
    StageKind.RELEASE: {"starts": 0.025, "sinks": 1e-3},
    StageKind.BOOKKEEPING: {"starts": 0.5, "events": 1.8e-3},
}  # fmt: skip
"""Seconds per unit of work by kind of stage."""

_SIMILAR = 3.0
"""A recorded stage is similar in size where its estimate is at most this many times larger or smaller."""

_NEWEST = 9
"""How many of the similar stages count, the newest first."""

_LEAST_SECONDS = 1e-3
"""Stages with a shorter estimate do not count."""


@dataclass(frozen=True)
class Measured:
    """A stage of a recorded run: its work, and the seconds that were predicted and measured; None where it did not run.

    Attributes:
        name: of the stage, such as `fold stock_events`.
        work: how many units of each kind of work it took, known once it was done.
    """

    name: str
    kind: StageKind
    work: Mapping[str, float]
    predicted: float
    took: float | None


def usual_seconds(kind: StageKind, work: Mapping[str, float]) -> float:
    """The seconds that some work takes by `UNIT_SECONDS`.

    >>> round(usual_seconds(StageKind.RELEASE, {"starts": 1, "sinks": 5}), 3)
    0.03
    """
    units = UNIT_SECONDS[kind]
    return sum(units.get(name, 0.0) * amount for name, amount in work.items())


@dataclass(frozen=True)
class _Ratio:
    name: str
    kind: StageKind
    usual: float
    ratio: float


class Rates:
    """The rates of this machine.

    >>> work = {"starts": 1, "sinks": 5}
    >>> twice_as_slow = [Measured("release", StageKind.RELEASE, work, 0.03, 0.06)]
    >>> round(Rates(twice_as_slow).seconds("release", StageKind.RELEASE, {"starts": 1, "sinks": 15}), 3)
    0.08

    Args:
        recorded: measured stages, the newest last.
    """

    def __init__(self, recorded: Iterable[Measured] = ()) -> None:
        found = []
        for stage in recorded:
            usual = usual_seconds(stage.kind, stage.work)
            if stage.took is not None and usual >= _LEAST_SECONDS:
                found.append(_Ratio(stage.name, stage.kind, usual, stage.took / usual))
        self._found: Sequence[_Ratio] = found[::-1]

    def seconds(self, name: str, kind: StageKind, work: Mapping[str, float]) -> float:
        """The seconds that a stage is expected to take; 0 where it has no work."""
        usual = usual_seconds(kind, work)
        return usual * self._ratio(name, kind, usual)

    def _ratio(self, name: str, kind: StageKind, usual: float) -> float:
        """The median over similar stages: of the same name and size, else the same kind and size, else the same kind.

        A kind that was never recorded is as slow as the others are.
        """
        same = [each for each in self._found if each.kind is kind]
        near = [each for each in same if usual / _SIMILAR <= each.usual <= usual * _SIMILAR]
        named = [each for each in near if each.name == name]
        similar = next((found for found in (named, near, same, self._found) if found), None)
        return median(each.ratio for each in similar[:_NEWEST]) if similar else 1.0
