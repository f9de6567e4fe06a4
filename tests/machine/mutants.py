"""Engines that are broken on purpose, each in one place: what the machine must notice, or it proves nothing.

Each mutant is a context manager; while it is entered, one function of the engine does something else. Their names say
what. `tests/machine/test_machine_notices.py` runs the machine against each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from refold.dedup.deliveries import Delivery
from refold.errors import Damaged, NotFound
from refold.log.snapshot import SnapshotChain, layout_bytes
from refold.proof.prover import Prover
from refold.release.pointer import Pointer
from refold.release.releaser import Releaser
from refold.release.retention import Pruner
from refold.repair import garbage as unreferenced
from refold.repair.served import ServedAudit
from refold.seal import deduplication
from refold.seal.seen_index import SeenIndex
from refold.storage.objects import ObjectInfo
from refold.storage.wrappers import WrapperStore
from refold.stores.building import Builder
from refold.stores.checkpoint import Checkpoints
from refold.stores.state import State
from tests.machine.shop import Shop

Mutant = Callable[[], AbstractContextManager[Any]]


def _instead(target: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Any:
    """Replace a function or method by what `make` makes of it."""
    return mock.patch.object(target, name, make(getattr(target, name)))


@contextmanager
def late_events_are_not_deduplicated() -> Iterator[None]:
    """An event of an object that came late passes for a first delivery."""
    heads: list[str] = []

    def remember(deduplicate: Callable[..., Any]) -> Callable[..., Any]:
        def mutant(self: Any, *arguments: Any) -> Any:
            heads.append(self._chain.head.key if self._chain.head else "")
            return deduplicate(self, *arguments)

        return mutant

    def forget(deliver: Callable[..., Any]) -> Callable[..., Any]:
        def mutant(log: Any, run: Any, earlier: Any, rows_at: Any, fetch: Any) -> Any:
            deliveries, firsts = deliver(log, run, earlier, rows_at, fetch)
            names = rows_at(np.arange(len(run)))["source_object"].to_pylist()
            for row, day in enumerate(name.split("/")[1].removeprefix("dt=") for name in names):
                if day <= heads[-1]:
                    deliveries[row], firsts[row] = Delivery.FIRST, run.seqs[row]
            return deliveries, firsts

        return mutant

    with (
        _instead(deduplication.Deduplication, "found", remember),
        _instead(deduplication, "seal_deliveries", forget),
    ):
        yield


def the_seen_index_knows_the_newest_ids_only() -> Any:
    """Ids are looked for among those of one snapshot."""

    def make(add: Callable[..., Any]) -> Callable[..., Any]:
        def mutant(self: SeenIndex, run: Any, seq_end: int, since: int = 0) -> None:
            self._runs.clear()
            self._end = 0
            add(self, run, seq_end, since)

        return mutant

    return _instead(SeenIndex, "add", make)


def a_conflict_is_taken_for_a_duplicate() -> Any:
    """The same id with other content is stored as a duplicate."""

    def make(deliver: Callable[..., Any]) -> Callable[..., Any]:
        def mutant(*arguments: Any) -> Any:
            deliveries, firsts = deliver(*arguments)
            deliveries[deliveries == Delivery.CONFLICT] = Delivery.DUPLICATE
            return deliveries, firsts

        return mutant

    return _instead(deduplication, "seal_deliveries", make)


class _Unsorted(WrapperStore):
    def list(self, prefix: str = "") -> list[ObjectInfo]:
        return [*self.scan(prefix)]


def objects_are_sealed_in_the_order_they_are_listed() -> Any:
    """The order of names is left to the store."""
    return mock.patch.object(Shop, "wrap", _Unsorted)


def the_manifest_is_written_before_its_layout() -> Any:
    """A crash in between leaves a snapshot of which nobody knows what holds it."""

    def create(self: SnapshotChain, snapshot: Any, layout: Any) -> None:
        self._objects.create(snapshot.name, snapshot.to_bytes())
        name = f"layouts/{snapshot.key}-{snapshot.sha256[:16]}/{0:08d}.json"
        self._objects.put(name, layout_bytes(snapshot, 0, layout))
        self._append(snapshot)
        self._layouts[snapshot.key] = dict(layout)

    return mock.patch.object(SnapshotChain, "create", create)


def a_build_resumes_one_snapshot_too_late() -> Any:
    """The first snapshot after a checkpoint is left out."""

    def make(resume: Callable[..., Any]) -> Callable[..., Any]:
        def mutant(self: Builder, store: Any, snapshots: Any) -> Any:
            run = resume(self, store, snapshots)
            if run.record is not None and run.done + 1 < len(snapshots):
                run.done += 1
            return run

        return mutant

    return _instead(Builder, "_resume", make)


class _Trusting(WrapperStore):
    def get_checked(self, name: str, sha256: str) -> bytes:
        if not name.startswith("states/"):
            return super().get_checked(name, sha256)
        try:
            return self.get(name)
        except NotFound as error:
            raise Damaged(str(error)) from error


@contextmanager
def checkpoints_are_trusted_blindly() -> Iterator[None]:
    """Neither the bytes nor the rows of a checkpoint are checked."""
    with mock.patch.object(Shop, "wrap", _Trusting), mock.patch.object(Checkpoints, "require_digest", lambda *_: None):
        yield


def changes_lose_a_row() -> Any:
    """Of the rows that changed since a base, the last is not stored."""

    def make(changed: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self: changed(self).slice(1)

    return _instead(State, "changed", make)


def what_is_not_proven_is_published() -> Any:
    """A record is enough; no proof of it is asked for."""

    def require(self: Prover, store: Any, snapshot: Any) -> Any:
        record = self._builder.require(store, snapshot)
        found = self.proofs.find(record.claim)
        return record, found[0] if found else f"proofs/{store.name}/none/none.json"

    return mock.patch.object(Prover, "require", require)


def one_view_stays_behind() -> Any:
    """Sinks are rolled forward, the first of each kind alone."""

    def make(moves: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, release: [(sink, each[:1]) for sink, each in moves(self, release)]

    return _instead(Releaser, "_moves", make)


def a_killed_release_is_not_rolled_forward() -> Any:
    """Sinks are moved only by whoever moved the pointer."""

    def make(move: Callable[..., Any]) -> Callable[..., Any]:
        def mutant(self: Pointer, wanted: Any) -> Any:
            self.just_moved = True  # type: ignore[attr-defined]
            return move(self, wanted)

        return mutant

    def roll(roll_forward: Callable[..., Any]) -> Callable[..., Any]:
        def mutant(self: Releaser) -> None:
            if vars(self.pointer).pop("just_moved", False):
                roll_forward(self)

        return mutant

    def left(_: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *_: None  # a rebuild would publish again what is served wrongly

    moved, rolled = _instead(Pointer, "move", make), _instead(Releaser, "roll_forward", roll)
    return _both(_both(moved, rolled), _instead(ServedAudit, "repair", left))


@contextmanager
def _both(one: Any, other: Any) -> Iterator[None]:
    with one, other:
        yield


def a_rollback_is_undone_by_the_next_run() -> Any:
    """A rollback does not remember what it left."""

    def make(restored: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, old, current: replace(restored(self, old, current), rolled_back_from=None)

    return _instead(Releaser, "_restored", make)


def a_prune_keeps_what_is_served_and_no_more() -> Any:
    """However many releases are to be kept, one is."""

    def make(judge: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, *arguments, **more: judge(self, *arguments[:4], 1, *arguments[5:], **more)

    return _instead(Pruner, "_judge", make)


def a_prune_removes_ledger_parts() -> Any:
    """Ledger parts pass for objects that no record names."""

    def make(is_named: Callable[..., Any]) -> Callable[..., Any]:
        return lambda kind, info, named: kind != "ledger part" and is_named(kind, info, named)

    return _instead(unreferenced, "_is_named", make)


def a_thinned_checkpoint_forgets_its_ledger() -> Any:
    """Giving up rows gives up the ledger part, too."""

    def thin(self: Checkpoints, record: Any) -> Any:
        return self._record(replace(record, base=None, changes=None, changes_since_base=0, ledger=None))

    return mock.patch.object(Checkpoints, "thin", thin)


MUTANTS: dict[str, Mutant] = {
    mutant.__name__: mutant
    for mutant in (
        late_events_are_not_deduplicated,
        the_seen_index_knows_the_newest_ids_only,
        a_conflict_is_taken_for_a_duplicate,
        objects_are_sealed_in_the_order_they_are_listed,
        the_manifest_is_written_before_its_layout,
        a_build_resumes_one_snapshot_too_late,
        checkpoints_are_trusted_blindly,
        changes_lose_a_row,
        what_is_not_proven_is_published,
        one_view_stays_behind,
        a_killed_release_is_not_rolled_forward,
        a_rollback_is_undone_by_the_next_run,
        a_prune_keeps_what_is_served_and_no_more,
        a_prune_removes_ledger_parts,
        a_thinned_checkpoint_forgets_its_ledger,
    )
}
