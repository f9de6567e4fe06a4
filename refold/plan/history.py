"""The history as it will be once landing is sealed: the snapshots that are, and those that sealing would add.

Events and bytes of a sealed snapshot are read from manifest and layout. Those of a snapshot still to be sealed are
estimated from earlier landing objects of the same kind, or where there are none, from the records of one object; no
other event is read. `refold.plan.decisions` decides what a rebuild does with this history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from refold.engine import Engine
from refold.errors import RefoldError
from refold.landing.listing import LandingObject, read_listed
from refold.log.declaration import Log
from refold.log.layout import SegmentFile
from refold.log.snapshot import Snapshot, SnapshotChain
from refold.rebuild import nothing_sealed
from refold.seal.decoding import acceptable_pieces
from refold.seal.sealing import Waiting

_PEEKED_BYTES = 4 << 20
"""The largest landing object that is decoded to count its records, where none of its log was sealed yet."""

_RECORD_BYTES = {".gz": 40.0, "": 200.0}
"""Bytes per landing record where even that is unknown, compressed and plain."""

_COLUMN_BYTES = 5.0
"""Bytes per column of an event where no segment exists yet."""

_SEGMENT_BYTES = 2_500
"""Bytes of a segment beside its columns."""


@dataclass(frozen=True)
class Ahead:
    """One log's part of a snapshot: new events, all events through it, and the landing objects still to be sealed."""

    events: int
    through: int
    objects: Sequence[LandingObject] = ()


@dataclass(frozen=True)
class Day:
    """One snapshot of the history as it will be.

    `snapshot` is None where it is not sealed yet; `is_new` is whether it was unsealed when the plan was made.
    """

    key: str
    logs: Mapping[str, Ahead]
    snapshot: Snapshot | None
    is_new: bool = False

    @property
    def id(self) -> str | None:
        """The identity; None where it is not sealed yet."""
        return self.snapshot.id if self.snapshot else None

    @property
    def events(self) -> int:
        """The new events of all logs."""
        return sum(ahead.events for ahead in self.logs.values())


@dataclass(frozen=True)
class History:
    """The history as it will be.

    Attributes:
        days: every snapshot, oldest first, sealed or to be sealed.
        waiting: what in landing would still not be sealed, and why; unknown where `through` is sealed already.
        early: the keys that would be sealed though they are not over, since one was named.
    """

    days: Sequence[Day]
    waiting: Sequence[Waiting] = ()
    early: Sequence[str] = ()


def history_ahead(engine: Engine, through: str | None = None) -> History:
    """The history up to a key (None: all that is due), by the decisions of sealing itself.

    Raises what a rebuild raises before it reads an object, and NotFound where nothing is sealed and nothing can be.
    """
    engine.require_fit()
    engine.chain.refresh()
    logs = [log.name for log in engine.project.logs]
    known = [_known(logs, snapshot) for snapshot in engine.chain]
    if through is not None and through in engine.chain:
        return History(known[: engine.chain.get(through).ordinal + 1])
    sealing = engine.sealing
    sealer = sealing.sealer()
    keys = sealing.keys(sealer, through)
    waiting = sealing.waiting(sealer, keys)
    if not known and not keys:
        raise nothing_sealed(engine, waiting)
    return History([*known, *_coming(engine, sealer.ready(), keys, known)], waiting, sealing.early(sealer, keys))


def sealed_days(chain: SnapshotChain, days: Sequence[Day]) -> list[Day]:
    """The same days, with the snapshots sealed since."""
    snapshots = {snapshot.key: snapshot for snapshot in chain}
    return [
        day if day.snapshot or day.key not in snapshots else _since(day, _known(day.logs, snapshots[day.key]))
        for day in days
    ]


def _since(day: Day, sealed: Day) -> Day:
    logs = {name: replace(sealed.logs[name], objects=ahead.objects) for name, ahead in day.logs.items()}
    return replace(sealed, logs=logs, is_new=True)


def _known(logs: Iterable[str], snapshot: Snapshot) -> Day:
    cuts = {log: snapshot.cut(log) for log in logs}
    return Day(snapshot.key, {name: Ahead(cut.events, cut.seq_end) for name, cut in cuts.items()}, snapshot)


def _coming(
    engine: Engine, waiting: dict[str, list[LandingObject]], keys: Sequence[str], known: Sequence[Day]
) -> Iterator[Day]:
    sizes = {log: _record_bytes(engine, log, items) for log, items in waiting.items()}
    reached = {log: known[-1].logs[log].through if known else 0 for log in waiting}
    for key in keys:
        logs = {}
        for name, items in waiting.items():
            taken = [item for item in items if item.folder <= key]
            waiting[name] = [item for item in items if item.folder > key]
            events = round(sum(item.info.size_bytes / sizes[name][_kind(item.name)] for item in taken))
            events = max(events, 1) if taken else 0
            reached[name] += events
            logs[name] = Ahead(events, reached[name], taken)
        yield Day(key, logs, None, is_new=True)


def _kind(name: str) -> str:
    return ".gz" if name.endswith(".gz") else ""


def _record_bytes(engine: Engine, log: str, waiting: Sequence[LandingObject]) -> dict[str, float]:
    """Bytes per landing record of a log, compressed and plain: as sealed so far, else as in one object."""
    found = {kind: [0, 0] for kind in _RECORD_BYTES}
    for snapshot in engine.chain:
        for item in snapshot.cut(log).objects:
            kind = found[_kind(item.name)]
            kind[0] += item.size_bytes
            kind[1] += item.records
    return {
        kind: size / n if n and size else _peeked(engine, engine.project.log(log), kind, waiting)
        for kind, (size, n) in found.items()
    }


def _peeked(engine: Engine, log: Log, kind: str, waiting: Sequence[LandingObject]) -> float:
    """Bytes per record in the median landing object of a kind by size; a default where it is too large to read."""
    items = sorted(
        (item for item in waiting if item.folder and _kind(item.name) == kind), key=lambda i: i.info.size_bytes
    )
    if not items or items[len(items) // 2].info.size_bytes > _PEEKED_BYTES:
        return _RECORD_BYTES[kind]
    try:
        name = items[len(items) // 2].name
        data = read_listed(engine.landing(), items[len(items) // 2].info)
        records = sum(piece.read for piece in acceptable_pieces(log, name, [data]))
    except (RefoldError, OSError, ValueError):  # sealing reports what is wrong with it
        return _RECORD_BYTES[kind]
    return len(data) / records if records else _RECORD_BYTES[kind]


@dataclass(frozen=True)
class Bytes:
    """How many bytes the segments of a log take, by column; exact where they are sealed, else estimated."""

    chain: SnapshotChain
    log: Log

    def of(self, days: Sequence[Day], columns: Iterable[str] | None) -> int:
        """The bytes that reading some columns (None: all) of the events of some days takes, each object once."""
        wanted = None if columns is None else ["", *dict.fromkeys(n for n in columns if n != "log_offset")]
        files: dict[str, SegmentFile] = {}
        ahead = [day.logs[self.log.name].events for day in days if day.snapshot is None]
        for day in days:
            if day.snapshot is not None:
                files |= {f.name: f for f in self.chain.layout(day.snapshot, self.log.name).segments}
        sealed = sum(_size(file, wanted) for file in files.values())
        return sealed + self._ahead([n for n in ahead if n], wanted)

    def _ahead(self, events: Sequence[int], wanted: Sequence[str] | None) -> int:
        """Bytes of segments that do not exist yet."""
        if not events:
            return 0
        columns = len(self.log.schema.names) - 1 if wanted is None else len(wanted) - 1
        each, size = self._usual(wanted) or (columns * _COLUMN_BYTES, _SEGMENT_BYTES)
        return round(sum(events) * each + len(events) * self.log.partitions * size)

    def _usual(self, wanted: Sequence[str] | None) -> tuple[float, float] | None:
        """Bytes per event, and per segment beside its columns, in the newest five snapshots; None without events."""
        files = [
            file for snapshot in list(self.chain)[-5:] for file in self.chain.layout(snapshot, self.log.name).segments
        ]
        events = sum(file.last - file.first for file in files)
        if not events:
            return None
        footers = sum(_size(file, [""]) for file in files)
        return (sum(_size(file, wanted) for file in files) - footers) / events, footers / len(files)


def _size(file: SegmentFile, wanted: Sequence[str] | None) -> int:
    if wanted is None:
        return file.size_bytes
    return sum(file.pieces[name].size for name in wanted if name in file.pieces)
