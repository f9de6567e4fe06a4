"""Change streams with a ready identity: every change counts once, whatever positions it shares with others.

A table is changed at random in transactions, and its changes are written as each tool writes them: rows of a snapshot
share a position, so do rows of a statement, and a change of key is a delete and a create in one place.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from refold import (
    DEBEZIUM_MYSQL,
    DEBEZIUM_POSTGRESQL,
    DEBEZIUM_SQLSERVER,
    DMS,
    MAXWELL,
    ChangeOp,
    Daily,
    Delta,
    DmsOp,
    Log,
    MaxwellOp,
    Project,
    Sql,
    fold,
    int64,
    latest_by_key,
    open_release,
    text,
)
from refold.errors import DeclarationError
from refold.landing.change_sources import ChangeSource
from refold.rebuild import rebuild_all
from refold.stores.declaration import Folded
from tests.support import Shop, copy_landing, seal_and_prove, verify_reference

COLUMNS = {"a": int64(), "b": text(), "n": int64(null=True)}


class Count(NamedTuple):
    changes: int = 0


def stores_of(log: Log, delete: Enum) -> list[Folded]:
    columns = {"n": int64(null=True)}
    return [counted(log), latest_by_key(log, "latest", version=1, columns=columns, delete_when=("op", delete))]


def counted(log: Log) -> Folded:
    @fold(log, version=1)
    def changes(row: Count, event):
        return row._replace(changes=row.changes + 1)

    return changes


Key = tuple[int, str]
Row = dict[str, Any]


class Change(NamedTuple):
    """One row written: a transaction, a statement in it, a row of that, the operation (r c u d), and the row."""

    tx: int
    statement: int
    row: int
    op: str
    before: Row | None
    after: Row | None
    last: bool = False


KEYS = st.tuples(st.integers(0, 1), st.sampled_from("xy"))
STEP = st.one_of(
    st.tuples(st.just("put"), st.lists(KEYS, min_size=1, unique=True), st.integers(0, 2)),
    st.tuples(st.just("delete"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("move"), st.integers(0, 3), KEYS),
)
TRANSACTIONS = st.lists(st.lists(STEP, min_size=1, max_size=3), min_size=1, max_size=5)


def shown(key: Key, n: int) -> Row:
    return {"a": key[0], "b": key[1], "n": n}


def changes_of(table: dict[Key, int], statement: int, tx: int, step: tuple[str, Any, Any]) -> Iterator[Change]:
    """The changes of one statement, which it makes to the table."""
    what, which, value = step
    if what == "put":
        for row, key in enumerate(which):
            before = shown(key, table[key]) if key in table else None
            table[key] = value
            yield Change(tx, statement, row, "u" if before else "c", before, shown(key, value))
    elif table:
        old = sorted(table)[which % len(table)]
        if what == "move" and value in table:
            return
        before, after = shown(old, table.pop(old)), None
        if what == "move":
            table[value], after = before["n"], shown(value, before["n"])
        yield Change(tx, statement, 0, "m" if after else "d", before, after)


def debezium(source: Callable[[Change], Row]) -> Callable[[Change], list[Any]]:
    """A change of key is a delete, a tombstone and a create, all with the same position."""

    def write(change: Change) -> list[Any]:
        common = {"before": change.before, "after": change.after, "op": change.op, "source": source(change)}
        if change.op != "m":
            return [common, "null"] if change.op == "d" else [common]
        return [{**common, "op": "d", "after": None}, "null", {**common, "op": "c", "before": None}]

    return write


def sqlserver(change: Change) -> list[Any]:
    """Both halves of a change of key have one LSN and their own number; snapshots have the LSN of the commit alone."""
    common = {
        "schema": "dbo",
        "table": "t",
        "commit_lsn": f"{change.tx:04}",
        "change_lsn": None,
        "event_serial_no": None,
    }
    serials = {"r": [None], "m": [1, None, 2]}.get(change.op, [2 if change.op == "u" else 1, None])
    found = debezium(lambda _: dict(common))(change)
    for record, serial in zip(found, serials, strict=False):
        if isinstance(record, dict) and change.op != "r":
            record["source"] = common | {
                "change_lsn": f"{change.tx:04}:{change.statement:02}",
                "event_serial_no": serial,
            }
    return found


def maxwell(change: Change) -> list[Any]:
    kind = {"r": "bootstrap-insert", "c": "insert", "u": "update", "m": "update", "d": "delete"}[change.op]
    record: Row = {
        "database": "d",
        "table": "t",
        "type": kind,
        "ts": change.tx,
        "data": change.after or change.before,
    }
    if change.before and change.after:
        record["old"] = {name: value for name, value in change.before.items() if value != change.after[name]}
    if change.op != "r":
        place = 10 * change.statement + change.row
        record |= {"xid": change.tx} | ({"commit": True} if change.last else {"xoffset": place})
    return [record]


def dms(change: Change) -> list[Any]:
    kind = {"r": "load", "c": "insert", "u": "update", "m": "update", "d": "delete"}[change.op]
    about = {"timestamp": f"2026-01-01T00:00:{change.tx:02}Z", "operation": kind, "schema-name": "s", "table-name": "t"}
    if change.op != "r":
        about |= {"transaction-id": change.tx, "transaction-record-id": 10 * change.statement + change.row}
    record: Row = {"data": change.after or change.before, "metadata": about}
    return [record | ({"before-image": change.before} if change.before and change.after else {})]


def binlog(change: Change) -> Row:
    place = 100 * change.tx + change.statement
    return {"db": "d", "table": "t", "server_id": 1, "file": "binlog.1", "pos": place, "row": change.row}


def wal(change: Change) -> Row:
    return {"db": "d", "schema": "s", "table": "t", "txId": change.tx, "lsn": 100 * change.tx + change.statement}


WRITERS: dict[str, tuple[ChangeSource, Enum, Callable[[Change], list[Any]]]] = {
    "mysql": (DEBEZIUM_MYSQL, ChangeOp.DELETE, debezium(binlog)),
    "postgresql": (DEBEZIUM_POSTGRESQL, ChangeOp.DELETE, debezium(wal)),
    "sqlserver": (DEBEZIUM_SQLSERVER, ChangeOp.DELETE, sqlserver),
    "maxwell": (MAXWELL, MaxwellOp.DELETE, maxwell),
    "dms": (DMS, DmsOp.DELETE, dms),
}


@pytest.mark.parametrize("tool", WRITERS)
@settings(max_examples=6, phases=[Phase.generate], deadline=None, derandomize=True)
@given(transactions=TRANSACTIONS, cut=st.integers(0, 9), snapshot=st.integers(0, 4))
def test_every_change_counts_once_and_the_latest_rows_are_the_table(
    tool: str, transactions: list[list[tuple[str, Any, Any]]], cut: int, snapshot: int
) -> None:
    """Snapshots at the start and at the position of a change; the second day delivers the first again."""
    source, delete, write = WRITERS[tool]
    table: dict[Key, int] = {(0, "x"): 7, (0, "y"): 7, (1, "y"): 8}
    found = [Change(0, 0, row, "r", None, shown(*item)) for row, item in enumerate(table.items())]
    for tx, steps in enumerate(transactions, 1):
        mine = [change for number, step in enumerate(steps) for change in changes_of(table, number, 2 * tx, step)]
        found += [change._replace(last=change is mine[-1]) for change in mine]
        if tx == snapshot:
            found += [Change(2 * tx, 0, row, "r", None, shown(*item)) for row, item in enumerate(table.items())]
    records = [write(change) for change in found]
    days = [list(itertools.chain(*part)) for part in (records[:cut], records[cut:])]
    days[1] = days[0] + days[1]
    expected: dict[Key, int] = {}
    for change in found:
        for row in [change.before, change.after] if change.op == "m" else [change.after or change.before]:
            assert row is not None
            expected[row["a"], row["b"]] = expected.get((row["a"], row["b"]), 0) + 1
    log = Log.of_changes("t", source, key=("a", "b"), columns=COLUMNS, partitions=3)
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), Project("field", Daily(dt.date(2026, 1, 1)), stores_of(log, delete)))
        for day, lines in enumerate(days, 1):
            shop.land(f"t/dt=2026-01-{day:02}/a.json", *lines)
        engine = shop.engine()
        seal_and_prove(engine)
        at = engine.chain.get()
        assert verify_reference(engine, at) == []
        assert engine.quarantine() == []
        latest, changes = (engine.rows(engine.project.store(name), at).to_pylist() for name in ("latest", "changes"))
        assert {(row["a"], row["b"]): row["n"] for row in latest} == table
        assert {(row["a"], row["b"]): row["changes"] for row in changes} == expected


def latest(log: Log, name: str) -> Folded:
    columns = {name: text(null=True)}
    return latest_by_key(
        log, "rows", version=1, columns=columns, delete_when=("op", ChangeOp.DELETE), sinks=[Sql("rows"), Delta("rows")]
    )


@pytest.mark.parametrize(
    ("case", "source", "key", "right"),
    [
        ("mysql_key_update", DEBEZIUM_MYSQL, "f1", {1: "stays", 45600: "new key"}),
        ("shared_lsn", DEBEZIUM_SQLSERVER, "id", {2: "bob", 11: "ann"}),
    ],
)
def test_cases_from_public_reports(
    shared_data: Path, tmp_path: Path, case: str, source: ChangeSource, key: str, right: dict[int, str]
) -> None:
    """Sealed, folded, proven, compared with the reference, published, released and read."""
    folder = shared_data / "field" / case / "landing"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    (log_folder,) = folder.iterdir()
    (day,) = (path.name.removeprefix("dt=") for path in log_folder.iterdir())
    value = "note" if key == "f1" else "name"
    log = Log.of_changes(log_folder.name, source, key=key, columns={key: int64(), value: text(null=True)})
    shop = Shop(tmp_path, Project("field", Daily(dt.date.fromisoformat(day)), [latest(log, value)]))
    copy_landing(folder, shop.landing)
    engine = shop.engine()
    rebuild_all(engine)
    assert verify_reference(engine, engine.chain.get()) == []
    served = open_release(str(shop.store), database=shop.database_url)
    for rows in (served.rows("rows"), served.delta("rows")):
        assert {row[key]: row[value] for row in rows.to_pylist()} == right


@settings(max_examples=10, phases=[Phase.generate], deadline=None, derandomize=True)
@given(
    written=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=20),
    again=st.lists(st.integers(0, 19), max_size=6),
    cut=st.integers(0, 20),
)
def test_a_stream_of_an_event_store_is_identified_by_stream_and_version(
    written: list[tuple[str, int]], again: list[int], cut: int
) -> None:
    """Versions begin again in every stream, so neither column is an id; deliveries are repeated at any place."""
    versions, events, expected = dict[str, int](), list[Row](), dict[str, int]()
    for stream, n in written:
        versions[stream] = versions.get(stream, -1) + 1
        events.append({"stream": stream, "version": versions[stream], "n": n})
        expected[stream] = expected.get(stream, 0) + 1
    landed = events + [events[place % len(events)] for place in again]
    columns = {"stream": text(), "version": int64(0), "n": int64()}
    store = counted(Log("t", key="stream", event_id=("stream", "version"), columns=columns))
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), Project("field", Daily(dt.date(2026, 1, 1)), [store]))
        shop.land("t/dt=2026-01-01/a.json", *landed[:cut])
        shop.land("t/dt=2026-01-02/a.json", *landed[cut:])
        engine = shop.engine()
        seal_and_prove(engine)
        rows = engine.rows(store, engine.chain.get()).to_pylist()
        assert {row["stream"]: row["changes"] for row in rows} == expected


def test_columns_of_the_position_are_not_declared_again() -> None:
    with pytest.raises(DeclarationError, match="column 'source_row' is one of the source's position"):
        Log.of_changes("t", DEBEZIUM_MYSQL, key="a", columns={**COLUMNS, "source_row": int64()})
    with pytest.raises(DeclarationError, match=r"only Debezium wraps records(.|\n)*only DMS can leave out"):
        Log.of_changes("t", replace(MAXWELL, enveloped=True, keys_change=False), key="a", columns=COLUMNS)
    with pytest.raises(DeclarationError, match="only DMS can leave out"):
        Log.of_changes("t", replace(DEBEZIUM_MYSQL, keys_change=False), key="a", columns=COLUMNS)


ABOUT = {"timestamp": "2026-01-01T00:00:00Z", "schema-name": "s", "table-name": "t"}


@pytest.mark.parametrize(
    ("before", "keys_change", "found"),
    [
        ({}, True, "missing-before"),
        ({"before-image": None}, True, "missing-before"),
        ({"before-image": {"n": 1}}, True, "missing-before"),
        ({"before-image": {"a": 1}}, True, "missing-before"),
        ({"before-image": {"a": 1, "b": "x"}}, True, [(1, "x", "delete"), (2, "x", "update")]),
        ({"before-image": {"a": 2, "b": "x"}}, True, [(2, "x", "update")]),
        ({}, False, [(2, "x", "update")]),
        ({"before-image": {"n": 1}}, False, [(2, "x", "update")]),
        ({"before-image": {"a": 1, "b": "x"}}, False, [(1, "x", "delete"), (2, "x", "update")]),
    ],
)
def test_dms_must_write_the_key_before_an_update_unless_keys_never_change(
    before: Row, keys_change: bool, found: str | list[tuple[int, str, str]]
) -> None:
    log = Log.of_changes("t", replace(DMS, keys_change=keys_change), key=("a", "b"), columns=COLUMNS)
    line = {"data": {"a": 2, "b": "x", "n": 5}, **before, "metadata": {**ABOUT, "operation": "update"}}
    decoded = log.decoder.decode("a.json", json.dumps(line).encode(), log.columns, log.key_columns)
    if isinstance(found, str):
        assert [bad.reason for bad in decoded.bad] == [found]
        assert "key before the change (a, b) in before-image" in decoded.bad[0].detail
    else:
        assert [(row["a"], row["b"], row["op"]) for row in decoded.rows.to_pylist()] == found
    assert [("keys are declared never to change" in each) for each in log.assumed] == [True] * (not keys_change)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"type": "insert", "database": "d", "table": "t", "ts": 1, "data": {"b": "x", "n": 1}}', "missing"),
        (
            '{"type": "update", "database": "d", "table": "t", "ts": 1, "data": {"a": 1, "b": "x"}, "old": {"a": "z"}}',
            "wrong-type",
        ),
        ('{"type": "update", "database": "d", "table": "t", "ts": 1, "data": {"a": 1, "b": "x"}}', "missing-before"),
        ('{"type": "table-drop", "database": "d", "table": "t", "ts": 1}', "unsupported-op"),
        ('{"database": "d", "table": "t", "ts": 1, "data": {"a": 1, "b": "x"}}', "missing-op"),
        ('{"type": "delete", "database": "d", "table": "t", "ts": 1}', "missing-row"),
        ("null", "not-an-object"),
    ],
)
def test_a_change_that_cannot_be_applied_is_bad_and_one_of_the_format_is_control(line: str, reason: str) -> None:
    log = Log.of_changes("t", MAXWELL, key=("a", "b"), columns=COLUMNS)
    start = b'{"type": "bootstrap-start", "database": "d", "table": "t", "ts": 1, "data": {}}\n'
    decoded = log.decoder.decode("a.json", start + line.encode(), log.columns, log.key_columns)
    assert ([(bad.number, bad.reason) for bad in decoded.bad], decoded.control, decoded.read) == ([(2, reason)], 1, 2)
