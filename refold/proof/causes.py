"""Why stored and replayed part: from the evidence to a cause, in words.

`refold.proof.locate` finds the event and calls `cause_of`; `refold.proof.refolded` holds the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from refold.dedup.deliveries import Deliveries, Delivery
from refold.errors import Damaged
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot
from refold.proof.divergence import Cause, Divergence, Mark, place_of
from refold.proof.refolded import Refolded
from refold.proof.slips import Slip
from refold.stores.folding import NOT_ALLOWED


@dataclass(frozen=True)
class Blamed:
    """The slip that explains the first wrong event, and whether a key without events differs: the fold began wrong."""

    slip: Slip | None
    untouched: bool


def repeats_fault(reader: LogReader, snapshot: Snapshot, events: pa.Table, deliveries: Deliveries) -> str:
    """The fault of the deduplication stored at sealing; "" where it agrees with the ids."""
    stored = np.zeros(len(events), dtype=np.uint8)
    try:
        repeats = reader.repeats(snapshot)
    except Damaged as error:
        return f"The deduplication that sealing stored cannot be used: {error}"
    if repeats is not None:
        places = pc.index_in(repeats["log_seq"].combine_chunks(), value_set=events["log_seq"].combine_chunks())
        here = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))  # others are in other log partitions
        stored[places.take(pa.array(here)).to_numpy()] = repeats["delivery"].to_numpy()[here]
    differ = np.flatnonzero(stored != deliveries)
    if len(differ) == 0:
        return ""
    place = int(differ[np.argmin(events["log_seq"].to_numpy()[differ])])
    says, ids = (Delivery(int(found[place])).name.lower() for found in (stored, deliveries))
    at = place_of(events.slice(place, 1).to_pylist()[0])
    return f"The deduplication that sealing stored calls the event at {at} {says}; by the ids it is {ids}."


_UNTOUCHED = (
    Cause.CHECKPOINT,
    (
        "The row of a key that has no event in this snapshot differs, so no event of it is to blame: the fold began "
        "from other rows than stored and replayed agree on (a bad checkpoint was resumed), or the checkpoint was "
        "changed later."
    ),
)


def cause_of(refolded: Refolded, mark: Mark, repeats: str, found: Divergence, blamed: Blamed) -> tuple[Cause, str]:
    """The cause of a divergence and the evidence for it.

    `repeats` is what is wrong with the stored deduplication; `found` has the first wrong event.
    """
    decided = _decided_elsewhere(refolded, mark, repeats)
    if decided is not None:
        return decided
    return _UNTOUCHED if blamed.untouched else _cause(found, blamed.slip)


def _decided_elsewhere(refolded: Refolded, mark: Mark, repeats: str) -> tuple[Cause, str] | None:
    """The cause and the evidence for it, where that does not lie in a row or an outcome."""
    record, part = mark.record, refolded.stored_part
    if record is not None and record.code_version != refolded.store.code_version:
        today = refolded.store.code_version
        return Cause.RULE, f"The stored record is by code version {record.code_version}, and today's is {today}."
    if repeats:
        return Cause.DEDUPLICATION, repeats
    if part is not None and len(part.outcomes) != len(refolded.events):
        return Cause.EVENTS, (
            f"The snapshot has {len(refolded.events)} events and the stored fold took {len(part.outcomes)}: events or "
            "a segment were lost or repeated."
        )
    return None


def _cause(found: Divergence, slip: Slip | None) -> tuple[Cause, str]:
    """The cause and the evidence for it, from the first wrong event."""
    same_outcome = found.stored_outcome == found.right_outcome
    named = {found.stored_outcome, found.right_outcome}
    if slip is Slip.REPEAT_TAKEN or (not same_outcome and named & {"duplicate", "conflict"}):
        return Cause.DEDUPLICATION, "The stored fold and the ids of the log disagree on whether this event came before."
    if slip is Slip.NO_ROW_BEFORE:
        return Cause.CHECKPOINT, f"The stored row follows if {slip.value}: a bad checkpoint was resumed."
    if slip is not None and same_outcome:
        return Cause.EVENTS, f"The stored row follows if {slip.value}: an event or a segment was lost or repeated."
    if not same_outcome or found.keys > 1:
        return Cause.RULE, (
            "Today's rule, run twice over the same events, gave replay's result both times, and what is stored was "
            "decided otherwise: the rule was changed without a version, in something that its fingerprint does not "
            f"cover, or it answered differently in another process. {NOT_ALLOWED}"
        )
    return Cause.ROW, (
        "All outcomes agree, and no lost or repeated event explains the row: a bad checkpoint was resumed, the "
        "checkpoint was changed later, or the rule answered differently in another process."
    )


def afterwards(marks: Sequence[Mark], place: int) -> str:
    """Its effect on later snapshots."""
    later = [mark for mark in marks[place + 1 :] if mark.record is not None]
    again = next((mark for mark in later if not (mark.state_parted or mark.ledger_parted)), None)
    if again is not None:
        return f"Snapshot {again.snapshot.key} agrees again."
    return "Every later snapshot went on from it." if later else ""
