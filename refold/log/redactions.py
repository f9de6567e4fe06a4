"""Redactions: recorded changes of sealed events, which are put aside or whose values are erased.

A manifest is never rewritten. A redaction is one more object of the log, created once and numbered: who, when, why,
which events, the digests of what is left of them, and the segments that hold it. Creating it is the commit. From the
first snapshot that it changes on, the identity of the log follows from its record as well, so that every state and
proof of before is of another identity, and a snapshot sealed later names it through its own. Segments that have changed
without a record have neither the content of the manifest nor that of a record, and are damage.

This module reads records and applies them to snapshots; `refold.seal.redacting` makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from refold.errors import Damaged
from refold.log.layout import LogLayout
from refold.log.manifest import LogCut, Redacted, Snapshot, cut_id
from refold.storage.names import ObjectKind, folder_of, name_of, parts_of
from refold.storage.objects import ObjectStore, sha256_hex
from refold.storage.records import read_record, record_bytes
from refold.storage.shapes import typed

FORMAT = 1


@dataclass(frozen=True)
class RedactedCut:
    """One log's part of a snapshot after a redaction.

    Attributes:
        places: log partition and offset of the events it is about, ascending.
        content: per log partition, the sha256 of the canonical bytes of the events as they are now.
        manifest: the sha256 of the snapshot's manifest.
        layout: which objects hold it now, as JSON; None where no object has changed.
    """

    places: Sequence[Sequence[int]]
    content: Sequence[str]
    manifest: str
    layout: Mapping[str, Any] | None


@dataclass(frozen=True)
class Redaction:
    """A recorded change of sealed events.

    Attributes:
        number: its place in the series, from 1.
        log: the log.
        erased: whether values are gone; else the events are as they were.
        columns: the columns whose values are gone, where the events still count; none where they do not.
        reason, by, at: why, who, and when (ISO 8601 in UTC).
        head: the newest snapshot then.
        previous: the sha256 of the record before; None for the first.
        cuts: by snapshot key, in their order.
    """

    number: int
    log: str
    erased: bool
    columns: Sequence[str]
    reason: str
    by: str
    at: str
    head: str
    previous: str | None
    cuts: Mapping[str, RedactedCut]

    @property
    def excludes(self) -> bool:
        """Whether its events no longer count."""
        return not self.columns

    def changes(self, snapshot: str) -> bool:
        """Whether it is about events of a snapshot."""
        return snapshot in self.cuts and bool(self.cuts[snapshot].places)

    @property
    def events(self) -> int:
        """How many events it is about."""
        return sum(len(cut.places) for cut in self.cuts.values())

    @property
    def name(self) -> str:
        """The name of its record."""
        return name_of(ObjectKind.REDACTION, number=self.number)

    @cached_property
    def sha256(self) -> str:
        """The sha256 of its record, from which the identity of the log follows."""
        return sha256_hex(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The record."""
        cuts = {
            key: {
                "places": [list(place) for place in cut.places],
                "content": list(cut.content),
                "manifest": cut.manifest,
                "layout": cut.layout,
            }
            for key, cut in self.cuts.items()
        }
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "cuts"}
        return record_bytes({"format": FORMAT, **own, "columns": list(self.columns), "cuts": cuts})

    def layout(self, snapshot: str) -> LogLayout | None:
        """The objects that hold a snapshot's part of the log since; None if it changed none."""
        cut = self.cuts.get(snapshot)
        return LogLayout.from_json(cut.layout) if cut is not None and cut.layout is not None else None

    def __str__(self) -> str:
        what = "erased" if self.erased else "excluded"
        of = f"the columns {', '.join(self.columns)} of " if self.columns else ""
        return f"redaction {self.number} of {self.at} by {self.by} {what} {of}{self.events} events: {self.reason}"


def read_redactions(objects: ObjectStore) -> list[Redaction]:
    """All redactions, in order. Raises Damaged where one is missing, or does not continue the one before."""
    found = [i.name for i in objects.list(folder_of(ObjectKind.REDACTION)) if parts_of(ObjectKind.REDACTION, i.name)]
    return parse_redactions(objects, found)


def parse_redactions(objects: ObjectStore, names: Sequence[str]) -> list[Redaction]:
    """The redactions of these names, which must be all there are. Raises as `read_redactions` does."""
    redactions: list[Redaction] = []
    for name in sorted(names):
        found = redaction_of(objects, name)
        expected = (len(redactions) + 1, redactions[-1].sha256 if redactions else None)
        if (found.number, found.previous) != expected or name != found.name:
            raise Damaged(
                f"The redaction {name} does not continue the ones before: expected number and sha256 of the record "
                f"before {expected}, found {(found.number, found.previous)}.",
                remedy=f"Restore {folder_of(ObjectKind.REDACTION)}/ from a copy.",
            )
        redactions.append(found)
    return redactions


def redaction_of(objects: ObjectStore, name: str) -> Redaction:
    """The redaction of a name. Raises Damaged."""
    body = read_record(objects, name)
    if body is None or body.get("format") != FORMAT:
        found = None if body is None else body.get("format")
        raise Damaged(f"The redaction {name} has format {found!r}, expected {FORMAT}.", remedy="Update Refold.")
    try:
        own = {field: body[field] for field in Redaction.__dataclass_fields__ if field != "cuts"}
        cuts = {key: typed(RedactedCut(**cut)) for key, cut in body["cuts"].items()}
        return typed(Redaction(**own, cuts=cuts))
    except (KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"The redaction {name} is not one of format {FORMAT}: {error!r}.") from error


def newer_layouts(redactions: Sequence[Redaction], snapshot: str, known: int) -> dict[str, LogLayout]:
    """By log, which objects hold a snapshot, where a redaction after the first `known` changed them."""
    found = ((redaction, redaction.layout(snapshot)) for redaction in redactions[known:])
    return {redaction.log: layout for redaction, layout in found if layout is not None}


def apply_redactions(snapshots: Sequence[Snapshot], redactions: Sequence[Redaction]) -> list[Snapshot]:
    """Snapshots, given as sealed and oldest first, as redactions leave them.

    Raises Damaged where a redaction does not fit the snapshots that it is about, or the identity in a manifest does not
    follow from any number of the redactions.
    """
    _require_fitting({snapshot.key: snapshot for snapshot in snapshots}, redactions)
    stages = [_redacted(snapshots, redactions, count) for count in range(len(redactions) + 1)]
    found = []
    for sealed, *stage in zip(snapshots, *stages, strict=True):
        ids = [each.id for each in stage]
        if sealed.id not in ids:
            raise Damaged(
                f"The manifest {sealed.name} was sealed after redactions that are not there: expected one of the ids "
                f"{', '.join(ids)}, found {sealed.id}.",
                remedy=f"Restore {folder_of(ObjectKind.REDACTION)}/ from a copy.",
            )
        if ids[-1] == sealed.id:
            found.append(sealed)
            continue
        since = ids.index(sealed.id)
        places = {log: _excluded(redactions, log, sealed.key) for log in sealed.logs}
        own = Redacted(sealed, places, [(number, stage[number]) for number in range(since, len(redactions))])
        found.append(replace(stage[-1], redacted=own))
    return found


def _require_fitting(snapshots: Mapping[str, Snapshot], redactions: Sequence[Redaction]) -> None:
    """Raise Damaged with everything in which records do not fit the snapshots that they are about.

    A snapshot that is not there may have been sealed since snapshots were listed; the audit of objects names it.
    """
    faults = [
        f"{redaction.name}, snapshot {key}: {fault}"
        for redaction in redactions
        for key, cut in redaction.cuts.items()
        if key in snapshots
        for fault in _misfits(snapshots[key], redaction, cut)
    ]
    if faults:
        listed = "\n  - ".join(faults)
        raise Damaged(
            f"Redactions do not fit the snapshots that they are about:\n  - {listed}",
            remedy=f"\nRestore {folder_of(ObjectKind.REDACTION)}/ from a copy.",
        )


def _misfits(snapshot: Snapshot, redaction: Redaction, redacted: RedactedCut) -> Iterator[str]:
    cut = snapshot.logs.get(redaction.log)
    if cut is None:
        yield f"expected a log of the snapshot ({', '.join(snapshot.logs)}), found {redaction.log!r}"
        return
    if len(redacted.content) != len(cut.ends):
        yield f"expected the content of {len(cut.ends)} log partitions, found {len(redacted.content)}"
    if (redacted.layout is not None) != redaction.erased:
        yield f"expected objects of its own only where it erased, found {'none' if redaction.erased else 'some'}"
    places = [tuple(place) for place in redacted.places]
    ranges = list(zip(cut.starts, cut.ends, strict=False))
    for place in places:
        found = len(place) == 2 and 0 <= place[0] < len(ranges)
        if not found or not ranges[place[0]][0] <= place[1] < ranges[place[0]][1]:
            yield f"expected events of the snapshot, found the place {':'.join(map(str, place))}"
    if places != sorted(set(places)):
        yield "expected every place once, in order"


def _excluded(redactions: Sequence[Redaction], log: str, key: str) -> list[tuple[int, int]]:
    cuts = [r.cuts[key] for r in redactions if r.log == log and r.excludes and key in r.cuts]
    return sorted({(partition, offset) for cut in cuts for partition, offset in cut.places})


def _redacted(snapshots: Sequence[Snapshot], redactions: Sequence[Redaction], count: int) -> list[Snapshot]:
    """Snapshots with the content and identities that the first so many of the redactions leave."""
    found, before = list[Snapshot](), dict[str, LogCut]()
    for snapshot in snapshots:
        cuts = dict(snapshot.logs)
        for log in {redaction.log for redaction in redactions} & cuts.keys():
            cut = cuts[log]
            own = [r for r in redactions[:count] if r.log == log and r.changes(snapshot.key)]
            content = own[-1].cuts[snapshot.key].content if own else cut.content
            parent = before[log].id if log in before else None
            identity = cut_id(parent, cut.schema, cut.ends, content, cut.events, [r.sha256 for r in own])
            cuts[log] = before[log] = replace(cut, id=identity, content=content)
        found.append(replace(snapshot, logs=cuts))
    return found
