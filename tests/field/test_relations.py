"""Relations over landing as other tools leave it: cases from public reports, each with the right answer."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import Daily, Log, Project, boolean, date, int64, latest_by_key, relation, text, timestamp
from refold.errors import DeclarationError
from refold.stores.kinds.relation import Relation
from refold.stores.relating import RelationRunner
from tests.support import Shop, copy_landing, seal_and_prove

MOVES = Log(
    "moves",
    key="sku",
    event_id="id",
    event_time="at",
    columns={"id": text(), "sku": text(), "n": int64(), "at": timestamp()},
)
newest = latest_by_key(MOVES, "newest", version=1, columns={"at": MOVES.columns["at"]})


@relation(
    reads=[newest.ledger],
    key=["id"],
    returns={"id": text(), "event_date": date(), "berlin": date(), "at": timestamp(), "late": boolean()},
)
def days():
    """The day of each event in UTC, and in Berlin."""
    return """
        SELECT id, event_date, CAST("at" AT TIME ZONE 'Europe/Berlin' AS DATE) AS berlin, "at",
            "at" >= TIMESTAMPTZ '2023-09-21 00:00:00+02:00' AS late
        FROM newest_ledger
    """


def test_an_instant_has_its_day_in_utc_and_in_another_zone(tmp_path: Path, shared_data: Path):
    shop = Shop(tmp_path, Project("field", Daily(dt.date(2023, 9, 20)), [newest, days]))
    folder = shared_data / "field" / "day_boundary" / "landing"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    copy_landing(folder, shop.landing)
    engine = shop.engine()
    seal_and_prove(engine)
    head = engine.chain.get()
    assert [verdict.passed for _, found in engine.relate_history(head) for verdict in found.values()] == [True]
    wednesday, thursday = dt.date(2023, 9, 20), dt.date(2023, 9, 21)
    rows = engine.rows(days, head).to_pylist()
    assert {row["id"]: (row["event_date"], row["berlin"], row["late"]) for row in rows} == {
        "a": (wednesday, wednesday, False),
        "b": (wednesday, thursday, True),
        "c": (thursday, thursday, True),
    }
    assert rows[1]["at"] == dt.datetime(2023, 9, 20, 22, 30, tzinfo=dt.UTC)


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")
UNTIL_2037 = st.builds(lambda seconds: dt.datetime.fromtimestamp(seconds, dt.UTC), st.integers(0, 2_145_000_000))
NEAR_CHANGES = st.builds(
    lambda year, day, seconds: dt.datetime(year, *day, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds),
    st.integers(2007, 2030),
    st.sampled_from([(3, 8), (3, 25), (3, 28), (4, 1), (9, 24), (10, 25), (10, 28), (11, 1)]),
    st.integers(0, 8 * 86_400),
)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.one_of(UNTIL_2037, NEAR_CHANGES), min_size=1, max_size=20))
def test_a_local_day_is_the_one_that_python_has(instants: list[dt.datetime]) -> None:
    """Also around midnight and where clocks are changed, in zones on both sides of UTC."""
    ledger = pa.Table.from_pylist([
        {**dict.fromkeys(newest.ledger.table.names), "id": f"{place:02}", "at": at}
        for place, at in enumerate(instants)
    ], newest.ledger.table)  # fmt: skip
    for zone in ZONES:
        rows = LOCAL[zone].compute(RelationRunner(), {"newest_ledger": ledger}).to_pylist()
        found = {row["id"]: row["day"] for row in rows}
        assert found == {f"{place:02}": at.astimezone(ZoneInfo(zone)).date() for place, at in enumerate(instants)}


def _local(zone: str) -> Relation:
    def local() -> str:
        return f"""SELECT id, CAST("at" AT TIME ZONE '{zone}' AS DATE) AS day FROM newest_ledger"""

    return relation(reads=[newest.ledger], key=["id"], returns={"id": text(), "day": date()})(local)


LOCAL = {zone: _local(zone) for zone in ZONES}


def test_columns_that_differ_by_case_alone_are_refused_when_a_relation_reads_them():
    columns = {"id": text(), "UserUPN": text(null=True), "UserUpn": text(null=True)}
    log = Log("t", key="id", event_id="id", columns=columns)
    store = latest_by_key(log, "users", version=1, columns={"UserUPN": columns["UserUPN"]})
    with pytest.raises(DeclarationError, match="columns 'UserUPN' and 'UserUpn' of users_ledger differ by case alone"):

        @relation(reads=[store.ledger], key=["id"], returns={"id": text(), "name": text(null=True)})
        def names():
            return "SELECT id, UserUPN AS name FROM users_ledger"
