"""The outcomes of an event, and the two answers with which a rule leaves the row unchanged.

This module only defines them. The log finds duplicates and conflicts before a rule sees an event; `refold.rules.rule`
turns a rule's answers into outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Outcomes = npt.NDArray[np.uint8]

NOT_FOLDED = 255
"""The outcome of an event that did not reach the rule; the caller, which kept it away, writes the real one."""


class Outcome(IntEnum):
    """The outcome of an event; the ledger stores the value in one byte."""

    APPLIED = 0
    DUPLICATE = 1
    CONFLICT = 2
    REJECTED = 3
    IGNORED = 4
    EXCLUDED = 5
    """A redaction put it aside: it is in no state and in no ledger that a relation reads."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rule's answer that refuses an event; the row is unchanged."""

    reason: IntEnum


@dataclass(frozen=True, slots=True)
class Ignored:
    """A rule's answer to an event that does not concern it; the row is unchanged."""


_IGNORED = Ignored()


def reject(reason: IntEnum) -> Rejection:
    """Refuse an event for a reason, an `IntEnum` member with a value from 1 to 255.

    >>> class Why(IntEnum):
    ...     INSUFFICIENT_STOCK = 1
    >>> reject(Why.INSUFFICIENT_STOCK).reason.name
    'INSUFFICIENT_STOCK'
    """
    return Rejection(reason)


def ignore() -> Ignored:
    """Leave the row as it is because the event does not concern it.

    >>> ignore() == ignore()
    True
    """
    return _IGNORED


@dataclass(frozen=True)
class FoldResult:
    """The rows after a fold, and per event its outcome (255 where it was not live) and reason (0 where none).

    `interpreted` says whether the interpreter folded any of the events. `taken` are the branches of a rule that the
    live events took, as bits; None where they were not counted.
    """

    rows: pa.Table
    outcomes: Outcomes
    reasons: Outcomes
    interpreted: bool = True
    taken: int | None = None
