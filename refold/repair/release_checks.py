"""Checks of the pointer: releases against snapshots, proofs and expectations, and finished prunes against releases."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from refold.errors import NotFound, RefoldError
from refold.release.pointer import Release
from refold.release.publisher import expectations_name
from refold.repair.damage import Audit, Damage
from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import canonical_json, sha256_hex
from refold.storage.sink_names import version_name

_MISSING_MAX = 100


def check_releases(audit: Audit) -> Iterator[Damage]:
    """Every number of the pointer, the newest first, and the expectations that what is served has passed."""
    numbers, served = audit.pointer.numbers(), True
    for number in reversed(numbers):
        name = name_of(ObjectKind.RELEASE, number=number)
        try:
            release = audit.pointer.get(number)
        except RefoldError as error:
            yield from audit.damage(ObjectKind.RELEASE, name, "the record that was written", str(error))
        else:
            yield from _release(audit, name, release)
            if served and not audit.is_reported(name):
                yield from _expectations(audit, release)
        served = False
    for before, number in pairwise([0, *numbers]):
        yield from _missing(audit, before + 1, number - 1)


def _missing(audit: Audit, first: int, last: int) -> Iterator[Damage]:
    """The numbers of a gap, each by name; of a large one, which a stray record makes, the first."""
    expected = "a number of the pointer, as later ones exist"
    if last - first >= _MISSING_MAX:
        expected = f"the numbers {first} to {last} of the pointer, as {last + 1} exists"
        last = first
    for number in range(first, last + 1):
        yield from audit.damage(ObjectKind.RELEASE, name_of(ObjectKind.RELEASE, number=number), expected, "none")


def _release(audit: Audit, name: str, release: Release) -> Iterator[Damage]:
    """A release against the snapshot and the proofs that it names."""
    snapshot = audit.chain.get(release.snapshot) if release.snapshot in audit.chain else None
    if snapshot is None:
        manifest = name_of(ObjectKind.MANIFEST, snapshot=release.snapshot)
        yield from audit.damage(ObjectKind.MANIFEST, manifest, f"the manifest that {name} names", "none")
    elif release.ordinal != snapshot.ordinal or release.snapshot_id not in [each.id for each in snapshot.versions]:
        expected = f"snapshot {snapshot.key} at place {snapshot.ordinal} with id {snapshot.id}"
        found = f"place {release.ordinal} with id {release.snapshot_id}"
        yield from audit.damage(ObjectKind.RELEASE, name, expected, found)
        return  # whatever else it names belongs to another store
    for store, proof in release.proofs.items():
        yield from _proof(audit, name, release, store, proof)


def _proof(audit: Audit, name: str, release: Release, store: str, proof: str) -> Iterator[Damage]:
    standing = audit.proofs.standing(proof)
    if standing is None:
        expected = f"the proof that {name} names for store {store!r}"
        yield from audit.damage(ObjectKind.PROOF, proof, expected, "none that is sound")
        return
    version = version_name(release.position_of(store).ordinal, sha256_hex(canonical_json(standing.claim)))
    if standing.store != store or release.versions.get(store) != version:
        expected = f"version {version} of store {store!r}, which {proof} proves"
        yield from audit.damage(ObjectKind.RELEASE, name, expected, f"version {release.versions.get(store)}")


def _expectations(audit: Audit, release: Release) -> Iterator[Damage]:
    """The expectations that what is served has passed."""
    for store in audit.project.stores:
        version = release.versions.get(store.name)
        name = expectations_name(store, version) if version and store.expect else None
        if name is not None and not audit.objects.exists(name) and _is_todays(audit, release, store.name):
            expected = f"the pass that release {release.number} rests on"
            yield from audit.damage(ObjectKind.EXPECTATIONS, name, expected, "none")


def _is_todays(audit: Audit, release: Release, store: str) -> bool:
    """Whether a release serves what today's declaration of a store gives; otherwise it has other expectations."""
    standing = audit.proofs.standing(release.proofs[store])
    return standing is not None and standing.code_version == audit.project.store(store).code_version


def check_retired(audit: Audit) -> Iterator[Damage]:
    """Finished prunes against the releases of their numbers."""
    for name in audit.names(ObjectKind.RETIRED):
        body, damages = audit.record(ObjectKind.RETIRED, name)
        yield from damages
        if body and not _is_prune(audit, int(body["number"])):
            yield from audit.damage(ObjectKind.RETIRED, name, "the number of a prune", "none, or that of a release")


def _is_prune(audit: Audit, number: int) -> bool:
    """Whether a number of the pointer gave up versions; true also where its own record is reported as damaged."""
    try:
        return audit.pointer.get(number).retired_by == number
    except NotFound:
        return number < audit.pointer.number()
    except RefoldError:
        return True


def check_leases(audit: Audit) -> Iterator[Damage]:
    """Every record of a lease."""
    for name in audit.names(ObjectKind.LEASE):
        yield from audit.record(ObjectKind.LEASE, name, lambda _, own=name: own)[1]  # type: ignore[misc]
