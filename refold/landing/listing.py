"""What lies in landing, by log and by folder: which objects are new, late, changed or gone.

Landing belongs to somebody else's tool; Refold only lists and reads it. Objects whose name starts with `_` or `.`
are markers, no data: `_SUCCESS` in a folder says that the folder is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from refold.errors import FixInput
from refold.storage import ObjectInfo, ObjectStore

MARKER = "_SUCCESS"
_FOLDER = re.compile(r"dt=(\d{4}-\d{2}-\d{2})$")
_PARTITION = re.compile(r"partition=(\d+)$")


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
    """List one log's landing.

    Raises FixInput, naming every object that is in no `dt=YYYY-MM-DD` folder or that the log's decoder cannot take.
    """
    landing, strange = Landing(log), []
    for info in store.list(log):
        parts = info.name.split("/")
        folder = next((m[1] for part in parts[1:-1] if (m := _FOLDER.match(part))), None)
        if parts[-1] == MARKER and folder:
            landing.marked.add(folder)
        if parts[-1].startswith(("_", ".")):
            continue
        if folder is None or not info.name.endswith(tuple(suffixes)):
            strange.append(info.name)
            continue
        partition = next((int(m[1]) for part in parts[1:-1] if (m := _PARTITION.match(part))), None)
        landing.objects.append(LandingObject(info, folder, partition))
    if strange:
        raise FixInput(
            f"Landing {store.url} holds {len(strange)} objects of log {log!r} that cannot be taken: "
            f"{', '.join(strange[:5])}{' …' if len(strange) > 5 else ''}. Expected {log}/dt=YYYY-MM-DD/<name> "
            f"ending in one of {', '.join(suffixes)}.",
            remedy="Move them, rename them, or start their names with '_' if they are no data.",
        )
    return landing


def suspicious(landing: Landing, e_tags: Mapping[str, str]) -> list[LandingObject]:
    """The sealed objects (`e_tags` by name) whose entity tag differs, so that their bytes must be compared."""
    return [item for item in landing.objects if item.name in e_tags and item.info.e_tag != e_tags[item.name]]


def vanished(landing: Landing, sealed: Iterable[str]) -> list[str]:
    """The names of sealed objects that landing no longer holds, sorted."""
    present = {item.name for item in landing.objects}
    return sorted(name for name in sealed if name not in present)
