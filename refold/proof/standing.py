"""What of a store is proven already, and where a replay or a relation goes on from it.

A proof stands for its claim, whatever was sealed since; so the newest snapshot whose claim has a proof is looked for
from the end of history backwards. Proofs that were made with other versions of what a result could depend on are not
gone on from: everything is proven from offset 0 then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from refold.log.snapshot import Snapshot
from refold.proof.records import ProofRecord, ProofRecords, library_versions
from refold.proof.verdict import Verdict
from refold.stores.recheck import Course, Recheck


@dataclass(frozen=True)
class HistoryEnd:
    """What the proof of a relation says at the end of a history, so that the next rebuild goes on from it.

    `here` is whether one is written even where another snapshot has the same claim and a proof.
    """

    rests_on: Mapping[str, object] | None
    partials: Mapping[str, Mapping[str, str]]
    here: bool

    def of(self, verdict: Verdict) -> Verdict:
        """A verdict that says so."""
        return replace(verdict, rests_on=self.rests_on, partials=self.partials)


class Claimed(Protocol):
    """Something that has a claim: a state record, or a proof."""

    @property
    def claim(self) -> dict[str, str]:
        """What a proof must state, word for word."""


ClaimOf = Callable[[Snapshot], Claimed | None]


def course_of(
    proofs: ProofRecords, claim_of: ClaimOf, snapshots: Sequence[Snapshot], count: int, recheck: Recheck
) -> Course:
    """What of a store to look at in a history of `count` snapshots, of which these are sealed, oldest first.

    `claim_of` gives the store's claim at a snapshot, or None. Reads only as far back as nothing is proven.
    """
    places = {snapshot.key: place for place, snapshot in enumerate(snapshots)}
    for place in range(len(snapshots) - 1, -1, -1):
        claimed = claim_of(snapshots[place])
        found = [] if claimed is None else _of_today(proofs, claimed.claim, places)
        if found:
            newest = max(found, key=lambda proof: places[proof.snapshot])
            rests = newest.rests_on or {"turn": 0, "whole_at": places[newest.snapshot] + 1}
            return recheck.course(count, place + 1, rests["turn"], rests["whole_at"])
    return recheck.course(count, 0, 0, 0)


def _of_today(proofs: ProofRecords, claim: Mapping[str, str], places: Mapping[str, int]) -> list[ProofRecord]:
    """The sound proofs of a claim that were made with the versions of today, at one of some snapshots."""
    versions = dict(library_versions())
    return [proof for _, proof in proofs.listed(claim) if dict(proof.versions) == versions and proof.snapshot in places]


def rests_on(course: Course, snapshots: Sequence[Snapshot], recheck: Recheck) -> dict[str, object]:
    """What a proof that was gone on to says: from where, what was looked at again, and how often all is."""
    again = [snapshots[place].key for place in course.again[:1]] + [snapshots[place].key for place in course.again[-1:]]
    return {
        "snapshot": snapshots[course.new - 1].key,
        "again": again,
        "turn": course.again.stop,
        "whole_at": course.whole_at,
        "recheck": {"snapshots": recheck.snapshots, "whole_every": recheck.whole_every},
    }
