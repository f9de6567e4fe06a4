"""All relations of a project through history: each from what is proven of it, or from offset 0.

Relations that go on from the same snapshot do so together, since they share their inputs. A relation goes on where it
and its inputs have rows there, and its partial aggregates were left there; the older results that are looked at again
have their bytes compared with their records, and their proofs looked for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from refold.errors import Damaged, Unproven
from refold.incremental.carried import Carried, carried_at, put_carried
from refold.incremental.history import Refused, RelationHistory
from refold.incremental.passes import Onset, Verdicts
from refold.log.snapshot import Snapshot
from refold.proof.prover import Prover
from refold.proof.standing import rests_on
from refold.proof.verdict import Verdict
from refold.storage.objects import ObjectStore
from refold.stores.building import Builder
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Store
from refold.stores.kinds.relation import Relation
from refold.stores.recheck import Course, Recheck

_log = logging.getLogger("refold")


@dataclass(frozen=True)
class Relating:
    """Builds and proves the relations of a project, as far as `recheck` wants: all from offset 0 where it is None."""

    objects: ObjectStore
    builder: Builder
    prover: Prover
    recheck: Recheck | None

    def verdicts(
        self, relations: Sequence[Store], snapshots: Sequence[Snapshot], refused: Refused | None
    ) -> Iterator[tuple[Snapshot, Verdicts]]:
        """The verdicts at the snapshots that are looked at, oldest first for relations that go on together."""
        through, recheck = snapshots[-1], self.recheck
        if recheck is None:
            yield from RelationHistory(self.builder, self.prover, relations, through, refused).verdicts(snapshots)
            return
        keep = partial(put_carried, self.objects) if through.ordinal > recheck.snapshots else None
        standing, courses, known = Verdicts(), dict[str, Course](), dict[str, Carried]()
        for relation in relations:
            course, known[relation.name] = self._course(relation, snapshots, recheck)
            new = min([course.new, *(courses[each.name].new for each in relation.inputs if each.name in courses)])
            courses[relation.name] = course if new == course.new else replace(course, new=new, proven=new)
            if new and courses[relation.name].proven == len(snapshots):
                rests = rests_on(course, snapshots, recheck)
                standing[relation.name] = self._standing(relation, through, rests)
        if standing:
            yield through, standing
        for new in sorted({course.new for course in courses.values()}, reverse=True):  # what is read goes on later
            mine = [each for each in relations if each.name not in standing and courses[each.name].new == new]
            rested = {each.name: rests_on(courses[each.name], snapshots, recheck) for each in mine if new}
            here = keep is not None and any(new or courses[each.name].proven == len(snapshots) for each in mine)
            after = Onset(snapshots[new - 1], known) if new else None
            history = RelationHistory(self.builder, self.prover, mine, through, refused, after=after, rests_on=rested,
                                      keep=keep, here=here)  # fmt: skip
            yield from history.verdicts(snapshots[new:]) if mine else ()

    def _standing(self, relation: Store, snapshot: Snapshot, rests: Mapping[str, object]) -> Verdict:
        """The verdict on a relation whose proof stands at the end of history, where it is kept as well."""
        record, name = self.prover.require(relation, snapshot)
        proof = self.prover.proofs.sound(record.claim)
        partials = next((each.partials for _, each in proof if each.partials), None)
        verdict = Verdict(relation, snapshot, record, [], f"its proof {name} stands", 0,
                          {"state": record.state_digest, "ledger": ""}, rests_on=rests, partials=partials)  # fmt: skip
        return self.prover.settle(verdict, time.perf_counter(), here=True)

    def _course(self, relation: Store, snapshots: Sequence[Snapshot], recheck: Recheck) -> tuple[Course, Carried]:
        """What of a relation to look at, and its partial aggregates where it goes on."""
        course = self.prover.course(relation, snapshots[-1], recheck)
        if not course.whole:
            try:
                for place in course.again:
                    self._look_at(relation, snapshots[place])
                if course.proven == len(snapshots):
                    record = self._look_at(relation, snapshots[-1])
                    self.builder.checkpoints.rows(record, relation.columns, relation.key)
                    return course, {}
                carried = self._carried(relation, snapshots[course.new - 1])
            except (Damaged, Unproven) as error:
                _log.warning("%s Proving relation %r from offset 0.", error, relation.name)
            else:
                if carried is not None:
                    return course, carried
        return Course(0, range(0), course.proven, len(snapshots)), {}

    def _look_at(self, relation: Store, snapshot: Snapshot) -> StateRecord:
        """Compare the bytes of a result with its record, and look for its proof. Raises Damaged, Unproven."""
        record, _ = self.prover.require(relation, snapshot)
        self.builder.checkpoints.require_sound(record)
        return record

    def _carried(self, relation: Store, snapshot: Snapshot) -> Carried | None:
        """The partial aggregates that a relation goes on with; None where they or rows that it needs are missing."""
        needed = [self.builder.require(each, snapshot) for each in (relation, *relation.inputs)]
        if any(record.thinned for record in needed):
            return None
        if not isinstance(relation, Relation) or not relation.is_maintained:
            return {}
        return carried_at(self.objects, self.builder, self.prover.proofs, relation, snapshot)
