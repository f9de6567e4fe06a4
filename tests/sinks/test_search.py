"""Search exports and local indexes as their readers use them."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.errors import Damaged, DeclarationError, FixInput, NotFound
from refold.sinks import BulkNdjson, Connections, Content, Tantivy
from refold.sinks.tantivy import TantivyTarget
from refold.sinks.values import document_id, from_json, from_plain, to_json, to_plain
from refold.testing.sink_conformance import ALL_TYPES, assert_holds, content_of, levels
from refold.types import ColumnType, Schema, binary, date, decimal, int64, ratio, text, timestamp

PRODUCTS: Schema = {"sku": text(), "name": text(null=True), "category": text(null=True), "price": decimal(8, 2)}
SHOP = [
    ("P-1", "Red desk lamp", "Lighting", Decimal("19.90")),
    ("P-2", "Blue desk lamp", "Lighting", Decimal("20.00")),
    ("P-3", "Red chair", "Seating", Decimal("99.00")),
    ("p-1", "Oak desk", "Tables", Decimal("250.00")),
    ("P-4", None, None, Decimal("1.00")),
]


def shop(version: str = "v1", ordinal: int = 1) -> Content:
    return content_of(PRODUCTS, SHOP, version, ordinal=ordinal)


def indexed(connections: Connections, content: Content, *, fields: tuple[str, ...] | None = None) -> TantivyTarget:
    target = Tantivy("shop", fields).open(connections, content.store, content.key, content.columns)
    target.publish(content)
    target.release(content.version, {})
    return target


def keys(target: TantivyTarget, words: str, limit: int = 10) -> list[object]:
    return [hit.key[0] for hit in target.search(words, limit)]


def bulk_lines(connections: Connections, version: str = "v1") -> list[dict[str, object]]:
    names = [info.name for info in connections.objects.list(f"search/bulk/shop/{version}")]
    data = b"".join(connections.objects.get(name) for name in names if name.endswith(".ndjson"))
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.decode().split("\n")[:-1]]


def test_each_document_of_a_bulk_file_follows_its_action_line(connections: Connections) -> None:
    content = shop("000007-ab", ordinal=7)
    sink = BulkNdjson("shop")
    sink.open(connections, content.store, content.key, content.columns).publish(content)
    lines = bulk_lines(connections, "000007-ab")
    assert lines[:2] == [
        {"index": {"_index": "shop-000007-ab", "_id": "P-1", "version": 7, "version_type": "external"}},
        {"sku": "P-1", "name": "Red desk lamp", "category": "Lighting", "price": "19.90"},
    ]
    assert [line["index"]["_id"] for line in lines[::2]] == ["P-1", "P-2", "P-3", "P-4", "p-1"]  # type: ignore[index]
    assert lines[7] == {"sku": "P-4", "name": None, "category": None, "price": "1.00"}


def test_the_alias_body_points_to_the_versions_index_only(connections: Connections) -> None:
    content = shop()
    BulkNdjson("shop").open(connections, content.store, content.key, content.columns).publish(content)
    assert connections.objects.get_json("search/bulk/shop/v1/aliases.json") == {
        "actions": [
            {"remove": {"index": "shop-*", "alias": "shop", "must_exist": False}},
            {"add": {"index": "shop-v1", "alias": "shop"}},
        ]
    }


def test_parts_are_at_most_as_large_as_declared_and_split_between_documents(connections: Connections) -> None:
    content = levels("v1", 1, count=200)
    sink = BulkNdjson("shop", part_size_bytes_max=2_000)
    target = sink.open(connections, content.store, content.key, content.columns)
    target.publish(content)
    parts = [info for info in connections.objects.list("search/bulk/shop/v1") if info.name.endswith(".ndjson")]
    assert len(parts) > 10
    assert max(part.size_bytes for part in parts) <= 2_000
    assert all(connections.objects.get(part.name).count(b"\n") % 2 == 0 for part in parts)
    assert_holds(content, target.read("v1"))


def test_a_document_larger_than_a_part_is_a_part_alone(connections: Connections) -> None:
    content = content_of(PRODUCTS, [("a", "x" * 500, None, Decimal(1)), ("b", "y", None, Decimal(2))], "v1")
    target = BulkNdjson("shop", part_size_bytes_max=10).open(connections, "s", content.key, content.columns)
    target.publish(content)
    assert len(bulk_lines(connections)) == 4
    assert_holds(content, target.read("v1"))


def test_bulk_files_are_the_same_bytes_every_time(connections: Connections) -> None:
    content = shop()
    target = BulkNdjson("shop").open(connections, content.store, content.key, content.columns)
    target.publish(content)
    first = {info.name: connections.objects.get(info.name) for info in connections.objects.list("search")}
    target.publish(content)
    assert first == {info.name: connections.objects.get(info.name) for info in connections.objects.list("search")}


def test_a_part_that_was_changed_is_damaged(connections: Connections) -> None:
    content = shop()
    target = BulkNdjson("shop").open(connections, content.store, content.key, content.columns)
    target.publish(content)
    name = "search/bulk/shop/v1/bulk-00000.ndjson"
    connections.objects.put(name, connections.objects.get(name).replace(b"Red", b"Ret"))
    with pytest.raises(Damaged):
        target.read("v1")


KEY_VALUE = st.one_of(st.none(), st.text(max_size=4, alphabet='[]",a\\1'), st.integers(-2, 2), st.booleans())


@given(st.lists(st.tuples(KEY_VALUE, KEY_VALUE), min_size=2, max_size=8, unique_by=repr))
def test_no_two_composite_keys_share_a_document_id(composite: list[tuple[object, object]]) -> None:
    assert len({document_id(key) for key in composite}) == len(composite)


@given(st.lists(st.text(max_size=5, alphabet='[]",a\\ sh256'), min_size=2, max_size=8, unique=True))
def test_no_two_text_keys_share_a_document_id(texts: list[str]) -> None:
    assert len({document_id([value]) for value in texts}) == len(texts)


def test_document_ids_are_never_empty_nor_longer_than_search_engines_take() -> None:
    assert document_id([""]) == '[""]'
    ids = [document_id(["k" * size]) for size in (512, 513, 514)]
    assert ids[0] == "k" * 512
    assert all(len(identity.encode()) <= 512 for identity in ids)
    assert len(set(ids)) == 3


SAMPLES: dict[str, tuple[ColumnType, st.SearchStrategy[object]]] = {
    "decimal": (decimal(38, 12), st.decimals(-(10**26) + 1, 10**26 - 1, places=12)),
    "date": (date(), st.dates()),
    "timestamp": (timestamp(), st.datetimes(timezones=st.just(dt.UTC))),
    "int64": (int64(), st.integers(-(2**63), 2**63 - 1)),
    "ratio": (ratio(), st.floats(allow_nan=False, allow_infinity=False)),
    "binary": (binary(), st.binary(max_size=20)),
}


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=50)
@given(data=st.data())
def test_values_come_back_exactly_from_plain_and_from_json_form(name: str, data: st.DataObject) -> None:
    column, values = SAMPLES[name]
    sample = pa.chunked_array([pa.array(data.draw(st.lists(st.one_of(st.none(), values), max_size=8)), column.arrow)])
    assert from_plain(to_plain(sample, column), column).equals(sample.combine_chunks())
    assert from_json(json.loads(json.dumps(to_json(sample, column))), column).equals(sample.combine_chunks())


def test_people_find_rows_by_words_in_any_case_and_best_first(connections: Connections) -> None:
    target = indexed(connections, shop())
    assert keys(target, "RED lamp")[0] == "P-1"
    assert set(keys(target, "desk")) == {"P-1", "P-2", "p-1"}
    assert keys(target, "seating") == ["P-3"]
    assert keys(target, "nothing") == []
    hit = target.search("chair")[0]
    assert hit.document == {"sku": "P-3", "name": "Red chair", "category": "Seating", "price": Decimal("99.00")}


def test_the_exact_key_comes_first_and_differs_by_case(connections: Connections) -> None:
    target = indexed(connections, shop())
    assert keys(target, "P-1")[0] == "P-1"
    assert keys(target, "p-1")[0] == "p-1"


def test_a_key_of_any_length_is_found(connections: Connections) -> None:
    """tantivy drops terms of more than 65,530 bytes without an error."""
    keys = [letter * size for letter in "ab" for size in (40, 65_000, 65_001, 65_530, 65_531, 200_000)]
    content = content_of({"key": text(), "n": int64()}, [(key, n) for n, key in enumerate(keys)], "v1")
    target = Tantivy("products").open(connections, "s", content.key, content.columns)
    target.publish(content)
    target.release("v1", {})
    assert [target.search(key, 1)[0].document["n"] for key in keys] == list(range(len(keys)))


def test_rows_of_equal_score_are_in_the_order_of_their_keys(connections: Connections) -> None:
    rows = [(f"{i:03d}", "same words here", None, Decimal(1)) for i in range(300)]
    target = indexed(connections, content_of(PRODUCTS, rows[::-1], "v1"))
    assert keys(target, "words", limit=5) == ["000", "001", "002", "003", "004"]
    assert len(keys(target, "words", limit=1000)) == 300


def test_two_builds_of_the_same_content_rank_alike(connections: Connections, tmp_path: Path) -> None:
    other = connections.using(search=str(tmp_path / "elsewhere"))
    first, second = indexed(connections, shop()), indexed(other, shop())
    for words in ("red desk lamp", "desk OR chair", "lighting", "*"):
        assert first.search(words) == second.search(words)


def test_query_syntax_works_where_it_is_valid(connections: Connections) -> None:
    target = indexed(connections, shop())
    assert keys(target, 'name:"desk lamp"') == ["P-1", "P-2"]
    assert set(keys(target, "desk -blue")) == {"P-1", "p-1"}
    assert set(keys(target, "category:lighting AND red")) == {"P-1"}


@pytest.mark.parametrize(
    "words", ["lamp)", 'lamp"', "shade:lamp (", "lamp AND", "[lamp", "lamp: ", "http://lamp", "lamp^^", "\\lamp"]
)
def test_broken_syntax_is_taken_as_plain_words(connections: Connections, words: str) -> None:
    assert set(keys(indexed(connections, shop()), words)) >= {"P-1", "P-2"}


def test_no_naughty_string_breaks_a_search(connections: Connections, naughty_strings: list[str]) -> None:
    rows = [(word, word, None, Decimal(1)) for word in naughty_strings]
    target = indexed(connections, content_of(PRODUCTS, rows, "v1"))
    assert [keys(target, word, 1) for word in naughty_strings if word] == [[word] for word in naughty_strings if word]
    assert keys(target, "") == [""]
    assert target.search("\ud800") == []
    assert target.search("lamp", limit=0) == []


def test_only_the_declared_fields_are_searched(connections: Connections) -> None:
    target = indexed(connections, shop(), fields=("name",))
    assert keys(target, "lighting") == []
    assert keys(target, "chair") == ["P-3"]


def test_a_store_without_text_is_found_by_its_key(connections: Connections) -> None:
    content = content_of({"id": int64(), "level": int64()}, [(7, 1), (8, 2)], "v1")
    assert keys(indexed(connections, content), "8") == [8]


def test_a_row_of_several_key_columns_is_found_by_them_with_spaces_between(connections: Connections) -> None:
    columns: Schema = {"day": date(), "country": text(null=True), "count": int64()}
    rows = [(dt.date(2020, 1, 1), "FR", 1), (dt.date(2020, 1, 2), "FR", 2)]
    content = replace(content_of(columns, rows, "v1"), key=["day", "country"])
    assert indexed(connections, content).search("2020-01-02 FR")[0].key == (dt.date(2020, 1, 2), "FR")


def test_an_older_version_can_be_searched_by_name(connections: Connections) -> None:
    target = indexed(connections, shop())
    later = content_of(PRODUCTS, [("P-9", "Red kettle", None, Decimal(5))], "v2", ordinal=2)
    target.publish(later)
    assert keys(target, "kettle") == []
    target.release("v2", {})
    assert keys(target, "kettle") == ["P-9"]
    assert [hit.key[0] for hit in target.search("chair", version="v1")] == ["P-3"]
    with pytest.raises(NotFound):
        target.search("chair", version="v3")


def test_an_index_with_damaged_files_is_told_and_mended_by_publishing(connections: Connections) -> None:
    content = shop()
    target = indexed(connections, content)
    (Path(target.place) / "v1" / "meta.json").write_text("{")
    with pytest.raises(Damaged):
        target.read()
    target.publish(content)
    assert_holds(content, target.read())


def test_a_publish_that_changes_nothing_leaves_the_index_files_alone(connections: Connections) -> None:
    content = shop()
    target = indexed(connections, content)
    before = sorted(path.name for path in (Path(target.place) / "v1").iterdir())
    target.publish(content)
    assert sorted(path.name for path in (Path(target.place) / "v1").iterdir()) == before


def test_both_search_sinks_may_share_one_name_and_one_folder(connections: Connections) -> None:
    content = shop()
    bulk = BulkNdjson("shop").open(connections, content.store, content.key, content.columns)
    index = indexed(connections, content)
    bulk.publish(content)
    bulk.release("v1", {})
    index.publish(shop("v2", 2))
    index.release("v2", {})
    index.drop("v1")
    assert (bulk.versions(), index.versions()) == (["v1"], ["v2"])
    assert_holds(content, bulk.read())


def test_names_and_fields_that_cannot_be_are_refused_at_the_declaration(connections: Connections) -> None:
    for name in ("", "Shop", "a/b", "_x", "a b"):
        with pytest.raises(DeclarationError):
            BulkNdjson(name)
    with pytest.raises(DeclarationError):
        Tantivy("../x")
    with pytest.raises(DeclarationError, match="price"):
        Tantivy("shop", ("price",)).open(connections, "shop", ["sku"], PRODUCTS)
    with pytest.raises(DeclarationError, match="_id"):
        BulkNdjson("shop").open(connections, "shop", ["_id"], {"_id": text()})


def test_dates_and_instants_that_no_reader_takes_are_refused(connections: Connections) -> None:
    columns: Schema = {"sku": text(), "day": date(null=True), "at": timestamp(null=True)}
    far = pa.array([None, 2932897], pa.int32()).cast(pa.date32())
    later = pa.array([None, 2**62], pa.int64()).cast(pa.timestamp("us", "UTC"))
    rows = pa.table([pa.array(["a", "b"]), far, later], schema=content_of(columns, [], "v1").rows.schema)
    content = Content("s", ["sku"], columns, rows, "v1", 1, {})
    target = BulkNdjson("shop").open(connections, "s", ["sku"], columns)
    with pytest.raises(FixInput, match=r"day, key.*b.*years 1 to 9999(.|\n)*at, key.*b.*years 1 to 9999"):
        target.publish(content)


def test_an_index_of_no_rows_finds_nothing(connections: Connections) -> None:
    assert indexed(connections, content_of(ALL_TYPES, [], "v1")).search("anything") == []
