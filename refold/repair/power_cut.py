"""What a power cut leaves at the ends of the store's series where files were not synced: objects without content.

A manifest, layout or release without a byte, or of zeros alone, says nothing, and in the middle of its series it can
only be restored from a copy. At the end it can be dropped: readers go back to the release before, a superseded layout
counts again, and a snapshot is sealed again from landing. Whether that gives the snapshot that was sealed is compared
with the sha256 of its manifest, of which the names of its layouts have the beginning. All other kinds of objects
are repaired where they are (`refold.repair.repair_objects`). A disk that keeps what was synced leaves none of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from refold.errors import Conflict, Damaged
from refold.log.snapshot import SnapshotChain
from refold.seal.sealing import Sealing
from refold.storage.names import ObjectKind, folder_of, parts_of
from refold.storage.objects import ObjectStore, sha256_hex


@dataclass(frozen=True)
class EmptySnapshot:
    """One of the newest snapshots, whose manifest or layout has no content.

    Attributes:
        key, name: its key, and the name of its manifest.
        manifest: the bytes of its manifest, which may be sound.
        known: the first 16 digits of the sha256 of its manifest, as names of layouts have them.
    """

    key: str
    name: str
    manifest: bytes
    known: Sequence[str]

    @property
    def keeps_manifest(self) -> bool:
        """Whether only its layout has no content."""
        return not _is_empty(self.manifest)


@dataclass(frozen=True)
class EmptyEnds:
    """What can be dropped: the newest releases and snapshots, the newest first, and superseding layouts, by name."""

    releases: Sequence[str]
    snapshots: Sequence[EmptySnapshot]
    layouts: Sequence[str]

    @property
    def names(self) -> list[str]:
        """The names of the objects to drop, in that order: what names others first."""
        return [*self.releases, *(each.name for each in self.snapshots), *self.layouts]


def find_empty_ends(objects: ObjectStore) -> EmptyEnds:
    """The objects without content at the ends of the series of releases, manifests and layouts. Reads only."""
    layouts: dict[tuple[str, str], list[str]] = {}
    for name in _newest_first(objects, ObjectKind.LAYOUT):
        parts = parts_of(ObjectKind.LAYOUT, name)
        layouts.setdefault((parts["snapshot"], parts["manifest"]), []).append(name)

    def empty(name: str) -> bool:
        return _is_empty(objects.get(name))

    def snapshot(name: str) -> EmptySnapshot:
        key = parts_of(ObjectKind.MANIFEST, name)["snapshot"]
        known = [manifest for other, manifest in layouts if other == key]
        return EmptySnapshot(key, name, objects.get(name), known)

    def unusable(found: EmptySnapshot) -> bool:
        own = layouts.get((found.key, sha256_hex(found.manifest)[:16]), [])
        return not found.keeps_manifest or (bool(own) and all(map(empty, own)))

    superseding = [name for names in layouts.values() for name in takewhile(empty, names[:-1])]
    releases = takewhile(empty, _newest_first(objects, ObjectKind.RELEASE))
    snapshots = takewhile(unusable, map(snapshot, _newest_first(objects, ObjectKind.MANIFEST)))
    return EmptyEnds(list(releases), list(snapshots), sorted(superseding))


def drop_empty_ends(objects: ObjectStore, ends: EmptyEnds) -> None:
    """Remove the objects that were found, the newest first; a rerun changes nothing."""
    for name in ends.names:
        objects.delete(name)
        objects.sync()


def seal_again(
    ends: EmptyEnds, objects: ObjectStore, chain: SnapshotChain, sealing: Sealing
) -> Iterator[tuple[str, bool]]:
    """Seal dropped snapshots from landing, oldest first; yields each key, and whether it is known to be the same again.

    Where landing gives another snapshot, or none, it is not sealed, and manifests that had content are put back.

    Raises Conflict or Damaged then.
    """
    waiting = list(ends.snapshots)
    try:
        while waiting:
            _seal(waiting[-1], objects, chain, sealing)
            yield waiting[-1].key, bool(waiting[-1].known)
            waiting.pop()
    except (Conflict, Damaged):
        for each in waiting:
            if each.keeps_manifest:
                objects.create(each.name, each.manifest)
        raise


def _seal(wanted: EmptySnapshot, objects: ObjectStore, chain: SnapshotChain, sealing: Sealing) -> None:
    for _ in sealing.seal(wanted.key):
        pass
    remedy = f"Restore in landing what it held, or {wanted.name} from a copy, and run this again. "
    if wanted.key not in chain:
        raise Damaged(f"Landing has nothing to seal for the snapshot {wanted.key}.", remedy=remedy)
    found = chain.get(wanted.key).sha256[:16]
    if wanted.known and found not in wanted.known:
        other = folder_of(ObjectKind.LAYOUT, snapshot=wanted.key, manifest=found)
        for name in (wanted.name, *(info.name for info in objects.list(other))):
            objects.delete(name)
            objects.sync()
        raise Conflict(
            f"Landing no longer gives the snapshot {wanted.key} that was sealed: expected a manifest whose sha256 "
            f"begins with {' or '.join(wanted.known)}, found {found}. It is not sealed.",
            remedy=f"{remedy}Or accept what landing holds now: `refold rebuild` seals it.",
        )


def _newest_first(objects: ObjectStore, kind: ObjectKind) -> list[str]:
    return [info.name for info in objects.list(folder_of(kind)) if parts_of(kind, info.name)][::-1]


def _is_empty(data: bytes) -> bool:
    return not data.strip(b"\0")
