"""Every exception Refold raises, grouped by what the caller should do about it.

Here live the types alone; the sentences are written where the facts are known. Nothing comes before
this module. A message is a repair note: what was expected, what was found, where, and the next step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class RefoldError(Exception):
    """The base of all Refold errors; `kind` is a stable name for machines, `remedy` a sentence for people."""

    kind = "refold"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".rstrip() if remedy else message)
        self.remedy = remedy


class Retry(RefoldError):
    """Trying again, unchanged, can mend it: a lost race, a store that did not answer."""

    kind = "retry"


class FixInput(RefoldError):
    """The landing, a declaration or a setting must change before it can work."""

    kind = "fix-input"


class Rebuild(RefoldError):
    """Stored data is damaged, missing or out of date; rebuilding it from the log mends it."""

    kind = "rebuild"


class NotFound(FixInput):
    """A store, key, snapshot or object was asked for that does not exist."""

    kind = "not-found"


class DeclarationError(FixInput):
    """A log, rule, store or sink is declared in a way that cannot work; all faults are listed."""

    kind = "declaration"

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        lines = "".join(f"\n  - {fault}" for fault in faults)
        super().__init__(f"{where} cannot be used as declared:{lines}")
        self.faults = tuple(faults)


class RuleError(FixInput):
    """A rule raised or returned something impossible for one event; `event_index` is its place among those folded."""

    kind = "rule"

    def __init__(self, message: str, *, remedy: str = "", event_index: int | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.event_index = event_index


class NotDeterministic(RuleError):
    """A rule gave two results for the same rows and events."""

    kind = "not-deterministic"


class UnreadableObject(FixInput):
    """A landing object cannot be decoded at all, so nothing of its snapshot was sealed."""

    kind = "unreadable-object"


class ChangedObject(FixInput):
    """A landing object that was sealed now has other bytes."""

    kind = "changed-object"


class QuarantineLimit(FixInput):
    """More records than the log allows would be quarantined, so the snapshot was not sealed."""

    kind = "quarantine-limit"

    def __init__(self, message: str, *, reasons: Mapping[str, int], remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = dict(reasons)


class Conflict(Retry):
    """Somebody else wrote first: a conditional write found another version than it expected."""

    kind = "conflict"


class CommitUnknown(Retry):
    """A conditional write was not answered, and reading back what is stored failed too: it may be written or not."""

    kind = "commit-unknown"


class Unavailable(Retry):
    """A database or store did not answer, or a lock on it was not given in time."""

    kind = "unavailable"


class Unproven(Rebuild):
    """A state was to be published or released without a passing proof for exactly that digest."""

    kind = "unproven"


class Damaged(Rebuild):
    """A stored object does not hold what its name or manifest says it holds."""

    kind = "damaged"
