"""The audit of stored objects: whether each has the bytes that the object naming it expects, and belongs to its name.

Every object is named by another one, with a hash: a manifest by its child and its layout, segments by layouts, rows and
ledger parts by state records, proofs by releases; records carry their own hash and are named after their content. So
damage is found without replay, object by object. Whether sound objects are also right is decided in
`refold.proof.prover`, and what sinks hold is compared in `refold.repair.sink_audit`. Nothing is written here;
`refold.repair.repair_objects` makes again what can be made.

An object that nothing names is not damage: a killed run leaves some, and `refold prune` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping

from refold.log.snapshot import SnapshotChain
from refold.project import Project
from refold.proof.records import ProofRecords
from refold.release.pointer import Pointer
from refold.repair.damage import Audit, Checker, Damage
from refold.repair.log_checks import (
    check_content_checks,
    check_layouts,
    check_redactions,
    check_retries,
    check_seen_ids,
)
from refold.repair.release_checks import check_leases, check_releases, check_retired
from refold.repair.state_checks import check_expectations, check_partials, check_proofs, check_states
from refold.storage.names import ObjectKind
from refold.storage.objects import ObjectStore

CHECKERS: Mapping[ObjectKind, Checker] = {
    ObjectKind.MANIFEST: check_layouts,
    ObjectKind.REDACTION: check_redactions,
    ObjectKind.LAYOUT: check_layouts,
    ObjectKind.SEGMENT: check_layouts,
    ObjectKind.REPEATS: check_layouts,
    ObjectKind.QUARANTINE: check_layouts,
    ObjectKind.SEEN_IDS: check_seen_ids,
    ObjectKind.CONTENT_CHECK: check_content_checks,
    ObjectKind.RETRY: check_retries,
    ObjectKind.RETRY_PLACES: check_retries,
    ObjectKind.STATE_RECORD: check_states,
    ObjectKind.ROWS: check_states,
    ObjectKind.CHANGES: check_states,
    ObjectKind.LEDGER_PART: check_states,
    ObjectKind.PARTIALS: check_partials,
    ObjectKind.PROOF: check_proofs,
    ObjectKind.EXPECTATIONS: check_expectations,
    ObjectKind.RELEASE: check_releases,
    ObjectKind.RETIRED: check_retired,
    ObjectKind.LEASE: check_leases,
}
"""What checks each kind, in the order of the data's way; what sinks keep is not among them.

The order counts, since an object is reported by the first checker that finds it damaged.
"""


def audit_objects(
    project: Project, objects: ObjectStore, chain: SnapshotChain, pointer: Pointer, proofs: ProofRecords
) -> list[Damage]:
    """Every damaged object of a store except what sinks hold, by name; reads all of them once.

    The chain of manifests was checked when it was read; what is wrong with it was raised there.
    """
    audit = Audit(project, objects, chain, pointer, proofs)
    found = [damage for check in dict.fromkeys(CHECKERS.values()) for damage in check(audit)]
    return sorted(found, key=lambda damage: damage.name)
