"""Damage of stored objects, and what the checkers of one audit share: what was read, and what was reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refold.errors import Damaged, NotFound
from refold.log.snapshot import SnapshotChain
from refold.project import Project
from refold.proof.records import ProofRecords
from refold.release.pointer import Pointer
from refold.storage.names import OBJECTS, ObjectKind, kind_of, name_of
from refold.storage.objects import ObjectStore, sha256_hex
from refold.storage.records import read_record


@dataclass(frozen=True)
class Damage:
    """One object that is not what it should be.

    Attributes:
        kind: what it is.
        name: the object.
        expected: its hash, or what it should be according to the object that names it.
        found: the hash or the object that is there.
    """

    kind: ObjectKind
    name: str
    expected: str
    found: str

    @property
    def remedy(self) -> str:
        """The remedy, as a sentence."""
        return OBJECTS[self.kind].remedy

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: expected {self.expected}, found {self.found}. {self.remedy}"


class Audit:
    """One look at a store. Every object is read and hashed at most once, and reported at most once."""

    def __init__(
        self, project: Project, objects: ObjectStore, chain: SnapshotChain, pointer: Pointer, proofs: ProofRecords
    ) -> None:
        self.project = project
        self.objects = objects
        self.chain = chain
        self.pointer = pointer
        self.proofs = proofs
        self._names: dict[ObjectKind | None, list[str]] = {}
        for info in objects.list():
            self._names.setdefault(kind_of(info.name), []).append(info.name)
        self._hashes: dict[str, str | None] = {}
        self._reported: set[str] = set()

    def names(self, kind: ObjectKind) -> list[str]:
        """All objects of a kind, by name."""
        return self._names.get(kind, [])

    def is_reported(self, name: str) -> bool:
        """Whether damage of an object was reported."""
        return name in self._reported

    def damage(self, kind: ObjectKind, name: str, expected: str, found: str) -> Iterator[Damage]:
        """Report damage, unless some of that object was reported before."""
        if name not in self._reported:
            self._reported.add(name)
            yield Damage(kind, name, expected, found)

    def content(self, kind: ObjectKind, name: str, sha256: str) -> Iterator[Damage]:
        """Report an object that does not have the sha256 it should have."""
        if name not in self._hashes:
            try:
                self._hashes[name] = sha256_hex(self.objects.get(name))
            except NotFound:
                self._hashes[name] = None
        found = self._hashes[name]
        if found != sha256:
            yield from self.damage(kind, name, f"sha256 {sha256}", f"sha256 {found}" if found else "none")

    def record(
        self, kind: ObjectKind, name: str, own: Callable[[Mapping[str, Any]], str] | None = None
    ) -> tuple[Mapping[str, Any], list[Damage]]:
        """The body of a record, and its damage: it is not a record, or its body gives another name.

        `own` makes the name of a body; by default its parts are fields of the body.
        """
        try:
            body = read_record(self.objects, name)
            right = "none" if body is None else own(body) if own else name_of(kind, **body)
        except Damaged as error:
            return {}, list(self.damage(kind, name, "the record that was written", str(error)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return {}, list(self.damage(kind, name, f"a record of kind {kind}", f"another shape: {error!r}"))
        if body is None or right != name:
            return {}, list(self.damage(kind, name, "the record of that name", f"the one of {right}"))
        return body, []


Checker = Callable[[Audit], Iterator[Damage]]
"""Looks at all objects of some kinds and reports what is damaged."""
