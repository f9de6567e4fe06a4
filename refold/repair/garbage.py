"""Objects that nothing names: what killed runs leave behind, and what compaction and sealing have replaced.

Objects are written before the record that names them, and are named after their content, so that a rerun writes the
same ones. Therefore an object without a record is not garbage yet: a run may be about to name it. What is done:

- Segments, repeats and quarantine that no layout names are listed and never removed. A seal that is run again names
  the old object, and events cannot be made again, so no saving of space is worth that risk. Segments that only
  superseded layouts name are removed after a grace period, where the segments that replaced them were read and are
  sound (`refold.log.superseded`). Runs of the seen index that sealing no longer reads are removed after the same
  period.
- Rows and ledger parts that no record of their store names are removed after the grace period. If a build names one
  at the same moment, it is found damaged when it is read, and folded again.
- Partial aggregates that the newest proof of their store does not name are removed after the same period. A rebuild
  that misses them proves from offset 0.
- Proofs whose digest no state record and no release names are removed after the same period. They can be made again.

Where a record cannot be read, everything of its store is kept, and so is every object of unknown age.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from refold.errors import Damaged, NotFound
from refold.log.superseded import current_runs, find_superseded, named_by_newest
from refold.storage.names import ObjectKind, folder_of, kind_of, parts_of
from refold.storage.objects import ObjectInfo, ObjectStore

GRACE_HOURS = 24
_TOKEN = re.compile(rb"[0-9a-f]{32,}")
_NAME = re.compile(rf'"({folder_of(ObjectKind.SEGMENT)}/[^"]+)"'.encode())
_LISTED_OF_LOGS = (ObjectKind.SEGMENT, ObjectKind.REPEATS, ObjectKind.QUARANTINE)
_PARTS_OF_STATES = (ObjectKind.ROWS, ObjectKind.CHANGES, ObjectKind.LEDGER_PART)


@dataclass(frozen=True)
class Unreferenced:
    """One object that nothing names; `why` says why it is kept where it is not `removable`.

    `superseded` is a segment that only replaced layouts name.
    """

    name: str
    size_bytes: int
    removable: bool
    why: str
    superseded: bool = False


def find_unreferenced(objects: ObjectStore, now: dt.datetime) -> list[Unreferenced]:
    """All objects that no manifest, layout, record or release names; `now` is aware. Reads only.

    They come in the order of `COLLECTORS`, and by name; last those whose names Refold does not give.
    """
    before = now.astimezone(dt.UTC) - dt.timedelta(hours=GRACE_HOURS)
    found = [each for collect in dict.fromkeys(COLLECTORS.values()) for each in collect(objects, before)]
    return [*found, *_unknown(objects)]


def remove_unreferenced(objects: ObjectStore, now: dt.datetime) -> list[str]:
    """Remove what is removable, looking at each again right before; returns the names. A rerun changes nothing."""
    removed, count = list[str](), 0
    before = now.astimezone(dt.UTC) - dt.timedelta(hours=GRACE_HOURS)
    going = [found for found in find_unreferenced(objects, now) if found.removable]
    named = named_by_newest(objects) if any(found.superseded for found in going) else set()
    for folder, together in groupby(going, key=lambda found: found.name.rpartition("/")[0]):
        infos = {info.name: info for info in objects.list(folder)}
        for found in together:
            kept = found.superseded and (named is None or found.name in named)
            if found.name in infos and not kept and _age(infos[found.name], before) == "":
                removed.append(found.name)
        objects.delete_all(removed[count:])
        count = len(removed)
    objects.sync()
    return removed


def _log_objects(objects: ObjectStore, before: dt.datetime) -> Iterator[Unreferenced]:
    """All but runs of the seen index; then the segments that only superseded layouts name."""
    sets = [_found(objects, folder_of(kind), _NAME) for kind in (ObjectKind.LAYOUT, ObjectKind.REDACTION)]
    named = None if None in sets else {name for each in sets for name in each or ()}
    for info in objects.list(folder_of(ObjectKind.SEGMENT)):
        if named is not None and info.name.encode() not in named and kind_of(info.name) in _LISTED_OF_LOGS:
            yield Unreferenced(info.name, info.size_bytes, False, "a seal may be about to name it")
    for found in find_superseded(objects, lambda info: _age(info, before)):
        yield Unreferenced(found.name, found.size_bytes, found.why == "", found.why, superseded=True)


def _seen_ids(objects: ObjectStore, before: dt.datetime) -> Iterator[Unreferenced]:
    current = current_runs(objects)
    for info in objects.list(folder_of(ObjectKind.SEEN_IDS)):
        if kind_of(info.name) is ObjectKind.SEEN_IDS and (current is None or info.name not in current):
            yield _judged(info, before, "a layout cannot be read" if current is None else "")


def _states(objects: ObjectStore, before: dt.datetime) -> Iterator[Unreferenced]:
    for store, infos in _by_store(objects, ObjectKind.ROWS):
        named = _tokens(objects, folder_of(ObjectKind.STATE_RECORD, store=store))
        for info in infos:
            kind = kind_of(info.name)
            if kind in _PARTS_OF_STATES and not _is_named(kind, info, named):
                yield _judged(info, before)


def _proofs(objects: ObjectStore, before: dt.datetime) -> Iterator[Unreferenced]:
    released = _tokens(objects, folder_of(ObjectKind.RELEASE))
    for store, infos in _by_store(objects, ObjectKind.PROOF):
        named = _tokens(objects, folder_of(ObjectKind.STATE_RECORD, store=store))
        for info in infos:
            if kind_of(info.name) is not ObjectKind.PROOF or _is_named(ObjectKind.PROOF, info, released):
                continue
            if named is None or not _is_claimed(objects, info, named):
                yield _judged(info, before, "a record cannot be read" if named is None else "")


def _unknown(objects: ObjectStore) -> Iterator[Unreferenced]:
    """Objects beside those of Refold whose names are not of any kind, such as numbers outside a series."""
    for folder in sorted({folder_of(kind).split("/")[0] for kind in ObjectKind}):
        for info in objects.list(folder):
            if kind_of(info.name) is None:
                yield Unreferenced(info.name, info.size_bytes, False, "its name is not one that Refold gives")


def _partials(objects: ObjectStore, before: dt.datetime) -> Iterator[Unreferenced]:
    """All but those of the proof of each store that was written last, since rebuilds go on from that one alone."""
    proofs = dict(_by_store(objects, ObjectKind.PROOF))
    for store, infos in _by_store(objects, ObjectKind.PARTIALS):
        newest = max(proofs.get(store, []), key=lambda info: (str(info.modified_at), info.name), default=None)
        data = b"" if newest is None else objects.get(newest.name)
        for info in infos:
            if kind_of(info.name) is ObjectKind.PARTIALS and info.name.encode() not in data:
                yield _judged(info, before)


Collector = Callable[[ObjectStore, dt.datetime], Iterator[Unreferenced]]
"""Finds the objects of some kinds that nothing names; those modified before a time are old enough to be removed."""

COLLECTORS: Mapping[ObjectKind, Collector] = {
    ObjectKind.SEGMENT: _log_objects,
    ObjectKind.REPEATS: _log_objects,
    ObjectKind.QUARANTINE: _log_objects,
    ObjectKind.SEEN_IDS: _seen_ids,
    ObjectKind.ROWS: _states,
    ObjectKind.CHANGES: _states,
    ObjectKind.LEDGER_PART: _states,
    ObjectKind.PARTIALS: _partials,
    ObjectKind.PROOF: _proofs,
}
"""What finds each kind; objects of other kinds are never removed, or by `refold.release.retention`."""


def _judged(info: ObjectInfo, before: dt.datetime, why: str = "") -> Unreferenced:
    why = why or _age(info, before)
    return Unreferenced(info.name, info.size_bytes, why == "", why)


def _is_claimed(objects: ObjectStore, info: ObjectInfo, named: set[str]) -> bool:
    """Whether a state record has the digest that a proof is for; a proof that cannot be read counts as claimed."""
    try:
        return str(objects.get_json(info.name)["body"]["state_digest"])[:32] in named
    except (Damaged, NotFound, KeyError, TypeError):
        return True


def _by_store(objects: ObjectStore, kind: ObjectKind) -> Iterator[tuple[str, list[ObjectInfo]]]:
    stores: dict[str, list[ObjectInfo]] = {}
    for info in objects.list(folder_of(kind)):
        stores.setdefault(info.name.split("/")[1], []).append(info)
    yield from stores.items()


def _tokens(objects: ObjectStore, folder: str) -> set[str] | None:
    """The first 32 digits of every hash in the JSON objects below a folder; None where one of them cannot be read."""
    found = _found(objects, folder, _TOKEN)
    return None if found is None else {token[:32].decode() for token in found}


def _found(objects: ObjectStore, folder: str, pattern: re.Pattern[bytes]) -> set[bytes] | None:
    found: set[bytes] = set()
    for info in objects.list(folder):
        if info.name.endswith(".json"):
            try:
                data = objects.get(info.name)
                json.loads(data)
            except (NotFound, ValueError):
                return None
            found.update(pattern.findall(data))
    return found


def _is_named(kind: ObjectKind, info: ObjectInfo, named: set[str] | None) -> bool:
    """Whether an object is named; where a record cannot be read (None), it may be."""
    return named is None or parts_of(kind, info.name)["sha256"][:32] in named


def _age(info: ObjectInfo, before: dt.datetime) -> str:
    """Why an object is kept for its age; "" where it is old enough."""
    if info.modified_at is None:
        return "its age is not known"
    return "" if info.modified_at < before else f"younger than {GRACE_HOURS} hours"
