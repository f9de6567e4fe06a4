"""Drift: where state, ledger, sinks and full replay disagree, by object and cell, and rebuilding just that.

`refold.proof.prover` compares what is built with replay; this module adds what is published, and repairs both. The log
itself is never repaired: a damaged segment is named, and must be restored from a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from refold.log.snapshot import Snapshot
from refold.proof.picture import Picture
from refold.proof.prover import Difference, Prover, Verdict
from refold.repair.sink_audit import SinkAudit
from refold.sinks.base import Sink
from refold.stores.building import Builder
from refold.stores.declaration import Store


@dataclass(frozen=True)
class Drift:
    """What was found for one store at one snapshot: the verdict of replay, and per sink what differs from the state."""

    store: Store
    snapshot: Snapshot
    verdict: Verdict
    sinks: Sequence[tuple[Sink, Sequence[Difference]]]

    @property
    def differences(self) -> list[Difference]:
        """All differences, those of the state first."""
        return [*self.verdict.differences, *(d for _, found in self.sinks for d in found)]

    @property
    def picture(self) -> Picture:
        """Where in history and key space they lie, sinks included; empty where nothing differs."""
        spaces = [
            (f"keys in {sink.kind}/{sink.name}", sorted({bucket for each in found for bucket in each.buckets}))
            for sink, found in self.sinks
        ]
        drawn = self.verdict.picture
        return replace(drawn, spaces=[*drawn.spaces, *(space for space in spaces if space[1])])

    @property
    def remedy(self) -> str:
        """The remedy; "" where nothing differs."""
        if self.verdict.remedy or not self.differences:
            return self.verdict.remedy
        return (
            f"The state is sound. Run `refold repair {self.store.name} --as-of {self.snapshot.key}`: it publishes to "
            "the sinks that differ again, and reads them back."
        )


class Drifts:
    """Finds where stores and sinks have drifted from full replay, and repairs them."""

    def __init__(self, prover: Prover, builder: Builder, sinks: SinkAudit) -> None:
        self._prover = prover
        self._builder = builder
        self._sinks = sinks

    def find(self, store: Store, snapshot: Snapshot) -> Drift:
        """Verify a store against full replay, and its sinks against the store, where they hold that version.

        All events of its log are compared with the manifests.
        """
        verdict = self._prover.prove(store, snapshot, afresh=True)
        sinks = []
        if verdict.record is not None:
            sinks = [(sink, self._sinks.differences(store, sink, snapshot)) for sink in store.sinks]
        return Drift(store, snapshot, verdict, sinks)

    def repair(self, drift: Drift) -> Verdict:
        """Rebuild what differs and prove it: what is unsound of the store and its inputs, then the sinks that differ.

        A fold goes on from before the first snapshot that differs, never from what was found wrong; where that does
        not help, from offset 0. Returns the verdict afterwards; where it has not passed, the log or the rule is at
        fault and no sink was touched.
        """
        verdict = drift.verdict
        if not verdict.passed:
            for needed in drift.store.all_inputs:
                self._rebuild(self._prover.prove(needed, drift.snapshot))
            verdict = self._rebuild(verdict)
        if verdict.passed:
            for sink, differences in drift.sinks:
                if differences:
                    self._sinks.repair(drift.store, sink, drift.snapshot)
        return verdict

    def _rebuild(self, verdict: Verdict) -> Verdict:
        """Rebuild one store where its verdict has not passed, and prove it again."""
        store, snapshot = verdict.store, verdict.snapshot
        if verdict.passed:
            return verdict
        if store.ledger is None:
            self._builder.build(store, snapshot, fresh=True)
            return self._prover.prove(store, snapshot)
        for trusted in dict.fromkeys([verdict.sound_through, 0]):
            for _ in self._builder.fold_history([store.ledger.store], snapshot, trusted=trusted):
                pass
            verdict = self._prover.prove(store, snapshot)
            if verdict.passed:
                break
        return verdict
