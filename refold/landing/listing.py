"""The objects of one log in landing, those that are skipped, and those that changed or vanished since they were sealed.

Another tool writes landing; Refold only lists and reads it. `refold.landing.layout` says what a name means.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from refold.errors import NotFound, RefusedLanding, UnsettledObject
from refold.landing.layout import DATED, Layout, Skip, has_offset, landing_order
from refold.storage.objects import ObjectInfo, ObjectStore

_SIDECAR = re.compile(r"(.+)\.(?:keys|headers)(?:\.[A-Za-z0-9]+)+")
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class LandingObject:
    """One landing object: its place, its snapshot key, and the log partition and start offset that its name has."""

    info: ObjectInfo
    folder: str
    partition: int | None
    offset: int | None = None
    turn: int | None = None

    @property
    def name(self) -> str:
        """The name below the landing root, the folder of the log first."""
        return self.info.name


@dataclass(frozen=True)
class Skipped:
    """A landing object that is not data of its log."""

    log: str
    info: ObjectInfo
    reason: Skip


@dataclass
class Landing:
    """The objects of one log in the order of sealing, those that are skipped, and the folders that have a marker."""

    log: str
    objects: list[LandingObject] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    marked: set[str] = field(default_factory=set)

    def folders(self) -> list[str]:
        """The keys of the folders that hold data, ascending."""
        return sorted({item.folder for item in self.objects})

    def infos(self) -> Iterator[ObjectInfo]:
        """All objects, also those that are skipped: they may have been sealed under another declaration."""
        yield from (item.info for item in self.objects)
        yield from (item.info for item in self.skipped)


def list_landing(
    store: ObjectStore, log: str, suffixes: Sequence[str], layout: Layout = DATED, folder: str | None = None
) -> Landing:
    """List one log's landing, in the order of sealing; symbolic links within landing are followed.

    The order is that of `landing_order`, or where the layout gives turns by key, turn, log partition and offset.

    Args:
        store, log: landing, and the name of the log.
        suffixes: the endings of names of data.
        layout: what the names say.
        folder: the folder of the log; by default its name.

    Raises RefusedLanding, naming every object that is neither data nor skipped (the layout refuses its name, the
    decoder does not take its suffix, or it holds Kafka keys or headers without the values), every entry of a local
    folder that cannot be read as an object, and every object outside landing that a symbolic link leads to.
    """
    folder = log if folder is None else folder
    landing, strange, alone = Landing(log), [], []
    infos = store.list(folder)
    names = {info.name for info in infos}
    _refuse_unlisted(store, log, names, layout, folder)
    _refuse_outside(store, log, names)
    folders = _folders(names)
    for info in infos:
        name = below(folder, info.name)
        if complete := layout.completes(name):
            landing.marked.add(complete)
            continue
        slot = layout.slot(name, info.modified_at) if name.endswith(tuple(suffixes)) else None
        sidecar_of = _SIDECAR.fullmatch(info.name)
        if skip := layout.skip(name):
            landing.skipped.append(Skipped(log, info, skip))
        elif info.size_bytes == 0 and (slot is None or info.name in folders):
            landing.skipped.append(Skipped(log, info, Skip.MARKER))
        elif sidecar_of and any(sidecar_of[1] + suffix in names for suffix in suffixes):
            landing.skipped.append(Skipped(log, info, Skip.SIDECAR))
        elif sidecar_of and has_offset(sidecar_of[1]):
            alone.append(info.name)
        elif slot is None:
            strange.append(info.name)
        else:
            landing.objects.append(LandingObject(info, *slot))
    if strange or alone:
        raise _refusal(store, log, strange, alone, f"{folder}/{layout.expected} ending in {', '.join(suffixes)}")
    landing.objects.sort(key=_order)
    return landing


def below(folder: str, name: str) -> str:
    """The name of an object below a folder.

    >>> below("topics/t", "topics/t/a.json"), below("", "a.json")
    ('a.json', 'a.json')
    """
    return name.removeprefix(f"{folder}/") if folder else name


def _order(item: LandingObject) -> tuple[object, ...]:
    if item.turn is None:
        return ("", 0, 0, 0, landing_order(item.name))
    return (item.folder, item.turn, item.partition or 0, item.offset or 0, landing_order(item.name))


def _folders(names: Iterable[str]) -> set[str]:
    """All folders that objects are in."""
    folders: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _refusal(
    store: ObjectStore, log: str, strange: Sequence[str], alone: Sequence[str], expected: str
) -> RefusedLanding:
    """The error for names that the log does not take, and for keys or headers that have no values beside them."""
    faults = []
    if strange:
        faults.append(
            f"Landing {store.url} holds {len(strange)} objects of log {log!r} that cannot be taken: {_shown(strange)}. "
            f"Expected one of {expected}."
        )
    if alone:
        faults.append(
            f"Landing {store.url} holds {len(alone)} objects of log {log!r} with Kafka keys or headers but without the "
            f"object of values beside them: {_shown(alone)}. Keys alone are deletes whose order is unknown."
        )
    remedy = "Move them, rename them, or start their names with '_' if they are not data."
    return RefusedLanding("\n".join(faults), remedy=remedy)


def _shown(names: Collection[str]) -> str:
    return ", ".join(islice(names, _NAMES_SHOWN)) + (" …" if len(names) > _NAMES_SHOWN else "")


def _refuse_unlisted(store: ObjectStore, log: str, listed: set[str], layout: Layout, folder: str) -> None:
    """Refuse what a local folder holds and cannot be read: links that lead nowhere, pipes, names like `b.jsonl#1`."""
    found = store.unlisted(folder, listed)
    dropped = [name for name in found if name == folder or layout.skip(below(folder, name)) is None]
    if dropped:
        raise RefusedLanding(
            f"Landing {store.url} holds {len(dropped)} entries of log {log!r} that cannot be read as objects: "
            f"{_shown(dropped)}. Expected files, or links to files, whose names do not end in '#' and digits.",
            remedy="Mend or remove links that lead nowhere, and rename the others once they are written.",
        )


def _refuse_outside(store: ObjectStore, log: str, names: Collection[str]) -> None:
    """Refuse links out of landing: whoever may write to it could have any file read that this process can read."""
    found = [f"{name} (a link to {path})" for name, path in store.outside(sorted(names)).items()]
    if found:
        raise RefusedLanding(
            f"Landing {store.url} holds {len(found)} objects of log {log!r} that symbolic links take from outside it: "
            f"{_shown(found)}. Expected objects within landing.",
            remedy="Move them into landing, or set REFOLD_LANDING_LINKS to the folders that links may lead to.",
        )


READ_BYTES = 8 << 20
"""Larger objects are read in pieces of so many bytes."""


def read_listed(landing: ObjectStore, listed: ObjectInfo) -> bytes:
    """The bytes of an object that landing listed.

    Raises UnsettledObject where its size or entity tag is another one now, or there is no such object to read.
    """
    try:
        data, now = landing.get_with_info(listed.name)
    except NotFound as error:
        raise _unsettled(landing, listed, f"none that can be read ({error})") from error
    _check_settled(landing, listed, len(data), now.e_tag)
    return data


def read_pieces(landing: ObjectStore, listed: ObjectInfo, piece_bytes: int = READ_BYTES) -> Iterator[bytes]:
    """The bytes of an object that landing listed, in pieces; a change is noticed at the latest after the last one.

    Raises as `read_listed`.
    """
    if listed.size_bytes <= piece_bytes:
        yield read_listed(landing, listed)
        return
    for start in range(0, listed.size_bytes, piece_bytes):
        size_bytes = min(piece_bytes, listed.size_bytes - start)
        try:
            (piece,) = landing.get_ranges(listed.name, [(start, size_bytes)])
        except NotFound as error:
            raise _unsettled(landing, listed, f"none that can be read ({error})") from error
        _check_settled(landing, listed, listed.size_bytes - size_bytes + len(piece), listed.e_tag)
        yield bytes(piece)
    now = {info.name: info for info in landing.scan(listed.name.rpartition("/")[0])}.get(listed.name)
    if now is None:
        raise _unsettled(landing, listed, "none")
    _check_settled(landing, listed, now.size_bytes, now.e_tag)


def _check_settled(landing: ObjectStore, listed: ObjectInfo, size_bytes: int, e_tag: str) -> None:
    if (size_bytes, e_tag or listed.e_tag) != (listed.size_bytes, listed.e_tag or e_tag):
        raise _unsettled(landing, listed, f"{size_bytes} bytes with entity tag {e_tag!r}")


def _unsettled(landing: ObjectStore, listed: ObjectInfo, found: str) -> UnsettledObject:
    return UnsettledObject(
        f"Landing {landing.url} listed the object {listed.name} with {listed.size_bytes} bytes and entity tag "
        f"{listed.e_tag!r}; on reading it, found {found}.",
        remedy="Run again when nothing writes to it any more; nothing of it was sealed. Write objects under a hidden "
        "name and rename them when they are complete. Rename an object whose key ends in '/'.",
    )


def suspicious(landing: Landing, e_tags: Mapping[str, str]) -> list[ObjectInfo]:
    """The sealed objects (`e_tags` by name) whose entity tag differs, so that their bytes must be compared."""
    return [info for info in landing.infos() if info.name in e_tags and info.e_tag != e_tags[info.name]]


def vanished(landing: Landing, sealed: Iterable[str]) -> list[str]:
    """The names of sealed objects that landing no longer holds, sorted; one that would be skipped today is there."""
    present = {info.name for info in landing.infos()}
    return sorted(name for name in sealed if name not in present)
