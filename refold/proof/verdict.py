"""Verdicts: the result of a comparison with full replay, and the trail of small marks that it leaves.

`refold.proof.prover` reads and compares; `refold.proof.divergence` defines a divergence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from refold.log.snapshot import Snapshot
from refold.proof import picture
from refold.proof.divergence import Cause, Divergence, Mark, Replayed
from refold.proof.doubts import doubts
from refold.proof.picture import Picture
from refold.proof.replay import Boundary
from refold.storage.names import ObjectKind, folder_of
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Store


class Differs(StrEnum):
    """The kind of thing that differs from replay."""

    NOT_BUILT = "not-built"
    CODE_VERSION = "code-version"
    CHECKPOINT = "checkpoint"
    STATE = "state"
    LEDGER = "ledger"
    RULE = "rule"
    RELATION = "relation"
    INPUT = "input"
    SINK = "sink"
    RELEASE = "release"


@dataclass(frozen=True)
class Difference:
    """One way in which what is stored differs from replay.

    `buckets` are those of the digest tree in which two contents differ, for a picture; empty where that is not known.
    """

    what: Differs
    where: str
    expected: str
    found: str
    buckets: Sequence[int] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.what} at {self.where}: expected {self.expected}, found {self.found}"


_LASTING = (Differs.LEDGER, Differs.RULE)
"""What every later snapshot has as well."""


@dataclass(frozen=True)
class Verdict:
    """The result of verifying one store at one snapshot; passed where there is no difference.

    Attributes:
        replay: the digests that replay found, `state` and `ledger`.
        seconds: how long it took, for people.
        sound_through: how many snapshots, from the first on, have sound records that agree with replay.
        divergence: where a fold went wrong, if one did by the digests.
        picture: where in history and key space it differs; empty where nothing does.
        untaken: the branches of a rule that no event of the log took.
        rests_on: where replay went on from a proven state, what the proof says of that; see `ProofRecord`.
        partials: the objects that hold the partial aggregates of a relation, as the proof names them.
        last: whether the snapshot is the last of its replay, so that doubts are about the whole log.
    """

    store: Store
    snapshot: Snapshot
    record: StateRecord | None
    differences: Sequence[Difference]
    method: str
    events: int
    replay: Mapping[str, str] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)
    sound_through: int = 0
    divergence: Divergence | None = None
    picture: Picture = field(default=Picture(), repr=False)
    untaken: Sequence[int] = ()
    rests_on: Mapping[str, object] | None = None
    partials: Mapping[str, Mapping[str, str]] | None = None
    last: bool = False

    @property
    def passed(self) -> bool:
        """Whether state and ledger equal full replay."""
        return not self.differences and self.record is not None

    @property
    def doubts(self) -> list[str]:
        """Proven behaviour that may not be intended, each with its line; see `refold.proof.doubts`."""
        return doubts(self.store, self.record.outcomes, self.untaken) if self.record is not None and self.last else []

    @property
    def refutes(self) -> bool:
        """Whether the claim of the record is refuted, and not merely an object that holds its content damaged."""
        if self.record is None or self.passed:
            return False
        claimed = {"state": self.record.state_digest, "ledger": self.record.ledger_digest}
        unlike = bool(self.replay) and dict(self.replay) != claimed
        return unlike or any(
            d.what not in (Differs.CHECKPOINT, Differs.STATE, Differs.LEDGER) for d in self.differences
        )

    @property
    def remedy(self) -> str:
        """The remedy; "" where nothing differs."""
        return "" if self.passed else _remedy(self)


class Trail:
    """The comparison of one store with its replay, snapshot by snapshot: small marks, and what differed so far."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self.differences: list[list[Difference]] = []
        self.replayed: Replayed | None = None
        self.events = 0
        self.divergence: Divergence | None = None

    def add(self, mark: Mark, differences: Sequence[Difference], boundary: Boundary) -> None:
        """Take in the next snapshot; of the first that parts from replay, what replay found is kept."""
        self.marks.append(mark)
        self.differences.append(list(differences))
        self.events += len(boundary.part.outcomes)
        if self.replayed is None and (mark.state_parted or mark.ledger_parted):
            self.replayed = Replayed(boundary.part, boundary.state.table)

    def inherited(self) -> list[Difference]:
        """What every later snapshot inherits: its ledger continues theirs, and its rule is the same."""
        return [each for found in self.differences[:-1] for each in found if each.what in _LASTING]

    def every(self) -> list[Difference]:
        """All that differs in any snapshot, oldest first."""
        return [each for found in self.differences for each in found]

    @property
    def sound_through(self) -> int:
        """How many snapshots from the first on are sound."""
        return next((place for place, mark in enumerate(self.marks) if not mark.sound), len(self.marks))

    def history(self) -> list[tuple[str, str]]:
        """Every snapshot with its mark in a picture."""
        found = []
        for mark, differences in zip(self.marks, self.differences, strict=True):
            rows = mark.state_parted or any(d.what in (Differs.STATE, Differs.CHECKPOINT) for d in differences)
            outcomes = mark.ledger_parted or any(d.what in _LASTING for d in differences)
            shown = {(True, True): picture.BOTH, (True, False): picture.STATE, (False, True): picture.LEDGER}
            shown[(False, False)] = picture.NOT_BUILT if mark.record is None else picture.EQUAL
            found.append((mark.snapshot.key, shown[(rows, outcomes)]))
        return found


def _remedy(verdict: Verdict) -> str:
    kinds = {difference.what for difference in verdict.differences}
    cause = verdict.divergence.cause if verdict.divergence is not None else None
    store, key = verdict.store, verdict.snapshot.key
    mend = f"Run `refold repair {store.name} --as-of {key}`: "
    if Differs.RULE in kinds or cause is Cause.NOT_DETERMINISTIC:
        return "Correct the rule and raise its version; nothing that it computed can be proven."
    if kinds <= {Differs.NOT_BUILT}:
        return f"Build state/{store.name} for {key} first, with `refold rebuild --through {key}`."
    if Differs.RELATION in kinds:
        ties = ", ".join(store.takes_of_ties) or "its arithmetic"
        return (
            f"Correct the query, whose result depends on the order of rows: {ties}. Name columns that order every row."
        )
    if store.ledger is None:
        return f"{mend}it proves what {store.name} reads and computes it again."
    place = verdict.sound_through
    sound = f"the newest sound checkpoint of the first {place} snapshots" if place else "offset 0"
    text = f"{mend}it folds again from {sound}, and proves it."
    if cause is Cause.DEDUPLICATION:
        repeats = folder_of(ObjectKind.REPEATS, log=store.ledger.store.log.name)
        text += f" Where it differs again, restore {repeats} and {folder_of(ObjectKind.LAYOUT)}/ from a copy."
    return text
