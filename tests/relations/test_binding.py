"""A query is bound when it is declared: what does not fit is refused at once, with its line."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from refold import boolean, date, decimal, documents, int64, latest_by_key, ratio, relation, text, timestamp
from refold.errors import DeclarationError, RuleError
from refold.log.declaration import Log
from refold.types import ColumnType, binary
from tests.relations.house import SOURCES, TWO, asked, moves, newest, runner

K = text(null=True)


@pytest.mark.parametrize(
    ("value", "declared", "reason"),
    [
        ("nn", int64(null=True), 'Referenced column "nn" not found'),
        ("newest.n", int64(null=True), 'Referenced table "newest" not found'),
        ("nope(n)", int64(null=True), "nope does not exist"),
        ("n", text(null=True), r"declared text\? and computed as BIGINT; expected VARCHAR"),
        ("s", int64(null=True), r"declared int64\? and computed as VARCHAR; expected BIGINT"),
        ("b", int64(null=True), "computed as BOOLEAN; expected BIGINT"),
        ("n / 3", int64(null=True), "computed as DOUBLE, a float; compute it in exact types"),
        ("p", int64(null=True), r"computed as DECIMAL.18,\s?4., which has more digits after the point"),
        ("p * p", decimal(18, 4), "has more digits after the point than decimal.18, 4.; round it in the query"),
        ("[n, 1]", int64(null=True), r"computed as BIGINT\[\]; expected BIGINT"),
        ("[s]", text(null=True), r"computed as VARCHAR\[\]; expected VARCHAR"),
        ("{'a': s}", text(null=True), r"computed as STRUCT\(a VARCHAR\); expected VARCHAR"),
        ("MAP {'a': 1}", text(null=True), "computed as MAP.*; expected VARCHAR"),
        ("INTERVAL 1 DAY", text(null=True), "computed as INTERVAL; expected VARCHAR"),
        ("ts", date(), "an instant; CAST it to DATE for the day in UTC, or CAST.*Europe/Berlin"),
        ("date_trunc('month', event_date)", date(), "CAST it to DATE"),
        ("ts AT TIME ZONE 'Europe/Berlin'", timestamp(), "a time without a zone; add AT TIME ZONE"),
        ("event_date", timestamp(), "computed as DATE; expected TIMESTAMP WITH TIME ZONE"),
        ("s", binary(null=True), "computed as VARCHAR; expected BLOB"),
        ("n", boolean(null=True), "computed as BIGINT; expected BOOLEAN"),
        ("s", ratio(), "computed as VARCHAR; expected DOUBLE"),
        ("NULL", int64(), "is not declared null=True"),
    ],
)
def test_a_column_that_does_not_fit_is_refused(value: str, declared: ColumnType, reason: str):
    with pytest.raises(DeclarationError, match=reason):
        asked(f"SELECT id AS k, {value} AS v FROM newest_ledger", {"k": K, "v": declared})


def test_all_faults_are_listed():
    query = "SELECT k, n AS v, s AS w FROM newest LIMIT 1"
    with pytest.raises(DeclarationError) as failure:
        asked(query, {"k": int64(), "v": text(), "w": text(null=True), "x": text()})
    assert len(failure.value.faults) == 4  # k, v, x, and the limit


def test_a_misspelt_column_does_not_hide_other_faults():
    with pytest.raises(DeclarationError) as failure:
        asked("SELECT id AS k, nn AS v FROM newest_ledger WHERE ts < now() LIMIT 1", {"k": text(), "v": int64()})
    texts = " ".join(failure.value.faults)
    assert all(part in texts for part in ('Referenced column "nn" not found', "it calls now", "add ORDER BY"))


def test_the_line_of_the_query_is_named():
    with pytest.raises(DeclarationError) as failure:

        @relation(reads=[newest], key=["k"], returns={"k": text(), "v": int64()})
        def misspelt() -> str:
            """A query whose second line is wrong."""
            return """
                SELECT k,
                    quantity AS v
                FROM newest
            """

    number = next(n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if "    quantity AS v" in line)
    assert f"{__file__}:{number}: " in failure.value.faults[0]
    assert failure.value.faults[0].endswith("at: quantity AS v")


def test_a_column_that_is_missing_from_the_result_or_twice_in_it_is_refused():
    with pytest.raises(DeclarationError, match=r"expected one column 'v', found 0; its query gives 'k', 'n'"):
        asked("SELECT k, n FROM newest", {"k": text(), "v": int64(null=True)})
    with pytest.raises(DeclarationError, match="expected one column 'k', found 2"):
        asked("SELECT u.k, l.k, 1 AS v FROM newest u JOIN newest_ledger l USING (k)", {"k": text(), "v": int64()})


def test_a_key_is_not_empty_and_is_returned():
    with pytest.raises(DeclarationError, match="its key is empty"):
        asked("SELECT 1 AS v", {"v": int64()}, key=())
    with pytest.raises(DeclarationError, match="key column 'k' is not in returns"):
        asked("SELECT 1 AS v", {"v": int64()})


def test_a_column_named_like_a_word_of_sql_must_be_quoted():
    log = Log("t", key="id", event_id="id", columns={"id": text(), "at": timestamp(), "order": int64()})
    store = latest_by_key(log, "u", version=1, columns={"at": log.columns["at"], "order": log.columns["order"]})

    returns = {"id": text(), "v": timestamp()}
    with pytest.raises(DeclarationError, match=r'write the columns "at" and "order" in quotes'):
        asked("SELECT id, at AS v FROM u WHERE order > 1", returns, ["id"], [store])
    found = asked('SELECT id, "at" AS v FROM u WHERE "order" > 1', returns, ["id"], [store])
    assert found.columns_read_of == {"u": ["id", "at", "order"]}


def test_documents_of_stores_named_like_words_of_sql_are_declared():
    log = Log("t", key="id", event_id="id", columns={"id": text(), "at": timestamp(), "1st": int64()})
    left = latest_by_key(log, "order", version=1, columns={"at": log.columns["at"]})
    right = latest_by_key(log, "left", version=1, columns={"1st": log.columns["1st"]})
    assert list(documents("both", left=left, right=right).columns_read_of) == ["order", "left"]


@pytest.mark.parametrize(
    "query", ["SELECT id, a AS v FROM u", "SELECT * FROM u", "SELECT id, count(*) AS v FROM u GROUP BY 1"]
)
def test_columns_that_differ_by_case_alone_are_refused(query: str):
    log = Log("t", key="id", event_id="id", columns={"id": text(), "a": int64(), "A": int64()})
    store = latest_by_key(log, "u", version=1, columns={"a": int64(), "A": int64()})
    with pytest.raises(DeclarationError, match="columns 'a' and 'A' of u differ by case alone"):
        asked(query, {"id": text(), "v": int64()}, ["id"], [store])


def test_results_and_inputs_that_differ_by_case_alone_are_refused():
    with pytest.raises(DeclarationError, match="its columns 'v' and 'V' differ by case alone"):
        asked("SELECT k, 1 AS v, 2 AS V FROM newest", {"k": text(), "v": int64(), "V": int64()})
    other = latest_by_key(moves, "Newest", version=1, columns={"n": moves.columns["n"]})
    with pytest.raises(DeclarationError, match="its inputs 'newest' and 'Newest' differ by case alone"):
        asked("SELECT k FROM newest", {"k": text()}, reads=[newest, other])


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("SELECT k, sum(n) AS v FROM newest_ledger GROUP BY k", ["k", "n"]),
        ("SELECT K, sum(N) AS v FROM NEWEST_LEDGER GROUP BY k", ["k", "n"]),
        ("SELECT 'x' AS k, count(*) AS v FROM newest_ledger", ["id"]),
        ("SELECT k, count(*) AS v FROM newest_ledger WHERE ts > '2020-01-01' GROUP BY k", ["k", "ts"]),
        ("SELECT a AS k, sum(c) AS v FROM newest_ledger AS t(i, a, c) GROUP BY a", SOURCES[0].table.names),
        ("SELECT k, v FROM (SELECT *, 1 AS v FROM newest_ledger WHERE log_seq = 0)", SOURCES[0].table.names),
        ("SELECT 'x' AS k, count(DISTINCT l) AS v FROM newest_ledger l", SOURCES[0].table.names),
    ],
)
def test_the_columns_that_are_read_are_known(query: str, read: list[str]):
    assert asked(query, {"k": text(), "v": int64(null=True)}).columns_read_of["newest_ledger"] == read


def test_a_column_is_read_by_the_name_that_an_alias_gives_its_place():
    named = asked("SELECT a AS k, sum(c) AS v FROM newest_ledger AS t(i, a, c) GROUP BY a", {"k": text(), "v": int64()})
    assert named.compute(runner, TWO).to_pylist() == [{"k": "a", "v": 3}, {"k": "b", "v": 3}]
    with pytest.raises(DeclarationError, match="reads column #2 by its place"):
        asked("SELECT #1 AS k, #2 AS v FROM newest", {"k": text(), "v": text()})


def test_a_timestamp_is_an_instant():
    values = """CAST(ts AT TIME ZONE 'Europe/Berlin' AS DATE) AS berlin, CAST(ts AS DATE) AS utc, ts, event_date,
        hour(ts) AS hour, CAST(ts AS VARCHAR) AS written,
        (ts AT TIME ZONE 'Asia/Tokyo') AT TIME ZONE 'Asia/Tokyo' AS same"""
    days = {"berlin": date(), "utc": date(), "event_date": date(), "ts": timestamp(), "same": timestamp()}
    found = asked(
        f"SELECT id AS k, {values} FROM newest_ledger", {"k": text(), **days, "hour": int64(), "written": text()}
    )
    start = dt.datetime(2023, 9, 20, 22, 30, tzinfo=dt.UTC)
    rows = {**TWO, "newest_ledger": TWO["newest_ledger"].slice(0, 1)}
    at = rows["newest_ledger"].schema.get_field_index("ts")
    column = TWO["newest_ledger"]["ts"].type
    rows["newest_ledger"] = rows["newest_ledger"].set_column(at, "ts", [[start]]).cast(TWO["newest_ledger"].schema)
    assert str(column) == "timestamp[us, tz=UTC]"
    (row,) = found.compute(runner, rows).to_pylist()
    assert row == {
        "k": "e0",
        "berlin": dt.date(2023, 9, 21),
        "utc": dt.date(2023, 9, 20),
        "event_date": dt.date(2023, 9, 21),
        "ts": start,
        "same": start,
        "hour": 22,
        "written": "2023-09-20 22:30:00+00",
    }


@pytest.mark.parametrize(
    ("value", "declared"),
    [("n", int64(0, 2)), ("s", text(empty=False)), ("'x' || CAST(n AS VARCHAR)", text())],
    ids=["bounds", "empty", "fine"],
)
def test_a_value_that_its_declared_type_does_not_admit_is_refused(value: str, declared: ColumnType):
    found = asked(
        f"SELECT id AS k, {value.replace('s', 'trim(s, s)')} AS v FROM newest_ledger", {"k": text(), "v": declared}
    )
    if declared == text():
        assert found.compute(runner, TWO)["v"].to_pylist() == ["x1", "x2", "x3"]
    else:
        with pytest.raises(RuleError, match=r"gave v=.* for key \['e.'\], which 'v', declared .*, does not admit"):
            found.compute(runner, TWO)
