"""The seam of leases: a register of named values with compare-and-swap, in the object store.

A register for another service (etcd, ZooKeeper, a SQL database as in `database_register`) implements three methods.
What a value means is in `refold.leases.lease`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from refold.errors import CommitUnknown, Conflict, Damaged
from refold.storage.names import ObjectKind, folder_of, name_of, parts_of
from refold.storage.objects import ObjectStore
from refold.storage.records import read_record, record_bytes

KEPT = 100
"""How many of the newest numbers of a series are kept. Older ones are removed, so that a lease that is renewed for
years stays small."""


@dataclass(frozen=True)
class Entry:
    """A value and its version, which rises by one at every swap; version 0 has no value.

    `damage` says why a value cannot be read; it has none then, and its version still counts.
    """

    version: int
    body: Mapping[str, Any] | None
    damage: str = ""


class Register(ABC):
    """Named values that are replaced only where they are still what was read."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where a person finds it, secrets masked."""

    @abstractmethod
    def read(self, name: str) -> Entry:
        """The newest value: one that every finished swap is part of. Raises Unavailable."""

    @abstractmethod
    def swap(self, name: str, version: int, body: Mapping[str, Any]) -> bool:
        """Replace the value of a version; False where another swap was first, and then nothing was changed.

        Of all swaps of one version one succeeds. Two callers never give equal bodies.
        Raises Unavailable and CommitUnknown where it is not known; it may then still be done later.
        """

    @abstractmethod
    def names(self) -> Sequence[str]:
        """The names that have a value, sorted."""

    def version(self, name: str) -> int:
        """The version of the newest value, where that is cheaper to find out than the value."""
        return self.read(name).version


class ObjectRegister(Register):
    """A register in an object store: every version is an object of its own, created once.

    A creation that comes after its number was removed would succeed: the series is listed after it, and it counts only
    if its number cannot have been removed before.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @property
    def place(self) -> str:
        """The folder of all leases."""
        return f"{self._objects.url.rstrip('/')}/{folder_of(ObjectKind.LEASE)}"

    def read(self, name: str) -> Entry:
        """The object of the highest number."""
        while True:
            number = self.version(name)
            if number == 0:
                return Entry(0, None)
            try:
                body = read_record(self._objects, _object(name, number))
            except Damaged as error:
                return Entry(number, None, str(error))
            if body is not None:  # else it was removed meanwhile, so that there are newer ones
                return Entry(number, body)

    def version(self, name: str) -> int:
        """The highest number; one listing."""
        return max(self._numbers(name), default=0)

    def swap(self, name: str, version: int, body: Mapping[str, Any]) -> bool:
        """Create the object of the next number."""
        try:
            self._objects.create(_object(name, version + 1), record_bytes(body))
        except Conflict:
            return False
        numbers = self._numbers(name)
        if max(numbers, default=0) > version + KEPT:
            raise CommitUnknown(
                f"It is unknown whether lease {name} was changed: meanwhile more than {KEPT} changes were made by "
                "other processes.",
                remedy="Run again.",
            )
        for number in numbers:
            if number <= version + 1 - KEPT:
                self._objects.delete(_object(name, number))
        return True

    def names(self) -> Sequence[str]:
        """The folders below that of the leases."""
        found = (parts_of(ObjectKind.LEASE, info.name) for info in self._objects.list(folder_of(ObjectKind.LEASE)))
        return sorted({parts["path"] for parts in found if parts})

    def _numbers(self, name: str) -> list[int]:
        folder = _object(name, 0).rpartition("/")[0]
        found = []
        for info in self._objects.list(folder):
            parts = parts_of(ObjectKind.LEASE, info.name)
            if parts.get("path") == name:
                with suppress(ValueError):
                    found.append(int(parts["number"]))
        return found


def _object(name: str, number: int) -> str:
    return name_of(ObjectKind.LEASE, path=name, number=number)
