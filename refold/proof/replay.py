"""Full replay: folds a log from offset 0, without checkpoints and without stored deduplication.

A replay can also go on from proven states. Then `refold.proof.repeats_again` finds repeated ids by the seen index,
since finding them from the ids alone takes those of the whole log.

One pass over the events yields state and ledger at every snapshot boundary. Duplicates are found from the ids alone.
A rule that is interpreted is run twice over the same rows and events, so that one that is not deterministic is found
even where what is stored happens to agree; one that is compiled can do nothing but compute with what it is given.
`refold.proof.prover` compares the result with what was built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from refold.base.memory import limit_bytes
from refold.base.parallel import each
from refold.dedup.content_check import ContentCheck
from refold.dedup.deliveries import Deliveries
from refold.dedup.from_ids import declared
from refold.dedup.rereader import Rereader
from refold.log.declaration import Log
from refold.log.manifest import LogCut
from refold.log.reader import LogReader, UnreadPart
from refold.log.segment import ENCODED_EVENTS, encoded
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.proof.repeats_again import RepeatsAgain
from refold.storage.objects import ObjectStore
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Folded
from refold.stores.fold_engine import Engines, LocalEngine, StateRef, describe_fold
from refold.stores.folding import FoldedPart, columns_to_read, either_taken
from refold.stores.ledger import EMPTY_DIGEST, NO_EVENTS, LedgerPart
from refold.stores.state import State


@dataclass(frozen=True)
class Boundary:
    """The result of replay for one store at one snapshot. `state` goes on changing; read it before the next boundary.

    `part` holds the outcomes of the snapshot's events, which can be read as `unread`, with the columns a fold needs;
    `outcomes` counts each outcome from offset 0.
    `unstable` is a sentence where the rule gave two results for the same events; else "". `taken` are the branches of a
    rule that events have taken since offset 0, as bits; None where they were not counted.
    """

    store: Folded
    state: State
    state_digest: str
    ledger_digest: str
    outcomes: Mapping[str, int]
    part: LedgerPart
    unread: Sequence[UnreadPart]
    unstable: str = ""
    taken: int | None = None


@dataclass(frozen=True)
class Proven:
    """A proven state that replay goes on from, with its record and the branches taken by then, as bits."""

    store: Folded
    state: State
    record: StateRecord
    taken: int | None

    @property
    def boundary(self) -> Boundary:
        """The boundary that replay found there, without the events of its snapshot."""
        record = self.record
        digests = record.state_digest, record.ledger_digest
        return Boundary(self.store, self.state, *digests, record.outcomes, NO_EVENTS, (), taken=self.taken)


class _GoingOn:
    """The events of a log, compared with their manifests, with their deliveries found by the seen index."""

    def __init__(self, reader: LogReader, columns: Sequence[str], content: ContentCheck, repeats: RepeatsAgain) -> None:
        self._reader = reader
        self._repeats = repeats
        self._columns = columns
        self._content = content

    def read(self, snapshot: Snapshot) -> tuple[list[UnreadPart], list[Deliveries]]:
        """The parts of a snapshot, which read the given columns, and the deliveries of each. Raises Damaged."""
        if not self._content.remembers(snapshot):
            unread = self._reader.unread(snapshot, list(self._reader.log.columns))
            found = each(partial(self._digest, snapshot), unread, [len(part) for part in unread])
            self._content.require(snapshot, {part.partition: d for part, d in zip(unread, found, strict=True)})
        return self._reader.unread(snapshot, self._columns), self._repeats.deliveries(snapshot)

    def _digest(self, snapshot: Snapshot, unread: UnreadPart) -> str:
        log, digest = self._reader.log, hashlib.sha256()
        sealed = log.as_sealed(snapshot.cut(log.name).schema)
        for part in unread.pieces():
            for place in range(0, len(part), ENCODED_EVENTS):
                digest.update(encoded(sealed, declared(log, part.table.slice(place, ENCODED_EVENTS))).data.data)
        return digest.hexdigest()


def replay(
    objects: ObjectStore,
    chain: SnapshotChain,
    log: Log,
    stores: Sequence[Folded],
    through: Snapshot,
    memory_limit_mb: int | None = None,
    engines: Engines = LocalEngine,
    *,
    after: tuple[Snapshot, Mapping[str, Proven]] | None = None,
    trusting: bool = True,
) -> Iterator[tuple[Snapshot, Mapping[str, Boundary]]]:
    """Fold stores of one log from offset 0 through a snapshot; yields every boundary, oldest first, by store name.

    `after` is a snapshot to go on from, with the proven state of every store there, which are folded into.

    Of `memory_limit_mb` a quarter holds hashes of ids, half as much the events whose ids may be repeated, and as much
    again who repeats whom and contents, before they wait in temporary files; and an eighth the events of small
    snapshots. `trusting` takes from the store which
    events were compared with their manifests before; else all are compared.

    Raises Damaged where a segment is, and RuleError where a rule fails.
    """
    base, proven = after if after is not None else (None, dict[str, Proven]())
    snapshots = chain.through(through.key)[base.ordinal + 1 if base is not None else 0 :]
    columns = list(dict.fromkeys(name for store in stores for name in columns_to_read(store)))
    reader = LogReader(objects, chain, log)
    again: Rereader | _GoingOn = _GoingOn(
        reader, columns, ContentCheck(objects, chain, reader), RepeatsAgain(objects, chain, reader)
    )
    if base is None:
        memory = limit_bytes(memory_limit_mb) // 4
        again = Rereader(objects, chain, reader, snapshots, columns, memory, trusting=trusting)
    engine = engines(reader)
    states = [proven[store.name].state if store.name in proven else State(store) for store in stores]
    last = [proven[store.name].boundary if store.name in proven else None for store in stores]
    refs = [StateRef.of(proven[store.name].record) if store.name in proven else None for store in stores]
    for snapshot in snapshots:
        unread, deliveries = again.read(snapshot)
        task = describe_fold(reader, snapshot, columns, deliveries, list(zip(stores, refs, strict=True)), twice=True)
        folds, cut = engine.fold(task, states), snapshot.cut(log.name)
        found = [_boundary(*of_store, cut, unread) for of_store in zip(stores, states, last, folds, strict=True)]
        yield snapshot, {boundary.store.name: boundary for boundary in found}
        last, refs = [*found], [StateRef(boundary.state_digest) for boundary in found]


def _boundary(
    store: Folded,
    state: State,
    before: Boundary | None,
    fold: FoldedPart,
    cut: LogCut,
    unread: Sequence[UnreadPart],
) -> Boundary:
    """The boundary of a store after the fold of one more snapshot."""
    part, unstable, branches = fold
    ledger, outcomes = (before.ledger_digest, before.outcomes) if before else (EMPTY_DIGEST, NO_EVENTS.counts())
    taken = either_taken([before.taken if before else 0, branches])
    work: list[Callable[[], str]] = [state.digest, partial(part.digest, ledger, cut)]
    state_digest, ledger = each(lambda job: job(), work, [len(part.outcomes)] * len(work))
    sentence = str(unstable[0]) if unstable else ""
    return Boundary(store, state, state_digest, ledger, part.counted(outcomes), part, unread, sentence, taken)
