"""The whole store held against its anchor: which releases and which logs are not what was anchored, and from where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refold.errors import NotAnchored
from refold.log.manifest import Snapshot
from refold.log.snapshot import SnapshotChain
from refold.release.anchor import Anchor, Entry
from refold.storage.names import ObjectKind, folder_of, parts_of
from refold.storage.objects import ObjectStore, sha256_hex


@dataclass(frozen=True)
class AnchorFinding:
    """What is not as it was anchored: where, and what was expected and found."""

    where: str
    expected: str
    found: str


def check_anchor(anchor: Anchor, chain: SnapshotChain, objects: ObjectStore) -> list[AnchorFinding]:
    """What of a store is not what its anchor says: entries, then releases, then logs; empty where all is.

    Raises Unavailable and FixInput where the anchor cannot be read.
    """
    try:
        entries = anchor.entries()
    except NotAnchored as error:
        return [AnchorFinding(f"anchor {anchor.place}", "the entries that Refold added", str(error))]
    if not entries:
        return []
    confirmed = [entry for entry in entries if entry.confirmed]
    return [*_releases(entries, objects), *_logs(confirmed, chain), *_redactions(confirmed, chain)]


def _releases(entries: Sequence[Entry], objects: ObjectStore) -> Iterator[AnchorFinding]:
    stored = {}
    for info in objects.list(folder_of(ObjectKind.RELEASE)):
        if parts := parts_of(ObjectKind.RELEASE, info.name):
            stored[int(parts["number"])] = sha256_hex(objects.get(info.name))
    confirmed = {entry.release: entry for entry in entries if entry.confirmed}
    for number, entry in confirmed.items():
        back = f", a rollback to {entry.rolled_back_to}" if entry.rolled_back_to is not None else ""
        expected = f"the record with sha256 {entry.record}, of snapshot {entry.snapshot}{back}"
        if number not in stored:
            later = "" if any(other > number for other in stored) else ": the store was rolled back"
            yield AnchorFinding(f"release {number}", expected, f"none{later}")
        elif stored[number] != entry.record:
            yield AnchorFinding(f"release {number}", expected, f"another one, with sha256 {stored[number]}")
    announced = {entry.names for entry in entries}
    for number, record in sorted(stored.items()):
        if number >= entries[0].release and number not in confirmed and (number, record) not in announced:
            expected = f"no release that is not announced in {len(entries)} entries"
            yield AnchorFinding(f"release {number}", expected, f"one with sha256 {record}")


def _logs(entries: Sequence[Entry], chain: SnapshotChain) -> Iterator[AnchorFinding]:
    """Each log's first anchored end that the store does not have; then the first manifest, where no log says why."""
    wrong: dict[str, AnchorFinding] = {}
    equal: dict[str, tuple[str, int]] = {}
    manifest: AnchorFinding | None = None
    for entry in sorted(entries, key=lambda each: (each.snapshot, each.number)):
        snapshot = chain.get(entry.snapshot) if entry.snapshot in chain else None
        for log, (identity, events) in entry.logs.items():
            cut = _as_sealed(snapshot).cut(log) if snapshot else None
            if cut is not None and cut.id == identity:
                equal[log] = (entry.snapshot, events)
            elif log not in wrong:
                key, through = equal.get(log, ("", 0))
                since = f"equal through snapshot {key}, so from log_seq {through} on" if key else "from log_seq 0 on"
                held = f"{cut.id} with {cut.seq_end} events" if cut else "no such snapshot"
                where = f"log {log} at snapshot {entry.snapshot}, {since}"
                wrong[log] = AnchorFinding(where, f"{identity} with {events} events", held)
        if snapshot is not None and snapshot.sha256 != entry.manifest and manifest is None:
            where = f"manifest of snapshot {entry.snapshot}, or one before it"
            manifest = AnchorFinding(where, f"sha256 {entry.manifest}", f"sha256 {snapshot.sha256}")
    yield from wrong.values()
    if manifest is not None and not wrong:
        yield manifest


def _as_sealed(snapshot: Snapshot) -> Snapshot:
    """A snapshot as its manifest says, whatever redactions made of it since."""
    return snapshot.redacted.sealed if snapshot.redacted else snapshot


def _redactions(entries: Sequence[Entry], chain: SnapshotChain) -> Iterator[AnchorFinding]:
    """The first redaction that is anchored and is not the store's."""
    for count, sha256 in sorted(
        {(entry.redactions[0], entry.redactions[1]) for entry in entries if entry.redactions[0]}
    ):
        found = chain.redactions[count - 1].sha256 if count <= len(chain.redactions) else "none"
        if found != sha256:
            yield AnchorFinding(f"redaction {count}", f"the record with sha256 {sha256}", found)
            return
