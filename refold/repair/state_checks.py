"""Checks of states and of what follows from them: state records, rows, ledger parts, proofs, expectations."""

from __future__ import annotations

from collections.abc import Iterator

from refold.proof.records import proof_name
from refold.repair.damage import Audit, Damage
from refold.storage.names import ObjectKind, name_of, parts_of
from refold.storage.objects import sha256_hex
from refold.stores.checkpoint import name_of_state

_FIELDS = {"base": ObjectKind.ROWS, "changes": ObjectKind.CHANGES, "ledger": ObjectKind.LEDGER_PART}
"""The fields of a state record that name an object, and its kind."""


def check_states(audit: Audit) -> Iterator[Damage]:
    """State records against the manifests, and the objects that they name."""
    logs = {store.name: store.log.name for store in audit.project.folded}
    versions = [version for snapshot in audit.chain for version in snapshot.versions]
    positions = {log: {version.cut(log).id for version in versions} for log in set(logs.values())}
    for name in audit.names(ObjectKind.STATE_RECORD):
        body, damages = audit.record(ObjectKind.STATE_RECORD, name, name_of_state)
        yield from damages
        log = logs.get(str(body.get("store")))
        if log is not None and body["inputs"] not in positions[log]:
            expected = f"inputs that are a snapshot's of log {log!r}"
            yield from audit.damage(ObjectKind.STATE_RECORD, name, expected, str(body["inputs"]))
            continue
        for field, kind in _FIELDS.items():
            stored = body.get(field)
            if stored:
                yield from audit.content(kind, stored["name"], stored["sha256"])


def check_partials(audit: Audit) -> Iterator[Damage]:
    """Partial aggregates against their names."""
    for name in audit.names(ObjectKind.PARTIALS):
        found = sha256_hex(audit.objects.get(name))[:40]
        if parts_of(ObjectKind.PARTIALS, name)["sha256"] != found:
            yield from audit.damage(ObjectKind.PARTIALS, name, "content that its name is made of", f"sha256 {found}…")


def check_proofs(audit: Audit) -> Iterator[Damage]:
    """Proofs against their names, and that what they prove is there."""
    for name in audit.names(ObjectKind.PROOF):
        body, damages = audit.record(ObjectKind.PROOF, name, proof_name)
        yield from damages
        if not body:
            continue
        manifest = name_of(ObjectKind.MANIFEST, snapshot=body["snapshot"])
        record = name_of(ObjectKind.STATE_RECORD, **body)
        if str(body["snapshot"]) not in audit.chain:
            yield from audit.damage(ObjectKind.MANIFEST, manifest, f"the manifest that {name} was proven at", "none")
        elif not audit.objects.exists(record):
            yield from audit.damage(ObjectKind.STATE_RECORD, record, f"the record that {name} proves", "none")


def check_expectations(audit: Audit) -> Iterator[Damage]:
    """Passed expectations against their names."""
    for name in audit.names(ObjectKind.EXPECTATIONS):
        _, damages = audit.record(ObjectKind.EXPECTATIONS, name)
        yield from damages
