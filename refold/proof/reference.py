"""The reference: what a log and its rules mean, written again as plainly as possible, one event at a time.

It shares with the engine what is declared and the segments, and nothing else: deduplication is one dictionary, each
kind of store folds in plain Python (`refold.stores.kinds.plain`), and bytes and digests are made from the text of
`refold.canonical.encoding`, `refold.canonical.digest` and `refold.stores.ledger`. It is slow and holds every id of the
log. Before it come the declarations, snapshots and segments;
`refold.proof.by_reference` compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from refold.log.declaration import POSITION, Log
from refold.log.reader import LogReader
from refold.log.snapshot import LogCut, Snapshot, SnapshotChain
from refold.rules.outcome import Outcome
from refold.storage.objects import ObjectStore
from refold.stores.declaration import Folded
from refold.stores.kinds.plain import Row, encode_value
from refold.types import Schema

OutcomeOf = tuple[int, int, int, str, int]
"""The outcome of one event: log partition, offset, log_seq, the outcome's lower-case name, the reason's code or 0."""

_LEDGER = b"refold ledger 1\n"


@dataclass(frozen=True)
class ReferenceBoundary:
    """The result of the reference for one store at one snapshot.

    Attributes:
        rows: by key, the columns of the state: key, values, `deleted` where the store deletes, position.
        outcomes: of the events that the snapshot added, in the order (log partition, offset).
        state_digest, ledger_digest: of the rows, and of the ledger from offset 0.
    """

    rows: Mapping[object, Row]
    outcomes: Sequence[OutcomeOf]
    state_digest: str
    ledger_digest: str


def reference(
    objects: ObjectStore, chain: SnapshotChain, log: Log, stores: Sequence[Folded], through: Snapshot
) -> Iterator[tuple[Snapshot, Mapping[str, ReferenceBoundary]]]:
    """Fold stores of one log from offset 0 through a snapshot; yields every boundary, oldest first, by store name.

    Reads segments and manifests only and writes nothing. Raises Damaged where a segment is, and RuleError where a
    rule raises or answers something impossible.
    """
    reader = LogReader(objects, chain, log)
    folds = [_PlainStore(store) for store in stores]
    contents: dict[object, tuple[int, tuple[object, ...]]] = {}
    names = list(dict.fromkeys(["log_offset", "log_seq", *log.columns, *log.id_columns]))
    starts: list[int] = []
    for snapshot in chain.through(through.key):
        events = reader.events(snapshot, names).to_pylist()
        starts.append(snapshot.cut(log.name).seq_start)
        since = starts[-1 - log.repeats_within] if log.repeats_within and len(starts) > log.repeats_within else 0
        repeats = _repeats(log, events, contents, since)
        repeats |= _excluded(snapshot.excluded(log.name), events)
        events.sort(key=lambda event: (event["log_partition"], event["log_offset"]))
        yield snapshot, {fold.store.name: fold.take(snapshot.cut(log.name), events, repeats) for fold in folds}


def _repeats(
    log: Log, events: Iterable[Row], contents: dict[object, tuple[int, tuple[object, ...]]], since: int
) -> dict[int, Outcome]:
    """The events, by `log_seq`, whose id came before: duplicates where all declared columns are equal, else conflicts.

    `contents` holds place and columns of the first delivery of every id so far, and takes in the new ones; what came
    before `since` is not remembered.
    """
    repeats = {}
    for event in sorted(events, key=lambda event: int(event["log_seq"])):
        event_id, content = (tuple(event[name] for name in names) for names in (log.id_columns, log.columns))
        first, known = contents.get(event_id, (-1, ()))
        if first < since:
            contents[event_id] = int(event["log_seq"]), content
        else:
            repeats[event["log_seq"]] = Outcome.DUPLICATE if known == content else Outcome.CONFLICT
    return repeats


def _excluded(places: Iterable[tuple[int, int]], events: Iterable[Row]) -> dict[int, Outcome]:
    """The events, by `log_seq`, at places that a redaction put aside."""
    aside = set(places)
    return {e["log_seq"]: Outcome.EXCLUDED for e in events if (e["log_partition"], e["log_offset"]) in aside}


class _PlainStore:
    """One store on its way through history: its rows, their canonical bytes, and the digest of its ledger."""

    def __init__(self, store: Folded) -> None:
        self.store = store
        self.rows: dict[object, Row] = {}
        self._plain = store.plain_fold()
        self._placed: dict[object, tuple[int, bytes]] = {}
        self._ledger_digest = sha256(_LEDGER).hexdigest()

    def take(self, cut: LogCut, events: Sequence[Row], repeats: Mapping[int, Outcome]) -> ReferenceBoundary:
        """Take in the events that a snapshot added, in the order (log partition, offset)."""
        names, outcomes, touched = self.store.log.key_columns, list[OutcomeOf](), dict[object, None]()
        for event in events:
            key, place = self.store.log.key_of(event), (event["log_partition"], event["log_offset"], event["log_seq"])
            again = repeats.get(event["log_seq"])
            if again in (Outcome.EXCLUDED, Outcome.CONFLICT):
                outcomes.append((*place, again.name.lower(), 0))
                continue
            touched[key] = None
            outcome, reason = self._plain.apply(key, event) if again is None else (again, 0)
            position = {name: event[name] for name in POSITION}
            self.rows[key] = {**{name: event[name] for name in names}, **self._plain.values(key), **position}
            outcomes.append((*place, outcome.name.lower(), reason))
        columns = self.store.state_columns
        for key in touched:
            self._placed[key] = (bucket(columns, names, self.rows[key]), encode_row(columns, self.rows[key]))
        self._ledger_digest = _ledger_digest(self._ledger_digest, cut, outcomes)
        root = tree_digest(columns, self._placed.values())
        return ReferenceBoundary(dict(self.rows), outcomes, root, self._ledger_digest)


def encode_row(columns: Schema, row: Row) -> bytes:
    """The canonical bytes of one row: its values one after the other, in the order of `columns`."""
    return b"".join(encode_value(column, row[name]) for name, column in columns.items())


def murmur64a(data: bytes, seed: int = 0) -> int:
    """MurmurHash64A (Austin Appleby, public domain), from 0 to 2⁶⁴ - 1."""
    m, most = 0xC6A4A7935BD1E995, 2**64 - 1
    h = seed ^ (len(data) * m & most)
    whole = len(data) // 8 * 8
    for start in range(0, whole, 8):
        k = int.from_bytes(data[start : start + 8], "little") * m & most
        k = (k ^ k >> 47) * m & most
        h = (h ^ k) * m & most
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & most
    h = (h ^ h >> 47) * m & most
    return h ^ h >> 47


def bucket(columns: Schema, key: Sequence[str], row: Row) -> int:
    """The bucket of a row, from 0 to 4,095: the top 12 bits of the hash of its key's canonical bytes."""
    return murmur64a(encode_row({name: columns[name] for name in key}, row)) >> 52


def tree_digest(columns: Schema, placed: Iterable[tuple[int, bytes]]) -> str:
    """The digest of rows given as (bucket, canonical bytes) in any order, as `refold.canonical.digest` specifies it."""
    buckets: list[list[bytes]] = [[] for _ in range(4096)]
    for number, encoded in placed:
        buckets[number].append(encoded)
    level = [sha256(b"".join(sorted(rows))).digest() if rows else bytes(32) for rows in buckets]
    while len(level) > 1:
        level = [sha256(b"".join(level[i : i + 16])).digest() for i in range(0, len(level), 16)]
    schema = "\n".join(f"{name} {column}" for name, column in columns.items())
    return sha256(b"refold table 1\n" + schema.encode() + b"\n" + level[0]).hexdigest()


def _ledger_digest(before: str, cut: LogCut, outcomes: Sequence[OutcomeOf]) -> str:
    """The digest of the ledger after a snapshot, as `refold.stores.ledger` specifies it."""
    if not outcomes:
        return before
    ranges = json.dumps([list(cut.starts), list(cut.ends)], separators=(",", ":")).encode()
    codes = bytes(Outcome[name.upper()] for *_, name, _ in outcomes) + bytes(reason for *_, reason in outcomes)
    return sha256(_LEDGER + before.encode() + ranges + codes).hexdigest()
