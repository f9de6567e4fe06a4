"""Local stores: what is synced before what, and that nothing is left of a write that fails halfway."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refold.errors import Conflict
from refold.storage.durable import create_whole, replace_whole
from refold.storage.objects import ObjectStore


def test_an_object_that_exists_is_neither_created_again_nor_left_as_a_draft(tmp_path: Path):
    store = ObjectStore.open(str(tmp_path))
    store.create("a/b", b"first")
    store.create("a/b", b"first")
    with pytest.raises(Conflict):
        store.create("a/b", b"second")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert store.get("a/b") == b"first"


def test_a_draft_of_a_killed_process_is_neither_listed_nor_in_the_way(tmp_path: Path):
    store = ObjectStore.open(str(tmp_path))
    draft = tmp_path / f"a#{os.getpid()}"
    draft.write_bytes(b"half")
    store.create("a", b"whole")
    store.put("a", b"others")
    assert [info.name for info in store.list()] == ["a"]
    assert store.get("a") == b"others"
    assert draft.read_bytes() == b"half"


def test_what_is_put_again_is_written_only_where_it_differs_and_always_as_of_now(tmp_path: Path):
    file = tmp_path / "a"
    create_whole(file, b"same")
    os.utime(file, (0, 0))
    before = file.stat()
    replace_whole(file, b"same")
    assert (file.stat().st_ino, file.read_bytes()) == (before.st_ino, b"same")
    assert file.stat().st_mtime_ns > before.st_mtime_ns
    replace_whole(file, b"other")
    assert file.read_bytes() == b"other"


def test_objects_that_were_removed_by_another_process_need_no_sync(tmp_path: Path):
    store = ObjectStore.open(str(tmp_path))
    store.put("a/b", b"1")
    (tmp_path / "a" / "b").unlink()
    (tmp_path / "a").rmdir()
    store.sync()
    store.create("c", b"2")
    assert [info.name for info in store.list()] == ["c"]
