"""Everything that Delta, `_bulk` and search sinks keep in files, damaged in every way: named to the cell, and mended.

The files are enumerated from a real store, so a new kind of file fails here until it is damaged, too. A stranger with
the same libraries writes what is sound in itself: a commit, an index, a Parquet file.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tantivy

from refold.sinks import Sink
from refold.sinks.cache import Cache
from tests.repair.matrix import (
    OLDER,
    PROJECT,
    SERVED,
    House,
    change_a_byte,
    delete,
    exchange_two,
    replace_by_an_older,
)

FILES = {
    "data file": r"delta/levels/[^/]+/[^/]+\.parquet",
    "commit": r"delta/levels/_delta_log/\d{20}\.json",
    "copy of a commit": r"sinks/delta/levels/commits/\d{20}\.json",
    "record of a version": r"sinks/delta/levels/[^/]+\.json",
    "part": r"search/bulk/moves/[^/]+/bulk-\d{5}\.ndjson",
    "aliases": r"search/bulk/moves/[^/]+/aliases\.json",
    "record of parts": r"search/bulk/moves/[^/]+/meta\.json",
    "served parts": r"search/bulk/moves/released\.json",
    "index record": r"search/tantivy/moves_index/[^/.]+/refold\.json",
    "index meta": r"search/tantivy/moves_index/[^/.]+/meta\.json",
    "index managed": r"search/tantivy/moves_index/[^/.]+/\.managed\.json",
    **{f"index {end}": rf"search/tantivy/moves_index/[^/.]+/[0-9a-f]{{32}}\.{end}"
       for end in ("fast", "fieldnorm", "idx", "pos", "store", "term")},
    "served index": r"search/tantivy/moves_index/released\.json",
}  # fmt: skip
LOCK = re.compile(r".*\.lock")
SINGLE = ("served parts", "served index")
"""Files of which a sink has one; tests of their own give them the content of an older one."""


def _kind(name: str) -> str | None:
    return next((kind for kind, pattern in FILES.items() if re.fullmatch(pattern, name)), None)


def _names(house: House, kind: str) -> list[str]:
    """The files of a kind, the newest, which is served, last."""
    return [name for name in house.files() if _kind(name) == kind]


def test_every_sink_of_refold_is_in_the_project_that_is_damaged():
    own = {each for each in Sink.__subclasses__() if each.__module__.startswith("refold.sinks.")}
    kinds = own - {Cache}  # needs a server: tests/sinks/test_cache.py damages it
    assert {type(sink) for store in PROJECT.stores for sink in store.sinks} == kinds


def test_every_file_of_a_sink_is_of_a_kind_that_is_damaged(whole: House):
    names = [name for kind in ("Delta table", "search", "sink record") for name in whole.names(kind)]
    found = {name: _kind(name) for name in names if not LOCK.fullmatch(name)}
    assert [name for name, kind in found.items() if kind is None] == []
    assert set(found.values()) == set(FILES)
    assert [kind for kind in FILES if len(_names(whole, kind)) == 1] == list(SINGLE)


def _repaired(house: House, store: str) -> list[str]:
    """What was found of a store, before it was repaired and everything of it verified equal."""
    found = house.faults(store)
    house.mend(store)
    assert house.faults(store) == []
    return found


def _replace_by_a_strangers(house: House, foreign: House, one: str, other: str) -> set[str]:
    kind = _kind(one)
    assert kind is not None
    (house.store / one).write_bytes((foreign.store / _names(foreign, kind)[-1]).read_bytes())
    return {one}


DAMAGES = [change_a_byte, delete, exchange_two, replace_by_an_older, _replace_by_a_strangers]
CASES = [
    (kind, damage)
    for kind in FILES
    for damage in DAMAGES
    if not (kind in SINGLE and damage in (exchange_two, replace_by_an_older))
    and not (
        kind.startswith("index ")
        and kind not in ("index record", "index meta", "index store")
        and damage != change_a_byte
    )
]
"""Of the files of an index, which are all named with their hashes, some stand for all."""


@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_a_damaged_file_is_named_and_mended(
    house: House, whole: House, foreign: House, kind: str, damage: Callable[[House, House, str, str], set[str]]
):
    names = _names(house, kind)
    files = damage(house, foreign, names[-1], names[0 if kind != "commit" else -2])
    if house.files() == whole.files():
        pytest.skip("both files are the same, in every store")
    store = "last_move" if "moves" in names[-1] else "on_hand"
    if (kind, damage) == ("copy of a commit", delete):
        assert house.faults(store) == [], "a kill leaves the same, and the next release makes it good"
        house.engine().releaser.roll_forward()
        assert house.files() == whole.files()
        return

    found = _repaired(house, store)

    for file in files:
        assert [text for text in found if text.startswith("sink at ") and file in text], found


def _served(house: House, kind: str) -> Path:
    return house.store / _names(house, kind)[-1]


class TestDelta:
    def test_a_changed_cell_in_a_sound_file_is_named_with_both_values_beside_the_file(self, house: House):
        path = _served(house, "data file")
        table = pq.read_table(path)
        levels = table["level"].to_pylist()
        changed = pa.array([levels[0] + 5, *levels[1:]])
        pq.write_table(table.set_column(table.column_names.index("level"), "level", changed), path)
        found = _repaired(house, "on_hand")
        assert any(f"{path.name}: expected sha256 " in text for text in found)
        named = f"key 'product 00', column level: expected {levels[0]}, found {levels[0] + 5}"
        assert [text for text in found if text.endswith(named)]

    def test_rows_that_a_stranger_appended_are_named_with_the_commit(self, house: House):
        table = _delta(house).to_pyarrow_table().slice(0, 1)
        table = table.set_column(table.column_names.index("product"), "product", pa.array(["ghost"]))
        deltalake.write_deltalake(str(house.store / "delta/levels"), table, mode="append")
        number = _delta(house).version()
        found = _repaired(house, "on_hand")
        assert any(f"{number:020d}.json: expected no commit but Refold's, found WRITE by" in t for t in found)
        assert [text for text in found if text.endswith("key 'ghost': expected 0 rows, found 1 rows")]

    def test_rows_that_a_stranger_deleted_are_named_with_the_commit(self, house: House):
        _delta(house).delete("product = 'product 03'")
        found = _repaired(house, "on_hand")
        assert any("expected no commit but Refold's, found DELETE by" in text for text in found)
        assert [text for text in found if text.endswith("key 'product 03': expected 1 rows, found 0 rows")]

    def test_a_table_that_a_stranger_wrote_over_is_named_by_its_cells(self, house: House):
        table = _delta(house).to_pyarrow_table()
        levels = pa.array([level + 1 for level in table["level"].to_pylist()])
        table = table.set_column(table.column_names.index("level"), "level", levels)
        deltalake.write_deltalake(str(house.store / "delta/levels"), table, mode="overwrite")
        found = _repaired(house, "on_hand")
        assert len([text for text in found if ", column level: expected " in text]) == 12

    def test_a_commit_that_changes_only_the_tables_settings_is_named(self, house: House):
        _delta(house).alter.set_table_properties({"delta.appendOnly": "false"})
        found = _repaired(house, "on_hand")
        assert len(found) == 1
        assert "expected no commit but Refold's, found SET TBLPROPERTIES by" in found[0]

    def test_a_column_that_a_stranger_added_is_named(self, house: House):
        _delta(house).alter.add_columns([deltalake.Field("more", "string")])
        found = _repaired(house, "on_hand")
        assert any("/delta/levels, schema: expected " in text for text in found)

    def test_a_whole_log_that_is_gone_is_put_back(self, house: House, whole: House):
        commits = _delta(house).version() + 1
        shutil.rmtree(house.store / "delta/levels/_delta_log")
        found = _repaired(house, "on_hand")
        assert len([text for text in found if "_delta_log" in text and text.endswith("found none")]) == commits
        assert house.files() == whole.files()


def _delta(house: House) -> deltalake.DeltaTable:
    return deltalake.DeltaTable(str(house.store / "delta/levels"))


class TestBulk:
    def test_a_changed_value_is_named_by_cell_and_by_line(self, house: House, whole: House):
        path = _served(house, "part")
        lines = path.read_bytes().split(b"\n")
        document = json.loads(lines[1])
        wrong = document | {"quantity": 123456}
        lines[1] = json.dumps(wrong, sort_keys=True, separators=(",", ":")).encode()
        path.write_bytes(b"\n".join(lines))
        found = _repaired(house, "last_move")
        assert len(found) == 2
        assert f"{path.name} line 2: expected {{" in found[0]
        named = f"key 'product 00', column quantity: expected {document['quantity']}, found 123456"
        assert found[1].endswith(named)
        assert house.files() == whole.files()

    def test_a_changed_instruction_is_named_by_line_though_its_document_is_right(self, house: House):
        path = _served(house, "part")
        path.write_bytes(path.read_bytes().replace(b'"_id":"product 01"', b'"_id":"product 00"'))
        (found,) = _repaired(house, "last_move")
        assert f"{path.name} line 3: expected " in found

    def test_removed_and_added_documents_are_named_by_key(self, house: House):
        path = _served(house, "part")
        lines = path.read_bytes().split(b"\n")
        more = [line.replace(b"product 00", b"ghost") for line in lines[:2]]
        path.write_bytes(b"\n".join([*more, *lines[2:]]))
        found = _repaired(house, "last_move")
        assert {text.partition("key ")[2] for text in found if "key " in text} == {
            "'ghost': expected 0 rows, found 1 rows",
            "'product 00': expected 1 rows, found 0 rows",
        }

    def test_a_document_that_is_cut_short_is_named_by_key(self, house: House):
        path = _served(house, "part")
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join([lines[0], lines[1][:-4], *lines[2:]]))
        found = _repaired(house, "last_move")
        assert [text for text in found if text.endswith("key 'product 00': expected 1 rows, found 0 rows")]

    def test_a_part_too_many_is_named_and_removed(self, house: House, whole: House):
        path = _served(house, "part")
        shutil.copy(path, path.with_name("bulk-00001.ndjson"))
        found = _repaired(house, "last_move")
        assert any("bulk-00001.ndjson: expected no such part" in text for text in found)
        assert house.files() == whole.files()

    def test_an_older_version_named_as_served_is_told_with_both(self, house: House):
        path = _served(house, "served parts")
        now, older = house.version("last_move"), house.version("last_move", OLDER)
        path.write_bytes(path.read_bytes().replace(now.encode(), older.encode()))
        (found,) = _repaired(house, "last_move")
        assert "released.json line 1: expected {" in found
        assert f'"version":"{now}"' in found.partition("found")[0]
        assert f'"version":"{older}"' in found.partition("found")[2]


class TestTantivy:
    def test_a_changed_document_is_named_by_cell_and_by_the_files_of_the_index(self, house: House):
        with _Writer(house) as writer:
            document = writer.take("product 05")
            writer.put(document | {"quantity": 999})
        found = _repaired(house, "last_move")
        named = f"key 'product 05', column quantity: expected {document['quantity']}, found 999"
        assert [text for text in found if text.endswith(named)]
        assert any("/meta.json: expected sha256 " in text for text in found)

    def test_a_deleted_document_is_named(self, house: House):
        with _Writer(house) as writer:
            writer.take("product 05")
        found = _repaired(house, "last_move")
        assert [text for text in found if text.endswith("key 'product 05': expected 1 rows, found 0 rows")]

    def test_an_added_document_is_named(self, house: House):
        with _Writer(house) as writer:
            document = writer.take("product 05")
            writer.put(document)
            writer.put(document | {"product": "ghost"})
        found = _repaired(house, "last_move")
        assert [text for text in found if text.endswith("key 'ghost': expected 0 rows, found 1 rows")]

    def test_a_document_found_by_other_words_though_it_reads_right_is_named_by_the_files(self, house: House):
        with _Writer(house) as writer:
            writer.put(writer.take("product 05"), note="poison")
        found = _repaired(house, "last_move")
        assert found
        assert all(".." in text or "sha256" in text or "no such file" in text for text in found)

    def test_an_index_in_the_place_of_another_is_named_by_its_record(self, house: House):
        folder = house.store / "search/tantivy/moves_index"
        now, older = house.version("last_move"), house.version("last_move", OLDER)
        (folder / now).rename(folder / "aside")
        (folder / older).rename(folder / now)
        (folder / "aside").rename(folder / older)
        found = _repaired(house, "last_move")
        for version, other in ((now, older), (older, now)):
            assert any(f"/{version}/refold.json" in t and f"is not that of version {version}" in t for t in found), (
                other
            )

    def test_a_strangers_index_is_named(self, house: House, foreign: House):
        theirs = foreign.store / "search/tantivy/moves_index" / foreign.version("last_move")
        ours = house.store / "search/tantivy/moves_index" / house.version("last_move")
        shutil.rmtree(ours)
        shutil.copytree(theirs, ours)
        found = _repaired(house, "last_move")
        assert any(f"{ours}/refold.json" in text for text in found)

    def test_an_older_version_named_as_served_is_told_with_both(self, house: House):
        path = _served(house, "served index")
        now, older = house.version("last_move"), house.version("last_move", OLDER)
        path.write_bytes(path.read_bytes().replace(now.encode(), older.encode()))
        (found,) = _repaired(house, "last_move")
        assert f'"version":"{now}"' in found.partition("found")[0]
        assert f'"version":"{older}"' in found.partition("found")[2]


class _Writer:
    """Somebody with the same search library, at the index that is served."""

    def __init__(self, house: House) -> None:
        folder = house.store / "search/tantivy/moves_index" / house.version("last_move", SERVED)
        self._index = tantivy.Index.open(str(folder))
        self._writer = self._index.writer(heap_size=15_000_000, num_threads=1)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.commit()
        self._writer.wait_merging_threads()

    def take(self, product: str) -> dict:
        """Delete a document and give what it held."""
        searcher = self._index.searcher()
        query = tantivy.Query.term_query(self._index.schema, "refold_key", product, index_option="basic")
        ((_, address),) = searcher.search(query, limit=1).hits
        self._writer.delete_documents("refold_key", product)
        return json.loads(bytes(searcher.doc(address)["refold_document"][0]))

    def put(self, document: dict, note: str | None = None) -> None:
        """Add a document, to be found by its note or by another one."""
        entry = tantivy.Document()
        entry.add_unsigned("refold_place", 0)
        entry.add_text("refold_key", document["product"])
        entry.add_bytes("refold_document", json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
        entry.add_text("note", note or document["note"])
        self._writer.add_document(entry)
