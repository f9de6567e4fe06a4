"""What becomes of one event: the five outcomes, and the two answers by which a rule changes nothing.

Here live the words alone. Which events are duplicates or conflicts is settled by the log before a rule sees them;
`refold.rules.rule` turns a rule's answers into outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Outcomes = npt.NDArray[np.uint8]

NOT_FOLDED = 255
"""The outcome of an event that never reached the rule; whoever kept it away writes the real one."""


class Outcome(IntEnum):
    """What became of an event, as the ledger stores it in one byte."""

    APPLIED = 0
    DUPLICATE = 1
    CONFLICT = 2
    REJECTED = 3
    IGNORED = 4


@dataclass(frozen=True, slots=True)
class Rejection:
    """The answer of a rule that refuses an event; the row stays as it was."""

    reason: IntEnum


@dataclass(frozen=True, slots=True)
class Ignored:
    """The answer of a rule that an event does not concern; the row stays as it was."""


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

    `interpreted` says whether the interpreter folded any of the events.
    """

    rows: pa.Table
    outcomes: Outcomes
    reasons: Outcomes
    interpreted: bool = True
