"""The functions that a query may call: reviewed by name, and refused where they depend on more than their arguments."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from refold import int64, text
from refold.errors import DeclarationError
from refold.stores.sql_functions import BOUND, ORDERED, ORDERED_WINDOWS, REVIEWED, ROUNDED, TABLES, TIED
from tests.relations.house import asked, moves

REFUSED = {
    name
    for line in Path(__file__).with_name("refused_functions.txt").read_text().splitlines()
    if not line.startswith("# ")
    for name in line.split()
}
RETURNS = {"k": text(null=True), "v": text(null=True)}


def _catalogue() -> set[str]:
    with duckdb.connect(":memory:", config={"autoload_known_extensions": "false"}) as connection:
        found = connection.execute("SELECT function_name FROM duckdb_functions() WHERE function_type <> 'pragma'")
        return {name.lower() for (name,) in found.fetchall()}


def test_every_function_of_the_installed_duckdb_was_reviewed():
    """One that a new version brings is refused; to let it in, add it to one of the two lists."""
    assert _catalogue() == REVIEWED | REFUSED
    assert not REVIEWED & REFUSED


def test_what_needs_an_order_is_among_the_reviewed():
    assert {*ORDERED, *ORDERED_WINDOWS, *TIED, *ROUNDED} | TABLES <= REVIEWED
    assert BOUND <= REFUSED


def test_functions_that_duckdb_calls_volatile_are_refused():
    with duckdb.connect(":memory:") as connection:
        volatile = "SELECT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT' OR has_side_effects"
        assert {name for (name,) in connection.execute(volatile).fetchall()} <= REFUSED


IMPURE = """
    age(ts)
    ts.age()
    main.age(ts)
    age(TIMESTAMPTZ '2020-01-01')
    ago(INTERVAL 1 DAY)
    current_catalog
    current_connection_id()
    current_database()
    CURRENT_DATE
    current_date()
    year(current_date)
    current_localtime()
    current_localtimestamp()
    current_query()
    current_role
    current_schema
    current_schema()
    current_schemas(true)
    current_setting('threads')
    CURRENT_TIME
    CURRENT_TIMESTAMP
    epoch(current_timestamp)
    current_transaction_id()
    current_user
    gen_random_uuid()
    get_current_time()
    get_current_timestamp()
    getenv('HOME')
    getvariable('x')
    hash(n)
    in_search_path('memory', 'main')
    LOCALTIME
    LOCALTIMESTAMP
    now()
    now() - ts
    strftime(now(), '%Y')
    main.now()
    pg_conf_load_time()
    pg_postmaster_start_time()
    pg_backend_pid()
    random()
    setseed(0.5)
    session_user
    sleep_ms(1)
    stats(n)
    today()
    transaction_timestamp()
    txid_current()
    user
    uuid()
    uuidv4()
    uuidv7()
    vector_type(n)
    version()
    write_log('x')
    list_transform([1], lambda x: x + random())[1]
    list_aggr([1, 2], 'reservoir_quantile', 0.5)
    array_aggregate([1, 2], 'any_value')
    json_serialize_sql('SELECT 1')
    (SELECT random())
    (SELECT count(*) FROM duckdb_settings())
    (SELECT count(*) FROM duckdb_settings)
    (SELECT count(*) FROM information_schema.tables)
    (SELECT count(*) FROM pg_catalog.pg_class)
    (SELECT count(*) FROM sqlite_master)
    (SELECT count(*) FROM query('SELECT 1'))
    (SELECT count(*) FROM query_table('newest'))
    (SELECT count(*) FROM read_csv('/etc/passwd'))
    (SELECT count(*) FROM read_text('/etc/passwd'))
    (SELECT count(*) FROM '/etc/passwd.csv')
    (SELECT count(*) FROM glob('*'))
    (SELECT count(*) FROM pg_timezone_names())
    (SELECT count(*) FROM (DESCRIBE newest))
    (SELECT count(*) FROM (SUMMARIZE newest))
    (SELECT count(*) FROM (SHOW TABLES))
    (SELECT count(*) FROM moves)
    (SELECT count(*) FROM newest TABLESAMPLE 10%)
    (SELECT count(*) FROM newest USING SAMPLE 10 ROWS)
    CAST(ts AS TIME)::TIMETZ AT TIME ZONE 'Europe/Berlin'
    $1
    ?
    $name
"""


_REASONS = (
    "depends on more than its inputs|depends on today|not among its inputs|takes a sample|has a parameter"
    "|of day to another zone|may read|does not exist|Cannot access|one SELECT"
)


@pytest.mark.parametrize("call", [line.strip() for line in IMPURE.strip().splitlines()])
def test_what_depends_on_more_than_the_inputs_is_refused(call: str):
    value = f"CAST({call} AS VARCHAR)"
    with pytest.raises(DeclarationError, match=_REASONS):
        asked(f"SELECT id AS k, {value} AS v FROM newest_ledger", RETURNS)
    for query in (
        f"SELECT k, 'x' AS v FROM newest_ledger GROUP BY k HAVING max({value}) > ''",
        f"WITH f AS (SELECT id FROM newest_ledger WHERE {value} > '') SELECT id AS k, 'x' AS v FROM f",
    ):
        with pytest.raises(DeclarationError):
            asked(query, RETURNS)


def test_an_order_by_chance_is_refused():
    with pytest.raises(DeclarationError, match=r"calls random, .* or was not reviewed, at: SELECT"):
        asked("SELECT id AS k, s AS v FROM newest_ledger ORDER BY random() LIMIT 1", RETURNS)


def test_a_column_named_like_a_function_is_read():
    assert moves.columns["s"].null
    found = asked("SELECT k, u.current_date AS v FROM (SELECT k, s AS current_date FROM newest) AS u", RETURNS)
    assert found.columns_read_of["newest"] == ["k", "s"]


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO newest SELECT * FROM newest",
        "SELECT k, s AS v FROM newest; SELECT 1",
        "SET threads = 3",
        "DROP TABLE newest",
        "PIVOT newest ON k USING sum(n)",
        "COPY newest TO '/tmp/x.csv'",
        "SELECT k, s AS v FROM newest; -- and no more",
        "SELECT k, s AS v FROM newest) AS r; DROP TABLE newest; SELECT * FROM (SELECT 1",
        "",
    ],
)
def test_a_relation_is_one_select(query: str):
    with pytest.raises(DeclarationError, match=r"SELECT|statements|syntax error"):
        asked(query, RETURNS)


def test_the_one_time_of_age_is_refused_and_two_are_not():
    asked("SELECT id AS k, age(ts, ts - INTERVAL 1 DAY)::VARCHAR AS v FROM newest_ledger", RETURNS)
    with pytest.raises(DeclarationError, match="age of one time"):
        asked("SELECT id AS k, age(ts)::VARCHAR AS v FROM newest_ledger", RETURNS)


def test_numbers_are_not_random():
    assert asked("SELECT k, n AS v FROM newest", {"k": text(), "v": int64(null=True)}).takes_of_ties == []
