"""Fold engines: apply a snapshot's events to states, as described by a task that is plain data.

A `FoldTask` names objects, ranges of offsets, columns, the stores to fold and the states to start from. It can be
written as JSON and run in another process that has the same declarations. `LocalEngine` runs it in this process with
threads; any other engine must give the same digests. `refold.stores.building` and `refold.proof.replay` decide which
snapshots are folded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from refold.dedup.deliveries import Deliveries
from refold.errors import FixInput
from refold.log.layout import SegmentFile
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot
from refold.storage.content import StoredObject
from refold.stores.checkpoint import Checkpoints, StateRecord
from refold.stores.declaration import Folded
from refold.stores.folding import FoldedPart, fold_unread
from refold.stores.state import State


@dataclass(frozen=True)
class StateRef:
    """A state by its digest, and by the objects that hold its rows.

    `base` is None where no object does: then the engine that folded up to it must have kept it.
    """

    digest: str
    base: StoredObject | None = None
    changes: StoredObject | None = None

    @classmethod
    def of(cls, record: StateRecord) -> StateRef:
        """The state of a record."""
        return cls(record.state_digest, record.base, record.changes)


@dataclass(frozen=True)
class StoreFold:
    """One store in a task, and the state to apply the events to; None before the first event."""

    store: str
    code_version: str
    declared: Mapping[str, Any]
    before: StateRef | None


@dataclass(frozen=True)
class FoldTask:
    """The events that one snapshot added to a log, to be applied to the states of some stores.

    Attributes:
        log, snapshot: their names, for messages.
        segments: the objects that hold the events, each with its range of offsets, by log partition and offset.
        columns: those that the folds read.
        deliveries: by log partition with events, ascending, the delivery of each event.
        stores: the folds.
        twice: whether what is interpreted is run twice, so that what is not deterministic is found.
    """

    log: str
    snapshot: str
    segments: Sequence[SegmentFile]
    columns: Sequence[str]
    deliveries: Sequence[Deliveries]
    stores: Sequence[StoreFold]
    twice: bool

    def to_json(self) -> dict[str, Any]:
        """As values that JSON has; of deliveries, the places and codes of those that are not the first."""
        repeats = [(len(each), np.flatnonzero(each)) for each in self.deliveries]
        sparse = [
            {"events": events, "places": places.tolist(), "codes": each[places].tolist()}
            for (events, places), each in zip(repeats, self.deliveries, strict=True)
        ]
        whole = {"log": self.log, "snapshot": self.snapshot, "columns": list(self.columns), "twice": self.twice}
        folds = [asdict(each) for each in self.stores]
        return {**whole, "segments": [asdict(each) for each in self.segments], "deliveries": sparse, "stores": folds}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FoldTask:
        """Read back what `to_json` wrote."""
        deliveries = []
        for each in value["deliveries"]:
            found = np.zeros(each["events"], dtype=np.uint8)
            found[each["places"]] = each["codes"]
            deliveries.append(found)
        segments = [SegmentFile.from_json(each) for each in value["segments"]]
        stores = [StoreFold(**{**each, "before": _ref(each["before"])}) for each in value["stores"]]
        return cls(**{**value, "segments": segments, "deliveries": deliveries, "stores": stores})


def _ref(value: Mapping[str, Any] | None) -> StateRef | None:
    if value is None:
        return None
    objects = {name: StoredObject(**value[name]) if value[name] else None for name in ("base", "changes")}
    return StateRef(value["digest"], **objects)


def describe_fold(
    reader: LogReader,
    snapshot: Snapshot,
    columns: Sequence[str],
    deliveries: Sequence[Deliveries],
    folds: Sequence[tuple[Folded, StateRef | None]],
    *,
    twice: bool = False,
) -> FoldTask:
    """Describe the fold of the events that a snapshot added.

    `columns` are at least those that the folds read, the same in all of a pass. Raises Damaged where the layout is.
    """
    stores = [StoreFold(store.name, store.code_version, store.declared, before) for store, before in folds]
    return FoldTask(reader.log.name, snapshot.key, reader.files(snapshot), columns, deliveries, stores, twice)


class FoldEngine(Protocol):
    """Runs tasks of one pass over a log, in the order of its snapshots."""

    def fold(self, task: FoldTask, states: Sequence[State]) -> list[FoldedPart]:
        """Apply the events of a task, in place, to the states that it starts from.

        Returns a result for each store, in the order of the task. Raises RuleError where a fold fails, Damaged and
        Conflict as reading does.
        """


Engines = Callable[[LogReader], FoldEngine]
"""Makes an engine for one pass over the log of a reader."""


class LocalEngine:
    """Folds in this process; see `refold.stores.folding.fold_unread`."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    def fold(self, task: FoldTask, states: Sequence[State]) -> list[FoldedPart]:
        """Read each segment once for all stores, a thread for each log partition."""
        unread = self._reader.unread(self._reader.snapshot(task.snapshot), task.columns, task.segments)
        return fold_unread(states, unread, task.deliveries, twice=task.twice)


def states_of(
    task: FoldTask, store_of: Callable[[str], Folded], checkpoints: Checkpoints, kept: Callable[[Folded, str], State]
) -> list[State]:
    """The states that a task starts from, read by a process that holds none of them.

    `store_of` gives the declaration of a store by name, `kept` the state of a store by a digest that no object holds.

    Raises FixInput where a declaration has another code version than the task, and Damaged where an object is.
    """
    states = []
    for each in task.stores:
        store = store_of(each.store)
        if store.code_version != each.code_version:
            raise FixInput(
                f"Store {each.store!r} differs here from the declaration its task was made with: expected code "
                f"version {each.code_version}, found {store.code_version}.",
                remedy="Run the task with the declarations it was described with.",
            )
        states.append(_state_of(store, each.before, checkpoints, kept))
    return states


def _state_of(
    store: Folded, ref: StateRef | None, checkpoints: Checkpoints, kept: Callable[[Folded, str], State]
) -> State:
    if ref is None:
        return State(store)
    if ref.base is None:
        return kept(store, ref.digest)
    record = StateRecord(store.name, store.code_version, "", ref.digest, "", 0, {}, ref.base, ref.changes, 0, None)
    return checkpoints.state(store, record)
