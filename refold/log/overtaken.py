"""Segments that compaction has overtaken: older layouts name them, and the newest layout of no snapshot does.

Each is judged by the layouts that overtook those it is named by: they must be older than a grace, since somebody may
still read by the old ones, and the segments that took its place must be there, cover its offsets, and have the bytes
that are said of them. Nothing is removed here; `refold.repair.garbage`, which comes after, does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from refold.errors import Damaged
from refold.log.layout import LogLayout, SegmentFile
from refold.storage.objects import ObjectInfo, ObjectStore
from refold.storage.records import read_record

_LAYOUT = re.compile(r"layouts/([^/]+)/(\d{8})\.json", re.ASCII)


@dataclass(frozen=True)
class Overtaken:
    """A segment that only older layouts name; `why` says why it must stay, and is "" where it need not."""

    name: str
    size_bytes: int
    why: str


@dataclass(frozen=True)
class _Layout:
    """A stored layout: which segments it names by log, None where it cannot be read."""

    info: ObjectInfo
    segments: dict[str, Sequence[SegmentFile]] | None


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
        for info in objects.list("layouts"):
            found = _LAYOUT.fullmatch(info.name)
            if found is not None:
                if found[1] in layouts.newest:
                    layouts.older.setdefault(found[1], []).append(layouts.newest[found[1]])
                layouts.newest[found[1]] = _Layout(info, _segments(objects, info.name, found[1], int(found[2])))
        return layouts

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
        """Who names what by older layouts, by the name of the segment."""
        found: dict[str, list[_Claim]] = {}
        for folder, layouts in self.older.items():
            for layout in layouts:
                for log, files in (layout.segments or {}).items():
                    for file in files:
                        found.setdefault(file.name, []).append(_Claim(log, file, self.newest[folder]))
        return found


def find_overtaken(objects: ObjectStore, age: Callable[[ObjectInfo], str]) -> Iterator[Overtaken]:
    """All segments that only older layouts name, by name; `age` says why an object is too young, "" where it is not.

    Reads the segments that took their place, each once, and writes nothing.
    """
    layouts = _Layouts.read(objects)
    named, claims, sound = layouts.named, layouts.claims(), dict[str, bool]()
    for info in objects.list("logs"):
        if info.name in claims and info.name not in (named or ()):
            why = "a layout cannot be read" if named is None else age(info)
            for claim in claims[info.name]:
                why = why or _why_kept(objects, claim, age, sound)
            yield Overtaken(info.name, info.size_bytes, why)


def named_by_newest(objects: ObjectStore) -> set[str] | None:
    """The segments that the newest layouts name now; None where one of them cannot be read."""
    return _Layouts.read(objects).named


def asked_runs(objects: ObjectStore) -> set[str] | None:
    """The runs of the seen index that sealing would ask, of all logs; None where a layout cannot be read."""
    found, settled = set[str](), set[str]()
    newest = {match[1]: info.name for info in objects.list("layouts") if (match := _LAYOUT.fullmatch(info.name))}
    for folder in sorted(newest, reverse=True):
        try:
            body = read_record(objects, newest[folder])
            parts = {log: LogLayout.from_json(part) for log, part in (body or {})["logs"].items()}
        except (Damaged, KeyError, TypeError, AttributeError):
            return None
        for log, layout in parts.items():
            if log not in settled and (layout.seen or layout.segments):
                settled.add(log)
                found.update(file.name for file in layout.seen)
    return found


def _segments(objects: ObjectStore, name: str, folder: str, number: int) -> dict[str, Sequence[SegmentFile]] | None:
    try:
        body = read_record(objects, name)
        if body is None or (f"{body['snapshot']}-{body['manifest'][:16]}", body["number"]) != (folder, number):
            return None
        return {log: [SegmentFile.from_json(file) for file in part["segments"]] for log, part in body["logs"].items()}
    except (Damaged, KeyError, TypeError, AttributeError):
        return None


def _why_kept(objects: ObjectStore, claim: _Claim, age: Callable[[ObjectInfo], str], sound: dict[str, bool]) -> str:
    """Why what an older layout names must stay; `sound` keeps which segments were read and found sound."""
    newer = claim.newest.info.name
    young = age(claim.newest.info)
    if young:
        return f"{newer} overtook it and is {young}" if young.startswith("younger") else young
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
