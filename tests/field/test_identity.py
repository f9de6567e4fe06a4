"""Identity of events: cases from public reports, each with the right answer, and logs with tuples against joined ones.

A log whose key and event id are tuples must come to what the same log comes to with both joined into one text by the
test, which Refold then knows nothing of.
"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refold import ConflictLimits, Daily, Log, Project, Sql, fold, latest_by_key, open_release
from refold.errors import DeclarationError
from refold.log.compaction import Compactor, MergeLimits
from refold.stores.declaration import Folded
from refold.stores.state import sort_by
from refold.types import date, int64, text
from tests.field.salaries import LOG, PROJECT
from tests.support import Shop, copy_landing, seal_and_prove, verify_reference

ANY = ConflictLimits(share_max=1.0, records_max=10**6)


class Sum(NamedTuple):
    units: int = 0
    events: int = 0


def stores_of(log: Log) -> list[Folded]:
    """A rule that is compiled, one that is not, and the latest of each key."""

    @fold(log, version=1, sinks=[Sql("sums")])
    def sums(row: Sum, event):
        return row._replace(units=row.units + event.n, events=row.events + 1)

    @fold(log, version=1)
    def interpreted(row: Sum, event):
        return row._replace(units=int(str(row.units + event.n)), events=row.events + 1)

    return [sums, interpreted, latest_by_key(log, "latest", version=1, columns={"n": int64()}, sinks=[Sql("latest")])]


TUPLES = Log(
    "moves",
    key=("shop", "day"),
    event_id=("stream", "number", "part"),
    columns={
        "stream": text(),
        "number": int64(),
        "part": text(null=True),
        "shop": text(),
        "day": date(),
        "n": int64(),
    },
    conflicts=ANY,
)
JOINED = Log(
    "moves",
    key="joined_key",
    event_id="joined_id",
    columns={"joined_key": text(), "joined_id": text(), **TUPLES.columns},
    conflicts=ANY,
)

TEXTS = st.sampled_from(["", "a", "b", "a\x00", "1", "é", "e\u0301"])
MOVE = st.fixed_dictionaries(
    {
        "stream": TEXTS,
        "number": st.integers(0, 1),
        "part": st.none() | TEXTS,
        "shop": TEXTS,
        "day": st.sampled_from(["2020-01-01", "2021-01-01"]),
        "n": st.integers(1, 2),
    }
)


def joined(move: dict[str, Any]) -> dict[str, Any]:
    """The move with key and id as one text each."""
    key, name = ([move[column] for column in columns] for columns in (TUPLES.key, TUPLES.event_id))
    return {"joined_key": json.dumps(key), "joined_id": json.dumps(name), **move}


def built(folder: str, log: Log, days: list[list[dict[str, Any]]], *, compact: bool) -> dict[str, object]:
    """Rows by key and outcomes by `log_seq`, of each store: sealed, folded, proven, and compared with the reference."""
    shop = Shop(Path(folder) / log.event_id[0], Project("field", Daily(dt.date(2026, 1, 1)), stores_of(log)))
    found: dict[str, object] = {}
    for number, moves in enumerate(days):
        key = f"2026-01-{number + 1:02}"
        shop.land(f"moves/dt={key}/a.jsonl", *moves)
        seal_and_prove(shop.engine(), key)
    engine = shop.engine()
    if compact:
        compactor = Compactor(engine.objects, engine.chain, log, MergeLimits(events_max=8, files_min=2))
        compactor.apply(compactor.plan())
        engine = shop.engine()
        seal_and_prove(engine)
    snapshot = engine.chain.get()
    assert [finding for _, findings in engine.verify_log("moves", snapshot) for finding in findings] == []
    assert verify_reference(engine, snapshot) == []
    for store in engine.project.folded:
        rows = engine.rows(store, snapshot).to_pylist()
        found[store.name] = {str(log_key(log, row)): {n: row[n] for n in store.values} for row in rows}
        ledger = engine.builder.ledger_rows(store, snapshot).sort_by("log_seq")
        found[f"{store.name} ledger"] = ledger["outcome"].to_pylist()
    return found


def log_key(log: Log, row: dict[str, Any]) -> object:
    """The key of a row as a list of texts, whichever way the log has it."""
    return json.loads(row["joined_key"]) if log is JOINED else [row["shop"], row["day"].isoformat()]


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(days=st.lists(st.lists(MOVE, min_size=1, max_size=12), min_size=1, max_size=3), compact=st.booleans())
def test_tuples_come_to_what_one_joined_text_comes_to(days: list[list[dict[str, Any]]], compact: bool) -> None:
    """Sealed day by day, folded, proven by full replay and compared with the reference; every ledger too."""
    with tempfile.TemporaryDirectory() as folder:
        expected = built(folder, JOINED, [[joined(move) for move in day] for day in days], compact=False)
        assert built(folder, TUPLES, days, compact=compact) == expected


def salaries(shared_data: Path, tmp_path: Path) -> Shop:
    """The case of a primary key of two columns, rebuilt by its command, with the same row as a second day."""
    folder = shared_data / "field" / "composite_key" / "landing"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    shop = Shop(tmp_path, PROJECT)
    copy_landing(folder, shop.landing)
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.field.salaries:PROJECT"\n')
    done = shop.refold("rebuild", project=tmp_path)
    assert done.exit_code == 0, done.output
    return shop


def test_a_primary_key_of_two_columns_is_two_rows_in_every_sink(shared_data: Path, tmp_path: Path) -> None:
    """(1, 2020-01-01): 10 and (1, 2021-01-01): 11, sealed, folded, proven, published, released and read."""
    shop = salaries(shared_data, tmp_path)
    right = [
        {"emp_no": 1, "from_date": dt.date(2020, 1, 1), "salary": 10},
        {"emp_no": 1, "from_date": dt.date(2021, 1, 1), "salary": 11},
    ]
    engine = shop.engine()
    assert verify_reference(engine, engine.chain.get()) == []
    served = open_release(str(shop.store), database=shop.database_url)
    assert served.delta("salaries").select(["emp_no", "from_date", "salary"]).to_pylist() == right
    for name in ("salaries", "found"):
        rows = served.rows(name).select(["emp_no", "from_date", "salary"])
        assert sort_by(rows, ("emp_no", "from_date")).to_pylist() == right
    assert shop.refold("verify", project=tmp_path).exit_code == 0
    assert shop.refold("verify", "--reference", project=tmp_path).exit_code == 0
    assert shop.refold("log", "verify", project=tmp_path).exit_code == 0


def test_commands_take_a_key_of_two_columns(shared_data: Path, tmp_path: Path) -> None:
    shop = salaries(shared_data, tmp_path)
    for store in ("paid", "salaries", "found"):
        why = shop.refold("why", store, "1", "2021-01-01", project=tmp_path)
        assert (why.exit_code, "2021-01-01" in why.output, "2020-01-01" in why.output) == (0, True, False), why.output
    missing = shop.refold("why", "paid", "1", "2022-01-01", project=tmp_path)
    assert missing.exit_code != 0 and "no event for emp_no, from_date" in missing.output
    short = shop.refold("why", "paid", "1", project=tmp_path)
    assert "The key of 'paid' is (emp_no, from_date); found 1 values." in short.output
    for words in (["explain", "paid"], ["show", "paid"], ["plan"]):
        done = shop.refold(*words, project=tmp_path)
        assert done.exit_code == 0, done.output
    against = ("diff", "paid", "--against", "tests.field.salaries:TWICE", "--why", "1,2020-01-01", "--json", "-")
    done = shop.refold(*against, project=tmp_path)
    assert done.exit_code == 1, done.output
    (told,) = json.loads(done.stdout)["stores"]
    assert [(c["key"], c["cells"]["paid"]) for c in told["rows"]["changes"]] == [
        ({"emp_no": 1, "from_date": "2020-01-01"}, [20, 10]),
        ({"emp_no": 1, "from_date": "2021-01-01"}, [22, 11]),
    ]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"key": ("emp_no", "name")}, "key names 'name', which is not a declared column"),
        ({"key": ()}, "key is empty"),
        ({"key": ("emp_no", "salary")}, "key column 'salary' is int64?; expected one that is not null"),
        ({"key": ("emp_no", "emp_no")}, "key names 'emp_no' more than once"),
        ({"key": ("from_date",)}, "key 'from_date' is date; expected text, int64 or binary, not null"),
        ({"event_id": ("salary",)}, "event_id 'salary' is int64?; expected text, int64 or binary, not null"),
        (
            {"event_id": ("salary", "note"), "columns": {**LOG.columns, "note": text(null=True)}},
            "all columns of event_id (salary, note) may be null; expected at least one that is not",
        ),
    ],
)
def test_tuples_that_cannot_identify_are_refused(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        replace(LOG, **changes)
    assert fault in str(refused.value)
