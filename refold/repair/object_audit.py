"""At rest: whether every object of a store has the bytes that whoever names it says, and is the one its name says.

Every object is named by another one, with a hash: a manifest by its child and its layout, segments by layouts, rows and
ledger parts by state records, proofs by releases; records carry their own hash and are named after what they say. So
damage is found without replay, object by object. Whether sound objects are also right is `refold.proof.prover`'s
business, and what sinks hold is `refold.repair.sink_audit`'s. Nothing is written here; `refold.repair.repair_objects`
mends what can be made again.

An object that nothing names is no damage: a killed run leaves some, and `refold prune` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refold.dedup.content_check import checked_name
from refold.engine import Engine
from refold.errors import Damaged, NotFound, RefoldError
from refold.log.layout import LogLayout
from refold.log.quarantine import retried_records
from refold.proof.records import proof_name
from refold.release.pointer import Release
from refold.release.publisher import expectations_name
from refold.seal.seen_index import newest_seen
from refold.storage.objects import canonical_json, sha256_hex
from refold.storage.records import read_record
from refold.stores.checkpoint import record_name

KINDS: Mapping[str, str] = {
    "manifest": r"snapshots/\d{4}-\d{2}-\d{2}\.json",
    "layout": r"layouts/\d{4}-\d{2}-\d{2}-[0-9a-f]{16}/\d{8}\.json",
    "segment": r"logs/[^/]+/segments/\d{4}/\d{20}-[0-9a-f]{16}\.parquet",
    "repeats": r"logs/[^/]+/repeats/[0-9a-f]{32}\.parquet",
    "quarantine": r"logs/[^/]+/quarantine/[0-9a-f]{32}\.parquet",
    "seen ids": r"logs/[^/]+/seen/[0-9a-f]{32}\.run",
    "content check": r"checked/[^/]+/[0-9a-f]{40}\.json",
    "retry places": r"retries/[^/]+/[0-9a-f]{32}\.[^/]+\.places",
    "retry": r"retries/[^/]+/[0-9a-f]{32}\.[^/]+",
    "state record": r"states/[^/]+/[^/]+/[0-9a-f]{40}\.json",
    "rows": r"states/[^/]+/rows/[0-9a-f]{40}\.parquet",
    "changes": r"states/[^/]+/changes/[0-9a-f]{40}\.parquet",
    "ledger part": r"states/[^/]+/ledger/[0-9a-f]{40}\.parquet",
    "proof": r"proofs/[^/]+/[0-9a-f]{40}/[0-9a-f]{40}\.json",
    "expectations": r"expectations/[^/]+/[^/]+-[0-9a-f]{16}\.json",
    "release": r"releases/\d{20}\.json",
    "retired": r"retired/\d{20}\.json",
    "sink": r"(delta|search|sinks)/.+",
}
"""Every kind of object in a store and the names it has; what is named otherwise is not Refold's."""

_COPY = "Restore it from a copy."
_BUILD = "`refold repair` builds it again from the log."
REMEDIES: Mapping[str, str] = {
    "manifest": "Restore it from a copy; a snapshot is sealed once, and nothing else tells what it is.",
    "layout": "Restore it from a copy; nothing else tells which objects hold the snapshot.",
    "segment": "Restore it from a copy; it is the log itself, and nothing else holds these events.",
    "repeats": "`refold repair` finds the repeated ids again in the segments.",
    "quarantine": "Restore it from a copy; nothing else holds these records.",
    "seen ids": "`refold repair` computes it again; it is only a cache, and sealing does without.",
    "content check": "`refold repair` removes it; the next replay compares the events again.",
    "retry places": _COPY,
    "retry": "`refold repair` writes it again from quarantine.",
    "state record": _BUILD,
    "rows": _BUILD,
    "changes": _BUILD,
    "ledger part": _BUILD,
    "proof": "`refold repair` removes it and proves the state again.",
    "expectations": "`refold repair` checks the expectations again.",
    "release": "Restore it from a copy. The newest can also be removed: the one before it is served then.",
    "retired": "Run `refold prune --apply`, which finishes what it tells of.",
}


@dataclass(frozen=True)
class Damage:
    """One object that is not what it should be.

    Attributes:
        kind: one of `KINDS`.
        name: the object.
        expected, found: hashes, or what whoever names it says, and what is there.
        remedy: what mends it.
    """

    kind: str
    name: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: expected {self.expected}, found {self.found}. {self.remedy}"


def kind_of(name: str) -> str | None:
    """The kind of an object by its name; None for what Refold does not write.

    >>> kind_of("snapshots/2026-01-01.json"), kind_of("snapshots/notes.txt")
    ('manifest', None)
    """
    return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name, re.ASCII)), None)


def damage_at_rest(engine: Engine) -> list[Damage]:
    """Every damaged object of the store but for what sinks hold, by name; reads all of them, once.

    The chain of manifests was checked when the engine was opened; what is wrong with it is raised there.
    """
    return sorted(_Inspector(engine).all(), key=lambda damage: damage.name)


class _Inspector:
    """One look at a store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._objects = engine.objects
        self._chain = engine.chain
        self._names = [info.name for info in engine.objects.list()]
        self._hashes: dict[str, str | None] = {}
        self._told: set[str] = set()
        self._proofs: dict[str, Mapping[str, Any]] = {}

    def all(self) -> Iterator[Damage]:
        for look in (self._layouts, self._seen, self._content_checks, self._retries, self._states, self._proof_records,
                     self._expectations, self._releases, self._retired):  # fmt: skip
            yield from look()

    def _damage(self, name: str, expected: str, found: str, kind: str = "") -> Iterator[Damage]:
        """One damage, told once for an object."""
        kind = kind or kind_of(name) or "sink"
        if name not in self._told:
            self._told.add(name)
            yield Damage(kind, name, expected, found, REMEDIES[kind])

    def _of_kind(self, kind: str) -> list[str]:
        return [name for name in self._names if kind_of(name) == kind]

    def _bytes(self, name: str, sha256: str) -> Iterator[Damage]:
        """Damage where an object has not the sha256 that is said of it."""
        if name not in self._hashes:
            try:
                self._hashes[name] = sha256_hex(self._objects.get(name))
            except NotFound:
                self._hashes[name] = None
        found = self._hashes[name]
        if found != sha256:
            yield from self._damage(name, f"sha256 {sha256}", f"sha256 {found}" if found else "none")

    def _record(self, name: str, own: Callable[[Mapping[str, Any]], str]) -> tuple[Mapping[str, Any], list[Damage]]:
        """The body of a record, and damage where it is none or `own` makes another name of it."""
        try:
            body = read_record(self._objects, name)
            right = own(body) if body is not None else "none"
        except Damaged as error:
            return {}, list(self._damage(name, "the record that was written", str(error)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return {}, list(self._damage(name, f"a record of kind {kind_of(name)}", f"another shape: {error!r}"))
        if body is None or right != name:
            return {}, list(self._damage(name, "the record of that name", f"the one of {right}"))
        return body, []

    def _layouts(self) -> Iterator[Damage]:
        newest: dict[str, Mapping[str, Any]] = {}
        lying = self._of_kind("layout")
        for name in lying:
            body, damages = self._record(
                name, lambda b: f"layouts/{b['snapshot']}-{b['manifest'][:16]}/{b['number']:08d}.json"
            )
            yield from damages
            newest[name.split("/")[1]] = body
        for snapshot in self._chain:
            folder = f"{snapshot.key}-{snapshot.sha256[:16]}"
            if folder not in newest:
                others = [other for other in newest if other.startswith(f"{snapshot.key}-")]
                if others:
                    expected = f"sha256 {others[0].rpartition('-')[2]}…, as layouts/{others[0]} is named"
                    yield from self._damage(snapshot.name, expected, f"sha256 {snapshot.sha256}")
                else:
                    yield from self._damage(f"layouts/{folder}/{0:08d}.json", "the layout of its snapshot", "none")
            elif newest[folder]:
                if newest[folder]["manifest"] != snapshot.sha256:
                    yield from self._damage(snapshot.name, f"sha256 {newest[folder]['manifest']}", snapshot.sha256)
                yield from self._log_objects(newest[folder])

    def _log_objects(self, body: Mapping[str, Any]) -> Iterator[Damage]:
        for part in body["logs"].values():
            layout = LogLayout.from_json(part)
            for stored in (*layout.segments, layout.repeats, layout.quarantine):
                if stored is not None:
                    yield from self._bytes(stored.name, stored.sha256)

    def _seen(self) -> Iterator[Damage]:
        for log in self._engine.project.logs:
            try:
                _, files = newest_seen(self._chain, log.name)
            except Damaged:
                continue  # the layout is told
            for file in files:
                yield from self._bytes(file.name, file.sha256)

    def _content_checks(self) -> Iterator[Damage]:
        for name in self._of_kind("content check"):
            _, damages = self._record(name, checked_name)
            yield from damages

    def _retries(self) -> Iterator[Damage]:
        sealed = {o.name: o.sha256 for s in self._chain for cut in s.logs.values() for o in cut.objects}
        for name, sha256 in sealed.items():
            if kind_of(name) == "retry":
                yield from self._bytes(name, sha256)
        places = {name.removesuffix(".places") for name in self._of_kind("retry places")}
        for name in sorted(places | set(self._of_kind("retry")) | {n for n in sealed if kind_of(n) == "retry"}):
            if name not in places:
                yield from self._damage(f"{name}.places", "where the records of the retry were", "none")
            elif not self._objects.exists(name):
                yield from self._damage(name, "the records of the retry", "none")
            elif name not in self._told:
                stem = name.rpartition("/")[2].partition(".")[0]
                found = sha256_hex(self._objects.get(f"{name}.places") + self._objects.get(name))[:32]
                if found != stem:  # the manifest tells of the records, once they are sealed; so the places are left
                    wrong = f"{name}.places" if name in sealed or self._retried(name) is None else name
                    yield from self._damage(wrong, f"sha256 {stem}… over places and records", f"sha256 {found}…")
                elif self._retried(name) != self._objects.get(name):
                    yield from self._damage(name, "records that are in quarantine", "others")

    def _retried(self, name: str) -> bytes | None:
        """The records of a retry as quarantine has them; None where it has not."""
        logs = [log for log in self._engine.project.logs if log.name == name.split("/")[1]]
        try:
            places = self._objects.get(f"{name}.places")
            return retried_records(self._objects, self._chain, logs[0], places) if logs else self._objects.get(name)
        except Damaged:
            return self._objects.get(name)  # the quarantine is told

    def _states(self) -> Iterator[Damage]:
        logs = {store.name: store.log.name for store in self._engine.project.folded}
        for name in self._of_kind("state record"):
            body, damages = self._record(
                name, lambda b: f"states/{b['store']}/{b['code_version']}/{b['inputs'][:40]}.json"
            )
            yield from damages
            log = logs.get(str(body.get("store")))
            if log is not None and body["inputs"] not in {snapshot.cut(log).id for snapshot in self._chain}:
                yield from self._damage(name, f"inputs that are a snapshot's of log {log!r}", str(body["inputs"]))
                continue
            for stored in body.values():
                if isinstance(stored, dict) and stored.keys() == {"name", "sha256"}:
                    yield from self._bytes(stored["name"], stored["sha256"])

    def _proof_records(self) -> Iterator[Damage]:
        for name in self._of_kind("proof"):
            body, damages = self._record(name, proof_name)
            yield from damages
            if body:
                self._proofs[name] = body
                key = str(body["snapshot"])
                if key not in self._chain:
                    yield from self._damage(f"snapshots/{key}.json", f"the manifest that {name} was proven at", "none")
                    continue
                record = record_name(body["store"], body["code_version"], body["inputs"])
                if not self._objects.exists(record):
                    yield from self._damage(record, f"the record that {name} proves", "none")

    def _expectations(self) -> Iterator[Damage]:
        for name in self._of_kind("expectations"):
            _, damages = self._record(name, lambda b: f"expectations/{b['store']}/{b['version']}-{b['suite']}.json")
            yield from damages

    def _releases(self) -> Iterator[Damage]:
        pointer, served = self._engine.releaser.pointer, True
        for number in range(pointer.number(), 0, -1):
            name = f"releases/{number:020d}.json"
            try:
                release = pointer.get(number)
            except NotFound:
                yield from self._damage(name, "a number of the pointer, as later ones exist", "none")
            except RefoldError as error:
                yield from self._damage(name, "the record that was written", str(error))
            else:
                yield from self._release(name, release)
                if served and name not in self._told:
                    yield from self._served(release)
            served = False

    def _release(self, name: str, release: Release) -> Iterator[Damage]:
        """What a release says, held against the snapshot and the proofs that it names."""
        snapshot = self._chain.get(release.snapshot) if release.snapshot in self._chain else None
        said = (release.ordinal, release.snapshot_id)
        if snapshot is None:
            yield from self._damage(f"snapshots/{release.snapshot}.json", f"the manifest that {name} names", "none")
        elif said != (snapshot.ordinal, snapshot.id):
            expected = f"snapshot {snapshot.key} at place {snapshot.ordinal} with id {snapshot.id}"
            yield from self._damage(name, expected, f"place {said[0]} with id {said[1]}")
            return  # whatever else it names is another store's
        for store, proof in release.proofs.items():
            standing = self._engine.prover.proofs.standing(proof)
            if standing is None:
                yield from self._damage(proof, f"the proof that {name} names for store {store!r}", "none that is sound")
                continue
            version = f"{release.ordinal:06d}-{sha256_hex(canonical_json(standing.claim))[:12]}"
            if standing.store != store or release.versions.get(store) != version:
                expected = f"version {version} of store {store!r}, which {proof} proves"
                yield from self._damage(name, expected, f"version {release.versions.get(store)}")

    def _served(self, release: Release) -> Iterator[Damage]:
        """The expectations that what is served has passed."""
        for store in self._engine.project.stores:
            version = release.versions.get(store.name)
            name = expectations_name(store, version) if version and store.expect else None
            if name is not None and not self._objects.exists(name) and self._is_todays(release, store.name):
                yield from self._damage(name, f"the pass that release {release.number} rests on", "none")

    def _is_todays(self, release: Release, store: str) -> bool:
        """Whether a release serves what today's declaration of a store gives; else it has other expectations."""
        standing = self._engine.prover.proofs.standing(release.proofs[store])
        return standing is not None and standing.code_version == self._engine.project.store(store).code_version

    def _retired(self) -> Iterator[Damage]:
        for name in self._of_kind("retired"):
            body, damages = self._record(name, lambda body: f"retired/{body['number']:020d}.json")
            yield from damages
            if body and not self._gave_up(int(body["number"])):
                yield from self._damage(name, "the number of a prune", "none, or that of a release")

    def _gave_up(self, number: int) -> bool:
        """Whether a number of the pointer gave up versions; where its own record is gone or damaged, that is told."""
        pointer = self._engine.releaser.pointer
        try:
            return pointer.get(number).retired_by == number
        except NotFound:
            return number < pointer.number()
        except RefoldError:
            return True
