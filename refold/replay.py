"""Full replay: fold a log from offset 0, with no checkpoint and no stored deduplication, and say what is there.

One pass over the events yields state and ledger at every snapshot boundary. Duplicates are found from the ids alone.
Every rule is run twice over the same rows and events, so that one that is not deterministic is found even where what
is stored happens to agree; by it a compiled fold takes a fifth longer, an interpreted one twice as long.
What is done with the result, comparing it with what was built, is `refold.proof`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from refold.errors import NotDeterministic
from refold.log.declaration import Log
from refold.log.repeats import Deliveries
from refold.log.rereading import Rereader
from refold.log.segment import LogReader, Part
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.memory import limit_bytes
from refold.storage import ObjectStore
from refold.stores.declaration import Folded
from refold.stores.folding import columns_to_read, fold_parts
from refold.stores.ledger import EMPTY_DIGEST, NO_EVENTS, LedgerPart
from refold.stores.state import State


@dataclass(frozen=True)
class Boundary:
    """What replay found for one store at one snapshot. `state` goes on changing; read it before the next boundary.

    `part` holds the outcomes of the snapshot's events, `outcomes` how many there were of each from offset 0.
    `unstable` says, as a sentence, that the rule gave two results for the same events; "" where it did not.
    """

    store: Folded
    state: State
    state_digest: str
    ledger_digest: str
    outcomes: Mapping[str, int]
    part: LedgerPart
    parts: Sequence[Part]
    unstable: str = ""


def replay(
    objects: ObjectStore,
    chain: SnapshotChain,
    log: Log,
    stores: Sequence[Folded],
    through: Snapshot,
    memory_limit_mb: int | None = None,
) -> Iterator[tuple[Snapshot, Mapping[str, Boundary]]]:
    """Fold stores of one log from offset 0 through a snapshot; yields every boundary, oldest first, by store name.

    Of `memory_limit_mb` a quarter holds ids, and a quarter their hashes, before they are read again and spilled.

    Raises Damaged where a segment is, and RuleError where a rule fails.
    """
    snapshots = chain.through(through.key)
    columns = [name for store in stores for name in columns_to_read(store)]
    reader = LogReader(objects, chain, log)
    again = Rereader(objects, chain, reader, snapshots, columns, limit_bytes(memory_limit_mb) // 4)
    states = {store.name: State(store) for store in stores}
    ledgers = dict.fromkeys(states, EMPTY_DIGEST)
    outcomes = dict.fromkeys(states, NO_EVENTS.counts())
    for snapshot in snapshots:
        parts, deliveries = again.read(snapshot)
        found = {}
        for store in stores:
            part, unstable = _fold_twice(states[store.name], parts, deliveries)
            ledgers[store.name] = part.digest(ledgers[store.name], snapshot.cut(log.name))
            outcomes[store.name] = {name: n + outcomes[store.name][name] for name, n in part.counts().items()}
            state = states[store.name]
            found[store.name] = Boundary(
                store, state, state.digest(), ledgers[store.name], outcomes[store.name], part, parts, unstable
            )
        yield snapshot, found


def _fold_twice(state: State, parts: Sequence[Part], deliveries: Sequence[Deliveries]) -> tuple[LedgerPart, str]:
    unstable: list[NotDeterministic] = []
    part = fold_parts(state, parts, deliveries, unstable=unstable)
    return part, str(unstable[0]) if unstable else ""
