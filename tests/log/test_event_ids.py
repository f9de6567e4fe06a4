"""Event ids as 16 bytes and as text, and their hashes: the same id is the same id in both forms."""

from __future__ import annotations

import io
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refold.log import event_ids

IDS = st.lists(st.uuids() | st.just(uuid.UUID(int=0)) | st.just(uuid.UUID(int=2**128 - 1)), min_size=1, max_size=20)
UUID = "00112233-4455-6677-8899-aabbccddeeff"
NO_UUIDS = ["", "1", UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", UUID[:-1], UUID[:-1] + "g", UUID + " ",
            "00112233-4455-6677-8899_aabbccddeeff", "é" * 18, "x" * 10_000]  # fmt: skip


def chunked(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([texts[: len(texts) // 2], texts[len(texts) // 2 :]], pa.string())


@given(IDS)
def test_uuids_become_their_16_bytes_and_come_back(ids: list[uuid.UUID]):
    texts = [str(each) for each in ids]
    stored = event_ids.to_bytes(chunked(texts))
    assert stored.type == event_ids.STORED
    assert stored.to_pylist() == [each.bytes for each in ids]
    assert event_ids.to_text(stored).to_pylist() == texts
    assert event_ids.to_text(stored.slice(1)).to_pylist() == texts[1:]


@pytest.mark.parametrize("other", NO_UUIDS)
def test_one_id_in_another_form_keeps_all_as_text(other: str):
    assert event_ids.to_bytes(chunked([UUID, other, UUID])) is None


def test_null_is_no_uuid():
    assert event_ids.to_bytes(pa.chunked_array([[UUID, None]])) is None


@given(IDS)
def test_an_id_has_the_same_hash_as_text_as_16_bytes_and_in_a_dictionary(ids: list[uuid.UUID]):
    texts = chunked([str(each) for each in ids])
    expected = event_ids.hashes(texts).tolist()
    assert event_ids.hashes(event_ids.to_bytes(texts)).tolist() == expected
    assert event_ids.hashes(texts.dictionary_encode()).tolist() == expected
    mixed = chunked([*map(str, ids), "no uuid"])
    assert event_ids.hashes(mixed).tolist()[:-1] == expected
    assert len(set(expected)) == len(set(ids))


@given(st.lists(st.sampled_from([*NO_UUIDS, UUID]) | st.text(max_size=5), min_size=1, max_size=20))
def test_two_texts_have_one_hash_only_if_they_are_equal(texts: list[str]):
    found = event_ids.hashes(chunked(texts)).tolist()
    assert len(set(zip(texts, found, strict=True))) == len(set(texts)) == len(set(found))


def test_numbers_and_bytes_are_hashed_as_they_are():
    numbers = event_ids.hashes(pa.chunked_array([[1, 2], [1]])).tolist()
    assert numbers[0] == numbers[2] != numbers[1]
    assert len(set(event_ids.hashes(pa.chunked_array([[b"", b"0", b"\0"]], pa.binary())).tolist())) == 3


def column_bytes(ids: pa.ChunkedArray, **options: object) -> memoryview:
    """The bytes of the one column of a Parquet file."""
    file = io.BytesIO()
    table = pa.table([ids], schema=pa.schema([pa.field("id", ids.type, False)]))
    plain = {"compression": "NONE", "use_dictionary": False, "write_statistics": False, "max_rows_per_page": 1 << 20}
    pq.write_table(table, file, **{**plain, **options})
    column = pq.read_metadata(io.BytesIO(file.getvalue())).row_group(0).column(0)
    begin = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return file.getbuffer()[begin : begin + column.total_compressed_size]


@given(IDS, st.integers(1, 2_000))
def test_ids_are_used_as_they_lie_in_a_page(ids: list[uuid.UUID], times: int):
    many = (ids * times)[: len(ids) + times]
    stored = pa.chunked_array([[each.bytes for each in many]], event_ids.STORED)
    found = event_ids.of_page(column_bytes(stored), len(many))
    assert found is not None
    assert found.to_pylist() == stored.to_pylist()


@pytest.mark.parametrize(
    "options",
    [{"compression": "ZSTD"}, {"use_dictionary": True}, {"max_rows_per_page": 100}, {"write_statistics": True}],
    ids=lambda options: next(iter(options)),
)
def test_a_column_of_another_form_is_no_page_of_ids_or_holds_the_same(options: dict[str, object]):
    ids = pa.chunked_array([[uuid.UUID(int=n).bytes for n in range(150)]], event_ids.STORED)
    found = event_ids.of_page(column_bytes(ids, **options), len(ids))
    assert found is None or (found.to_pylist() == ids.to_pylist() and "write_statistics" in options)


def test_bytes_that_are_no_page_are_none():
    assert event_ids.of_page(memoryview(b""), 0) is None
    assert event_ids.of_page(memoryview(bytes(1_000)), 50) is None
    assert event_ids.of_page(memoryview(b"\x15\x00\x15\x20" + bytes(16)), 2) is None
    assert event_ids.of_page(memoryview(b"\x15\x00\x15\x20" + bytes(16)), 1).to_pylist() == [bytes(16)]
