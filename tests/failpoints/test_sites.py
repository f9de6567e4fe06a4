"""The finding of writes in the code, and the watching of them at work: a new write is noticed by both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.failpoints.sites import BESIDE, EXEMPT, PACKAGE, ROOT, Module, calls_of, find_sites, text_of
from tests.failpoints.test_killed_at_every_write import missing
from tests.failpoints.watching import Watch, fingerprint

FABRICATED = """
import os
import shutil as files
from pathlib import Path

import deltalake
import sqlalchemy as sa
from deltalake.transaction import create_table_with_add_actions as create_table

from refold.storage.records import write_record
from refold.storage.objects import ObjectStore


def put_aside(objects: ObjectStore):
    {call}


def above(objects: ObjectStore):
    put_aside(objects)


def query(connection):
    return sa.select(1), "a".replace("a", "b"), os.getpid(), dict().get(1), open("a"), deltalake.DeltaTable("a")
"""

CALLS = [
    "objects.put('a', b'')",
    "objects._store.rename('a', 'b')",
    "os.rename('a', 'b')",
    "files.rmtree('a')",
    "Path('a').replace('b')",
    "Path('a').write_text('b')",
    "open('a', 'w')",
    "Path('a').open(mode='ab')",
    "deltalake.write_deltalake('a', None)",
    "deltalake.DeltaTable('a').vacuum()",
    "create_table('a')",
    "objects.engine.begin().execute(sa.delete(None))",
    "write_record(objects, 'a', {})",
]


@pytest.mark.parametrize("call", CALLS)
def test_a_write_added_to_the_code_is_found_and_missed(tmp_path: Path, call: str):
    package = tmp_path / "refold"
    shutil.copytree(PACKAGE / "storage", package / "storage")
    known = {(site.file, site.line, site.column) for site in find_sites(package)}
    (package / "fabricated.py").write_text(FABRICATED.replace("{call}", call))
    sites = find_sites(package)
    found = [site for site in sites if site.file == "refold/fabricated.py"]
    lines = FABRICATED.splitlines()
    assert [site.starts for site in found if site.function == "put_aside"][-1:] == [lines.index("    {call}") + 1]
    assert not any(site.function == "query" for site in found)
    if not all(site.is_statement for site in found):
        assert [site.call for site in found if site.function == "above"] == ["put_aside"]
    assert missing(sites, known) == [str(site) for site in found] != []


def test_the_writes_of_the_code_are_found():
    """A few of every kind, as they are called today."""
    found = {(site.file.removeprefix("refold/"), site.call.rpartition(".")[2]) for site in find_sites()}
    assert found >= {
        ("log/snapshot.py", "create"),
        ("log/segment.py", "put_content"),
        ("stores/checkpoint.py", "put_soon"),
        ("release/pointer.py", "create"),
        ("sinks/sql.py", "execute"),
        ("sinks/bulk_postgres.py", "copy_expert"),
        ("sinks/delta.py", "create_write_transaction"),
        ("sinks/tantivy.py", "rename"),
        ("sinks/tantivy.py", "rmtree"),
        ("storage/content.py", "put_soon"),
        ("storage/opened.py", "put"),
        ("repair/garbage.py", "delete_all"),
    }


def test_what_is_exempt_or_left_aside_is_there():
    """A list of exceptions that nobody clears would hide a write one day."""
    for file, function, call in EXEMPT:
        calls = calls_of(Module.read(ROOT / file, ROOT).tree)
        assert (function, call) in {(where, text_of(node.func)) for where, node in calls}
    assert [name for name in BESIDE if not (PACKAGE / name).exists()] == []


def test_a_change_that_no_watched_call_made_is_seen(tmp_path: Path):
    watch = Watch(fingerprint=lambda: fingerprint(tmp_path))
    watch.settle()
    assert watch.unseen == []
    (tmp_path / "behind.txt").write_text("written by a library that is not watched")
    watch.settle()
    assert watch.unseen == ["something changed after the last write"]
