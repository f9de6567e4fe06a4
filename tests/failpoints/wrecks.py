"""Shops in a bad way: what killed processes leave, and damage to whatever a stage must mend. Not a test."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import sqlalchemy as sa

from refold.engine import Engine
from refold.log.segment import from_parquet
from refold.seal.seen_index import newest_seen
from refold.sinks.database import Database
from refold.storage.content import StoredObject
from refold.storage.objects import sha256_hex
from refold.storage.records import write_record
from refold.stores.checkpoint import record_name
from tests.failpoints.shop import DAYS, Shop
from tests.failpoints.steps import NEW, OLD, build, check, compact, opened, prove, publish, retry, seal


def _versions(engine: Engine) -> dict[str, str]:
    """The names of the versions of the day that is worked on."""
    snapshot = engine.chain.get(DAYS[NEW])
    return {
        store.name: engine.publisher.version(snapshot, engine.builder.require(store, snapshot))
        for store in engine.project.stores
    }


def leave_rubble(shop: Shop) -> None:
    """What killed publishers leave: parts of other exports, folders half built or removed, a piece of an index."""
    version = _versions(opened(shop))["offers"]
    part = Path(f"store/search/bulk/offers/{version}/bulk-00007.ndjson")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"{}\n")
    index = Path("store/search/tantivy/offers_index")
    for name in (".building-folder", ".dropped-folder", version):
        (index / name).mkdir()
        (index / name / "meta.json").write_bytes(b"{}")
    (index / ".building-file").write_bytes(b"{}")


def leave_copies(shop: Shop) -> None:
    """What is left of a Delta table that was removed whole."""
    copy = Path("store/sinks/delta/levels/commits/00000000000000000005.json")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"{}")


def damage(shop: Shop) -> None:
    """Spoil of the day that is worked on, which readers do not see yet, a state, a table, an export and an index."""
    engine = opened(shop)
    versions = _versions(engine)
    record = engine.builder.require(engine.project.store("on_hand"), engine.chain.get(DAYS[NEW]))
    for stored in record.objects:
        Path("store", stored.name).write_bytes(b"damaged")
    spoil(shop)
    _lie(engine, "offers")
    for path in (
        f"store/sinks/delta/turnover/{versions['turnover']}.json",
        f"store/search/bulk/offers/{versions['offers']}/meta.json",
        f"store/search/tantivy/offers_index/{versions['offers']}/meta.json",
    ):
        Path(path).write_bytes(b"damaged")


def _lie(engine: Engine, store: str) -> None:
    """A record of a state that claims another digest, with a proof of just that."""
    record, name = engine.prover.require(engine.project.store(store), engine.chain.get(DAYS[NEW]))
    proof = engine.prover.proofs.standing(name)
    assert proof is not None
    lie = replace(record, state_digest="0" * 64)
    write_record(engine.objects, record_name(lie.store, lie.code_version, lie.inputs), asdict(lie))
    found = {"state": lie.state_digest, "ledger": lie.ledger_digest}
    engine.prover.proofs.keep(replace(proof, state_digest=lie.state_digest, replay=found))


def lose_segments(shop: Shop) -> None:
    """Lose segments and quarantine, of which one segment was written by another library, with other bytes."""
    engine = opened(shop)
    for snapshot in engine.chain:
        layouts = {name: engine.chain.layout(snapshot, name) for name in snapshot.logs}
        for log, layout in layouts.items():
            if layout.quarantine is not None:
                Path("store", layout.quarantine.name).unlink()
            if not layout.segments or log != "moves":
                continue
            first, *others = layout.segments
            name = f"{first.name[: -len('.parquet') - 16]}{'e' * 16}.parquet"
            other = replace(first, name=name, sha256="e" * 64)
            engine.chain.replace_layout(snapshot, layouts | {log: replace(layout, segments=[other, *others])})
            for each in others:
                Path("store", each.name).write_bytes(b"damaged")


def let_rot(shop: Shop) -> None:
    """Damage an object of every kind that can be made again, none of which readers need."""
    retry(shop)
    engine = opened(shop)
    snapshot, stock = engine.chain.get(DAYS[OLD]), engine.project.store("on_hand")
    layout = engine.chain.layout(snapshot, "moves")
    assert layout.repeats is not None
    # Another library wrote other bytes for the same, so that mending must write another layout.
    buffer = io.BytesIO()
    pq.write_table(from_parquet(engine.objects.get(layout.repeats.name), ""), buffer, compression="none")
    other = StoredObject(f"logs/moves/repeats/{'e' * 32}.parquet", sha256_hex(buffer.getvalue()))
    layouts = {name: engine.chain.layout(snapshot, name) for name in snapshot.logs}
    engine.chain.replace_layout(snapshot, layouts | {"moves": replace(layout, repeats=other)})
    # A proof of a state that was never built, and a damaged record of that state.
    record, name = engine.prover.require(stock, snapshot)
    proof = engine.prover.proofs.standing(name)
    assert proof is not None
    engine.prover.proofs.keep(replace(proof, inputs="f" * 64))
    _, served = engine.prover.require(engine.project.store("offers"), snapshot)
    names = [
        other.name,
        newest_seen(engine.chain, "moves")[1][0].name,
        next(path.name for path in Path("store/retries/moves").iterdir() if not path.name.endswith(".places")),
        record_name("on_hand", stock.code_version, record.inputs),
        record_name("on_hand", stock.code_version, "f" * 64),
        served,
        next(path.name for path in Path("store/expectations/on_hand").iterdir() if path.name.startswith("000002")),
    ]
    folders = {2: "retries/moves/", 6: "expectations/on_hand/"}
    for place, each in enumerate(names):
        Path("store", folders.get(place, "") + each).write_bytes(b"damaged")
    min(Path("store/checked/moves").iterdir()).write_bytes(b"damaged")


def wreck(shop: Shop) -> None:
    """Damage what is served in every sink: tables, views, commits, files of an export and of an index."""
    for statement in (
        "DROP VIEW turnover",
        "CREATE VIEW turnover AS SELECT 'nothing' AS product",
        "DROP VIEW on_hand",
        "DROP VIEW offers",
        "DROP TABLE refold_release",
        "UPDATE refold_versions SET row_count = 7 WHERE table_name = 'turnover'",
    ):
        execute(shop.database, lambda _, statement=statement: statement)
    execute(shop.database, lambda table: f'DROP TABLE "{table}"')
    execute(shop.database, lambda _: "DELETE FROM refold_versions WHERE table_name = 'on_hand' AND version < '000002'")
    Path("store/delta/levels/_delta_log/00000000000000000001.json").write_bytes(b"damaged")
    for number in (1, 7):  # of the one there is a commit, of the other none
        Path(f"store/sinks/delta/turnover/commits/{number:020d}.json").write_bytes(b"damaged")
    version = _versions(opened(shop))["offers"]
    Path(f"store/search/bulk/offers/{version}/aliases.json").write_bytes(b"damaged")
    Path(f"store/search/tantivy/offers_index/{version}/meta.json").write_bytes(b"damaged")


def spoil(shop: Shop) -> None:
    """Change a cell behind Refold's back, so that an expectation no longer holds, of a version that is not served."""
    version = _versions(opened(shop))["on_hand"]
    execute(
        shop.database,
        lambda table: f"UPDATE \"{table}\" SET level = -1 WHERE product = 'bolt' AND refold_version = '{version}'",
    )


def forget_columns(shop: Shop) -> None:
    """Make the rows of release those of an earlier Refold."""
    for name in ("release", "released_at", "snapshot_id"):
        execute(shop.database, lambda _, name=name: f"ALTER TABLE refold_release DROP COLUMN {name}")


def execute(url: str, statement: Callable[[str], str]) -> None:
    """Run one statement on the database; it is given the table that holds the rows of the newest stock."""
    with Database(url).writing() as connection:
        query = "SELECT rows_table FROM refold_versions WHERE table_name = 'on_hand' ORDER BY version DESC"
        connection.execute(sa.text(statement(str(connection.scalar(sa.text(query))))))


def publish_wide(shop: Shop) -> None:
    """The stock with one column more is published beside the served one without it."""
    for step in (seal, build, prove, publish, check):
        step(shop)
    forget_columns(shop)


def leave_orphans(shop: Shop) -> None:
    """What killed builds and proofs leave, objects that no record names; and superseded segments."""
    compact(shop)
    name = "e" * 40
    for path in (f"states/on_hand/rows/{name}.parquet", f"states/turnover/rows/{name}.parquet"):
        Path("store", path).write_bytes(b"orphan")
    proof = next(Path("store/proofs/on_hand").rglob("*.json"))
    shutil.copy(proof, proof.with_name(f"{name}.json"))
