"""The anchor: what was released, written where whoever can write to the store cannot write.

Hashes, chain and proofs of a store that was replaced as a whole are right. So every number of the pointer has two
entries outside: one before it is created (announced) and one after (confirmed). Each names the sha256 of the record,
that of the snapshot's manifest, which fixes all manifests before it, where every log ended, and the newest redaction.
Therefore:

- a release that is not announced was not made by Refold, and a confirmed one that is gone or has another record was
  replaced: the store is not what it was;
- a rollback by its owner is a number of its own, with entries that say so; a store that was rolled back lacks a number;
- a run that is killed in between leaves an announced number, which the next confirms where it was created.

Entries name each other's sha256 and may be signed (`refold.release.signing`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refold.errors import Conflict, NotAnchored
from refold.log.snapshot import Snapshot
from refold.release.anchor_places import AnchorPlace, open_place
from refold.storage.names import ObjectKind, folder_of, name_of, parts_of
from refold.storage.objects import ObjectStore, canonical_json, sha256_hex
from refold.storage.records import body_of
from refold.storage.shapes import typed

if TYPE_CHECKING:
    from refold.release.signing import Key

_log = logging.getLogger("refold")
_ATTEMPTS_MAX = 100


@dataclass(frozen=True)
class Entry:
    """One entry of an anchor.

    Attributes:
        number: its own, from 1.
        project: the project's name.
        release: the number of the pointer.
        record: the sha256 of that number's record.
        confirmed: whether the number was seen in the store, or is only about to be created.
        snapshot, manifest: the snapshot that is served, and the sha256 of its manifest.
        logs: by log, its identity in that manifest and how many events it had.
        redactions: how many redactions there were, and the sha256 of the newest one's record.
        rolled_back_to: the release whose content it is, where its owner rolled back.
        previous: the sha256 of the entry before; "" for the first.
    """

    number: int
    project: str
    release: int
    record: str
    confirmed: bool
    snapshot: str
    manifest: str
    logs: Mapping[str, tuple[str, int]]
    redactions: tuple[int, str]
    rolled_back_to: int | None
    previous: str

    @property
    def names(self) -> tuple[int, str]:
        """The release and the sha256 of its record."""
        return self.release, self.record


class Anchor:
    """The anchor of one store.

    Args:
        objects: the store whose releases are anchored.
        place: where the entries are.
        project: its name, which every entry must have; "" accepts any, for readers.
        key: signs and verifies entries; None where they are not signed.
    """

    def __init__(self, objects: ObjectStore, place: AnchorPlace, project: str = "", key: Key | None = None) -> None:
        self._objects = objects
        self._place = place
        self._project = project
        self._key = key

    @property
    def place(self) -> str:
        """Where it is, secrets masked."""
        return self._place.place

    def entries(self) -> list[Entry]:
        """All entries, oldest first. Raises NotAnchored where one is not what was added."""
        found: list[Entry] = []
        before = ""
        for number in range(1, self._place.count() + 1):
            data = self._place.get(number)
            entry = self._parsed(number, data)
            if entry.previous != before:
                raise self._refusal(number, f"expected it to follow {before or 'nothing'}, found {entry.previous}")
            found.append(entry)
            before = sha256_hex(data)
        return found

    def announce(self, number: int, record: bytes) -> None:
        """Write that a number of the pointer is about to be created with some bytes.

        Raises NotAnchored where the store is not what was anchored, and Unavailable; then nothing may be created.
        """
        self.confirm()
        names = (number, sha256_hex(record))
        if names not in {entry.names for entry in self._since_confirmed()}:
            self._append(names, record, confirmed=False)

    def confirm(self) -> None:
        """Write that the newest number is in the store, where it was announced; a rerun changes nothing.

        The first entry of all takes what is released then as it is. Raises as `announce` does.
        """
        newest, entries = self._settled()
        if newest is None or (entries and entries[-1].confirmed and entries[-1].names == newest[0]):
            return
        if not entries:
            _log.warning(f"Anchored in {self.place} from release {newest[0][0]} on, as it is now.")
        self._append(*newest, confirmed=True)

    def require(self, number: int | None = None) -> None:
        """Raise NotAnchored where the newest release, or another number, is not what was anchored. Reads only."""
        self._settled()
        if number is None:
            return
        entries = self.entries()
        names = (number, sha256_hex(self._objects.get(name_of(ObjectKind.RELEASE, number=number))))
        if entries and number >= entries[0].release and names not in {entry.names for entry in entries}:
            raise _replaced(f"release {number} with sha256 {names[1]} was not anchored in {self.place}")

    def _settled(self) -> tuple[tuple[tuple[int, str], bytes] | None, list[Entry]]:
        """The newest release with its bytes, and the entries since the last confirmed one, the newest first.

        Read again where they disagree, since another process may release just now. Raises NotAnchored.
        """
        before: object = None
        while True:
            entries = list(self._since_confirmed())
            newest = self._newest()
            fault = self._fault(newest[0] if newest else None, entries)
            if not fault:
                return newest, entries
            if before == (newest, entries):
                raise _replaced(fault)
            before = (newest, entries)

    def _fault(self, newest: tuple[int, str] | None, entries: Sequence[Entry]) -> str:
        """Why the newest release is not what was anchored; "" where it is. `entries` end with a confirmed one."""
        last = entries[-1] if entries and entries[-1].confirmed else None
        if not entries or (newest is None and last is None) or newest in {entry.names for entry in entries}:
            return ""
        if last is not None and (newest is None or newest[0] < last.release):
            found = "nothing" if newest is None else f"release {newest[0]}"
            return (
                f"the anchor {self.place} confirms release {last.release} of snapshot {last.snapshot}, and the newest "
                f"in the store is {found}: the store was rolled back"
            )
        assert newest is not None
        return f"release {newest[0]} with sha256 {newest[1]} was not announced in the anchor {self.place}"

    def _newest(self) -> tuple[tuple[int, str], bytes] | None:
        """Number, sha256 and bytes of the newest release; None before the first."""
        found = [parts_of(ObjectKind.RELEASE, info.name) for info in self._objects.list(folder_of(ObjectKind.RELEASE))]
        number = max((int(parts["number"]) for parts in found if parts), default=0)
        if not number:
            return None
        data = self._objects.get(name_of(ObjectKind.RELEASE, number=number))
        return (number, sha256_hex(data)), data

    def _since_confirmed(self) -> Iterator[Entry]:
        """The newest entries, the newest first, to the last confirmed one."""
        for number in range(self._place.count(), 0, -1):
            entry = self._parsed(number, self._place.get(number))
            yield entry
            if entry.confirmed:
                return

    def _append(self, names: tuple[int, str], record: bytes, *, confirmed: bool) -> None:
        body = body_of(record, f"of release {names[0]}")
        name = name_of(ObjectKind.MANIFEST, snapshot=body["snapshot"])
        manifest = self._objects.get(name)
        snapshot = Snapshot.from_json(body_of(manifest, name), name)
        logs = {name: (cut.id, cut.seq_end) for name, cut in snapshot.logs.items()}
        redactions, back = self._redactions(), body.get("rolled_back_to")
        for _ in range(_ATTEMPTS_MAX):
            count = self._place.count()
            previous = sha256_hex(self._place.get(count)) if count else ""
            entry = Entry(count + 1, self._project, *names, confirmed, snapshot.key, sha256_hex(manifest), logs,
                          redactions, back, previous)  # fmt: skip
            try:
                return self._place.add(entry.number, self._bytes(entry))
            except Conflict:
                continue  # another process added one; this one follows it
        raise Conflict(f"Other processes kept adding entries to the anchor {self.place} first.", remedy="Run it again.")

    def _redactions(self) -> tuple[int, str]:
        found = [info.name for info in self._objects.list(folder_of(ObjectKind.REDACTION))]
        names = [name for name in found if parts_of(ObjectKind.REDACTION, name)]
        return len(names), sha256_hex(self._objects.get(names[-1])) if names else ""

    def _bytes(self, entry: Entry) -> bytes:
        body = asdict(entry)
        signature = self._key.sign(canonical_json(body)) if self._key else ""
        return canonical_json({"entry": body, "signature": signature})

    def _parsed(self, number: int, data: bytes) -> Entry:
        try:
            whole = json.loads(data)
            entry = typed(Entry(**whole["entry"]))
            signature = str(whole["signature"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._refusal(number, f"it is not an entry: {error!r}") from error
        if entry.number != number:
            raise self._refusal(number, f"it has the number {entry.number}")
        if self._project not in ("", entry.project):
            raise self._refusal(number, f"it belongs to project {entry.project!r}, expected {self._project!r}")
        if self._key and not self._key.holds(canonical_json(asdict(entry)), signature):
            raise self._refusal(number, "its signature is not that of the key")
        return entry

    def _refusal(self, number: int, why: str) -> NotAnchored:
        return NotAnchored(
            f"Entry {number} of the anchor {self.place} cannot be used: {why}.",
            remedy="Check REFOLD_ANCHOR and REFOLD_ANCHOR_KEY; where both are right, find out who wrote it.",
        )


def _replaced(what: str) -> NotAnchored:
    return NotAnchored(
        f"The store is not what was released: {what}.",
        remedy="Nothing was changed. `refold verify` names what differs. Find out who could write to the store, and "
        "restore it from a copy.",
    )


def open_anchor(objects: ObjectStore, url: str, project: str = "", key: Path | None = None) -> Anchor:
    """The anchor of a store at a URL or path, with the key of a file. Raises FixInput."""
    if key is None:
        return Anchor(objects, open_place(url), project)
    from refold.release.signing import Key  # noqa: PLC0415  # the library takes a while to load

    return Anchor(objects, open_place(url), project, Key.read(key))
