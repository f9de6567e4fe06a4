"""Records come back as they were written, and whatever else their bytes are, is Damaged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import Damaged
from refold.storage.objects import sha256_hex
from refold.storage.records import body_of, record_bytes

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(TEXT, VALUES, max_size=4)
BODY = {"rows": 10400, "store": "stück", "cuts": [{"end": 7}], "id": "a1e9"}


@settings(derandomize=True)
@given(BODIES)
def test_a_record_comes_back_and_is_sorted_json_with_the_hash_of_its_body(body: dict):
    data = record_bytes(body)
    assert body_of(data, "it") == body
    plain = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert json.loads(data) == {"body": body, "sha256": sha256_hex(plain)}


def test_every_changed_byte_and_every_cut_is_damage():
    data = record_bytes(BODY)
    for place in range(len(data)):
        for value in (data[place] ^ 1, data[place] ^ 128, ord("e"), ord("0"), ord('"')):
            if value != data[place]:
                with pytest.raises(Damaged, match="The record of a place"):
                    body_of(data[:place] + bytes([value]) + data[place + 1 :], "of a place")
        with pytest.raises(Damaged):
            body_of(data[:place], "of a place")
    with pytest.raises(Damaged):
        body_of(data + b"\n", "of a place")


def _framed(body: str) -> bytes:
    return b'{"body":' + body.encode() + b',"sha256":"' + sha256_hex(body.encode()).encode() + b'"}'


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "no content"),
        (b"\0" * 512, "no content"),
        (b"[]", "found neither"),
        (b'{"body":{}}', "names the sha256 None"),
        (json.dumps(json.loads(record_bytes(BODY)), indent=1).encode(), "not those that Refold writes"),
        (record_bytes(BODY).replace(b"10400", b"1e400"), "not JSON of a record"),
        (record_bytes(BODY).replace(b"10400", b"NaN"), "not JSON of a record"),
        (record_bytes(BODY).replace(b"a1e9", b"\\ud800"), "not JSON of a record"),
        (_framed("[]"), "found neither"),
        (_framed("{"), "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_record_is_told_why(data: bytes, fault: str):
    with pytest.raises(Damaged, match=fault):
        body_of(data, "of a place")


@settings(derandomize=True, max_examples=300)
@given(st.binary(max_size=200) | BODIES.map(lambda body: json.dumps({"body": body, "sha256": ""}).encode()))
def test_bytes_that_are_no_record_are_damage_whatever_they_are(data: bytes):
    with pytest.raises(Damaged):
        body_of(data, "of a place")
