"""Objects below `logs/`, `states/` and `proofs/` that nothing names: what runs that were killed leave behind.

Objects are written before the record that names them, and are named after their content, so that a rerun writes the
same ones. Therefore an object without a record is not yet rubbish: somebody may be about to name it. What is done:

- `logs/`: listed and never removed. A seal that comes again names the old object, and events are not rebuilt from
  anything else, so no saving of space is worth that risk. Segments that only overtaken layouts name are removed a
  grace after that, where what took their place was read and is sound (`refold.log.overtaken`). Runs of the seen index
  that sealing asks no more, since they went into others, are removed after the same grace;
- `states/`: rows and ledger parts that no record of their store names are removed after a grace. Should a build name
  one in the same moment, it is found damaged when it is read, and folded again;
- `proofs/`: those whose digest no state record and no release names, after the same grace. They can be proven again.

Where a record cannot be read, everything of its store is left, and so is every object whose age is not known.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from refold.errors import Damaged, NotFound
from refold.log.overtaken import asked_runs, find_overtaken, named_by_newest
from refold.storage.objects import ObjectInfo, ObjectStore

GRACE_HOURS = 24
_DIGEST = re.compile(r"[0-9a-f]{32}")
_TOKEN = re.compile(rb"[0-9a-f]{32,}")
_SEEN = re.compile(r"logs/[^/]+/seen/[^/]+")
_NAME = re.compile(rb'"(logs/[^"]+)"')


@dataclass(frozen=True)
class Unreferenced:
    """One object that nothing names; `why` says why it is left where it is not `removable`.

    `overtaken` is a segment that layouts name, of which none counts any more.
    """

    name: str
    size_bytes: int
    removable: bool
    why: str
    overtaken: bool = False


def find_unreferenced(objects: ObjectStore, now: dt.datetime) -> list[Unreferenced]:
    """All objects that no manifest, layout, record or release names, by name; `now` is aware. Reads only."""
    before = now.astimezone(dt.UTC) - dt.timedelta(hours=GRACE_HOURS)
    return [
        *_logs(objects),
        *_seen(objects, before),
        *_overtaken(objects, before),
        *_states(objects, before),
        *_proofs(objects, before),
    ]


def remove_unreferenced(objects: ObjectStore, now: dt.datetime) -> list[str]:
    """Remove what is removable, looking at each again right before; returns the names. A rerun changes nothing."""
    removed = []
    before = now.astimezone(dt.UTC) - dt.timedelta(hours=GRACE_HOURS)
    going = [found for found in find_unreferenced(objects, now) if found.removable]
    named = named_by_newest(objects) if any(found.overtaken for found in going) else set()
    for folder, together in groupby(going, key=lambda found: found.name.rpartition("/")[0]):
        infos = {info.name: info for info in objects.list(folder)}
        for found in together:
            kept = found.overtaken and (named is None or found.name in named)
            if found.name in infos and not kept and _age(infos[found.name], before) == "":
                objects.delete(found.name)
                removed.append(found.name)
    return removed


def _logs(objects: ObjectStore) -> Iterator[Unreferenced]:
    named = _found(objects, "layouts", _NAME)
    for info in objects.list("logs"):
        if named is not None and info.name.encode() not in named and not _SEEN.fullmatch(info.name):
            yield Unreferenced(info.name, info.size_bytes, False, "a seal may be about to name it")


def _seen(objects: ObjectStore, before: dt.datetime) -> Iterator[Unreferenced]:
    asked = asked_runs(objects)
    for info in objects.list("logs"):
        if _SEEN.fullmatch(info.name) and (asked is None or info.name not in asked):
            why = "a layout cannot be read" if asked is None else _age(info, before)
            yield Unreferenced(info.name, info.size_bytes, why == "", why)


def _overtaken(objects: ObjectStore, before: dt.datetime) -> Iterator[Unreferenced]:
    for found in find_overtaken(objects, lambda info: _age(info, before)):
        yield Unreferenced(found.name, found.size_bytes, found.why == "", found.why, overtaken=True)


def _states(objects: ObjectStore, before: dt.datetime) -> Iterator[Unreferenced]:
    for store, infos in _by_store(objects, "states"):
        named = _tokens(objects, f"states/{store}")
        for info in infos:
            if not info.name.endswith(".json") and not _is_named(info, named):
                why = "a record of its store cannot be read" if named is None else _age(info, before)
                yield Unreferenced(info.name, info.size_bytes, why == "", why)


def _proofs(objects: ObjectStore, before: dt.datetime) -> Iterator[Unreferenced]:
    released = _tokens(objects, "releases")
    for store, infos in _by_store(objects, "proofs"):
        named = _tokens(objects, f"states/{store}")
        for info in infos:
            if _is_named(info, released) or (named is not None and _claimed(objects, info, named)):
                continue
            why = "a record cannot be read" if named is None or released is None else _age(info, before)
            yield Unreferenced(info.name, info.size_bytes, why == "", why)


def _claimed(objects: ObjectStore, info: ObjectInfo, named: set[str]) -> bool:
    """Whether a state record has the digest that a proof is for; a proof that cannot be read counts as claimed."""
    try:
        return str(objects.get_json(info.name)["body"]["state_digest"])[:32] in named
    except (Damaged, NotFound, KeyError, TypeError):
        return True


def _by_store(objects: ObjectStore, folder: str) -> Iterator[tuple[str, list[ObjectInfo]]]:
    stores: dict[str, list[ObjectInfo]] = {}
    for info in objects.list(folder):
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


def _is_named(info: ObjectInfo, named: set[str] | None) -> bool:
    stem = _DIGEST.match(info.name.rpartition("/")[2])
    return named is None or stem is None or stem.group() in named


def _age(info: ObjectInfo, before: dt.datetime) -> str:
    """Why an object is left for its age; "" where it is old enough."""
    if info.modified_at is None:
        return "its age is not known"
    return "" if info.modified_at < before else f"younger than {GRACE_HOURS} hours"
