"""The chain of sealed snapshots: their write-once manifests, each naming the one before, and their layouts.

A manifest says what a snapshot is (`refold.log.manifest`), and where sealed events were redacted, records say what is
left of it (`refold.log.redactions`). A layout says which segment files hold it; layouts are numbered and the newest one
counts, so that compaction changes no identity. This module reads and writes manifests and layouts; it knows neither
landing nor stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from refold.errors import Conflict, Damaged, NotFound
from refold.log.layout import NO_FILES, LogLayout
from refold.log.manifest import FORMAT, NO_EVENTS_YET, LogCut, SealedObject, Snapshot, cut_id, unchanged
from refold.log.redactions import Redaction, apply_redactions, newer_layouts, parse_redactions
from refold.storage.names import ObjectKind, folder_of, name_of, parts_of
from refold.storage.objects import ObjectStore, sha256_hex
from refold.storage.records import read_record, record_bytes
from refold.storage.shapes import plain_value

__all__ = ["NO_EVENTS_YET", "LogCut", "SealedObject", "Snapshot", "SnapshotChain", "cut_id", "unchanged"]


class SnapshotChain:
    """All sealed snapshots of a project, oldest first, as redactions leave them; read from storage once and kept.

    `redactions` limits these to the first so many; the chain is then what it was, and nothing may be written by it.
    """

    def __init__(self, objects: ObjectStore, redactions: int | None = None) -> None:
        self._objects = objects
        self._limit = redactions
        self.redactions: list[Redaction] = []
        self._sealed: dict[str, Snapshot] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._layouts: dict[str, Mapping[str, LogLayout]] = {}
        self._numbers: dict[str, int] = {}
        self._listed_layouts: dict[str, list[str]] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the manifests sealed since, and check that each names its parent's bytes; and the redactions.

        An object that is not named after a day is not a manifest and is skipped, such as the files of a file browser.
        Raises Damaged where a manifest was changed or is missing from the middle, or where the chain does not hold.
        """
        redactions = list[str]()
        for info in self._objects.list(folder_of(ObjectKind.MANIFEST)):
            if parts_of(ObjectKind.REDACTION, info.name):
                redactions.append(info.name)
            found = parts_of(ObjectKind.MANIFEST, info.name)
            if found and found["snapshot"] not in self._sealed:
                body = read_record(self._objects, info.name)
                if body is None:
                    raise Damaged(f"The manifest {info.name} was removed while it was read.")
                self._append(Snapshot.from_json(body, info.name))
        if len(redactions) != len(self.redactions):
            self.redactions = parse_redactions(self._objects, redactions)[: self._limit]
            self._layouts.clear()
            self._numbers.clear()
            self._listed_layouts = None
        if self.redactions:
            applied = apply_redactions(list(self._sealed.values()), self.redactions)
            self._snapshots = {snapshot.key: snapshot for snapshot in applied}

    def _append(self, snapshot: Snapshot) -> None:
        head = self.head
        expected = (head.key, head.sha256, head.ordinal + 1) if head else (None, None, 0)
        found = (snapshot.parent_key, snapshot.parent_sha256, snapshot.ordinal)
        if expected != found:
            before = head.name if head else "nothing"
            raise Damaged(
                f"The snapshot {snapshot.key} does not continue the chain: expected parent key, sha256 and ordinal "
                f"{expected}, those of {before}; found {found} in {snapshot.name}.",
                remedy="A manifest between them was removed, or one of them replaced: restore "
                f"{folder_of(ObjectKind.MANIFEST)}/ from a copy. Where the parent was unsealed, remove this one.",
            )
        self._sealed[snapshot.key] = self._snapshots[snapshot.key] = snapshot

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(list(self._snapshots.values()))

    def __len__(self) -> int:
        return len(self._snapshots)

    def __contains__(self, key: str) -> bool:
        return key in self._snapshots

    @property
    def head(self) -> Snapshot | None:
        """The newest snapshot; None before the first."""
        return next(reversed(self._snapshots.values())) if self._snapshots else None

    def get(self, key: str | None = None) -> Snapshot:
        """The snapshot of a key (None: the newest). Raises NotFound, naming what there is."""
        snapshot = self.head if key is None else self._snapshots.get(key)
        if snapshot is None:
            known = (
                f"sealed: {next(iter(self._snapshots))} to {self.head.key}" if self.head else "nothing is sealed yet"
            )
            raise NotFound(f"There is no snapshot {key or ''}: {known}.".replace("  ", " "), remedy="Seal it first.")
        return snapshot

    def erased(self, log: str) -> set[tuple[int, int]]:
        """The log partitions and offsets of all events of a log of which values are erased."""
        cuts = [cut for r in self.redactions if r.erased and r.log == log for cut in r.cuts.values()]
        return {(partition, offset) for cut in cuts for partition, offset in cut.places}

    def erased_since(self, key: str, id_: str) -> Redaction | None:
        """The first redaction that erased something since a snapshot had an identity; None where none did."""
        redacted = self._snapshots[key].redacted if key in self._snapshots else None
        numbers = {each.id: number for number, each in (redacted.before if redacted else ())}
        known = numbers.get(id_, len(self.redactions))
        return next((each for each in self.redactions[known:] if each.erased), None)

    def through(self, key: str) -> list[Snapshot]:
        """The snapshots up to and including a key, oldest first. Raises NotFound."""
        last = self.get(key).ordinal
        return [snapshot for snapshot in self if snapshot.ordinal <= last]

    def before(self, snapshot: Snapshot) -> Snapshot | None:
        """The snapshot before one; None before the first."""
        return None if snapshot.parent_key is None else self.get(snapshot.parent_key)

    def create(self, snapshot: Snapshot, layout: Mapping[str, LogLayout]) -> None:
        """Seal: write the layout, then the manifest, once. Raises Conflict if another process sealed the key first."""
        self._objects.put_soon(_layout_name(snapshot, 0), self._layout_bytes(snapshot, 0, layout))
        self._objects.create(snapshot.name, snapshot.to_bytes())
        self._append(snapshot)
        self._layouts[snapshot.key] = dict(layout)

    def layout(self, snapshot: Snapshot, log: str) -> LogLayout:
        """The layout of one log's part of a snapshot: the newest when layouts were listed, which is kept.

        Raises Damaged where it is missing or not its own.
        """
        if snapshot.key not in self._layouts:
            self._layouts[snapshot.key], self._numbers[snapshot.key] = self._read_layout(snapshot)
        return self._layouts[snapshot.key].get(log, NO_FILES)

    def replace_layout(self, snapshot: Snapshot, layout: Mapping[str, LogLayout]) -> str:
        """Write the layout after the one that was read, which counts from now on; returns its name.

        Raises Conflict if another process wrote that one first; it is read when the snapshot's layout is next needed.
        Raises Damaged where no number is left.
        """
        number = self._numbers.get(snapshot.key, 0) + 1
        if not parts_of(ObjectKind.LAYOUT, _layout_name(snapshot, number)):
            raise Damaged(
                f"The layout {_layout_name(snapshot, number - 1)} does not continue the series: no number follows it.",
                remedy="Remove it: compaction did not write it.",
            )
        try:
            self._objects.create(_layout_name(snapshot, number), self._layout_bytes(snapshot, number, layout))
        except Conflict:
            self._forget_layout(snapshot)
            raise
        self._layouts[snapshot.key], self._numbers[snapshot.key] = dict(layout), number
        return _layout_name(snapshot, number)

    def _layout_bytes(self, snapshot: Snapshot, number: int, layout: Mapping[str, LogLayout]) -> bytes:
        return layout_bytes(snapshot, number, layout, len(self.redactions))

    def newer_layout(self, snapshot: Snapshot) -> str | None:
        """The name of a layout newer than the one that was read, or None; it is read when it is next needed."""
        newest = self.newest_layout(snapshot)
        if newest is None or newest <= _layout_name(snapshot, self._numbers.get(snapshot.key, 0)):
            return None
        self._forget_layout(snapshot)
        return newest

    def newest_layout(self, snapshot: Snapshot) -> str | None:
        """The name of the layout that counts now, whatever was read before; None where there is none."""
        return next(reversed(self._layout_names(snapshot)), None)

    def _forget_layout(self, snapshot: Snapshot) -> None:
        self._layouts.pop(snapshot.key, None)
        self._numbers.pop(snapshot.key, None)
        (self._listed_layouts or {}).pop(folder_of(ObjectKind.LAYOUT, **_own(snapshot)), None)

    def _layout_names(self, snapshot: Snapshot) -> list[str]:
        infos = self._objects.list(folder_of(ObjectKind.LAYOUT, **_own(snapshot)))
        return [info.name for info in infos if parts_of(ObjectKind.LAYOUT, info.name)]

    def _first_layout_names(self, snapshot: Snapshot) -> list[str]:
        """The names of a snapshot's layouts, of one listing of all where those of several snapshots are read.

        A snapshot that was sealed since, or whose layout is read again, is listed by itself.
        """
        if self._layouts and self._listed_layouts is None:
            self._listed_layouts = {}
            for info in self._objects.list(folder_of(ObjectKind.LAYOUT)):
                if parts_of(ObjectKind.LAYOUT, info.name):
                    self._listed_layouts.setdefault(info.name.rpartition("/")[0], []).append(info.name)
        listed = (self._listed_layouts or {}).pop(folder_of(ObjectKind.LAYOUT, **_own(snapshot)), None)
        return listed or self._layout_names(snapshot)

    def _read_layout(self, snapshot: Snapshot) -> tuple[dict[str, LogLayout], int]:
        names = self._first_layout_names(snapshot)
        if not names:
            others = [parts_of(ObjectKind.LAYOUT, o.name) for o in self._objects.list(folder_of(ObjectKind.LAYOUT))]
            found = sorted({f"{o['snapshot']}-{o['manifest']}" for o in others if o and o["snapshot"] == snapshot.key})
            raise Damaged(
                f"The snapshot {snapshot.key} has no layout: expected {_layout_name(snapshot, 0)}, found "
                f"{', '.join(found) or 'none'}.",
                remedy=f"Where one is found, {snapshot.name} is not what was sealed: restore it, else "
                f"{folder_of(ObjectKind.LAYOUT)}/, from a copy.",
            )
        body = read_record(self._objects, names[-1])
        number = int(parts_of(ObjectKind.LAYOUT, names[-1])["number"])
        own = {"snapshot": snapshot.key, "manifest": snapshot.sha256, "number": number}
        found_own = {name: (body or {}).get(name) for name in own}
        if body is None or found_own != own:
            raise Damaged(
                f"The layout {names[-1]} belongs to another snapshot or number: expected {own}, found {found_own}.",
                remedy="Restore it from a copy.",
            )
        try:
            parts = {name: LogLayout.from_json(part) for name, part in body["logs"].items()}
            return parts | newer_layouts(self.redactions, snapshot.key, body.get("redactions", 0)), number
        except (KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"The layout {names[-1]} is damaged: {error!r}.") from error


def require_sealed(objects: ObjectStore, snapshot: Snapshot) -> None:
    """Raise Conflict where the manifest of a snapshot that was read is not in the store now: it was unsealed."""
    try:
        found = sha256_hex(objects.get(snapshot.name))
    except NotFound:
        found = None
    if found != snapshot.sha256:
        raise Conflict(
            f"The snapshot {snapshot.key} was unsealed by another process meanwhile.",
            remedy="Nothing was changed. Run again: it goes on from what is sealed.",
        )


def layout_bytes(snapshot: Snapshot, number: int, layout: Mapping[str, LogLayout], redactions: int = 0) -> bytes:
    """The bytes of a layout: a record that names its snapshot, that one's manifest, and its own number.

    Where there are `redactions`, their number too: a later one that changed objects of the snapshot counts before it.
    """
    logs = {log: plain_value(part) for log, part in layout.items()}
    own = {"snapshot": snapshot.key, "manifest": snapshot.sha256, "number": number}
    known = {"redactions": redactions} if redactions else {}
    return record_bytes({"format": FORMAT, **own, **known, "logs": logs})


def _own(snapshot: Snapshot) -> dict[str, str]:
    """The parts of the names of a snapshot's layouts, except their numbers."""
    return {"snapshot": snapshot.key, "manifest": snapshot.sha256}


def _layout_name(snapshot: Snapshot, number: int) -> str:
    return name_of(ObjectKind.LAYOUT, number=number, **_own(snapshot))
