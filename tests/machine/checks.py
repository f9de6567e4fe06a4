"""What must hold of everything that is stored and served, whatever was done before: the machine's invariants.

An observer looks with a new engine, and where it can without one, at what changed since it looked last. Whatever is
found there must be what the plain model says, and what the reference and a full replay say:

- the log: manifests, segments, order, deduplication's outcomes;
- every record that can be read: its rows, ledger part and digests; and one that was damaged cannot be read;
- every proof: it claims what is true;
- every version in a sink, whole or not there; the views, which show one snapshot and never two;
- the pointer's series, and what is read through it.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from refold import open_release
from refold.engine import Engine
from refold.errors import Damaged, Unproven
from refold.log.reader import LogReader
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.proof.reference import ReferenceBoundary, bucket, encode_row, reference, tree_digest
from refold.proof.replay import replay
from refold.rules.outcome import Outcome
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Folded, Store
from tests.machine.model import Day, LogModel
from tests.machine.served import Served
from tests.machine.shop import INTERPRETED, SINKS, VIEWS, Shop, moves
from tests.machine.stored import Stored, place_of, records_of

_OBJECTS = re.compile(rb'"(states/[^"]+\.parquet)"')
_LOG = ("snapshots/", "layouts/", "logs/")
_SOURCE = ("log_offset", "log_seq", "source_object", "source_line")
_FOLDED: Sequence[Folded] = INTERPRETED.folded


class _Growing:
    """A chain that gets longer while the reference reads it, so that it folds every snapshot once."""

    def __init__(self) -> None:
        self.chain: SnapshotChain | None = None
        self._taken = 0

    def through(self, _: str) -> Iterator[Snapshot]:
        while True:
            assert self.chain is not None
            snapshot = list(self.chain)[self._taken]
            self._taken += 1
            yield snapshot

    def layout(self, snapshot: Snapshot, log: str) -> Any:
        assert self.chain is not None
        return self.chain.layout(snapshot, log)


class Observer(Stored):
    """Looks at a shop beside the machine.

    Attributes:
        sound: the records, by store and place of the snapshot, that were found whole and right.
        attested: the records, right in what they claim, that have a whole and fitting proof; their rows may be damaged.
    """

    def __init__(self, shop: Shop, log: LogModel) -> None:
        super().__init__(shop, log)
        self._listing: dict[str, str] = {}
        self._growing = _Growing()
        self._reference: Iterator[tuple[Snapshot, Mapping[str, ReferenceBoundary]]] | None = None
        self._boundaries: list[Mapping[str, ReferenceBoundary]] = []
        self._tallies: dict[int, str] = {}
        self._names: dict[tuple[str, int], frozenset[str]] = {}
        self._claims: dict[tuple[str, int], Mapping[str, str]] = {}
        self._versions: set[tuple[str, str]] = set()
        self._read: list[Served] = []
        self.sound: set[tuple[str, int]] = set()
        self.attested: set[tuple[str, int]] = set()

    def copy(self, shop: Shop, log: LogModel) -> Observer:
        """An observer of a copy of the shop, who knows what this one has seen."""
        other = Observer(shop, log)
        other._boundaries, other._tallies = list(self._boundaries), dict(self._tallies)
        other._names, other._claims = dict(self._names), dict(self._claims)
        other._versions, other._read = set(self._versions), list(self._read)
        other.sound, other.attested = set(self.sound), set(self.attested)
        other._listing = {info.name: info.e_tag for info in shop.engine().objects.list()}
        return other

    @property
    def proven(self) -> set[tuple[str, int]]:
        """The records that are sound and have a proof."""
        return self.sound & self.attested

    def damage(self, name: str, data: bytes | None) -> None:
        """Do damage, and look again at what it was done to."""
        super().damage(name, data)
        self._listing.pop(name, None)

    def look(self, *, sinks: bool = False, whole: bool = False) -> None:
        """Compare what changed since the last look; with `sinks` also what sinks hold; `whole` compares everything."""
        engine = self._shop.engine()
        listing = {info.name: info.e_tag for info in engine.objects.list()}
        moved = {name for name, _ in listing.items() ^ self._listing.items()}
        if whole:
            self._names, self._versions, self._read = {}, set(), []
        changed = set(listing) if whole else moved
        self._listing = listing
        grown = len(engine.chain) > len(self._boundaries)
        if grown or (self._boundaries and any(name.startswith(_LOG) and not self.is_dirty(name) for name in moved)):
            self._check_log(engine, len(self._boundaries))
        if changed or grown:
            self._check_records(engine, changed)
            self._check_proofs(engine)
        if sinks or whole:
            self._check_sinks(engine)

    def _check_log(self, engine: Engine, known: int) -> None:
        snapshots = list(engine.chain)
        assert [snapshot.key for snapshot in snapshots] == [day.key for day in self._log.days]
        for place in range(known, len(snapshots)):
            self._check_snapshot(engine, snapshots[place], self._log.days[place])
            self._boundaries.append(self._by_reference(engine))
        boundaries = replay(engine.objects, engine.chain, moves, engine.project.folded, snapshots[-1])
        for place, (_, found) in enumerate(boundaries):
            for store, boundary in found.items():
                expected = self._boundaries[place][store]
                where = f"replay of {store} at {snapshots[place].key}"
                assert boundary.state_digest == expected.state_digest, where
                assert boundary.ledger_digest == expected.ledger_digest, where
                if place >= known:
                    assert _outcomes(boundary.part) == [o[3:] for o in self._log.days[place].outcomes[store]], where

    def _by_reference(self, engine: Engine) -> Mapping[str, ReferenceBoundary]:
        """The reference's next boundary, which must be the model's."""
        self._growing.chain = engine.chain
        if self._reference is None:
            head = engine.chain.get()
            self._reference = reference(engine.objects, self._growing, moves, _FOLDED, head)  # type: ignore[arg-type]
            for _ in self._boundaries:  # those that another observer has seen
                next(self._reference)
        snapshot, found = next(self._reference)
        day = self._log.days[len(self._boundaries)]
        assert snapshot.key == day.key
        for store, boundary in found.items():
            assert dict(boundary.rows) == day.rows[store], f"reference of {store} at {day.key}"
            assert list(boundary.outcomes) == list(day.outcomes[store]), f"reference's ledger of {store} at {day.key}"
        return found

    def _check_snapshot(self, engine: Engine, snapshot: Snapshot, day: Day) -> None:
        """A manifest and its segments are what the model has sealed."""
        cut = snapshot.cut(moves.name)
        assert [(o.name, o.late) for o in cut.objects] == list(day.objects)
        assert list(cut.ends) == list(day.ends)
        assert cut.quarantined == day.quarantined
        assert cut.read == cut.events + cut.quarantined
        columns = [*_SOURCE, *moves.columns]
        found = LogReader(engine.objects, engine.chain, moves).events(snapshot, columns).to_pylist()
        expected = [
            {"log_partition": e.partition, "log_offset": e.offset, "log_seq": e.seq}
            | {"source_object": e.source[0], "source_line": e.source[1], **e.record}
            for e in day.events
        ]
        assert found == expected, f"events of {day.key}: expected {expected}, found {found}"
        before = engine.chain.through(day.key)[-2:-1]
        assert (not day.events and before != []) == any(snapshot.id == each.id for each in before)

    def _check_records(self, engine: Engine, changed: set[str]) -> None:
        for place, snapshot in enumerate(engine.chain):
            for store in engine.project.in_order:
                known = self._names.get((store.name, place))
                if known is None or known & changed:
                    self._check_record(engine, store, place, snapshot)

    def _check_record(self, engine: Engine, store: Store, place: int, snapshot: Snapshot) -> None:
        """A record that can be read is right; one that cannot was damaged, and one that was damaged cannot be read."""
        here, where = (store.name, place), f"{store.name} at {snapshot.key}"
        self.sound.discard(here)
        self._names.pop(here, None)
        self._claims.pop(here, None)
        try:
            inputs = engine.builder.inputs(store, snapshot)
        except (Damaged, Unproven):
            return  # of a relation: what it reads is checked by itself
        name = f"states/{store.name}/{store.code_version}/{inputs[:40]}.json"
        data = self.bytes_of(name)
        names = {name, *(found.decode() for found in _OBJECTS.findall(data or b""))}
        dirty = sorted(each for each in names if self.is_dirty(each))
        record = None
        try:
            record = engine.builder.find(store, snapshot)
            if record is None:
                assert data is None, f"{where}: the record {name} is there and not found"
                return
            self._compare_claim(store, place, record)
            self._claims[here] = record.claim
            self._compare(engine, store, place, snapshot, record)
        except (Damaged, Unproven) as error:
            # The rows of a thinned record come from those that it rests on.
            about = self.outstanding() if record is not None and record.thinned else dirty
            assert about, f"{where}: nobody did damage, and yet: {error}"
            return
        assert not dirty, f"{where}: damage to {dirty} was not noticed"
        self.sound.add(here)
        self._names[here] = frozenset(names)

    def _compare_claim(self, store: Store, place: int, record: StateRecord) -> None:
        where = f"the record of {store.name} at place {place}"
        assert (record.store, record.code_version) == (store.name, store.code_version), where
        if isinstance(store, Folded):
            boundary = self._boundaries[place][store.name]
            assert record.state_digest == boundary.state_digest, f"{where}: state digest"
            assert record.ledger_digest == boundary.ledger_digest, f"{where}: ledger digest"
        else:
            assert record.state_digest == self._tally_digest(store, place), f"{where}: digest"

    def _compare(self, engine: Engine, store: Store, place: int, snapshot: Snapshot, record: StateRecord) -> None:
        day, where = self._log.days[place], f"{store.name} at {snapshot.key}"
        if not isinstance(store, Folded):
            found = engine.builder.published(store, snapshot).to_pylist()
            assert found == day.published(store.name), f"{where}: expected {day.published(store.name)}, found {found}"
            return
        rows = {row["product"]: row for row in engine.builder.state_at(store, snapshot).table.to_pylist()}
        assert rows == day.rows[store.name], f"{where}: expected {day.rows[store.name]}, found {rows}"
        part = engine.builder.checkpoints.ledger(record)
        if day.events:
            expected = [outcome[3:] for outcome in day.outcomes[store.name]]
            assert part is not None, where
            assert _outcomes(part) == expected, f"{where}: expected {expected}, found {_outcomes(part)}"

    def _tally_digest(self, store: Store, place: int) -> str:
        """The digest of the relation's rows as the model has them, made by the reference's own code."""
        if place not in self._tallies:
            rows = self._log.days[place].published(store.name)
            placed = [(bucket(store.columns, store.key, row), encode_row(store.columns, row)) for row in rows]
            self._tallies[place] = tree_digest(store.columns, placed)
        return self._tallies[place]

    def _check_proofs(self, engine: Engine) -> None:
        """A proof that is not damaged claims what is true; what is proven is noted."""
        claims: dict[str, list[Mapping[str, str]]] = {store.name: [] for store in engine.project.stores}
        for name in self.names("proofs"):
            if not self.is_dirty(name):
                body = json.loads(self.bytes_of(name) or b"")["body"]
                claims[name.split("/")[1]].append(body)
        cuts = [snapshot.cut(moves.name).id for snapshot in engine.chain]
        for store in engine.project.stores:
            if isinstance(store, Folded):
                boundaries = [by_store[store.name] for by_store in self._boundaries]
                true = {(c, b.state_digest, b.ledger_digest) for c, b in zip(cuts, boundaries, strict=True)}
                found = {(body["inputs"], body["state_digest"], body["ledger_digest"]) for body in claims[store.name]}
                assert found <= true, f"a proof of {store.name} claims {found - true}"
            else:
                digests = {self._tally_digest(store, place) for place in range(len(cuts))}
                assert {body["state_digest"] for body in claims[store.name]} <= digests, f"a proof of {store.name}"
        self.attested = {
            here
            for here, claim in self._claims.items()
            if any(claim.items() <= body.items() for body in claims[here[0]])
        }

    def _check_sinks(self, engine: Engine) -> None:
        """Every version that a sink holds is one day's rows, and readers through the pointer get the day it names."""
        found = set()
        for table, version, rows_table in self.query("SELECT table_name, version, rows_table FROM refold_versions"):
            found.add((table, version))
            if (table, version) not in self._versions:
                self._check_rows(SINKS[f"Sql/{table}"], version, rows_table)
        tally = INTERPRETED.store("tally")
        target = engine.publisher.target(tally, tally.sinks[0])
        for version in target.versions():
            found.add((target.place, version))
            if (target.place, version) not in self._versions:
                expected = self._log.days[place_of(version)].published("tally")
                rows = sorted(target.read(version).to_pylist(), key=_tally_key)
                assert rows == expected, f"tally_docs {version}: expected {expected}, found {rows}"
        self._versions = found
        series = self.series()
        if series and series != self._read:
            self.check_readers(series[-1].day)
            self._read = series

    def _check_rows(self, store: str, version: str, rows_table: str) -> None:
        names = ", ".join(INTERPRETED.store(store).columns)
        with closing(sqlite3.connect(self._shop.database_file)) as connection:
            query = f'SELECT {names} FROM "{rows_table}" WHERE refold_version = ? ORDER BY product'
            found = records_of(connection.execute(query, (version,)))
        expected = self._log.days[place_of(version)].published(store)
        assert found == expected, f"{rows_table} {version}: expected {expected}, found {found}"

    def check_readers(self, place: int, number: int | None = None) -> None:
        """Who opens a release (None: the newest) reads one day from every sink."""
        opened, day = open_release(str(self._shop.store), number=number), self._log.days[place]
        assert opened.snapshot == day.key
        for store in VIEWS:
            found = opened.sql(store).to_pylist()
            assert found == day.published(store), f"{opened} {store}: expected {day.published(store)}, found {found}"
        assert opened.documents("tally").to_pylist() == day.published("tally")


def _outcomes(part: Any) -> list[tuple[str, int]]:
    names = {outcome.value: outcome.name.lower() for outcome in Outcome}
    assert len(part.outcomes) == len(part.reasons), "a ledger part was read that is not whole"
    return [(names[o], r) for o, r in zip(part.outcomes.tolist(), part.reasons.tolist(), strict=True)]


def _tally_key(row: Mapping[str, Any]) -> tuple[bytes, bytes]:
    return row["product"].encode(), row["outcome"].encode()
