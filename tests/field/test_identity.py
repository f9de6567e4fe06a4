"""Identity of events: cases from public reports, each with the right answer, and logs with tuples against joined ones.

A log whose key and event id are tuples must come to what the same log comes to with both joined into one text by the
test, which Refold then knows nothing of.
"""

from __future__ import annotations

import datetime as dt
import itertools
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
from refold.log.reader import LogReader
from refold.stores.declaration import Folded
from refold.stores.state import sort_by
from refold.types import date, int64, text
from tests.field import placed
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


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    days=st.lists(
        st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 2)), max_size=6), max_size=3),
        min_size=1,
        max_size=3,
    )
)
def test_by_place_every_record_counts(days: list[list[list[tuple[str, int]]]]) -> None:
    """Records that are alike in every column, in one object and in several, as in a log with a number for each."""
    numbered = replace(placed.LOG, event_id="number", columns={"number": int64(), **placed.LOG.columns})
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        logs = {"numbered": numbered, "placed": placed.LOG}
        shops = {name: by_day(Path(folder) / name, stores_of(log)) for name, log in logs.items()}
        for day, objects in enumerate(days):
            for name, moves in enumerate([*objects, [("c", 1), ("c", 1)]]):
                records = [{"number": next(numbers), "shop": where, "n": n} for where, n in moves]
                for shop in shops.values():
                    shop.land(f"moves/dt=2026-01-{day + 1:02}/{name}.jsonl", *records)
        found = {}
        for name, shop in shops.items():
            seal_and_prove(shop.engine())
            engine = shop.engine()
            snapshot = engine.chain.get()
            assert verify_reference(engine, snapshot) == []
            ledgers = [engine.builder.ledger_rows(store, snapshot) for store in engine.project.folded]
            assert {outcome for ledger in ledgers for outcome in ledger["outcome"].to_pylist()} == {"applied"}
            found[name] = [engine.rows(store, snapshot).to_pylist() for store in engine.project.folded]
        assert found["placed"] == found["numbered"]


def by_day(root: Path, stores: list[Folded]) -> Shop:
    return Shop(root, Project("field", Daily(dt.date(2026, 1, 1)), stores))


def test_a_record_retried_by_place_keeps_its_place_and_a_copy_counts_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path, placed.PROJECT)
    good = {"shop": "a", "n": 1}
    shop.land("moves/dt=2026-01-01/a.jsonl", good, {"shop": "a", "n": 5}, good)
    narrow = replace(placed.LOG, columns={"shop": text(), "n": int64(0, 3)})
    seal_and_prove(by_day(tmp_path, [latest_by_key(narrow, "sums", version=1, columns={"n": int64()})]).engine())
    assert [len(items) for items in shop.engine().retry_quarantine().values()] == [1]
    assert [len(items) for items in shop.engine().retry_quarantine().values()] == [0]
    shop.land("moves/dt=2026-01-02/copy.jsonl", good)
    seal_and_prove(shop.engine())
    engine = shop.engine()
    assert engine.rows(placed.sums, engine.chain.get())["units"].to_pylist() == [8]
    assert verify_reference(engine, engine.chain.get()) == []
    events = LogReader(engine.objects, engine.chain, placed.LOG).events(engine.chain.get()).to_pylist()
    assert {(event["source_object"], event["source_line"], event["n"]) for event in events} == {
        ("moves/dt=2026-01-01/a.jsonl", 2, 5),
        ("moves/dt=2026-01-02/copy.jsonl", 1, 1),
    }
    reader = LogReader(engine.objects, engine.chain, placed.LOG)
    damaged = reader.files(engine.chain.get())[0].name
    before = (shop.store / damaged).read_bytes()
    (shop.store / damaged).unlink()
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.field.placed:PROJECT"\n')
    assert shop.refold("repair", project=tmp_path).exit_code == 0
    assert (shop.store / damaged).read_bytes() == before


def test_what_identity_by_place_means_is_said_where_it_is_proven_and_shown(tmp_path: Path) -> None:
    shop = Shop(tmp_path, placed.PROJECT)
    shop.land("moves/dt=2026-01-01/a.jsonl", {"shop": "a", "n": 1})
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.field.placed:PROJECT"\n')
    assert shop.refold("rebuild", project=tmp_path).exit_code == 0
    for words in (["verify"], ["explain", "sums"], ["log", "show", "moves", "0:0"]):
        done = shop.refold(*words, project=tmp_path)
        assert done.exit_code == 0, done.output
        said = " ".join(done.output.split()).lower()
        assert "identified by place: a record landed again in another object counts as another" in said
    (proof,) = shop.store.glob("proofs/sums/*/*.json")
    assert "identified by place" in json.loads(proof.read_text())["body"]["method"]
