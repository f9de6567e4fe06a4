"""The digest of tables: golden vectors, the tree held equal to a plain one, and a small change equal to a full one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refold.canonical.digest import DigestTree, bucket_of, table_digest
from refold.log.snapshot import LogCut
from refold.proof.reference import bucket, encode_row, tree_digest
from refold.stores.ledger import EMPTY_DIGEST, LedgerPart
from refold.types import Schema, arrow_schema, describe, int64, text

COLUMNS: Schema = {"k": int64(), "note": text(null=True)}
KEY = ["k"]
Rows = Mapping[int, str | None]


def table(rows: Rows) -> pa.Table:
    return pa.table([list(rows), list(rows.values())], schema=arrow_schema(COLUMNS))


def plain(rows: Rows) -> str:
    """The digest by the reference."""
    found = [{"k": key, "note": note} for key, note in rows.items()]
    return tree_digest(COLUMNS, [(bucket(COLUMNS, KEY, row), encode_row(COLUMNS, row)) for row in found])


def fast(rows: Rows) -> str:
    return table_digest(describe(COLUMNS), table(rows), KEY)


GOLDEN = {
    "no rows": ({}, "b3cf290e82e99500c4bc580c23c90ae241e62e9b1f1fecf3e34bb1980f67fd2b"),
    "one row": ({1: "a"}, "23aa1f1c1cd85bc2721b24fc170ec8d4f448e658ff6412ff321aeb8a1d2dfa2e"),
    "a null note": ({1: None}, "1ab69971bd5b372bd540c65a5ff5c0804593d27ec8ed3744afe315669bbdc1fa"),
    "an empty note": ({1: ""}, "35fac4350b5f7b3443cefcface653360e8b0d0405e0912205eec25596d43b8e0"),
    "a negative key": ({-1: "a"}, "af1ce5a2c08618527f20e87b2ad718f5ea94cf5c4471874f8dc0653aa816937f"),
    "three rows": ({1: "a", 2: "é\0", 3: None}, "e0e79f91309e27bf301ffd639f902afa40f3bb32be509de0a835ce9b5495fa89"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_table_has_the_golden_digest(name: str):
    rows, expected = GOLDEN[name]
    assert (fast(rows), plain(rows)) == (expected, expected)


def test_the_digest_of_no_rows_follows_from_the_text_alone():
    """Every leaf is 32 zero bytes, so all nodes of a level are alike and one of each is enough."""
    node = bytes(32)
    for _ in range(3):
        node = hashlib.sha256(node * 16).digest()
    assert fast({}) == hashlib.sha256(b"refold table 1\nk int64\nnote text?\n" + node).hexdigest()


def test_the_digest_of_one_row_follows_from_the_text_alone():
    """The three hexadecimal digits of its bucket say which of 16 its nodes are on the way up."""
    place = bucket(COLUMNS, KEY, {"k": 1})
    level = node = bytes(32)
    node = hashlib.sha256(bytes.fromhex("01" "0100000000000000" "01" "01000000" "61")).digest()  # fmt: skip
    for digit in (place % 16, place // 16 % 16, place // 256):
        node = hashlib.sha256(level * digit + node + level * (15 - digit)).digest()
        level = hashlib.sha256(level * 16).digest()
    assert fast({1: "a"}) == hashlib.sha256(b"refold table 1\nk int64\nnote text?\n" + node).hexdigest()


NOTES = st.none() | st.sampled_from(["", "a", "b", "é", "\0"])
COLLIDING = [key for key in range(40_000) if bucket(COLUMNS, KEY, {"k": key}) == 7][:6]
"""Keys of one bucket, so that a bucket holds several rows and changes in part."""
KEYS = st.sampled_from(COLLIDING) | st.integers(-5, 5)
SOME_ROWS = st.dictionaries(KEYS, NOTES, max_size=8)


def test_there_are_keys_that_collide():
    assert len(COLLIDING) == 6
    assert bucket_of([pa.array(COLLIDING)]).tolist() == [7] * 6


@settings(deadline=None, max_examples=40)
@given(SOME_ROWS)
def test_the_fast_digest_equals_the_plain_one(rows: Rows):
    assert fast(rows) == plain(rows)


@settings(deadline=None, max_examples=40)
@given(SOME_ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: Rows, random):
    shuffled = list(rows.items())
    random.shuffle(shuffled)
    assert fast(dict(shuffled)) == fast(rows)


@settings(deadline=None, max_examples=40)
@given(SOME_ROWS, SOME_ROWS)
def test_two_tables_have_one_digest_only_if_they_are_equal(one: Rows, other: Rows):
    assert (fast(one) == fast(other)) == (one == other)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(SOME_ROWS, st.lists(KEYS, max_size=3)), min_size=1, max_size=4))
def test_a_tree_that_is_updated_equals_a_tree_of_the_whole(steps: list[tuple[Rows, list[int]]]):
    """Rows put, changed and removed step by step; only the buckets that were touched are computed again."""
    rows: dict[int, str | None] = {}
    tree = DigestTree(describe(COLUMNS))
    for put, removed in steps:
        rows |= put
        for key in removed:
            rows.pop(key, None)
        now = table(rows)
        touched = np.unique(bucket_of([pa.array([*put, *removed], pa.int64())]))
        tree.update(now, bucket_of([now["k"]]), touched)
        assert tree.digest() == DigestTree.of(describe(COLUMNS), now, KEY).digest() == plain(rows)


@settings(deadline=None, max_examples=40)
@given(SOME_ROWS, SOME_ROWS)
def test_two_trees_differ_in_the_buckets_of_the_keys_that_differ(one: Rows, other: Rows):
    trees = [DigestTree.of(describe(COLUMNS), table(rows), KEY) for rows in (one, other)]
    absent = object()
    keys = [key for key in one.keys() | other.keys() if one.get(key, absent) != other.get(key, absent)]
    assert trees[0].differing(trees[1]) == sorted({bucket(COLUMNS, KEY, {"k": key}) for key in keys})


def test_a_repeated_row_counts():
    once = table({1: "a"})
    twice = pa.concat_tables([once, once])
    assert table_digest(describe(COLUMNS), once, KEY) != table_digest(describe(COLUMNS), twice, KEY)


def test_the_same_bytes_under_other_columns_are_another_content():
    schemas = ["k int64\nnote text?", "k int64\nremark text?", "k timestamp\nnote text?", "k int64\nnote text"]
    assert len({table_digest(schema, table({1: "a"}), KEY) for schema in schemas}) == 4


def test_a_ledger_has_the_golden_digests():
    """Its parts are chained: two parts, then one without events, which changes nothing."""
    cut = LogCut("id", [0, 0], [2, 1], 0, 3, [], "", 3, 0, 0, [])
    part = LedgerPart(np.array([0, 1, 3], np.uint8), np.array([0, 0, 7], np.uint8))
    none = LedgerPart(np.zeros(0, np.uint8), np.zeros(0, np.uint8))
    first = hashlib.sha256(b"refold ledger 1\n" + EMPTY_DIGEST.encode() + b"[[0,0],[2,1]]\0\1\3\0\0\7").hexdigest()
    second = hashlib.sha256(b"refold ledger 1\n" + first.encode() + b"[[2,1],[3,3]]\0\1\3\0\0\7").hexdigest()
    assert hashlib.sha256(b"refold ledger 1\n").hexdigest() == EMPTY_DIGEST
    assert part.digest(EMPTY_DIGEST, cut) == first
    later = LogCut("id", [2, 1], [3, 3], 3, 6, [], "", 3, 0, 0, [])
    assert part.digest(first, later) == second
    assert none.digest(second, later) == second
    assert second == "9d3839dd0a1ea414ce48ae38833fe51aedf4161698560e107d04ef45af5aa1af"
