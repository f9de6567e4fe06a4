"""Arrays of rows are read as a record for each row, and texts that are JSON as the objects they are; none is lost."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold import PLACE, Parquet
from refold.errors import DeclarationError
from refold.landing.change_sources import CANAL
from refold.landing.debezium import Debezium
from refold.landing.decoder import joined
from refold.landing.jsonl import JsonLines
from refold.log.declaration import Log
from refold.types import Schema, decimal, int64, text

COLUMNS: Schema = {"order": text(), "n": int64(0, 9), "place": int64(), "said": text(null=True, empty=True)}
PATHS = {"n": ("rows.n",), "place": ("#",), "said": ("rows.said",)}

values = st.recursive(
    st.none() | st.integers(-(2**70), 2**70) | st.text(max_size=4) | st.sampled_from(["}{", "],[", '"', "\\"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
row = st.fixed_dictionaries({"n": st.integers(0, 10), "said": st.none() | st.text(max_size=4), "more": values})
record = st.fixed_dictionaries(
    {"more": values, "order": st.text(min_size=1, max_size=3), "rows": st.lists(row, max_size=4)}
)


@given(st.lists(record, max_size=5), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_each_row_of_an_array_is_an_event_whatever_it_holds(
    records: list[dict[str, Any]], is_ascii: bool, is_text: bool, fast: bool
) -> None:
    """By count and by identity: rows, bad records and records without rows are all there are."""
    decoder = JsonLines(PATHS, arrays=("rows",), texts=("rows",) if is_text else ())
    lines = [
        json.dumps({**each, "rows": json.dumps(each["rows"], indent=1)} if is_text else each, ensure_ascii=is_ascii)
        for each in records
    ]
    data = [line.encode() for line in lines]
    found = joined(COLUMNS, decoder.pieces("a.jsonl", [b"\n".join(data)], COLUMNS, fast=fast))
    good = [n for n, each in enumerate(records, 1) if all(item["n"] < 10 for item in each["rows"])]
    expected = [
        (records[n - 1]["order"], item["n"], place, item["said"])
        for n in good
        for place, item in enumerate(records[n - 1]["rows"])
    ]
    assert [tuple(each.values()) for each in found.rows.to_pylist()] == expected
    assert [n for n in good for _ in records[n - 1]["rows"]] == found.lines.tolist()
    assert [each.number for each in found.bad] == [n for n in range(1, len(records) + 1) if n not in good]
    assert [each.raw for each in found.bad] == [data[each.number - 1] for each in found.bad]
    assert found.control == sum(not each["rows"] for each in records)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"order": "a", "rows": {"n": 1}}', "not-an-array"),
        ('{"order": "a", "rows": "x"}', "not-an-array"),
        ('{"order": "a", "rows": null}', "missing"),
        ('{"order": "a"}', "missing"),
        ('{"order": "a", "rows": [1]}', "wrong-type"),
        ('{"order": "a", "rows": [{"n": 1}, {"n": "1"}]}', "wrong-type"),
        ('{"order": "a", "rows": [{"n": 1}', "not-json"),
        ('{"order": "a", "rows": [{"n": 1}], "rows": [{"n": 2}]}', "duplicate-key"),
        ('{"order": "a", "rows": [{"n": NaN}]}', "not-json"),
    ],
)
def test_what_cannot_be_taken_apart_is_one_bad_record(line: str, reason: str) -> None:
    decoder = JsonLines(PATHS, arrays=("rows",))
    good = b'{"order": "b", "rows": [{"n": 2}]}'
    found = decoder.decode("a.jsonl", b"\n".join([good, line.encode(), good]), COLUMNS)
    assert found.rows["n"].to_pylist() == [2, 2]
    assert [(each.number, each.raw) for each in found.bad] == [(2, line.encode())]
    assert found.bad[0].reason == reason


def test_a_record_whose_rows_would_fill_memory_is_bad() -> None:
    line = json.dumps({"order": "x" * 100_000, "rows": [{"n": 1}] * 10_000}).encode()
    (bad,) = JsonLines(PATHS, arrays=("rows",)).decode("a.jsonl", line, COLUMNS).bad
    assert bad.reason == "too-many-rows"


def test_rows_of_an_array_need_an_id_of_their_own_and_json() -> None:
    """Two equal rows of one record would have one place, and the second would be taken for a repeat."""
    decoder = JsonLines(PATHS, arrays=("rows",))
    Log("t", key="order", event_id=("order", "place"), columns=COLUMNS, decoder=decoder)
    with pytest.raises(DeclarationError, match="rows of one array share"):
        Log("t", key="order", event_id=PLACE, columns=COLUMNS, decoder=decoder)
    for form in (decoder, JsonLines(texts=("rows",)), Debezium(documents=True)):
        with pytest.raises(DeclarationError, match="only JSON has texts"):
            Parquet(changes=form)


def test_texts_are_opened_where_they_are_declared_and_nowhere_else() -> None:
    line = json.dumps({"id": 1, "body": json.dumps({"n": 10**18}), "other": "{}"}).encode()
    columns: Schema = {"id": int64(), "n": int64(), "other": text()}
    found = JsonLines({"n": ("body.n",)}, texts=("body",)).decode("a.jsonl", line, columns)
    assert found.rows.to_pylist() == [{"id": 1, "n": 10**18, "other": "{}"}]
    with pytest.raises(DeclarationError, match="dotted places"):
        JsonLines(texts=("a..b",))


def canal(kind: str, data: Any, old: Any = None, **more: Any) -> bytes:
    """A flat message as Canal writes it."""
    record = {"data": data, "database": "shop", "es": 1589373560000, "id": 9, "isDdl": data is None, "old": old}
    return json.dumps({**record, "pkNames": ["id"], "table": "products", "ts": 1, "type": kind, **more}).encode()


def test_changes_of_canal_are_one_for_each_row_and_a_move_of_a_key_is_two() -> None:
    columns = {"id": int64(quoted=True), "weight": decimal(5, 2, null=True)}
    log = Log.of_changes("products", CANAL, key="id", columns=columns)
    lines = [
        canal("CREATE", None, sql="create table products"),
        canal("INSERT", [{"id": "1", "weight": "5.15"}, {"id": "2", "weight": None}]),
        canal("UPDATE", [{"id": "1", "weight": "5.18"}, {"id": "3", "weight": "1"}], [{"weight": "5.15"}, {"id": "2"}]),
        canal("UPDATE", [{"id": "1", "weight": "5.18"}]),
        canal("UPDATE", [{"id": "1", "weight": "5.18"}], [{}, {}]),
        canal("TRUNCATE", None),
        canal("DELETE", [{"id": "1", "weight": "5.18"}]),
    ]
    found = log.decoder.decode("a.json", b"\n".join(lines), log.columns, log.key_columns)
    assert [(row["id"], row["op"], row["source_row"], row["weight"]) for row in found.rows.to_pylist()] == [
        (1, "INSERT", 0, Decimal("5.15")),
        (2, "INSERT", 1, None),
        (1, "UPDATE", 0, Decimal("5.18")),
        (2, "DELETE", 1, Decimal("1.00")),
        (3, "UPDATE", 1, Decimal("1.00")),
        (1, "DELETE", 0, Decimal("5.18")),
    ]
    assert found.control == 1
    assert [(bad.number, bad.reason, bad.raw) for bad in found.bad] == [
        (4, "missing-before", lines[3]),
        (5, "uneven-arrays", lines[4]),
        (6, "unsupported-op", lines[5]),
    ]
