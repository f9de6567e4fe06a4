"""Landing with values that a sink cannot hold plainly: cases from public reports, each with the right answer."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import psycopg2
import pytest

from refold import Daily, Log, Project, Sql, decimal, latest_by_key, open_release, text
from refold.errors import DeclarationError
from refold.rebuild import rebuild_all
from tests.postgres import postgres, postgres_url
from tests.support import Shop, copy_landing

__all__ = ["postgres", "postgres_url"]

NOTES = Log("t", key="id", event_id="id", columns={"id": text(), "body": text()})
PRICES = Log("t", key="id", event_id="id", columns={"id": text(), "price": decimal(18, 4)})


def test_text_with_nul_is_published_to_postgresql_and_every_later_day_too(
    tmp_path: Path, shared_data: Path, postgres: str
):
    """Its readers see U+FFFD in place of U+0000; a release gives the exact text, and what is served is as proven."""
    folder = shared_data / "field" / "nul_in_text" / "landing"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    store = latest_by_key(NOTES, "notes", version=1, columns={"body": NOTES.columns["body"]}, sinks=[Sql("notes")])
    shop = Shop(tmp_path, Project("field", Daily(dt.date(2021, 7, 14)), [store]), database=postgres)
    copy_landing(folder, shop.landing)
    long = "k" * 9_000 + "\0"
    landed = [("2021-07-14", [("SM1", "hello"), ("SM2", "part\0one"), ("SM3", "end")])]
    landed += [("2021-07-15", [(long, "a long key")]), ("2021-07-16", [("SM4", "\0")])]
    expected = dict(landed[0][1])
    for day, rows in landed:
        if day != "2021-07-14":
            shop.land(f"t/dt={day}/a.jsonl", *({"id": key, "body": body} for key, body in rows))
        expected |= dict(rows)
        engine = shop.engine()
        rebuild_all(engine)
        assert [each for each in engine.served.check() if each.differences] == []
        rows_found = open_release(str(shop.store), database=postgres).sql("notes").to_pylist()
        assert {row["id"]: row["body"] for row in rows_found} == expected
        connection = psycopg2.connect(postgres)
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, body FROM notes")
            assert dict(cursor.fetchall()) == {
                key.replace("\0", "\ufffd"): body.replace("\0", "\ufffd") for key, body in expected.items()
            }
        connection.close()


def test_a_decimal_too_wide_for_sqlite_is_refused_before_anything_is_sealed(tmp_path: Path):
    columns = {"price": PRICES.columns["price"]}
    for permitted in (False, True):
        sinks = [Sql("prices", round_decimals=permitted)]
        store = latest_by_key(PRICES, "prices", version=1, columns=columns, sinks=sinks)
        shop = Shop(tmp_path, Project("field", Daily(dt.date(2021, 7, 14)), [store]))
        if not permitted:
            shop.land("t/dt=2021-07-14/a.jsonl", {"id": "a", "price": "19.45"}, {"id": "b", "price": "9.75"})
            with pytest.raises(
                DeclarationError, match=r"Sql/prices of store 'prices'.*'price' has 18 digits.*round_dec"
            ):
                rebuild_all(shop.engine())
            assert shop.engine().chain.head is None
    rebuild_all(shop.engine())
    prices = open_release(str(shop.store)).sql("prices")["price"].to_pylist()
    assert sorted(map(str, prices)) == ["19.4500", "9.7500"]
