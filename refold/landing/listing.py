"""What lies in landing, by log and by folder: which objects are new, late, changed or gone.

Landing belongs to somebody else's tool; Refold only lists and reads it. Objects whose name starts with `_` or `.`
are markers, no data: `_SUCCESS` in a folder says that the folder is complete.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from refold.errors import FixInput
from refold.storage.objects import ObjectInfo, ObjectStore

MARKER = "_SUCCESS"
_FOLDER = re.compile(r"dt=(\d{4}-\d{2}-\d{2})", re.ASCII)
_PARTITION = re.compile(r"partition=(\d+)", re.ASCII)


@dataclass(frozen=True)
class LandingObject:
    """One landing object: its place, its folder's key, and its own log partition where its path has one."""

    info: ObjectInfo
    folder: str
    partition: int | None

    @property
    def name(self) -> str:
        """The name below the landing root, `<log>/dt=YYYY-MM-DD/...`."""
        return self.info.name


@dataclass
class Landing:
    """The objects of one log, sorted by the bytes of their names, and the folders that carry a marker."""

    log: str
    objects: list[LandingObject] = field(default_factory=list)
    marked: set[str] = field(default_factory=set)

    def folders(self) -> list[str]:
        """The keys of the folders that hold data, ascending."""
        return sorted({item.folder for item in self.objects})


def list_landing(store: ObjectStore, log: str, suffixes: Sequence[str]) -> Landing:
    """List one log's landing; symbolic links are followed, also out of the landing folder.

    Raises FixInput, naming every object that is in no `dt=YYYY-MM-DD` folder or that the log's decoder cannot take,
    and every entry of a local folder that cannot be read as an object.
    """
    landing, strange = Landing(log), []
    infos = store.list(log)
    _refuse_unlisted(store, log, {info.name for info in infos})
    for info in infos:
        parts = info.name.split("/")
        folder = next((day for part in parts[1:-1] if (day := _day(part))), None)
        if parts[-1] == MARKER and folder:
            landing.marked.add(folder)
        if _is_marker(info.name):
            continue
        if folder is None or not info.name.endswith(tuple(suffixes)):
            strange.append(info.name)
            continue
        partition = next((int(m[1]) for part in parts[1:-1] if (m := _PARTITION.fullmatch(part))), None)
        landing.objects.append(LandingObject(info, folder, partition))
    if strange:
        raise FixInput(
            f"Landing {store.url} holds {len(strange)} objects of log {log!r} that cannot be taken: "
            f"{', '.join(strange[:5])}{' …' if len(strange) > 5 else ''}. Expected {log}/dt=YYYY-MM-DD/<name> "
            f"ending in one of {', '.join(suffixes)}.",
            remedy="Move them, rename them, or start their names with '_' if they are no data.",
        )
    return landing


def _refuse_unlisted(store: ObjectStore, log: str, listed: set[str]) -> None:
    """Refuse what a local folder holds and cannot be read: links that lead nowhere, pipes, names like `b.jsonl#1`."""
    dropped = [name for name in store.unlisted(log, listed) if name == log or not _is_marker(name)]
    if dropped:
        raise FixInput(
            f"Landing {store.url} holds {len(dropped)} entries of log {log!r} that cannot be read as objects: "
            f"{', '.join(dropped[:5])}{' …' if len(dropped) > 5 else ''}. Expected files, or links to files, whose "
            f"names do not end in '#' and digits.",
            remedy="Mend or remove links that lead nowhere, and rename the others once they are written.",
        )


def _is_marker(name: str) -> bool:
    return name.rpartition("/")[2].startswith(("_", "."))


def _day(part: str) -> str | None:
    """The key that a part of a path names; None where it is no folder of a day, or of a day that no calendar has."""
    found = _FOLDER.fullmatch(part)
    try:
        return dt.date.fromisoformat(found[1]).isoformat() if found else None
    except ValueError:
        return None


def suspicious(landing: Landing, e_tags: Mapping[str, str]) -> list[LandingObject]:
    """The sealed objects (`e_tags` by name) whose entity tag differs, so that their bytes must be compared."""
    return [item for item in landing.objects if item.name in e_tags and item.info.e_tag != e_tags[item.name]]


def vanished(landing: Landing, sealed: Iterable[str]) -> list[str]:
    """The names of sealed objects that landing no longer holds, sorted."""
    present = {item.name for item in landing.objects}
    return sorted(name for name in sealed if name not in present)
