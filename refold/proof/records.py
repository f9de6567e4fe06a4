"""Proof records: passed replays, kept under the claim they prove and named after their own content.

A record is `proofs/<store>/<claim>/<body>.json`, each name the first 40 digits of a sha256. So a claim can have several
proofs, none can be changed without being seen, and one that is passed off as another's is none. What proves a claim is
`refold.proof.prover`; here records are written, found and removed.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from refold.errors import Damaged
from refold.storage.names import ObjectKind, folder_of, name_of
from refold.storage.objects import ObjectStore, canonical_json, sha256_hex
from refold.storage.records import read_record, record_bytes
from refold.storage.shapes import typed

_LIBRARIES = ("refold", "pyarrow", "numpy", "numba", "duckdb")


@dataclass(frozen=True)
class ProofRecord:
    """One passed replay.

    Attributes:
        store, code_version, inputs, state_digest, ledger_digest: the claim, word for word.
        snapshot: the key it was proven at; other keys without new events share the claim.
        replay: what replay found: `state` and `ledger`, digests.
        method: how.
        rows: rows of the state.
        events: events replayed; for a relation the rows of its inputs.
        seconds: how long it took, for people; no decision depends on it.
        untaken: the branches of a rule that no event of the log took, for people; left out where there are none, and
            and where they were not counted.
        rests_on: where it is no proof from offset 0: the proven snapshot it went on from, what of the older ones was
            looked at again, and how often they are; see `refold.proof.standing`.
        partials: of a relation at the end of a history, the objects that hold its partial aggregates, by name.
        versions: Python, the machine, and the libraries that a result could depend on.
    """

    store: str
    code_version: str
    inputs: str
    state_digest: str
    ledger_digest: str
    snapshot: str
    replay: Mapping[str, str]
    method: str
    rows: int
    events: int
    seconds: float
    versions: Mapping[str, str]
    untaken: Sequence[int] = ()
    rests_on: Mapping[str, Any] | None = None
    partials: Mapping[str, Mapping[str, str]] | None = None

    @property
    def claim(self) -> dict[str, str]:
        """The claim that it proves, as in `StateRecord.claim`."""
        names = ("store", "code_version", "inputs", "state_digest", "ledger_digest")
        return {name: getattr(self, name) for name in names}

    @property
    def holds(self) -> bool:
        """Whether replay found the digests that are claimed."""
        return dict(self.replay) == {"state": self.state_digest, "ledger": self.ledger_digest}


class ProofRecords:
    """The proofs of a project."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._listed: dict[str, dict[str, set[str]]] = {}

    def find(self, claim: Mapping[str, str]) -> tuple[str, ProofRecord] | None:
        """The first sound proof of a claim by name, and its name; None where there is none."""
        return next(iter(self.sound(claim)), None)

    def sound(self, claim: Mapping[str, str]) -> list[tuple[str, ProofRecord]]:
        """All sound proofs of a claim, by name; skips those that are damaged or of another claim."""
        return self._sound(claim, self._known(claim)) or self._sound(claim, self.names(claim))

    def listed(self, claim: Mapping[str, str]) -> list[tuple[str, ProofRecord]]:
        """As `sound`, of the proofs that one listing of the store found, for going through a history."""
        self._list(claim["store"])
        return self._sound(claim, self._known(claim))

    def _sound(self, claim: Mapping[str, str], names: Iterable[str]) -> list[tuple[str, ProofRecord]]:
        found = []
        for name in names:
            record = self._read(name)
            if record is not None and record.claim == dict(claim) and record.holds:
                found.append((name, record))
        return found

    def _known(self, claim: Mapping[str, str]) -> list[str]:
        """The names below a claim where the proofs of its store were listed, and those kept since, sorted."""
        return sorted(self._listed.get(claim["store"], {}).get(claim_folder(claim), ()))

    def _list(self, store: str) -> dict[str, set[str]]:
        """The names of all proofs of a store by claim, of one listing: a history keeps one for every snapshot."""
        if store not in self._listed:
            found = dict[str, set[str]]()
            for info in self._objects.list(folder_of(ObjectKind.PROOF, store=store)):
                found.setdefault(info.name.rpartition("/")[0], set()).add(info.name)
            self._listed[store] = found
        return self._listed[store]

    def keep(self, proof: ProofRecord, *, here: bool = False) -> str:
        """Write a proof, unless there is one of the same claim, method and versions; returns the name of either.

        `here` also writes it where the other was made at another snapshot of the same claim. Proofs that another
        process writes meanwhile are not looked for: a claim may have several.
        """
        listed = self._list(proof.store)
        for name, other in self._sound(proof.claim, self._known(proof.claim)):
            same = (other.method, dict(other.versions)) == (proof.method, dict(proof.versions))
            if same and (other.snapshot == proof.snapshot or not here):
                return name
        body = asdict(proof)
        for name in ("untaken", "rests_on", "partials"):
            if not body[name]:
                del body[name]
        name = _name(proof.claim, body)
        self._objects.put_soon(name, record_bytes(body))
        listed.setdefault(claim_folder(proof.claim), set()).add(name)
        return name

    def remove(self, claim: Mapping[str, str]) -> None:
        """Remove every proof of a claim, sound or not."""
        for name in self.names(claim):
            self._objects.delete(name)
        self._objects.sync()

    def names(self, claim: Mapping[str, str]) -> list[str]:
        """The names of all objects below a claim."""
        return [info.name for info in self._objects.list(claim_folder(claim)) if info.name.endswith(".json")]

    def standing(self, name: str) -> ProofRecord | None:
        """The proof of a name, or where that is gone or damaged another sound one of the same claim; None without."""
        record, folder = self._read(name), name.rpartition("/")[0]
        if record is not None and record.holds:
            return record
        names = (info.name for info in self._objects.list(folder))
        records = (self._read(other) for other in names if other.rpartition("/")[0] == folder)
        return next((other for other in records if other is not None and other.holds), None)

    def _read(self, name: str) -> ProofRecord | None:
        try:
            body = read_record(self._objects, name)
            record = typed(ProofRecord(**body)) if body is not None else None
        except (Damaged, TypeError):
            return None
        return record if record is not None and body is not None and name == _name(record.claim, body) else None


@cache
def library_versions() -> Mapping[str, str]:
    """The versions of what a result could depend on, by name; "not installed" where it runs from its source."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()}-{platform.machine()}"}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def claim_folder(claim: Mapping[str, str]) -> str:
    """The folder of a claim's proofs."""
    return folder_of(ObjectKind.PROOF, **_claimed(claim))


def proof_name(body: Mapping[str, Any]) -> str:
    """The name that a proof with some body must have. Raises TypeError where it is not the body of a proof."""
    return _name(typed(ProofRecord(**body)).claim, body)


def _name(claim: Mapping[str, str], body: Mapping[str, object]) -> str:
    return name_of(ObjectKind.PROOF, sha256=sha256_hex(canonical_json(dict(body))), **_claimed(claim))


def _claimed(claim: Mapping[str, str]) -> dict[str, str]:
    return {"store": claim["store"], "claim": sha256_hex(canonical_json(dict(claim)))}
