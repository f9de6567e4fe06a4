"""Rates: how long a kind of work takes on this machine, learnt from what it took before.

A kind has one rate for each feature of its work: seconds an event, a row, a snapshot, and once. They are fitted to what
was observed, never below zero and robust against odd runs, and stay near the first rates where observations do not say
otherwise; so a single run already helps, and no number of equal runs makes the rest absurd. Memory is a kind as well,
in MB. What is observed, and what a plan was worth, is kept by `refold.plan.runs`; here is arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

ONCE, COLD = "once", "cold"
"""Features of every kind: each time it is done, and the first time in a process, which imports and loads."""

MEMORY = "memory"

_FOLDING = {
    "days": 2e-3,
    "read": 3e-7,
    "folds": 4e-3,
    "compiled": 6e-8,
    "interpreted": 4e-6,
    "latest": 4e-7,
    "rows": 1e-6,
    "state_rows": 1e-7,
    "loads": 0.05,
    "to_compile": 1.0,
}

FIRST: Mapping[str, Mapping[str, float]] = {
    "seal": {ONCE: 0.01, COLD: 0.8, "keys": 8e-3, "objects": 3e-3, "events": 6e-6, "bytes": 5e-9, "earlier": 3e-8},
    "fold": {ONCE: 5e-3, COLD: 0.2, **_FOLDING, "checked": 5e-4, "checked_rows": 8e-7},
    "replay": {ONCE: 5e-3, COLD: 0.1, **_FOLDING, "proofs": 1.5e-3},
    "relate": {ONCE: 5e-3, COLD: 0.1, "runs": 8e-3, "input_rows": 3e-8, "rows": 1e-6, "read": 2e-3,
               "ledger_events": 6e-7},
    "publish": {ONCE: 0.02, COLD: 0.1, "cells": 3e-7, "written": 8e-7, "versions": 0.03},
    "expect": {ONCE: 0.02, COLD: 3.5, "checks": 0.03, "cells": 3e-7},
    "release": {ONCE: 0.01, COLD: 0.01, "sinks": 0.01},
    "structure": {ONCE: 0.01, COLD: 0.02, "snapshots": 4e-3, "events": 6e-7},
    "dagster": {ONCE: 1.0, COLD: 0.5, "events": 8e-3},
    MEMORY: {ONCE: 20.0, COLD: 110.0, "expectations": 170.0, "largest": 12.0, "ids": 15.0, "states": 30.0,
             "ledgers": 150.0, "cells": 60.0, "sealing": 400.0},
}  # fmt: skip
"""Seconds a unit of each feature on the machine that this was written on; MB a million for memory."""

_TRUST_IN_FIRST = 0.02
"""How much a first rate counts beside one observation of relative error 1."""

_ODD = 0.3
"""A relative error beyond which an observation counts less."""

_LEAST = {MEMORY: 20.0}
_LEAST_SECONDS = 0.05
"""Errors are relative to what was observed, and to no less than this: a tenth of nothing is nothing."""

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """Some work of a kind, and what it took: seconds, or MB. `weight` is 1 for a run like any other."""

    kind: str
    work: Mapping[str, float]
    amount: float
    weight: float = 1.0


@dataclass(frozen=True)
class Rates:
    """Rates by kind and feature."""

    by_kind: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    speed: float = 1.0

    def predict(self, kind: str, work: Mapping[str, float]) -> float:
        """What some work of a kind takes: seconds, or MB for memory. 0 where there is no work.

        >>> round(Rates().predict("release", {"once": 1, "sinks": 2}), 3)
        0.03
        """
        rates = self.by_kind.get(kind) or {name: r * _scale(kind, self.speed) for name, r in first_of(kind).items()}
        return float(sum(rates.get(name, 0.0) * amount for name, amount in work.items()))


def first_of(kind: str) -> Mapping[str, float]:
    """The first rates of a kind; `publish Sql` is a kind of `publish`."""
    return FIRST.get(kind) or FIRST[kind.partition(" ")[0]]


def learn(observations: Iterable[Observation]) -> Rates:
    """Rates fitted to observations; the first rates, times how much slower this machine is, where there are none.

    >>> slow = [Observation("release", {"once": 1, "sinks": n}, 0.05 + n / 20) for n in (1, 5, 9, 20)]
    >>> round(learn(slow).predict("release", {"once": 1, "sinks": 40}), 1)
    2.0
    """
    by_kind: dict[str, list[Observation]] = {}
    for observed in observations:
        if observed.kind.partition(" ")[0] in FIRST:
            by_kind.setdefault(observed.kind, []).append(observed)
    speed = _speed([o for kind, found in by_kind.items() if kind != MEMORY for o in found])
    return Rates({kind: _fit(kind, found, speed) for kind, found in by_kind.items()}, speed)


def _speed(observations: Sequence[Observation]) -> float:
    """How many times longer things take here than by the first rates: the median, each weighted by what it took."""
    first = Rates()
    pairs = [(first.predict(o.kind, o.work), o) for o in observations if o.amount > _LEAST_SECONDS]
    ratios = sorted((o.amount / expected, o.amount * o.weight) for expected, o in pairs if expected > 0)
    if not ratios:
        return 1.0
    shares = np.cumsum([weight for _, weight in ratios])
    middle = int(np.searchsorted(shares, shares[-1] / 2))
    return float(np.clip(ratios[middle][0], 0.1, 20.0))


def _scale(kind: str, speed: float) -> float:
    return 1.0 if kind == MEMORY else speed


def _fit(kind: str, observations: Sequence[Observation], speed: float) -> dict[str, float]:
    first = {name: rate * _scale(kind, speed) for name, rate in first_of(kind).items()}
    names, prior = list(first), np.array(list(first.values()))
    work = np.array([[o.work.get(name, 0.0) for name in names] for o in observations])
    took = np.array([o.amount for o in observations])
    least = np.maximum(took, _LEAST.get(kind, _LEAST_SECONDS))
    weights = np.array([o.weight for o in observations])
    # In units of the first rates and of what was observed: all unknowns are about 1, all errors are shares.
    design, target = work * prior / least[:, None], took / least
    found = _not_negative(design, target, weights)
    for _ in range(20):
        errors = np.abs(design @ found - target)
        robust = weights * np.minimum(1.0, _ODD / np.maximum(errors, 1e-12))
        before, found = found, _not_negative(design, target, robust)
        if np.allclose(before, found, rtol=1e-4, atol=1e-6):
            break
    return dict(zip(names, (float(rate) for rate in found * prior), strict=True))


def _not_negative(design: Vector, target: Vector, weights: Vector) -> Vector:
    """The x of at least 0 with the least sum of weighted squared errors and distance from 1."""
    from scipy.optimize import nnls  # noqa: PLC0415  # 0.2 s, which only a plan need take

    width, heavy = design.shape[1], np.sqrt(weights)
    rows = np.vstack([design * heavy[:, None], np.sqrt(_TRUST_IN_FIRST) * np.eye(width)])
    return np.asarray(nnls(rows, np.concatenate([target * heavy, np.full(width, np.sqrt(_TRUST_IN_FIRST))]))[0])
