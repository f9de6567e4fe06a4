"""Superseded segments: older layouts name them, and no snapshot's newest layout does, since compaction replaced them.

Each is judged by the layouts that superseded those that name it: they must be older than a grace period, since somebody
may still read by the old ones, and the segments that replaced it must be there, cover its offsets, and have the bytes
that the layouts give them. Nothing is removed here; `refold.repair.garbage` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from refold.errors import Damaged
from refold.log.layout import LogLayout, SegmentFile
from refold.log.redactions import Redaction, newer_layouts, read_redactions, redaction_of
from refold.storage.names import ObjectKind, folder_of, name_of, parts_of
from refold.storage.objects import ObjectInfo, ObjectStore
from refold.storage.records import read_record


@dataclass(frozen=True)
class SupersededSegment:
    """A segment that only older layouts name; `why` says why it must stay, and is "" where it need not."""

    name: str
    size_bytes: int
    why: str


@dataclass(frozen=True)
class _Layout:
    """A stored layout: which segments it names by log, None where it cannot be read; how many redactions it knew of."""

    info: ObjectInfo
    segments: dict[str, Sequence[SegmentFile]] | None
    redactions: int


@dataclass(frozen=True)
class _Claim:
    """An older layout names a segment; `newest` is the layout that counts in its place."""

    log: str
    segment: SegmentFile
    newest: _Layout


@dataclass
class _Layouts:
    """All layouts of a store."""

    newest: dict[str, _Layout] = field(default_factory=dict)
    older: dict[str, list[_Layout]] = field(default_factory=dict)

    @classmethod
    def read(cls, objects: ObjectStore) -> _Layouts:
        layouts = cls()
        for info in objects.list(folder_of(ObjectKind.LAYOUT)):
            if parts_of(ObjectKind.LAYOUT, info.name):
                folder = _folder(info)
                if folder in layouts.newest:
                    layouts.older.setdefault(folder, []).append(layouts.newest[folder])
                layouts.newest[folder] = _Layout(info, *_segments(objects, info.name))
        for info in objects.list(folder_of(ObjectKind.REDACTION)):
            if parts_of(ObjectKind.REDACTION, info.name):
                layouts._redact(info, redaction_of(objects, info.name))
        return layouts

    def _redact(self, info: ObjectInfo, redaction: Redaction) -> None:
        """Let a redaction supersede the layouts that were written without it, where it changed objects."""
        for key, cut in redaction.cuts.items():
            layout = redaction.layout(key)
            folder = folder_of(ObjectKind.LAYOUT, snapshot=key, manifest=cut.manifest)
            newest = self.newest.get(folder)
            if layout is None or newest is None or newest.redactions >= redaction.number:
                continue
            segments = None if newest.segments is None else {**newest.segments, redaction.log: layout.segments}
            self.older.setdefault(folder, []).append(newest)
            self.newest[folder] = _Layout(info, segments, newest.redactions)

    @property
    def named(self) -> set[str] | None:
        """The segments that newest layouts name; None where one of them cannot be read."""
        found = set[str]()
        for layout in self.newest.values():
            if layout.segments is None:
                return None
            found.update(file.name for files in layout.segments.values() for file in files)
        return found

    def claims(self) -> dict[str, list[_Claim]]:
        """The older layouts that name a segment, by its name."""
        found: dict[str, list[_Claim]] = {}
        for folder, layouts in self.older.items():
            for layout in layouts:
                for log, files in (layout.segments or {}).items():
                    for file in files:
                        found.setdefault(file.name, []).append(_Claim(log, file, self.newest[folder]))
        return found


def find_superseded(objects: ObjectStore, age: Callable[[ObjectInfo], str]) -> Iterator[SupersededSegment]:
    """All segments that only older layouts name, by name; `age` gives why an object is too young, or "".

    Reads the segments that replaced them, each once, and writes nothing.
    """
    layouts = _Layouts.read(objects)
    named, claims, sound = layouts.named, layouts.claims(), dict[str, bool]()
    for info in objects.list(folder_of(ObjectKind.SEGMENT)):
        if info.name in claims and info.name not in (named or ()):
            why = "a layout cannot be read" if named is None else age(info)
            for claim in claims[info.name]:
                why = why or _why_kept(objects, claim, age, sound)
            yield SupersededSegment(info.name, info.size_bytes, why)


def named_by_newest(objects: ObjectStore) -> set[str] | None:
    """The segments that the newest layouts name now; None where one of them cannot be read."""
    return _Layouts.read(objects).named


def current_runs(objects: ObjectStore) -> set[str] | None:
    """The runs of the seen index that sealing reads, of all logs; None where a layout cannot be read."""
    found, settled, redactions = set[str](), set[str](), read_redactions(objects)
    layouts = [info for info in objects.list(folder_of(ObjectKind.LAYOUT)) if parts_of(ObjectKind.LAYOUT, info.name)]
    newest = {_folder(info): info.name for info in layouts}
    for folder in sorted(newest, reverse=True):
        try:
            body = read_record(objects, newest[folder]) or {}
            parts = {log: LogLayout.from_json(part) for log, part in body["logs"].items()}
            parts |= newer_layouts(redactions, body["snapshot"], body.get("redactions", 0))
        except (Damaged, KeyError, TypeError, AttributeError):
            return None
        for log, layout in parts.items():
            if log not in settled and (layout.seen or layout.segments):
                settled.add(log)
                found.update(file.name for file in layout.seen)
    return found


def _folder(info: ObjectInfo) -> str:
    """The folder of a layout, which holds all layouts of its snapshot."""
    return info.name.rpartition("/")[0]


def _segments(objects: ObjectStore, name: str) -> tuple[dict[str, Sequence[SegmentFile]] | None, int]:
    try:
        body = read_record(objects, name)
        if body is None or name_of(ObjectKind.LAYOUT, **body) != name:
            return None, 0
        parts = body["logs"].items()
        found: dict[str, Sequence[SegmentFile]] = {}
        found |= {log: [SegmentFile.from_json(file) for file in part["segments"]] for log, part in parts}
        return found, body.get("redactions", 0)
    except (Damaged, KeyError, TypeError, ValueError, AttributeError):
        return None, 0


def _why_kept(objects: ObjectStore, claim: _Claim, age: Callable[[ObjectInfo], str], sound: dict[str, bool]) -> str:
    """Why what an older layout names must stay; `sound` keeps which segments were read and found sound."""
    newer = claim.newest.info.name
    young = age(claim.newest.info)
    if young:
        return f"{newer} superseded it and is {young}" if young.startswith("younger") else young
    instead = _in_place_of(claim.segment, (claim.newest.segments or {}).get(claim.log, ()))
    if instead is None:
        return f"{newer} does not name all of its events"
    for file in instead:
        if file.name not in sound:
            sound[file.name] = _is_sound(objects, file)
        if not sound[file.name]:
            return f"{file.name}, which holds its events as well, is damaged"
    return ""


def _in_place_of(segment: SegmentFile, files: Sequence[SegmentFile]) -> list[SegmentFile] | None:
    """The segments that hold the offsets of another one, in order; None where there are gaps."""
    reached, found = segment.start, []
    for file in sorted(files, key=lambda each: each.start):
        if file.partition == segment.partition and file.start <= reached < min(file.end, segment.end):
            found.append(file)
            reached = file.end
    return found if reached >= segment.end else None


def _is_sound(objects: ObjectStore, file: SegmentFile) -> bool:
    try:
        objects.get_checked(file.name, file.sha256)
    except Damaged:
        return False
    return True
