"""An array of objects, however it is written, holds the records that the standard library reads from it."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import UnreadableObject
from refold.landing.bounds import LandingBounds
from refold.landing.decoder import joined
from refold.landing.json_array import JsonArray
from refold.types import int64, text

COLUMNS = {"n": int64(), "s": text()}
TEXTS = st.text(st.sampled_from('a,[]{}"\\\n é'), max_size=6)
RECORDS = st.lists(st.fixed_dictionaries({"n": st.integers(-(2**63), 2**63 - 1), "s": TEXTS}), max_size=6)
PARTS = ["[", "]", "{", "}", ",", '"', "\\", ' "n":1', ' "s":"x"', "\n", "1"]
CUT = ["[", '[{"n":1,"s":""}', '[{"s":"a]']
WRONG = ["{}", "[,]", "[{},]", "[{},,{}]", "[{}{}]", "[]x", "[][]", "[{}]{}", "]", "[}]", "[1]]"]


@given(RECORDS, st.sampled_from([None, 0, 2]), st.booleans(), st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_what_the_standard_library_writes_is_read_whole_in_pieces_of_any_size(
    records: list[dict], indent: int | None, compressed: bool, size: int
) -> None:
    data = json.dumps(records, indent=indent, ensure_ascii=False).encode()
    data = gzip.compress(data) if compressed else data
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    decoded = joined(COLUMNS, JsonArray().pieces("a.json", pieces, COLUMNS))
    assert decoded.rows.to_pylist() == records
    assert decoded.lines.tolist() == list(range(1, len(records) + 1))
    assert not decoded.bad


@pytest.mark.parametrize("data", [*CUT, *WRONG])
def test_what_is_no_array_is_refused(data: str) -> None:
    with pytest.raises(UnreadableObject, match=r"one JSON array in the object a\.json, found"):
        JsonArray().decode("a.json", data.encode(), COLUMNS)


@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join))
@settings(max_examples=500, deadline=None)
def test_nothing_that_is_json_is_refused_and_nothing_is_lost(data: str) -> None:
    """Every element of an array that is JSON is a row or a bad record; what is no JSON is refused or bad."""
    try:
        found = JsonArray().decode("a.json", data.encode(), COLUMNS)
    except UnreadableObject:
        found = None
    try:
        right = json.loads(data)
    except ValueError:
        assert found is None or found.bad or not data.strip()
        return
    if isinstance(right, list):
        assert found is not None
        assert found.read == len(right)


def test_an_element_that_is_no_record_is_bad_by_its_number_and_retried_as_a_line() -> None:
    mark, split = b"\xef\xbb\xbf", b'{"n": "2",\n   "s": "b"}'
    data = (
        mark + b'[\n  {"n": 1, "s": "a"},\n  ' + split + b',\n 7, null, {"n": 3, "s": "c\nd"}, {"n": 4, "s": ""}\n]\n'
    )
    decoded = JsonArray().decode("a.json", data, COLUMNS)
    assert decoded.rows["n"].to_pylist() == [1, 4]
    assert [(record.number, record.reason) for record in decoded.bad] == [
        (2, "wrong-type"),
        (3, "not-an-object"),
        (4, "not-an-object"),
        (5, "not-json"),
    ]
    columns = {"n": int64(quoted=True), "s": text()}
    again = JsonArray().decode("a.retry.jsonl", JsonArray().encode([decoded.bad[0].raw]), columns)
    assert again.rows.to_pylist() == [{"n": 2, "s": "b"}]


def test_an_error_names_the_object() -> None:
    with pytest.raises(UnreadableObject, match=r"at most 1 lines in the object a\.json"):
        list(JsonArray().pieces("a.json", [b"[{}, {}]"], COLUMNS, (), LandingBounds(object_records_max=1)))
