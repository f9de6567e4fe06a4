"""Snapshots: the write-once, chained manifests that say where each log ends under each key.

A manifest says what a snapshot is: its identity follows from its parent, the end offsets and the logical content of
each log partition. A layout says which segment files hold it; layouts are numbered and the newest one counts, so that
compaction changes no identity. This module reads and writes both; it knows neither landing nor stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from refold.errors import Conflict, Damaged, FixInput, NotFound
from refold.log.layout import NO_FILES, LogLayout
from refold.storage.names import ObjectKind, folder_of, name_of, parts_of
from refold.storage.objects import ObjectStore, canonical_json, sha256_hex
from refold.storage.records import read_record, record_bytes

FORMAT = 1


@dataclass(frozen=True)
class SealedObject:
    """A landing object as it was sealed; `late` if its folder had been sealed before."""

    name: str
    size_bytes: int
    sha256: str
    records: int
    late: bool


@dataclass(frozen=True)
class LogCut:
    """One log's part of a snapshot.

    Attributes:
        id: the identity of the log up to here; equal to the parent's where no event was added.
        starts, ends: per log partition, the offset range [start, end) that this snapshot added.
        seq_start, seq_end: the same for `log_seq`, across log partitions.
        content: per log partition, the sha256 of the canonical bytes of the added events.
        schema: the text of the declared columns at sealing; a log may grow from one snapshot to the next.
        read, quarantined, control: counts of landing records; read = events + quarantined + control.
        objects: the landing objects it took in.
    """

    id: str
    starts: Sequence[int]
    ends: Sequence[int]
    seq_start: int
    seq_end: int
    content: Sequence[str]
    schema: str
    read: int
    quarantined: int
    control: int
    objects: Sequence[SealedObject]

    @property
    def events(self) -> int:
        """How many events this snapshot added."""
        return self.seq_end - self.seq_start


def unchanged(cut: LogCut) -> LogCut:
    """The cut of a log to which a snapshot adds nothing."""
    nothing = [sha256_hex(b"")] * len(cut.ends)
    still = replace(cut, starts=cut.ends, seq_start=cut.seq_end, content=nothing, objects=())
    return replace(still, read=0, quarantined=0, control=0)


NO_EVENTS_YET = LogCut(
    id="none",
    starts=(),
    ends=(),
    seq_start=0,
    seq_end=0,
    content=(),
    schema="",
    read=0,
    quarantined=0,
    control=0,
    objects=(),
)
"""The cut of a log that did not exist yet when a snapshot was sealed; it has no log partitions."""


@dataclass(frozen=True)
class Snapshot:
    """A cut of every log under one key; `ordinal` counts keys from 0."""

    key: str
    ordinal: int
    parent_key: str | None
    parent_sha256: str | None
    logs: Mapping[str, LogCut]

    @property
    def id(self) -> str:
        """The identity: equal for two keys between which no event was added to any log."""
        return sha256_hex(canonical_json({name: cut.id for name, cut in self.logs.items() if cut.seq_end}))

    def cut(self, log: str) -> LogCut:
        """One log's part; a log that was declared later has no events here."""
        return self.logs.get(log, NO_EVENTS_YET)

    @property
    def events(self) -> int:
        """How many events this snapshot added to all logs."""
        return sum(cut.events for cut in self.logs.values())

    @property
    def events_through(self) -> int:
        """How many events all logs hold up to here."""
        return sum(cut.seq_end for cut in self.logs.values())

    def to_bytes(self) -> bytes:
        """The manifest: a record, so that it names the sha256 of all it says."""
        return record_bytes({"format": FORMAT, "id": self.id, **asdict(self)})

    @property
    def name(self) -> str:
        """The name of the manifest."""
        return name_of(ObjectKind.MANIFEST, snapshot=self.key)

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the manifest's bytes, which its child records and its layouts are named after."""
        return sha256_hex(self.to_bytes())

    @classmethod
    def from_json(cls, value: Mapping[str, Any], name: str) -> Snapshot:
        """Read the body of a manifest.

        Raises FixInput where it has another format, and Damaged where it does not parse, where its identity is not
        its own or where its name belongs to another key.
        """
        if value.get("format") != FORMAT:
            raise FixInput(
                f"The manifest {name} has format {value.get('format')!r}, expected {FORMAT}.", remedy="Update Refold."
            )
        try:
            logs = {
                log: LogCut(**{**cut, "objects": [SealedObject(**o) for o in cut["objects"]]})
                for log, cut in value["logs"].items()
            }
            fields = ("key", "ordinal", "parent_key", "parent_sha256")
            snapshot = cls(**{field: value[field] for field in fields}, logs=logs)
            expected = value["id"]
        except (KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"The manifest {name} is not a snapshot of format {FORMAT}: {error!r}.") from error
        if snapshot.id != expected:
            raise Damaged(f"The manifest {name} is damaged: it says id {expected}, its cuts give {snapshot.id}.")
        if name != snapshot.name:
            raise Damaged(f"The manifest {name} belongs to another key: expected the name {snapshot.name}.")
        return snapshot


def cut_id(parent_id: str | None, schema: str, ends: Sequence[int], content: Sequence[str], added: int) -> str:
    """The identity of a log after a snapshot: the parent's where nothing was added, else the hash over the chain."""
    if added == 0 and parent_id is not None:
        return parent_id
    chain = {"parent": parent_id, "schema": schema, "ends": list(ends), "content": list(content)}
    return sha256_hex(canonical_json(chain))


class SnapshotChain:
    """All sealed snapshots of a project, oldest first, read from storage once and kept."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._snapshots: dict[str, Snapshot] = {}
        self._layouts: dict[str, Mapping[str, LogLayout]] = {}
        self._numbers: dict[str, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the manifests sealed since, and check that each names its parent's bytes.

        An object that is not named after a day is not a manifest and is skipped, such as the files of a file browser.
        Raises Damaged where a manifest was changed or is missing from the middle, or where the chain does not hold.
        """
        for info in self._objects.list(folder_of(ObjectKind.MANIFEST)):
            found = parts_of(ObjectKind.MANIFEST, info.name)
            if found and found["snapshot"] not in self._snapshots:
                body = read_record(self._objects, info.name)
                if body is None:
                    raise Damaged(f"The manifest {info.name} was removed while it was read.")
                self._append(Snapshot.from_json(body, info.name))

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
        self._snapshots[snapshot.key] = snapshot

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

    def through(self, key: str) -> list[Snapshot]:
        """The snapshots up to and including a key, oldest first. Raises NotFound."""
        last = self.get(key).ordinal
        return [snapshot for snapshot in self if snapshot.ordinal <= last]

    def create(self, snapshot: Snapshot, layout: Mapping[str, LogLayout]) -> None:
        """Seal: write the layout, then the manifest, once. Raises Conflict if another process sealed the key first."""
        self._objects.put(_layout_name(snapshot, 0), layout_bytes(snapshot, 0, layout))
        self._objects.create(snapshot.name, snapshot.to_bytes())
        self._append(snapshot)
        self._layouts[snapshot.key] = dict(layout)

    def layout(self, snapshot: Snapshot, log: str) -> LogLayout:
        """The layout of one log's part of a snapshot: the newest when it was first needed, which is kept.

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
            self._objects.create(_layout_name(snapshot, number), layout_bytes(snapshot, number, layout))
        except Conflict:
            self._forget_layout(snapshot)
            raise
        self._layouts[snapshot.key], self._numbers[snapshot.key] = dict(layout), number
        return _layout_name(snapshot, number)

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

    def _layout_names(self, snapshot: Snapshot) -> list[str]:
        infos = self._objects.list(folder_of(ObjectKind.LAYOUT, **_own(snapshot)))
        return [info.name for info in infos if parts_of(ObjectKind.LAYOUT, info.name)]

    def _read_layout(self, snapshot: Snapshot) -> tuple[dict[str, LogLayout], int]:
        names = self._layout_names(snapshot)
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
            return {name: LogLayout.from_json(part) for name, part in body["logs"].items()}, number
        except (KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"The layout {names[-1]} is damaged: {error!r}.") from error


def require_sealed(objects: ObjectStore, snapshot: Snapshot) -> None:
    """Raise Conflict where the manifest of a snapshot that was read is not in the store now: it was unsealed."""
    if not objects.exists(snapshot.name) or sha256_hex(objects.get(snapshot.name)) != snapshot.sha256:
        raise Conflict(
            f"The snapshot {snapshot.key} was unsealed by another process meanwhile.",
            remedy="Nothing was changed. Run again: it goes on from what is sealed.",
        )


def layout_bytes(snapshot: Snapshot, number: int, layout: Mapping[str, LogLayout]) -> bytes:
    """The bytes of a layout: a record that names its snapshot, that one's manifest, and its own number."""
    logs = {log: asdict(part) for log, part in layout.items()}
    own = {"snapshot": snapshot.key, "manifest": snapshot.sha256, "number": number}
    return record_bytes({"format": FORMAT, **own, "logs": logs})


def _own(snapshot: Snapshot) -> dict[str, str]:
    """What the names of a snapshot's layouts are made of, beside their numbers."""
    return {"snapshot": snapshot.key, "manifest": snapshot.sha256}


def _layout_name(snapshot: Snapshot, number: int) -> str:
    return name_of(ObjectKind.LAYOUT, number=number, **_own(snapshot))
