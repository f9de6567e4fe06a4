"""What an unknown bucket or folder holds, from all its names and a bounded sample of its bytes, and a log to declare.

Nothing is written, and no project is needed. `naming` finds layouts, `content` reads samples, `profile` and `identity`
find columns, `proposal` makes the declaration and checks it against the sample. `refold log inspect` shows it.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from refold.errors import RefoldError
from refold.landing.inspect import proposal as proposals
from refold.landing.inspect.content import Content, Format, read
from refold.landing.inspect.naming import Named, named
from refold.landing.inspect.profile import Field
from refold.landing.inspect.proposal import Proposal, propose
from refold.landing.layout import is_real
from refold.landing.listing import LandingObject
from refold.storage.objects import ObjectInfo, ObjectStore

OBJECTS_MAX = 12
"""So many objects of each log are read."""
_LOGS_MAX = 20
_SHOWN = 5


@dataclass(frozen=True)
class OffsetRange:
    """The offsets in the names of one log partition.

    Attributes:
        first, last: the lowest and the highest.
        repeated: offsets that more than one object has.
        gaps, overlaps: where the records of an object that was read whole end before or after the next one begins, as
            (expected offset, found offset).
        compared: of how many pairs of neighbours that is known.
    """

    partition: int
    objects: int
    first: int
    last: int
    repeated: Sequence[int]
    gaps: Sequence[tuple[int, int]]
    overlaps: Sequence[tuple[int, int]]
    compared: int


@dataclass(frozen=True)
class LogFound:
    """One log that was found.

    Attributes:
        folder: below the URL; "" for all of it.
        topic: where names have one.
        layout: for people.
        objects, size_bytes: all, by the listing.
        sampled: the objects that were read, and `bytes_read` of them.
        formats, compressions: of those, with how many have each.
        keys: the days of objects, ascending, and the `missing` ones between them.
        by_arrival: whether the days are those on which objects were written, since names have none.
        offsets: by log partition, where names have offsets.
        proposal: a declaration; None where there is a reason.
        reasons: why there is no declaration, or what it does not cover.
    """

    folder: str
    topic: str
    layout: str
    objects: int
    size_bytes: int
    sampled: Sequence[str]
    bytes_read: int
    formats: Mapping[str, int]
    compressions: Mapping[str, int]
    keys: Sequence[str]
    missing: Sequence[str]
    by_arrival: bool
    offsets: Sequence[OffsetRange]
    fields: Sequence[Field]
    proposal: Proposal | None
    reasons: Sequence[str]


@dataclass(frozen=True)
class Findings:
    """What a place holds.

    Attributes:
        url: for people.
        objects, size_bytes: all that is listed.
        logs: by folder and topic.
        strange: names that fit no layout and are not hidden.
    """

    url: str
    objects: int
    size_bytes: int
    logs: Sequence[LogFound]
    strange: Sequence[str]

    @property
    def first_day(self) -> str | None:
        """The first day of any log, from which a project may begin."""
        return min((log.keys[0][:10] for log in self.logs if log.keys), default=None)

    def declaration(self) -> str:
        """Python that declares every log for which there is a proposal; empty where there is none."""
        found = [log for log in self.logs if log.proposal]
        if not found:
            return ""
        body = [line for log in found for line in (*_said(log), *_lines(log), "")]
        return "\n".join([*_imports(found), "", *body])

    def to_json(self) -> dict[str, Any]:
        """All findings as values that JSON has."""
        logs = [_log_json(log) for log in self.logs]
        totals = {"url": self.url, "objects": self.objects, "bytes": self.size_bytes, "strange": list(self.strange)}
        return {**totals, "first_day": self.first_day, "logs": logs, "declaration": self.declaration()}


def inspect(url: str, *, objects_max: int = OBJECTS_MAX) -> Findings:
    """Inspect a bucket or folder: all names, and at most `objects_max` objects of each log.

    Raises NotFound for a folder that is not there, Unavailable, and FixInput for a place that cannot be read.
    """
    return inspect_store(ObjectStore.open(url, must_exist=True), objects_max=objects_max)


def inspect_store(store: ObjectStore, *, objects_max: int = OBJECTS_MAX) -> Findings:
    """As `inspect`, of a store that is open."""
    infos = store.list()
    logs, strange = named(infos)
    found = [_log(store, each, objects_max) for each in logs[:_LOGS_MAX]]
    strange += [f"{each.folder}/" for each in logs[_LOGS_MAX:]]
    return Findings(store.url, len(infos), sum(info.size_bytes for info in infos), found, strange)


def _log(store: ObjectStore, log: Named, objects_max: int) -> LogFound:
    reasons = list[str]()
    endings = {_ending(info.name) for info in log.infos}
    try:
        log = log.listed(store, tuple(sorted(endings)))
    except RefoldError as error:
        reasons.append(str(error).splitlines()[0])
    sample = _sample(log, objects_max)
    contents, bytes_read = list[Content](), 0
    for info in sample:
        content, size = read(store, info)
        contents.append(content)
        bytes_read += size
    reasons += [f"{each.info.name}: {each.problem}" for each in contents if each.problem][:_SHOWN]
    usable = [each for each in contents if each.format and each.records and not each.problem]
    proposal: Proposal | str | None = None
    if len({each.format for each in usable}) == 1:
        is_whole = len(sample) == len(log.infos) and all(each.whole for each in contents)
        proposal = propose(log, usable, is_whole=is_whole)
    else:
        reasons.append("objects of several formats" if usable else "no record that can be read")
    if isinstance(proposal, str):
        reasons.append(proposal)
        proposal = None
    return _found(log, contents, bytes_read, proposal, reasons)


def _found(
    log: Named, contents: Sequence[Content], bytes_read: int, proposal: Proposal | None, reasons: Sequence[str]
) -> LogFound:
    days = sorted({item.folder for item in log.objects if is_real(item.folder)})
    records = {each.info.name: len(each.records) for each in contents if each.whole and not each.problem}
    arrival = getattr(log.layout, "arrival", None) is not None and "{date}" not in log.shown
    return LogFound(
        log.folder,
        log.topic,
        f"{log.title}: {log.shown}",
        len(log.infos),
        sum(info.size_bytes for info in log.infos),
        [each.info.name for each in contents],
        bytes_read,
        _counted(str(each.format or "unknown") for each in contents),
        _counted(each.compression or "none" for each in contents),
        days,
        _missing(days),
        arrival,
        list(_ranges(log.objects, records)),
        proposal.fields if proposal else (),
        proposal,
        list(reasons),
    )


def _counted(values: Iterator[str]) -> dict[str, int]:
    counts = defaultdict[str, int](int)
    for value in values:
        counts[value] += 1
    return dict(sorted(counts.items()))


def _ending(name: str) -> str:
    """The suffix of a name: what follows the last point before which no digit and no text of a name can be."""
    parts = name.rpartition("/")[2].split(".")
    ends = [part for part in parts[1:] if part.isascii() and part.isalpha() | (part.isalnum() and len(part) < 8)]
    known = [part for part in ends[-2:] if not part.isdigit()]
    return "." + ".".join(known) if known and name.endswith("." + ".".join(known)) else ""


def _sample(log: Named, objects_max: int) -> list[ObjectInfo]:
    """Objects from the beginning, the middle and the end, in pairs of neighbours."""
    infos = [item.info for item in log.objects] or list(log.infos)
    if len(infos) <= objects_max:
        return infos
    pairs = max(objects_max // 2, 1)
    starts = [round(n * (len(infos) - 2) / max(pairs - 1, 1)) for n in range(pairs)]
    return [infos[n] for n in sorted({place for start in starts for place in (start, start + 1)})]


def _missing(days: Sequence[str]) -> list[str]:
    """The days between the first and the last that no object is of."""
    found = {dt.date.fromisoformat(key[:10]) for key in days}
    if not found:
        return []
    first, count = min(found), (max(found) - min(found)).days
    every = (first + dt.timedelta(days=n) for n in range(count))
    return [str(day) for day in every if day not in found]


def _ranges(objects: Sequence[LandingObject], records: Mapping[str, int]) -> Iterator[OffsetRange]:
    """The offsets by log partition; `records` has the counts of objects that were read whole."""
    partitions = defaultdict[int, list[tuple[int, str]]](list)
    for item in objects:
        if item.offset is not None:
            partitions[item.partition or 0].append((item.offset, item.name))
    for partition, found in sorted(partitions.items()):
        found.sort()
        pairs = list(pairwise(found))
        compared = [(start + records[name], after) for (start, name), (after, _) in pairs if name in records]
        repeated = sorted({one for (one, _), (other, _) in pairs if one == other})
        gaps = [(expected, after) for expected, after in compared if after > expected]
        overlaps = [(expected, after) for expected, after in compared if after < expected]
        first, last = found[0][0], found[-1][0]
        yield OffsetRange(partition, len(found), first, last, repeated, gaps, overlaps, len(compared))


def _imports(logs: Sequence[LogFound]) -> list[str]:
    wanted = defaultdict[str, set[str]](set)
    for log in logs:
        assert log.proposal is not None
        for module, name in proposals.imports(log.proposal):
            wanted[module].add(name)
    standard = [module for module in ("dataclasses", "enum") if module in wanted]
    own = sorted(module for module in wanted if module not in standard)
    shown = {module: f"from {module} import {', '.join(sorted(wanted[module]))}" for module in wanted}
    return [*(shown[each] for each in standard), *([""] if standard else []), *(shown[each] for each in own)]


def _said(log: LogFound) -> Iterator[str]:
    """Comments before a declaration: on what it rests, and what it leaves open."""
    p = log.proposal
    assert p is not None
    bad = ", ".join(f"{count} {reason}" for reason, count in (p.bad or {}).items())
    read = f"{len(log.sampled)} of {log.objects:,} objects were read"
    yield f"# {read}: {p.checked:,} records{'; bad: ' + bad if bad else ''}."
    if log.keys:
        arrived = ", by the time of arrival" if log.by_arrival else ""
        yield f"# Days {log.keys[0]} to {log.keys[-1]}{arrived}, {len(log.missing)} missing."
    if not p.changes and not p.event_id:
        yield "# No field is unique: a record that is landed again in another object counts again."
    yield from (f"# {reason}" for reason in log.reasons)


def _lines(log: LogFound) -> Iterator[str]:
    assert log.proposal is not None
    return proposals.lines(log.proposal, log.folder)


def _log_json(log: LogFound) -> dict[str, Any]:
    plain = {name: value for name, value in vars(log).items() if name not in ("fields", "proposal", "offsets")}
    p = log.proposal
    return {
        **plain,
        "offsets": [vars(each) for each in log.offsets],
        "fields": [field_json(each) for each in log.fields],
        "candidates": {"keys": p.found.keys, "ids": p.found.ids, "times": p.found.times} if p else None,
        "checked": p.checked if p else 0,
        "bad": p.bad if p else None,
    }


def field_json(field: Field) -> dict[str, Any]:
    """One field as values that JSON has."""
    share = field.nulls / field.records if field.records else 0.0
    kind = str(field.type) if field.type else None
    names = {"field": field.dotted, "column": field.column, "type": kind, "null share": round(share, 4)}
    ranges = {"minimum": field.minimum, "maximum": field.maximum, "distinct": field.distinct}
    return {**names, **ranges, "unique": field.is_unique, "note": field.note}


__all__ = ["Findings", "Format", "LogFound", "OffsetRange", "inspect", "inspect_store"]
