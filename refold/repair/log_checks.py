"""Checks of the log's objects: layouts and what they name, seen ids, content checks and retries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from refold.dedup.content_check import checked_name
from refold.errors import Damaged
from refold.log.quarantine import retried_records
from refold.log.snapshot import Snapshot
from refold.repair.damage import Audit, Damage
from refold.seal.seen_index import newest_seen
from refold.storage.names import ObjectKind, folder_of, kind_of, name_of, parts_of, places_of
from refold.storage.objects import sha256_hex


def check_layouts(audit: Audit) -> Iterator[Damage]:
    """Manifests against their layouts, layouts, and what the newest layouts name."""
    newest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for name in audit.names(ObjectKind.LAYOUT):
        body, damages = audit.record(ObjectKind.LAYOUT, name)
        yield from damages
        parts = parts_of(ObjectKind.LAYOUT, name)
        newest[parts["snapshot"], parts["manifest"]] = body
    for snapshot in audit.chain:
        own = (snapshot.key, snapshot.sha256[:16])
        if own not in newest:
            yield from _without_layout(audit, snapshot, [sha for key, sha in newest if key == snapshot.key])
        elif newest[own]:
            expected = newest[own]["manifest"]
            if expected != snapshot.sha256:
                yield from audit.damage(ObjectKind.MANIFEST, snapshot.name, f"sha256 {expected}", snapshot.sha256)
            yield from _log_objects(audit, snapshot, newest[own]["logs"])


def _without_layout(audit: Audit, snapshot: Snapshot, others: list[str]) -> Iterator[Damage]:
    """A snapshot has no layout: if there are others of its key, its manifest was changed; otherwise the layout is lost.

    `others` are the first 16 digits of the sha256 of the manifests that those belong to.
    """
    if others:
        folder = folder_of(ObjectKind.LAYOUT, snapshot=snapshot.key, manifest=others[0])
        expected = f"sha256 {others[0]}…, as {folder} is named"
        yield from audit.damage(ObjectKind.MANIFEST, snapshot.name, expected, f"sha256 {snapshot.sha256}")
    else:
        name = name_of(ObjectKind.LAYOUT, snapshot=snapshot.key, manifest=snapshot.sha256, number=0)
        yield from audit.damage(ObjectKind.LAYOUT, name, "the layout of its snapshot", "none")


def _log_objects(audit: Audit, snapshot: Snapshot, logs: Iterable[str]) -> Iterator[Damage]:
    for log in logs:
        layout = audit.chain.layout(snapshot, log)
        for segment in layout.segments:
            yield from audit.content(ObjectKind.SEGMENT, segment.name, segment.sha256)
        for kind, stored in ((ObjectKind.REPEATS, layout.repeats), (ObjectKind.QUARANTINE, layout.quarantine)):
            if stored is not None:
                yield from audit.content(kind, stored.name, stored.sha256)


def check_redactions(audit: Audit) -> Iterator[Damage]:
    """Redactions against the names and the manifests of the snapshots they are about."""
    for name in audit.names(ObjectKind.REDACTION):
        _, damages = audit.record(ObjectKind.REDACTION, name)
        yield from damages
    manifests = {snapshot.key: snapshot.sha256 for snapshot in audit.chain}
    for redaction in audit.chain.redactions:
        for key, cut in redaction.cuts.items():
            if manifests.get(key) != cut.manifest:
                expected = f"the manifest of snapshot {key} with sha256 {cut.manifest}"
                yield from audit.damage(ObjectKind.REDACTION, redaction.name, expected, str(manifests.get(key)))


def check_seen_ids(audit: Audit) -> Iterator[Damage]:
    """The runs of the seen index that sealing reads."""
    for log in audit.project.logs:
        try:
            _, files = newest_seen(audit.chain, log.name)
        except Damaged:
            continue  # the layout is reported
        for file in files:
            yield from audit.content(ObjectKind.SEEN_IDS, file.name, file.sha256)


def check_content_checks(audit: Audit) -> Iterator[Damage]:
    """That each remembers what its name is made of."""
    for name in audit.names(ObjectKind.CONTENT_CHECK):
        _, damages = audit.record(ObjectKind.CONTENT_CHECK, name, checked_name)
        yield from damages


def check_retries(audit: Audit) -> Iterator[Damage]:
    """Retries against the manifests that sealed them, their places, and quarantine."""
    objects = [o for snapshot in audit.chain for cut in snapshot.logs.values() for o in cut.objects]
    sealed = {o.name: o.sha256 for o in objects if kind_of(o.name) is ObjectKind.RETRY}
    for name, sha256 in sealed.items():
        yield from audit.content(ObjectKind.RETRY, name, sha256)
    placed = [parts_of(ObjectKind.RETRY_PLACES, name) for name in audit.names(ObjectKind.RETRY_PLACES)]
    named = {name_of(ObjectKind.RETRY, **parts) for parts in placed}
    for name in sorted({*named, *audit.names(ObjectKind.RETRY), *sealed}):
        if name not in named:
            expected = "where the records of the retry were"
            yield from audit.damage(ObjectKind.RETRY_PLACES, places_of(name), expected, "none")
        elif not audit.objects.exists(name):
            yield from audit.damage(ObjectKind.RETRY, name, "the records of the retry", "none")
        elif not audit.is_reported(name):
            yield from _retry(audit, name, name in sealed)


def _retry(audit: Audit, name: str, sealed: bool) -> Iterator[Damage]:
    """A retry and its places together, of which the name has the hash, and against quarantine."""
    places, data = audit.objects.get(places_of(name)), audit.objects.get(name)
    expected, found = parts_of(ObjectKind.RETRY, name)["sha256"], sha256_hex(places + data)[:32]
    quarantined = _quarantined(audit, name, places)
    if found == expected:
        if quarantined != data:
            yield from audit.damage(ObjectKind.RETRY, name, "records that are in quarantine", "others")
        return
    kind, wrong = ObjectKind.RETRY, name
    if sealed or quarantined is None:  # sealed records have the sha256 of their manifest, so the places are wrong
        kind, wrong = ObjectKind.RETRY_PLACES, places_of(name)
    yield from audit.damage(kind, wrong, f"sha256 {expected}… over places and records", f"sha256 {found}…")


def _quarantined(audit: Audit, name: str, places: bytes) -> bytes | None:
    """The records of a retry as quarantine has them; None where it does not have them."""
    logs = [log for log in audit.project.logs if log.name == parts_of(ObjectKind.RETRY, name)["log"]]
    try:
        return retried_records(audit.objects, audit.chain, logs[0], places) if logs else audit.objects.get(name)
    except Damaged:
        return audit.objects.get(name)  # the quarantine is reported
