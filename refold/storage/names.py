"""Object names: every kind of object in a store, how its name is made and recognised, and what becomes of it.

`OBJECTS` is the one table of them. The audit, the repair and the removal of objects in `refold.repair` follow it, and
so does the table in ARCHITECTURE.md. No other module spells the folder of an object. This module knows no content and
does no I/O.

To add a kind of object, add it to `ObjectKind` and to `OBJECTS`, and its checker to `refold.repair.object_audit`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from string import Formatter
from typing import Any


class ObjectKind(StrEnum):
    """A kind of object in a store."""

    MANIFEST = "manifest"
    REDACTION = "redaction"
    LAYOUT = "layout"
    SEGMENT = "segment"
    REPEATS = "repeats"
    QUARANTINE = "quarantine"
    SEEN_IDS = "seen ids"
    CONTENT_CHECK = "content check"
    RETRY = "retry"
    RETRY_PLACES = "retry places"
    STATE_RECORD = "state record"
    ROWS = "rows"
    CHANGES = "changes"
    LEDGER_PART = "ledger part"
    PARTIALS = "partials"
    PROOF = "proof"
    EXPECTATIONS = "expectations"
    RELEASE = "release"
    RETIRED = "retired"
    DELTA_TABLE = "Delta table"
    SEARCH = "search"
    SINK_RECORD = "sink record"
    LEASE = "lease"


class Repair(StrEnum):
    """What `refold repair` does about a damaged object."""

    RESEAL = "seals it again from landing, where that still holds it"
    NOTHING = "nothing: restore it from a copy"
    MAKE = "makes it again"
    REMOVE = "removes it; it is made again when needed"
    PUBLISH = "publishes it again"


class Removal(StrEnum):
    """When `refold prune` removes an object."""

    NEVER = "never"
    LISTED = "never; lists it where nothing names it"
    UNNAMED = "where nothing names it and it is a day old"
    REPLACED = "a day after compaction replaced it"
    VERSION = "with its version"
    FOLLOWED = "never; removed where a hundred newer ones follow"


@dataclass(frozen=True)
class StoredKind:
    """One kind of object, as people read of it and as programs use it.

    Attributes:
        template: the name, with its parts as a format string; a part `:.16` is a hash of which the name has so many
            digits, and one `:08d` a number.
        what: what it holds.
        room: the room whose code writes it.
        written: what its name is given by, and so how often it is written.
        checked: what an audit compares it with.
        repair: what `refold repair` does where it is damaged.
        remedy: what a person should do then; a sentence.
        removal: when `refold prune` removes it.
    """

    template: str
    what: str
    room: str
    written: str
    checked: str
    repair: Repair
    remedy: str
    removal: Removal = Removal.NEVER

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What all names of the kind match, with a group for each part."""
        fields = Formatter().parse(self.template)
        return re.compile("".join(re.escape(text) + _group(part, spec) for text, part, spec, _ in fields), re.ASCII)


_PARTS = {"snapshot": r"\d{4}-\d{2}-\d{2}(?:T\d{2})?", "suffix": r"\.[^/]+(?<!\.places)", "path": ".+"}


def _group(part: str | None, spec: str | None) -> str:
    if part is None:
        return ""
    if spec:
        found = rf"\d{{{int(spec[:-1])}}}" if spec.endswith("d") else rf"[0-9a-f]{{{spec[1:]}}}"
    else:
        found = _PARTS.get(part, "[^/]+")
    return f"(?P<{part}>{found})"


_BUILD = "`refold repair` builds it again from the log."
_PUBLISH = "`refold repair` publishes it again."

OBJECTS: Mapping[ObjectKind, StoredKind] = {
    ObjectKind.MANIFEST: StoredKind(
        "snapshots/{snapshot}.json",
        "where every log ends under a key, and the sha256 of the parent",
        "log",
        "once",
        "sha256 in its child and in the name of its layout",
        Repair.NOTHING,
        "Restore it from a copy; a snapshot is sealed once, and nothing else says what it is.",
    ),
    ObjectKind.REDACTION: StoredKind(
        "snapshots/redactions/{number:08d}.json",
        "sealed events that were put aside or erased: who, when, why, which, and what is left of them",
        "log",
        "once per number",
        "its own sha256 and name, and the one after it",
        Repair.NOTHING,
        "Restore it from a copy; nothing else says what was redacted.",
    ),
    ObjectKind.LAYOUT: StoredKind(
        "layouts/{snapshot}-{manifest:.16}/{number:08d}.json",
        "which objects hold a snapshot; the highest number counts",
        "log",
        "once per number",
        "its own sha256 and name",
        Repair.NOTHING,
        "Restore it from a copy; nothing else says which objects hold the snapshot.",
    ),
    ObjectKind.SEGMENT: StoredKind(
        "logs/{log}/segments/{partition:04d}/{start:020d}-{sha256:.16}.parquet",
        "events of one log partition and offset range",
        "log",
        "by content",
        "sha256 in the layout",
        Repair.RESEAL,
        "`refold repair` seals it again from landing where that still holds its objects; else restore it from a copy.",
        Removal.REPLACED,
    ),
    ObjectKind.REPEATS: StoredKind(
        "logs/{log}/repeats/{sha256:.32}.parquet",
        "events whose id was delivered before",
        "seal",
        "by content",
        "sha256 in the layout",
        Repair.MAKE,
        "`refold repair` finds the repeated ids again in the segments.",
        Removal.LISTED,
    ),
    ObjectKind.QUARANTINE: StoredKind(
        "logs/{log}/quarantine/{sha256:.32}.parquet",
        "landing records that cannot be events",
        "log",
        "by content",
        "sha256 in the layout",
        Repair.RESEAL,
        "`refold repair` seals it again from landing where that still holds its objects; else restore it from a copy.",
        Removal.LISTED,
    ),
    ObjectKind.SEEN_IDS: StoredKind(
        "logs/{log}/seen/{sha256:.32}.run",
        "hashes of delivered ids (a cache)",
        "seal",
        "by content",
        "sha256 in the newest layout",
        Repair.MAKE,
        "`refold repair` computes it again; it is only a cache, and sealing works without it.",
        Removal.UNNAMED,
    ),
    ObjectKind.CONTENT_CHECK: StoredKind(
        "checked/{log}/{sha256:.40}.json",
        "that segments and repeats were compared with the manifest, byte for byte (a cache)",
        "dedup",
        "by content",
        "its own sha256 and name",
        Repair.REMOVE,
        "`refold repair` removes it; the next replay compares the events again.",
    ),
    ObjectKind.RETRY: StoredKind(
        "retries/{log}/{sha256:.32}{suffix}",
        "quarantined records that are offered again",
        "log",
        "by content",
        "sha256 in the manifest, and quarantine",
        Repair.MAKE,
        "`refold repair` writes it again from quarantine.",
    ),
    ObjectKind.RETRY_PLACES: StoredKind(
        "retries/{log}/{sha256:.32}{suffix}.places",
        "where these records were in landing",
        "log",
        "by content",
        "the name of the retry",
        Repair.NOTHING,
        "Restore it from a copy.",
    ),
    ObjectKind.STATE_RECORD: StoredKind(
        "states/{store}/{code_version}/{inputs:.40}.json",
        "digests of state and ledger, and which objects hold them",
        "stores",
        "by inputs",
        "its own sha256 and name, and the manifests",
        Repair.MAKE,
        _BUILD,
    ),
    ObjectKind.ROWS: StoredKind(
        "states/{store}/rows/{sha256:.40}.parquet",
        "rows of a state",
        "stores",
        "by content",
        "sha256 in the state record",
        Repair.MAKE,
        _BUILD,
        Removal.UNNAMED,
    ),
    ObjectKind.CHANGES: StoredKind(
        "states/{store}/changes/{sha256:.40}.parquet",
        "rows that changed since others were stored",
        "stores",
        "by content",
        "sha256 in the state record",
        Repair.MAKE,
        _BUILD,
        Removal.UNNAMED,
    ),
    ObjectKind.LEDGER_PART: StoredKind(
        "states/{store}/ledger/{sha256:.40}.parquet",
        "outcomes of the events of one snapshot",
        "stores",
        "by content",
        "sha256 in the state record",
        Repair.MAKE,
        _BUILD,
        Removal.UNNAMED,
    ),
    ObjectKind.PARTIALS: StoredKind(
        "partials/{store}/{sha256:.40}.arrow",
        "partial aggregates of a relation, from which the next rebuild goes on (a cache)",
        "incremental",
        "by content",
        "its own name",
        Repair.REMOVE,
        "`refold repair` removes it; the next rebuild proves the relation from offset 0.",
        Removal.UNNAMED,
    ),
    ObjectKind.PROOF: StoredKind(
        "proofs/{store}/{claim:.40}/{sha256:.40}.json",
        "a passed replay: what it found and how long it took",
        "proof",
        "by content",
        "its own sha256 and name, and releases",
        Repair.MAKE,
        "`refold repair` removes it and proves the state again.",
        Removal.UNNAMED,
    ),
    ObjectKind.EXPECTATIONS: StoredKind(
        "expectations/{store}/{version}-{suite:.16}.json",
        "that a version passed its expectations",
        "release",
        "by version and suite",
        "its own sha256 and name, and the release that is served",
        Repair.MAKE,
        "`refold repair` checks the expectations again.",
    ),
    ObjectKind.RELEASE: StoredKind(
        "releases/{number:020d}.json",
        "the pointer: which versions are served; the highest number counts",
        "release",
        "once per number",
        "its own sha256, the manifest and the proofs it names",
        Repair.NOTHING,
        "Restore it from a copy. The newest can also be removed: the one before it is served then.",
    ),
    ObjectKind.RETIRED: StoredKind(
        "retired/{number:020d}.json",
        "that a prune has dropped all it gave up",
        "release",
        "once per number",
        "its own sha256 and name, and the release of that number",
        Repair.NOTHING,
        "Run `refold prune --apply`, which finishes that prune.",
    ),
    ObjectKind.DELTA_TABLE: StoredKind(
        "delta/{path}",
        "Delta tables: data files and commits",
        "sinks",
        "by version",
        "the state, by cell",
        Repair.PUBLISH,
        _PUBLISH,
        Removal.VERSION,
    ),
    ObjectKind.SEARCH: StoredKind(
        "search/{path}",
        "bulk exports and search indexes",
        "sinks",
        "by version",
        "the state, by cell",
        Repair.PUBLISH,
        _PUBLISH,
        Removal.VERSION,
    ),
    ObjectKind.SINK_RECORD: StoredKind(
        "sinks/{path}",
        "what sinks record beside what they serve: the files of a version, copies of Delta commits",
        "sinks",
        "by version",
        "what is served",
        Repair.PUBLISH,
        _PUBLISH,
        Removal.VERSION,
    ),
    ObjectKind.LEASE: StoredKind(
        "leases/{path}/{number:020d}.json",
        "who seals, prunes or publishes, with which token; the highest number counts",
        "leases",
        "once per number",
        "its own sha256",
        Repair.NOTHING,
        "Run `refold locks break`, which writes the next number.",
        Removal.FOLLOWED,
    ),
}
"""Every kind of object in a store; what is named otherwise is not Refold's, except for `PROBE`."""

PROBE = "probe/conditional-writes.txt"
"""The object by which `refold.storage.probe` learns whether a remote store honours conditions; it holds nothing."""


def name_of(kind: ObjectKind, /, **parts: Any) -> str:
    """The name of an object, made of its parts. Raises KeyError, TypeError, ValueError where one is missing or wrong.

    >>> name_of(ObjectKind.LAYOUT, snapshot="2026-01-01", manifest="0123456789abcdef" * 4, number=2)
    'layouts/2026-01-01-0123456789abcdef/00000002.json'
    """
    return OBJECTS[kind].template.format(**parts)


def folder_of(kind: ObjectKind, /, **parts: Any) -> str:
    """The folder below which all objects of a kind lie that have the given parts; the fewer parts, the higher it is.

    >>> folder_of(ObjectKind.PROOF), folder_of(ObjectKind.PROOF, store="stock")
    ('proofs', 'proofs/stock')
    """
    found = []
    for segment in OBJECTS[kind].template.split("/")[:-1]:
        if any(part is not None and part not in parts for _, part, _, _ in Formatter().parse(segment)):
            break
        found.append(segment.format(**parts))
    return "/".join(found)


def parts_of(kind: ObjectKind, name: str) -> Mapping[str, str]:
    """The parts of a name; empty where it is not one of that kind.

    >>> parts_of(ObjectKind.RELEASE, "releases/00000000000000000012.json")
    {'number': '00000000000000000012'}
    """
    found = OBJECTS[kind].pattern.fullmatch(name)
    return {} if found is None else found.groupdict()


def kind_of(name: str) -> ObjectKind | None:
    """The kind of an object by its name; None for what Refold does not write.

    >>> kind_of("snapshots/2026-01-01.json"), kind_of("snapshots/notes.txt")
    (<ObjectKind.MANIFEST: 'manifest'>, None)
    """
    return next((kind for kind, stored in OBJECTS.items() if stored.pattern.fullmatch(name)), None)


def is_retry(name: str) -> bool:
    """Whether a landing object is one of a retry, which Refold keeps in its own store."""
    return name.startswith(f"{folder_of(ObjectKind.RETRY)}/")


def places_of(retry: str) -> str:
    """The name of the object that says where the records of a retry were."""
    return f"{retry}.places"
