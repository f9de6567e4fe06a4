"""The reference: what a log and its rules mean, written again as plainly as possible, one event at a time.

It shares with the engine what is declared and the segments, and nothing else: deduplication is one dictionary, the fold
calls the user's function, bytes and digests are made from the text of `refold.canonical.encoding`,
`refold.canonical.digest` and `refold.stores.ledger`. It is slow and holds every id of the log; speed is the business of
what is compared with it. Before it stand the declarations, snapshots and segments; `refold.proof.by_reference`
compares.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, cast

from refold.errors import RuleError
from refold.log.declaration import POSITION, Log
from refold.log.reader import LogReader
from refold.log.snapshot import LogCut, Snapshot, SnapshotChain
from refold.rules.outcome import Ignored, Outcome, Rejection
from refold.storage.objects import ObjectStore
from refold.stores.declaration import DELETED, Folded, LatestStore, RuleStore
from refold.types import ColumnType, Schema, member_text

Row = Mapping[str, Any]
OutcomeOf = tuple[int, int, int, str, int]
"""What became of one event: log partition, offset, log_seq, the outcome's lower-case name, the reason's code or 0."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TRAPS = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
_DECIMALS = decimal.Context(prec=76, rounding=decimal.ROUND_HALF_EVEN, traps=_TRAPS, Emin=-999999, Emax=999999)
_PLAIN: Mapping[str, Any] = {"int64": int, "boolean": bool, "text": str, "binary": bytes, "decimal": Decimal}
_PYTHON: Mapping[str, Any] = {**_PLAIN, "date": dt.date, "timestamp": dt.datetime}
_LEDGER = b"refold ledger 1\n"


@dataclass(frozen=True)
class ReferenceBoundary:
    """What the reference found for one store at one snapshot.

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
    folds = [_RuleFold(store) if isinstance(store, RuleStore) else _LatestFold(store) for store in stores]
    contents: dict[object, tuple[object, ...]] = {}
    for snapshot in chain.through(through.key):
        events = reader.events(snapshot, ["log_offset", "log_seq", *log.columns]).to_pylist()
        repeats = _repeats(log, events, contents)
        events.sort(key=lambda event: (event["log_partition"], event["log_offset"]))
        yield snapshot, {fold.store.name: fold.take(snapshot.cut(log.name), events, repeats) for fold in folds}


def _repeats(log: Log, events: Iterable[Row], contents: dict[object, tuple[object, ...]]) -> dict[int, Outcome]:
    """The events, by `log_seq`, whose id came before: duplicates where all declared columns are equal, else conflicts.

    `contents` holds the columns of the first delivery of every id so far, and takes in the new ones.
    """
    repeats = {}
    for event in sorted(events, key=lambda event: int(event["log_seq"])):
        event_id, content = event[log.event_id], tuple(event[name] for name in log.columns)
        if event_id not in contents:
            contents[event_id] = content
        else:
            repeats[event["log_seq"]] = Outcome.DUPLICATE if contents[event_id] == content else Outcome.CONFLICT
    return repeats


class _Fold(ABC):
    """One store on its way through history: its rows, their canonical bytes, and the digest of its ledger."""

    def __init__(self, store: Folded) -> None:
        self.store = store
        self.rows: dict[object, Row] = {}
        self._placed: dict[object, tuple[int, bytes]] = {}
        self._ledger_digest = sha256(_LEDGER).hexdigest()

    def take(self, cut: LogCut, events: Sequence[Row], repeats: Mapping[int, Outcome]) -> ReferenceBoundary:
        """Take in the events that a snapshot added, in the order (log partition, offset)."""
        key_column, outcomes = self.store.log.key, list[OutcomeOf]()
        for event in events:
            key = event[key_column]
            again = repeats.get(event["log_seq"])
            outcome, reason = self.apply(key, event) if again is None else (again, 0)
            position = {name: event[name] for name in POSITION}
            self.rows[key] = {key_column: key, **self.values(key), **position}
            place = (event["log_partition"], event["log_offset"], event["log_seq"])
            outcomes.append((*place, outcome.name.lower(), reason))
        columns = self.store.state_columns
        for key in dict.fromkeys(event[key_column] for event in events):
            self._placed[key] = (bucket(columns, [key_column], self.rows[key]), encode_row(columns, self.rows[key]))
        self._ledger_digest = _ledger_digest(self._ledger_digest, cut, outcomes)
        root = tree_digest(columns, self._placed.values())
        return ReferenceBoundary(dict(self.rows), outcomes, root, self._ledger_digest)

    @abstractmethod
    def apply(self, key: object, event: Row) -> tuple[Outcome, int]:
        """Apply the first delivery of an event to the row of its key; its outcome and reason code."""

    @abstractmethod
    def values(self, key: object) -> Row:
        """The values of a key as a state holds them, those from before its first event included."""


class _RuleFold(_Fold):
    """A rule's row changes by what the rule answers, and stays where it rejects or ignores the event."""

    store: RuleStore

    def __init__(self, store: RuleStore) -> None:
        super().__init__(store)
        self._now: dict[object, tuple[object, ...]] = {}

    def apply(self, key: object, event: Row) -> tuple[Outcome, int]:
        row = self._now.get(key, self.store.rule.row())
        answer = self._answer(row, event)
        if isinstance(answer, Rejection) and 1 <= answer.reason <= 255:
            return Outcome.REJECTED, int(answer.reason)
        if isinstance(answer, Ignored):
            return Outcome.IGNORED, 0
        if not self._is_row(answer):
            raise self._error(event, f"answered {answer!r} to the row {row!r}")
        self._now[key] = answer
        return Outcome.APPLIED, 0

    def _is_row(self, answer: Any) -> bool:
        kinds, row_class = self.store.values.values(), cast("Any", self.store.rule.row)
        return type(answer) is row_class and all(admitted(k, v) for k, v in zip(kinds, answer, strict=True))

    def _answer(self, row: tuple[object, ...], event: Row) -> Any:
        columns = self.store.log.columns
        seen = SimpleNamespace(**{name: _as_rules_see(column, event[name]) for name, column in columns.items()})
        with decimal.localcontext(_DECIMALS):
            try:
                return self.store.rule.function(row, seen)
            except Exception as error:  # a rule can raise anything; it is told with the event it happened at
                raise self._error(event, f"raised {type(error).__name__} ({error}) at the row {row!r}") from error

    def _error(self, event: Row, what: str) -> RuleError:
        return RuleError(
            f"The rule of store {self.store.name!r} {what} for the event at log partition {event['log_partition']}, "
            f"offset {event['log_offset']} (log_seq {event['log_seq']}).",
            remedy="Correct the rule and raise its version, or handle such an event by reject(...).",
        )

    def values(self, key: object) -> Row:
        row = self._now.get(key, self.store.rule.row())
        plain = [member_text(value) if isinstance(value, Enum) else value for value in row]
        return dict(zip(self.store.values, plain, strict=True))


class _LatestFold(_Fold):
    """The last event's columns; before the first event, and after a delete, there are none and the row is deleted."""

    def __init__(self, store: Folded) -> None:
        assert isinstance(store, LatestStore)
        super().__init__(store)
        self._delete_when = store.delete_when
        self._now: dict[object, Row] = {}
        self._nothing: Row = dict.fromkeys(store.values) | {DELETED: True}

    def apply(self, key: object, event: Row) -> tuple[Outcome, int]:
        if self._delete_when and event[self._delete_when[0]] == self._delete_when[1]:
            self._now[key] = self._nothing
        else:
            self._now[key] = {name: event[name] for name in self.store.values} | {DELETED: False}
        return Outcome.APPLIED, 0

    def values(self, key: object) -> Row:
        return self._now.get(key, self._nothing)


def _as_rules_see(column: ColumnType, value: Any) -> Any:
    if value is None or column.choices is None:
        return value
    return next(member for member in column.choices if member_text(member) == value)


def admitted(column: ColumnType, value: Any) -> bool:
    """Whether a row may hold a value: of exactly the column's Python type, and within its bounds."""
    if value is None:
        return column.null
    if column.choices is not None:
        return isinstance(value, column.choices)
    if type(value) is not _PYTHON[column.kind]:
        return False
    try:
        encode_value(column, value)
    except (OverflowError, ValueError, TypeError):
        return False
    low, high = column.minimum, column.maximum  # declared for int64 alone
    return (low is None or low <= value) and (high is None or value <= high) and (value != "" or column.empty)


def encode_value(column: ColumnType, value: Any) -> bytes:
    """The canonical bytes of one value, as `refold.canonical.encoding` specifies them.

    >>> from refold.types import int64, text
    >>> encode_value(int64(), -2).hex(), encode_value(text(), "é").hex(), encode_value(text(null=True), None).hex()
    ('01feffffffffffffff', '0102000000c3a9', '00')
    """
    if value is None:
        return b"\x00"
    if column.kind in ("text", "enum", "binary"):
        raw = value if isinstance(value, bytes) else value.encode()
        return b"\x01" + len(raw).to_bytes(4, "little") + raw
    if column.kind == "boolean":
        return b"\x01" + (b"\x01" if value else b"\x00")
    if column.kind == "ratio":
        return b"\x01" + struct.pack("<d", math.nan if math.isnan(value) else value + 0.0)
    if column.kind == "decimal":
        return b"\x01" + _unscaled(column, value).to_bytes(16, "little", signed=True)
    if column.kind == "timestamp":
        value = (value - _EPOCH) // dt.timedelta(microseconds=1)
    elif column.kind == "date":
        value = (value - _EPOCH.date()).days
    return b"\x01" + int(value).to_bytes(8, "little", signed=True)


def _unscaled(column: ColumnType, value: Decimal) -> int:
    assert column.precision is not None and column.scale is not None
    over, under = value.as_integer_ratio()
    unscaled, rest = divmod(over * int(10**column.scale), under)
    if rest or abs(unscaled) >= 10**column.precision:
        raise ValueError(f"{value} is no {column}")
    return unscaled


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
