"""The objects of one log in landing, and those that changed or are gone since they were sealed.

Another tool writes landing; Refold only lists and reads it. `refold.landing.layout` says what a name means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from refold.errors import FixInput
from refold.landing.layout import DATED, Layout
from refold.storage.objects import ObjectInfo, ObjectStore


@dataclass(frozen=True)
class LandingObject:
    """One landing object: its place, its folder's key, and its own log partition where its path has one."""

    info: ObjectInfo
    folder: str
    partition: int | None

    @property
    def name(self) -> str:
        """The name below the landing root, the log first."""
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


def list_landing(store: ObjectStore, log: str, suffixes: Sequence[str], layout: Layout = DATED) -> Landing:
    """List one log's landing; symbolic links are followed, also out of the landing folder.

    Raises FixInput, naming every object whose name the layout refuses or whose suffix the decoder does not take, and
    every entry of a local folder that cannot be read as an object.
    """
    landing, strange = Landing(log), []
    infos = store.list(log)
    _refuse_unlisted(store, log, {info.name for info in infos}, layout)
    for info in infos:
        if complete := layout.completes(info.name):
            landing.marked.add(complete)
        if not layout.is_data(info.name):
            continue
        slot = layout.slot(info.name)
        if slot is None or not info.name.endswith(tuple(suffixes)):
            strange.append(info.name)
        else:
            landing.objects.append(LandingObject(info, *slot))
    if strange:
        raise FixInput(
            f"Landing {store.url} holds {len(strange)} objects of log {log!r} that cannot be taken: "
            f"{', '.join(strange[:5])}{' …' if len(strange) > 5 else ''}. Expected {log}/{layout.expected}/<name> "
            f"ending in one of {', '.join(suffixes)}.",
            remedy="Move them, rename them, or start their names with '_' if they are no data.",
        )
    return landing


def _refuse_unlisted(store: ObjectStore, log: str, listed: set[str], layout: Layout) -> None:
    """Refuse what a local folder holds and cannot be read: links that lead nowhere, pipes, names like `b.jsonl#1`."""
    dropped = [name for name in store.unlisted(log, listed) if name == log or layout.is_data(name)]
    if dropped:
        raise FixInput(
            f"Landing {store.url} holds {len(dropped)} entries of log {log!r} that cannot be read as objects: "
            f"{', '.join(dropped[:5])}{' …' if len(dropped) > 5 else ''}. Expected files, or links to files, whose "
            f"names do not end in '#' and digits.",
            remedy="Mend or remove links that lead nowhere, and rename the others once they are written.",
        )


def suspicious(landing: Landing, e_tags: Mapping[str, str]) -> list[LandingObject]:
    """The sealed objects (`e_tags` by name) whose entity tag differs, so that their bytes must be compared."""
    return [item for item in landing.objects if item.name in e_tags and item.info.e_tag != e_tags[item.name]]


def vanished(landing: Landing, sealed: Iterable[str]) -> list[str]:
    """The names of sealed objects that landing no longer holds, sorted."""
    present = {item.name for item in landing.objects}
    return sorted(name for name in sealed if name not in present)
