"""A change that moves a row to another key leaves nothing behind under the old one: a table, changed at random, against
what Refold makes of the change events of its history."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refold import Daily, Log, Project, QuarantineLimits, latest_by_key
from refold.errors import UnreadableObject
from refold.landing.debezium import Debezium
from refold.landing.decoder import joined
from refold.testing import assert_replay_equal
from refold.types import enum, int64, text
from tests.support import Shop, seal_and_prove, verify_reference


class Op(Enum):
    CREATE = "c"
    READ = "r"
    UPDATE = "u"
    DELETE = "d"


ROWS = Log(
    "rows",
    key=("a", "b"),
    event_id=("lsn", "op", "a", "b"),
    columns={"a": int64(), "b": text(), "n": int64(null=True), "op": enum(Op), "lsn": int64()},
    decoder=Debezium({"lsn": ("source.lsn",)}),
    quarantine=QuarantineLimits(share_max=1.0),
)
LATEST = latest_by_key(ROWS, "latest", version=1, columns={"n": int64(null=True)}, delete_when=("op", Op.DELETE))

Key = tuple[int, str]
CHANGE = st.tuples(st.integers(0, 7), st.tuples(st.integers(0, 1), st.sampled_from("xy")), st.integers(0, 9))


def history(changes: list[tuple[int, Key, int]], *, whole: bool) -> tuple[list[dict[str, Any]], dict[Key, int]]:
    """Change events of a table, and the table at the end. `before` has all columns, or the key alone."""
    table: dict[Key, int] = {}
    events = []
    for lsn, (choice, key, n) in enumerate(changes):
        old = sorted(table)[choice % len(table)] if table else None
        if old is None or (key not in table and choice % 2):
            op, before = "c", None
        elif choice % 4 == 0:
            op, before = "d", old
        elif key == old or key not in table:
            op, before = "u", old
        else:  # as most settings of PostgreSQL write updates
            op, before = "u", None
        was = before and {"a": before[0], "b": before[1], **({"n": table.pop(before)} if whole else {})}
        table = {each: value for each, value in table.items() if each != before}
        after = None if op == "d" else {"a": key[0], "b": key[1], "n": n}
        table |= {} if after is None else {key: n}
        events.append({"before": was, "after": after, "op": op, "source": {"lsn": lsn}})
    return events, table


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(CHANGE, min_size=1, max_size=20), whole=st.booleans(), cut=st.integers(0, 20))
def test_the_latest_rows_are_those_of_the_table(changes: list[tuple[int, Key, int]], whole: bool, cut: int) -> None:
    """Built day by day and in one pass, and proven; all of it is landed twice and counts once."""
    events, table = history(changes, whole=whole)
    days = {"2026-01-01": events[:cut], "2026-01-02": events[cut:], "2026-01-03": events}
    found = assert_replay_equal(LATEST, days)
    assert {(row["a"], row["b"]): row["n"] for row in found} == table


@settings(max_examples=30, deadline=None, derandomize=True)
@given(changes=st.lists(CHANGE, min_size=1, max_size=20), spoiled=st.lists(st.integers(0, 3), max_size=20))
def test_records_are_read_the_same_at_once_and_one_by_one(
    changes: list[tuple[int, Key, int]], spoiled: list[int]
) -> None:
    """Every record is rows or one bad record; one that moves a row is two rows with its number, the delete first."""
    events, _ = history(changes, whole=True)
    for event, how in zip(events, spoiled, strict=False):
        if how == 1 and event["before"]:
            del event["before"]["b"]
        elif how == 2 and event["before"]:
            event["before"]["a"] = "not a number"
        elif how == 3 and event["after"]:
            event["after"]["n"] = "not a number"
    data = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    decoder = ROWS.decoder
    assert isinstance(decoder, Debezium)
    both = [
        joined(ROWS.columns, decoder.pieces("a.jsonl", [data], ROWS.columns, ROWS.key_columns, fast=fast))
        for fast in (True, False)
    ]
    fast, slow = ((found.rows.to_pylist(), found.lines.tolist(), list(found.bad), found.read) for found in both)
    assert fast == slow
    rows, lines, records, read = fast
    bad = {record.number for record in records}
    for number, (event, how) in enumerate(zip(events, [*spoiled, *[0] * len(events)], strict=False), 1):
        before, after, op = event["before"], event["after"], event["op"]
        spoils = (how in (1, 2) and before) or (how == 3 and after)
        assert (number in bad) == bool(spoils), event
        if spoils:
            continue
        mine = [row for row, line in zip(rows, lines, strict=True) if line == number]
        moved = op == "u" and before and (before["a"], before["b"]) != (after["a"], after["b"])
        expected = [{**before, "op": "d"}, {**after, "op": "u"}] if moved else [{**(after or before), "op": op}]
        assert mine == [{**row, "lsn": number - 1} for row in expected]
    assert read == len(rows) + len(records)


def test_an_update_without_its_key_is_quarantined_whole_and_retried_whole(tmp_path: Path) -> None:
    """One bad half of a move is the whole record, which becomes two events once the declaration admits it."""
    strict = replace(ROWS, columns={**ROWS.columns, "n": int64(0, 5, null=True)})
    moved = {"op": "u", "before": {"a": 1, "b": "x", "n": 9}, "after": {"a": 2, "b": "x", "n": 1}, "source": {"lsn": 2}}
    shop = Shop(tmp_path, Project("field", Daily(dt.date(2026, 1, 1)), [replace(LATEST, log=strict)]))
    created = {"op": "c", "before": None, "after": {"a": 1, "b": "x", "n": 5}, "source": {"lsn": 1}}
    shop.land("rows/dt=2026-01-01/a.jsonl", created, moved, {**moved, "after": {"n": 1}, "source": {"lsn": 3}})
    seal_and_prove(shop.engine())
    assert [(item.record.number, item.record.reason) for item in shop.engine().quarantine()] == [
        (2, "out-of-range"),
        (3, "missing"),
    ]
    shop = Shop(tmp_path, Project("field", Daily(dt.date(2026, 1, 1)), [LATEST]))
    assert [item.record.number for items in shop.engine().retry_quarantine().values() for item in items] == [2]
    shop.land("rows/dt=2026-01-02/a.jsonl", {**created, "after": {"a": 7, "b": "x", "n": 0}, "source": {"lsn": 4}})
    seal_and_prove(shop.engine())
    engine = shop.engine()
    rows = engine.rows(LATEST, engine.chain.get()).to_pylist()
    assert {(row["a"], row["b"]): row["n"] for row in rows} == {(2, "x"): 1, (7, "x"): 0}
    assert verify_reference(engine, engine.chain.get()) == []
    assert [finding for _, findings in engine.verify_log("rows", engine.chain.get()) for finding in findings] == []


def test_a_move_between_log_partitions_of_landing_is_refused(tmp_path: Path) -> None:
    """The events of the old key may be in another log partition, after whose last offset the delete cannot be put."""
    log = replace(ROWS, partitions=2)
    shop = Shop(tmp_path, Project("field", Daily(dt.date(2026, 1, 1)), [replace(LATEST, log=log)]))
    moved = {"op": "u", "before": {"a": 1, "b": "x"}, "after": {"a": 2, "b": "x"}, "source": {"lsn": 2}}
    shop.land("rows/dt=2026-01-01/partition=1/a.json", moved)
    with pytest.raises(UnreadableObject, match="line 1 moves a row of log 'rows' to another key"):
        seal_and_prove(shop.engine())
