"""Manifests: what a snapshot says of each log, as bytes and as values, and the identities that follow from it.

`refold.log.snapshot` reads and writes them in a chain; `refold.log.redactions` says what redactions leave of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from refold.errors import Damaged, FixInput
from refold.storage.names import ObjectKind, name_of
from refold.storage.objects import canonical_json, sha256_hex
from refold.storage.records import record_bytes
from refold.storage.shapes import typed

FORMAT = 1
_FIELDS = ("key", "ordinal", "parent_key", "parent_sha256")


@dataclass(frozen=True)
class SealedObject:
    """A landing object as it was sealed; `late` if its folder had been sealed before."""

    name: str
    size_bytes: int
    sha256: str
    records: int
    late: bool


@dataclass(frozen=True)
class LogCut:
    """One log's part of a snapshot.

    Attributes:
        id: the identity of the log up to here; equal to the parent's where no event was added.
        starts, ends: per log partition, the offset range [start, end) that this snapshot added.
        seq_start, seq_end: the same for `log_seq`, across log partitions.
        content: per log partition, the sha256 of the canonical bytes of the added events.
        schema: the text of the declared columns at sealing; a log may grow from one snapshot to the next.
        read, quarantined, control: counts of landing records; read = events + quarantined + control.
        objects: the landing objects it took in.
        repeats_within: for how many snapshots the log remembered ids; None, which is not written, for all of it.
    """

    id: str
    starts: Sequence[int]
    ends: Sequence[int]
    seq_start: int
    seq_end: int
    content: Sequence[str]
    schema: str
    read: int
    quarantined: int
    control: int
    objects: Sequence[SealedObject]
    repeats_within: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Its part of a manifest."""
        body = asdict(self)
        if self.repeats_within is None:
            del body["repeats_within"]
        return body

    @property
    def events(self) -> int:
        """How many events this snapshot added."""
        return self.seq_end - self.seq_start


def unchanged(cut: LogCut) -> LogCut:
    """The cut of a log to which a snapshot adds nothing."""
    nothing = [sha256_hex(b"")] * len(cut.ends)
    still = replace(cut, starts=cut.ends, seq_start=cut.seq_end, content=nothing, objects=())
    return replace(still, read=0, quarantined=0, control=0)


NO_EVENTS_YET = LogCut(
    id="none",
    starts=(),
    ends=(),
    seq_start=0,
    seq_end=0,
    content=(),
    schema="",
    read=0,
    quarantined=0,
    control=0,
    objects=(),
)
"""The cut of a log that did not exist yet when a snapshot was sealed; it has no log partitions."""


@dataclass(frozen=True)
class Redacted:
    """A snapshot after its redactions.

    Attributes:
        sealed: the snapshot as its manifest says.
        places: by log the log partitions and offsets of events that no longer count.
        before: how it was, with so many redactions, oldest first.
    """

    sealed: Snapshot
    places: Mapping[str, Sequence[tuple[int, int]]]
    before: Sequence[tuple[int, Snapshot]]


@dataclass(frozen=True)
class Snapshot:
    """A cut of every log under one key; `ordinal` counts keys from 0.

    Where events were redacted, identities and content are those of what is left, and `redacted` says what was.
    """

    key: str
    ordinal: int
    parent_key: str | None
    parent_sha256: str | None
    logs: Mapping[str, LogCut]
    redacted: Redacted | None = None

    @property
    def id(self) -> str:
        """The identity: equal for two keys between which no event was added to any log."""
        return sha256_hex(canonical_json({name: cut.id for name, cut in self.logs.items() if cut.seq_end}))

    @property
    def versions(self) -> list[Snapshot]:
        """Itself as it was before each redaction, oldest first, and as it is."""
        return [*(each for _, each in (self.redacted.before if self.redacted else ())), self]

    def cut(self, log: str) -> LogCut:
        """One log's part; a log that was declared later has no events here."""
        return self.logs.get(log, NO_EVENTS_YET)

    @property
    def events(self) -> int:
        """How many events this snapshot added to all logs."""
        return sum(cut.events for cut in self.logs.values())

    @property
    def events_through(self) -> int:
        """How many events all logs hold up to here."""
        return sum(cut.seq_end for cut in self.logs.values())

    def excluded(self, log: str) -> Sequence[tuple[int, int]]:
        """The log partitions and offsets of the events of a log that no longer count."""
        return self.redacted.places.get(log, ()) if self.redacted else ()

    def to_bytes(self) -> bytes:
        """The manifest: a record, so that it names the sha256 of all it says."""
        sealed = self.redacted.sealed if self.redacted else self
        own = {name: getattr(sealed, name) for name in _FIELDS}
        logs = {name: cut.to_json() for name, cut in sealed.logs.items()}
        return record_bytes({"format": FORMAT, "id": sealed.id, **own, "logs": logs})

    @property
    def name(self) -> str:
        """The name of the manifest."""
        return name_of(ObjectKind.MANIFEST, snapshot=self.key)

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the manifest's bytes, which its child records and its layouts are named after."""
        return sha256_hex(self.to_bytes())

    @classmethod
    def from_json(cls, value: Mapping[str, Any], name: str) -> Snapshot:
        """Read the body of a manifest.

        Raises FixInput where it has another format, and Damaged where it does not parse, where its identity is not
        its own or where its name belongs to another key.
        """
        if value.get("format") != FORMAT:
            raise FixInput(
                f"The manifest {name} has format {value.get('format')!r}, expected {FORMAT}.", remedy="Update Refold."
            )
        try:
            logs = {
                log: typed(LogCut(**{**cut, "objects": [typed(SealedObject(**o)) for o in cut["objects"]]}))
                for log, cut in value["logs"].items()
            }
            snapshot = typed(cls(**{field: value[field] for field in _FIELDS}, logs=logs))
            expected = value["id"]
        except (KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"The manifest {name} is not a snapshot of format {FORMAT}: {error!r}.") from error
        if snapshot.id != expected:
            raise Damaged(f"The manifest {name} is damaged: it says id {expected}, its cuts give {snapshot.id}.")
        if name != snapshot.name:
            raise Damaged(f"The manifest {name} belongs to another key: expected the name {snapshot.name}.")
        return snapshot


def cut_id(
    parent_id: str | None,
    schema: str,
    ends: Sequence[int],
    content: Sequence[str],
    added: int,
    redactions: Sequence[str] = (),
) -> str:
    """The identity of a log after a snapshot: the parent's where nothing was added, else the hash over the chain.

    `redactions` are the sha256 of the records that changed its events.
    """
    if added == 0 and parent_id is not None:
        return parent_id
    chain = {"parent": parent_id, "schema": schema, "ends": list(ends), "content": list(content)}
    return sha256_hex(canonical_json({**chain, "redactions": list(redactions)} if redactions else chain))
