"""The one test of a new store: hand-written days in, the last snapshot's rows out, built in every way that must agree.

Everything real is used but the sinks: landing files, sealing, building, full replay. Nothing stays behind.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, cast

from refold.config import Settings
from refold.engine import Engine
from refold.errors import FixInput
from refold.log.declaration import POSITION, Log
from refold.log.limits import ConflictLimits, QuarantineLimits
from refold.project import Project
from refold.proof.prover import Verdict
from refold.seal.cadence import Cadence, Daily, Hourly
from refold.seal.sealer import Sealer
from refold.stores.checkpoint import StateRecord
from refold.stores.declaration import Store
from refold.types import member_text

Event = Mapping[str, Any] | str | bytes
"""One landing record: a dictionary that becomes a line of JSON, or a raw line."""

Days = Mapping[str, Sequence[Event]]
"""The records of one log by snapshot key (YYYY-MM-DD), in landing order; an empty list is an empty day."""

_ANY_BAD = QuarantineLimits(share_max=1.0, records_max=2**62, bytes_max=2**62)
_ANY_CONFLICTS = ConflictLimits(records_max=2**62)


def assert_replay_equal(
    store: Store, days: Days | Mapping[str, Days], *, quarantined: int = 0, position: bool = False
) -> list[dict[str, Any]]:
    """Build a store, and whatever it reads, day by day and in one pass, and demand equality with full replay.

    Day by day means: sealed and built one snapshot at a time by an engine that knows only what is stored. In one pass
    means: in another place, sealed whole and folded from offset 0. Snapshot identities, digests of states and
    ledgers, outcomes and every full replay must agree. A rerun does all of it again.

    Args:
        store: any store; its sinks and expectations are left alone.
        days: its log's records by snapshot key; where it comes from several logs, such a mapping by log name.
            Dictionaries become JSON: times as ISO 8601 in UTC, decimals as text, enum members as they land.
        quarantined: how many of the records are meant to be no events.
        position: also return the log position of the last event, where the store has it.

    Returns:
        The published rows of the last snapshot, sorted by key.

    Raises:
        AssertionError: something differs; all differences are listed.
        FixInput: `days` names no day, or another log than the store's.

    >>> from refold import Log, int64, latest_by_key, text
    >>> renames = Log("renames", key="id", event_id="n", columns={"n": int64(), "id": text(), "name": text()})
    >>> names = latest_by_key(renames, "names", version=1, columns={"name": text()})
    >>> first, second = {"n": 1, "id": "a", "name": "Ann"}, {"n": 2, "id": "a", "name": "Anna"}
    >>> assert_replay_equal(names, {"2026-01-01": [first], "2026-01-02": [second, first]})
    [{'id': 'a', 'name': 'Anna'}]
    """
    keys = sorted({key for name, found in days.items() for key in (found if isinstance(found, Mapping) else [name])})
    project = _project(store, keys)
    by_log = _by_log(project.logs, days)
    with tempfile.TemporaryDirectory(prefix="refold-") as folder:
        root = Path(folder)
        _write(root / "landing", project.logs, by_log)
        engine = _built_both_ways(store, project, root, keys, quarantined)
        rows = cast("list[dict[str, Any]]", engine.rows(store, engine.chain.get()).to_pylist())
    return rows if position else [{n: v for n, v in row.items() if n not in POSITION} for row in rows]


def _built_both_ways(store: Store, project: Project, root: Path, keys: Sequence[str], quarantined: int) -> Engine:
    """An engine over what was built day by day. Raises AssertionError with all differences."""
    resumed = _Way("day by day", project, root, root / "resumed").step_by_step(keys)
    single = _Way("in one pass", project, root, root / "single").at_once(keys)
    differences = [*resumed.problems, *single.problems, *_compare(resumed, single)]
    differences += _unexpected_quarantine(resumed.engine(), quarantined)
    if differences:
        raise AssertionError(f"Store {store.name!r} fails:\n  - " + "\n  - ".join(dict.fromkeys(differences)))
    return resumed.engine()


def _project(store: Store, keys: Sequence[str]) -> Project:
    """A store and what it reads, by the cadence of these keys. Raises FixInput."""
    if not keys:
        raise FixInput("Expected at least one day, found none.")
    cadence: Cadence = Hourly() if Hourly().is_key(keys[0]) else Daily()
    cadence.require(keys[0])
    return Project(store.name, cadence.beginning(keys[0]), [*_inputs(store), store])


_ALL_OVER = dt.datetime.max.replace(tzinfo=dt.UTC)
"""A time at which every day is over; keys are named here in any case."""


@dataclass
class _Way:
    """One way to build a project, in a folder of its own, and what it came to."""

    name: str
    project: Project
    root: Path
    folder: Path

    def __post_init__(self) -> None:
        self.records: dict[tuple[str, str], StateRecord] = {}
        self.problems: list[str] = []

    def engine(self) -> Engine:
        """An engine that knows nothing but what is stored."""
        database = f"sqlite:///{self.folder / 'refold.db'}"
        store = str(self.folder / "store")
        settings = Settings(str(self.root / "landing"), store, database, self.folder / "search")
        return Engine(self.project, settings, now=_ALL_OVER)

    def step_by_step(self, keys: Sequence[str]) -> _Way:
        for key in self.project.cadence.keys(keys[-1]):
            self._seal([key])
            engine = self.engine()
            snapshot = engine.chain.get(key)
            for store in self.project.in_order:
                self.records[key, store.name] = engine.builder.build(store, snapshot)
                self._note({store.name: engine.prover.prove(store, snapshot)})
        return self

    def at_once(self, keys: Sequence[str]) -> _Way:
        self._seal(self.project.cadence.keys(keys[-1]))
        engine = self.engine()
        head = engine.chain.get()
        for log in self.project.logs:
            for snapshot, records in engine.fold_history(log.name, head, fresh=True):
                self.records |= {(snapshot.key, name): record for name, record in records.items()}
            for _, verdicts in engine.prove_history(log.name, head):
                self._note(verdicts)
        for snapshot, verdicts in engine.relate_history(head):
            self._note(verdicts)
            for relation in self.project.relations:
                self.records[snapshot.key, relation.name] = engine.builder.require(relation, snapshot)
        return self

    def _seal(self, keys: Sequence[str]) -> None:
        engine = self.engine()
        # A hand-written day is so small that one bad record passes any share.
        logs = [replace(log, quarantine=_ANY_BAD, conflicts=_ANY_CONFLICTS) for log in self.project.logs]
        for _ in Sealer(engine.landing(), engine.objects, engine.chain, logs, self.project.cadence).seal(keys):
            pass

    def _note(self, verdicts: Mapping[str, Verdict]) -> None:
        for name, verdict in verdicts.items():
            self.problems += [f"{name} {self.name}: {difference}" for difference in verdict.differences]


def _compare(one: _Way, other: _Way) -> Iterator[str]:
    ids = [{snapshot.key: snapshot.id for snapshot in way.engine().chain} for way in (one, other)]
    if ids[0] != ids[1]:
        yield f"snapshots: {one.name} {ids[0]}, {other.name} {ids[1]}"
    for place in sorted(one.records.keys() | other.records.keys()):
        yield from _compare_records(place, one.records.get(place), other.records.get(place))


def _compare_records(place: tuple[str, str], one: StateRecord | None, other: StateRecord | None) -> Iterator[str]:
    key, name = place
    if one is None or other is None:
        yield f"{name} at snapshot {key}: expected a state in both ways, found one only"
        return
    for field in ("state_digest", "ledger_digest", "outcomes", "rows"):
        if getattr(one, field) != getattr(other, field):
            yield (
                f"{name} at snapshot {key}: {field} {getattr(one, field)} day by day, "
                f"{getattr(other, field)} in one pass"
            )


def _unexpected_quarantine(engine: Engine, expected: int) -> list[str]:
    found = engine.quarantine()
    if len(found) == expected:
        return []
    lines = [
        f"{item.object} {engine.project.log(item.log).decoder.unit} {item.record.number}: {item.record.reason}. "
        f"{item.record.detail}"
        for item in found
    ]
    return [f"expected {expected} quarantined records, found {len(found)}", *lines]


def _inputs(store: Store) -> list[Store]:
    """Whatever a store reads, each once, inputs first."""
    found: list[Store] = []
    for needed in store.inputs:
        found += [each for each in (*_inputs(needed), needed) if each not in found]
    return found


def _by_log(logs: Sequence[Log], days: Days | Mapping[str, Days]) -> Mapping[str, Days]:
    if all(isinstance(value, Mapping) for value in days.values()):
        by_log = cast("Mapping[str, Days]", days)
    elif len(logs) == 1:
        by_log = {logs[0].name: cast("Days", days)}
    else:
        raise FixInput(f"Expected days by log name, since there are several: {', '.join(log.name for log in logs)}.")
    unknown = sorted(by_log.keys() - {log.name for log in logs})
    if unknown:
        raise FixInput(f"Expected days of {', '.join(log.name for log in logs)}; found {', '.join(unknown)}.")
    return by_log


def _write(landing: Path, logs: Sequence[Log], by_log: Mapping[str, Days]) -> None:
    landing.mkdir()
    for log in logs:
        for key, events in by_log.get(log.name, {}).items():
            path = landing / log.folder / f"{log.layout.example(key)}{log.endings[0]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(map(_line, events)))
            written_at = dt.datetime.fromisoformat(key).replace(tzinfo=dt.UTC).timestamp()
            os.utime(path, (written_at, written_at))


def _line(event: Event) -> bytes:
    if isinstance(event, Mapping):
        event = json.dumps(event, default=_landed, ensure_ascii=False)
    return (event.encode() if isinstance(event, str) else event) + b"\n"


def _landed(value: object) -> str:
    if isinstance(value, dt.datetime):
        return (value.astimezone(dt.UTC) if value.tzinfo else value).replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Enum):
        return member_text(value)
    raise TypeError(f"{value!r} has no form in JSON Lines")
