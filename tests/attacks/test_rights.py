"""What may only be read is read; missing rights, damage and locks are told apart."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from refold.errors import AccessDenied, Damaged
from refold.rebuild import rebuild_all
from refold.sinks import Connections, Delta, Sql, Tantivy
from refold.sinks.base import Sink, Target
from refold.storage.objects import ObjectStore
from refold.testing.sink_conformance import levels
from tests.shop import DAYS, land, little, move
from tests.support import Shop

SINKS: Sequence[Sink] = (Sql("stock_view"), Delta("stock"), Tantivy("stock"))

READER = """
import sys
from refold.errors import RefoldError
from refold.sinks import Connections
from refold.storage.objects import ObjectStore
from refold.testing.sink_conformance import levels
from tests.attacks.test_rights import SINKS, places, target_of

content = levels("v1", 3)
for sink in SINKS:
    target = target_of(sink, places(sys.argv[1]))
    equal = target.read().sort_by("product_id").equals(content.rows)
    assert target.faults(content, content.lineage) == [], target.faults(content, content.lineage)
    try:
        target.publish(levels("v9", 5))
        print(sink.kind, target.released(), equal, "published")
    except RefoldError as error:
        print(sink.kind, target.released(), equal, error.kind)
"""


def places(root: str | Path) -> Connections:
    store = Path(root) / "store"
    urls = {"database": f"sqlite:///{Path(root) / 'database' / 'refold.db'}", "search": str(Path(root) / "search")}
    return Connections(ObjectStore.open(str(store)), urls)


def target_of(sink: Sink, connections: Connections) -> Target:
    content = levels("v1", 3)
    return sink.open(connections, content.store, content.key, content.columns)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder in which each sink serves a version."""
    content = levels("v1", 3)
    for sink in SINKS:
        target = target_of(sink, places(tmp_path / "root"))
        target.publish(content)
        target.release("v1", content.lineage)
    return tmp_path / "root"


def without_rights(*command: str) -> list[str]:
    """A command to which permissions apply, also where it is root that runs it."""
    if os.getuid() != 0:
        return list(command)
    if shutil.which("setpriv") is None:
        pytest.skip("root cannot give up its rights without setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", *command]


def test_a_read_only_folder_is_read_and_not_written(served: Path) -> None:
    """F13: a read-only store was "damaged", and a read-only SQLite could not be read."""
    paths = [served, *served.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        command = without_rights(sys.executable, "-c", READER, str(served))
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.splitlines() == [f"{kind} v1 True access-denied" for kind in ("sql", "delta", "search")]


VERIFIER = """
import sys
from pathlib import Path
from tests.attacks.test_rights import PROJECT
from tests.support import Shop

engine = Shop(Path(sys.argv[1]), PROJECT).engine()
store = PROJECT.store("on_hand")
print(engine.audit_objects(), engine.drifts.find(store, engine.chain.get()).differences)
"""
PROJECT = little({"on_hand": [Sql("on_hand_view")]})


@pytest.mark.parametrize("remembered", [True, False], ids=["compared before", "not compared before"])
def test_a_store_that_may_only_be_read_is_verified(tmp_path: Path, remembered: bool) -> None:
    """It was refused, since what was compared is remembered in the store."""
    shop = Shop(tmp_path / "shop", PROJECT)
    land(shop.landing, "moves", DAYS[0], [move("1", "lamp", 3)])
    rebuild_all(shop.engine())
    if not remembered:
        shutil.rmtree(shop.store / "checked")
    paths = [shop.root, *shop.root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        command = without_rights(sys.executable, "-c", VERIFIER, str(shop.root))
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert (run.returncode, run.stdout) == (0, "[] []\n"), run.stderr[-3000:]


@pytest.mark.parametrize("kept_bytes", [0, 5000])
def test_a_malformed_sqlite_is_damaged_and_not_a_matter_of_rights(served: Path, kept_bytes: int) -> None:
    """F13: "check the rights of the database user"."""
    file = served / "database" / "refold.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = file.read_bytes()
    file.write_bytes(data[:kept_bytes] + b"\x07" * (len(data) - kept_bytes))
    with pytest.raises(Damaged, match=r"refold\.db is damaged: .*move the file away and run `refold repair`"):
        target_of(SINKS[0], places(served)).read()


def test_a_role_that_may_only_select_reads_and_verifies(postgres: str, tmp_path: Path) -> None:
    """F13: comparing the view needed the right to make temporary views."""

    def run(sql: str) -> None:
        with closing(psycopg2.connect(postgres)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(sql)

    content = levels("v1", 3)
    writer = target_of(SINKS[0], places(tmp_path).using(database=postgres))
    writer.publish(content)
    writer.release("v1", content.lineage)
    run("DROP ROLE IF EXISTS only_reads; CREATE ROLE only_reads LOGIN")
    run("REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC; GRANT USAGE ON SCHEMA public TO only_reads")
    run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO only_reads")
    try:
        reader = target_of(SINKS[0], places(tmp_path).using(database=postgres.replace("//postgres:", "//only_reads:")))
        assert reader.read().sort_by("product_id").equals(content.rows)
        assert reader.faults(content, content.lineage) == []
        with pytest.raises(AccessDenied, match="permission denied"):
            reader.publish(levels("v2", 4))
        run("DROP VIEW stock_view; CREATE VIEW stock_view AS SELECT 'forged' AS product_id, 1::bigint AS level")
        run("GRANT SELECT ON stock_view TO only_reads")
        assert [fault.found for fault in reader.faults(content, content.lineage)] == ["no view"]
    finally:
        run("GRANT TEMPORARY ON DATABASE postgres TO PUBLIC; DROP OWNED BY only_reads; DROP ROLE only_reads")
