"""Every exception Refold raises, grouped by what the caller should do about it.

Only the types are here; their messages are written where the facts are known. What outside text in them would do to
a terminal is escaped here. A message is a repair note: what was expected, what was found, where, and the next step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refold.base.outside import printable_lines


class RefoldError(Exception):
    """The base of all Refold errors; `kind` is a stable name for machines, `remedy` a sentence for people."""

    kind = "refold"

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(printable_lines(f"{message} {remedy}".rstrip() if remedy else message))
        self.remedy = remedy


class Retry(RefoldError):
    """The same call can succeed when it is repeated: a lost race, a store that did not answer."""

    kind = "retry"


class FixInput(RefoldError):
    """The landing, a declaration or a setting must change before it can work."""

    kind = "fix-input"


class Rebuild(RefoldError):
    """Stored data is damaged, missing or out of date; rebuilding it from the log repairs it."""

    kind = "rebuild"


class AccessDenied(FixInput):
    """Credentials or permissions do not allow what was asked; nothing says that the content is damaged or missing."""

    kind = "access-denied"


class NotFound(FixInput):
    """The requested store, key, snapshot or object does not exist."""

    kind = "not-found"


class DeclarationError(FixInput):
    """The declaration of a log, rule, store or sink cannot work; all its faults are listed."""

    kind = "declaration"

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        lines = "".join(f"\n  - {fault}" for fault in faults)
        super().__init__(f"{where} cannot be used as declared:{lines}")
        self.faults = tuple(faults)


class RuleError(FixInput):
    """A rule failed on an event, or returned an impossible value; `event_index` is the event's place in the fold."""

    kind = "rule"

    def __init__(self, message: str, *, remedy: str = "", event_index: int | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.event_index = event_index


class EventRefused(RuleError):
    """A store that keeps values as events give them cannot take one as it is declared; `event_index` as above."""

    kind = "event-refused"


class SinkRefused(FixInput):
    """A sink could not follow a release, so nothing was released; `faults` say why, and `stores` of which stores."""

    kind = "sink-refused"

    def __init__(self, message: str, *, faults: Sequence[str], stores: Sequence[str], remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.faults, self.stores = tuple(faults), tuple(stores)


class NotDeterministic(RuleError):
    """A rule gave different results for the same rows and events."""

    kind = "not-deterministic"


class RefusedLanding(FixInput):
    """What has landed for a log cannot be sealed. The log stays where it ended; other logs are sealed without it."""

    kind = "refused-landing"


class UnreadableObject(RefusedLanding):
    """A landing object cannot be decoded, so its log was not sealed."""

    kind = "unreadable-object"


class ChangedObject(RefusedLanding):
    """The bytes of a landing object have changed since it was sealed."""

    kind = "changed-object"


class QuarantineLimit(RefusedLanding):
    """More than the log allows would be quarantined, so the log was not sealed; `reasons` counts the bad records."""

    kind = "quarantine-limit"

    def __init__(self, message: str, *, reasons: Mapping[str, int], remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = dict(reasons)


class ConflictLimit(RefusedLanding):
    """More deliveries than the log allows repeat an event id with other content, so the log was not sealed."""

    kind = "conflict-limit"


class UnsafeStore(FixInput):
    """An object store ignores the conditions of writes, so that processes would overwrite each other unnoticed."""

    kind = "unsafe-store"


class NotAnchored(FixInput):
    """The store is not what was anchored outside it: somebody replaced it, rolled it back, or released past Refold."""

    kind = "not-anchored"


class Conflict(Retry):
    """Another process wrote first: a conditional write found another version than it expected."""

    kind = "conflict"


class UnsettledObject(Retry):
    """A landing object is not what the listing said: it was changed, replaced or removed since."""

    kind = "unsettled-object"


class CommitUnknown(Retry):
    """The answer to a conditional write was lost, and the read-back failed too; the write may have happened or not."""

    kind = "commit-unknown"


class Unavailable(Retry):
    """A database or store did not answer, or a lock on it was not free in time."""

    kind = "unavailable"


class Fenced(Retry):
    """A lease was lost while this process held it, so that its writes are refused; the message names who has it."""

    kind = "fenced"


class Unproven(Rebuild):
    """A state without a passing proof of exactly its digest cannot be published or released."""

    kind = "unproven"


class Damaged(Rebuild):
    """The content of a stored object is not what its name or manifest says."""

    kind = "damaged"
