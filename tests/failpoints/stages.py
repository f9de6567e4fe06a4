"""The stages on the way from landing to readers, each with the shop as it stands before, and what readers may find.

Not a test. A phase is a shop that is prepared once and copied for every kill; a stage is what is killed.
"""

from __future__ import annotations

import datetime as dt
import io
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import sqlalchemy as sa

from refold.at_rest import damage_at_rest
from refold.drift import find_drift, repair
from refold.engine import Engine
from refold.log import compaction
from refold.log.layout import StoredObject
from refold.log.seen import newest_seen
from refold.log.segment import from_parquet
from refold.mending import mend_at_rest
from refold.release import Releaser
from refold.retention import Pruner
from refold.rules import kernel_cache
from refold.rules.rule import Rule
from refold.sinks.database import Database
from refold.storage import sha256_hex
from refold.stores import thinning
from refold.stores.checkpoint import record_name
from refold.unreferenced import remove_unreferenced
from tests.failpoints.shop import DAYS, NOW, Contents, Level, Shop, answers, inventory

OLD, NEW, NEXT = 1, 2, 3
"""Days: what is served before, what a stage works on, and what follows it."""

LONG_AFTER = dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
"""When whatever nothing names is old enough to be removed."""


@dataclass(frozen=True)
class Phase:
    """A shop made from that of another phase."""

    after: str | None
    make: Callable[[Shop], None]
    project: str = "plain"


@dataclass(frozen=True)
class Stage:
    """What is killed.

    Attributes:
        phase: the shop that it begins with.
        do: the work; the same again is the next run, which must complete it.
        old, new: the days that readers may find before and after; None where nothing is released.
        project: under which declaration.
        again: the next run, where that is more than the same again.
        database: whether it writes to the database or moves the pointer.
        readable: whether readers read from the beginning on, and not from when the next run is done.
        retried_from: the day that takes in what was no event before.
    """

    phase: str
    do: Callable[[Shop], object]
    old: int | None = OLD
    new: int | None = OLD
    project: str = "plain"
    again: Callable[[Shop], object] | None = None
    database: bool = False
    readable: bool = True
    retried_from: int | None = None

    @property
    def allowed(self) -> dict[str, Contents]:
        """What readers may find, by snapshot."""
        found = {DAYS[self.old]: answers(self.old)} if self.old is not None else {}
        if self.new is not None:
            found[DAYS[self.new]] = answers(self.new, wide=self.project == "wide" and self.new != self.old)
        return found

    @property
    def following(self) -> dict[str, Contents]:
        """What readers find once the next day was rebuilt."""
        return {DAYS[NEXT]: answers(NEXT, wide=self.project == "wide", retried_from=self.retried_from)}


def opened(shop: Shop) -> Engine:
    """An engine whose releases tell a fixed time, so that equal ones have equal bytes."""
    engine = shop.engine()
    engine.releaser = Releaser(
        engine.project, engine.objects, engine.prover, engine.publisher, clock=lambda: NOW, by=lambda: "the test"
    )
    return engine


def seal(shop: Shop, day: int = NEW) -> None:
    for _ in opened(shop).seal(DAYS[day]):
        pass


def build(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    snapshot = engine.chain.get(DAYS[day])
    for log in engine.project.logs:
        for _ in engine.fold_history(log.name, snapshot):
            pass
    for relation in engine.project.relations:
        engine.builder.build(relation, snapshot)


def prove(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    snapshot = engine.chain.get(DAYS[day])
    for log in engine.project.logs:
        for _, verdicts in engine.prove_history(log.name, snapshot):
            assert all(verdict.passed for verdict in verdicts.values())
    for relation in engine.project.relations:
        assert engine.prover.prove(relation, snapshot).passed


def publish(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    snapshot = engine.chain.get(DAYS[day])
    for store in engine.project.in_order:
        for sink in store.sinks:
            engine.publisher.publish(store, sink, snapshot)


def check(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    snapshot = engine.chain.get(DAYS[day])
    for store in engine.project.in_order:
        assert all(result.passed for result in engine.publisher.check_expectations(store, snapshot))


def release(shop: Shop, day: int = NEW) -> None:
    engine = opened(shop)
    engine.releaser.release(engine.chain.get(DAYS[day]))


def in_turn(shop: Shop, day: int, *steps: Callable[[Shop, int], None]) -> None:
    for step in steps:
        step(shop, day)


def everything(shop: Shop, *days: int) -> None:
    """All of it for some days, one after the other."""
    for day in days:
        for step in (seal, build, prove, publish, check, release):
            step(shop, day)


def roll_back(shop: Shop) -> None:
    opened(shop).releaser.rollback(OLD + 1)


def prune(shop: Shop) -> None:
    engine = opened(shop)
    pruner = Pruner(engine.project, engine.releaser, engine.publisher, clock=lambda: NOW)
    pruner.apply(pruner.plan(1, 0))
    thinning.RECENT = 1  # so that three days are a long history
    engine.thinner.apply(engine.thinner.plan(LONG_AFTER))
    remove_unreferenced(engine.objects, LONG_AFTER)


def compact(shop: Shop) -> None:
    compaction.FILES_MIN = 2  # so that three days are many
    for log in shop.engine().project.logs:
        engine = opened(shop)
        compactor = compaction.Compactor(engine.objects, engine.chain, log)
        assert compactor.apply(compactor.plan()).damaged == []


def retry(shop: Shop) -> None:
    opened(shop).retry_quarantine()


def mend(shop: Shop) -> None:
    """Repair until nothing differs: what a sink should hold is not known before the state is sound again."""
    for _ in range(3):
        engine = opened(shop)
        snapshot = engine.chain.get(DAYS[NEW])
        drifts = [find_drift(engine, store, snapshot) for store in engine.project.in_order]
        if not any(drift.differences for drift in drifts):
            return
        assert all(repair(engine, drift).passed for drift in drifts)
    raise AssertionError([str(difference) for drift in drifts for difference in drift.differences])


def mend_and_publish(shop: Shop) -> None:
    """A version of which a killed repair left nothing is no difference; it is published again before it is released."""
    mend(shop)
    publish(shop)


def mend_objects(shop: Shop) -> None:
    assert mend_at_rest(opened(shop), damage_at_rest(opened(shop))) == []


def check_again(shop: Shop) -> None:
    engine = opened(shop)
    store = engine.project.store("stock")
    assert not all(result.passed for result in engine.publisher.check_expectations(store, engine.chain.get(DAYS[NEW])))


def anew(row: Level, event):
    return row._replace(level=row.level + event.quantity)


def compile_anew(shop: Shop) -> None:
    """Load a rule in a cache folder of the shop's own, with what a killed process left of it; numba is left aside."""
    os.environ["NUMBA_CACHE_DIR"] = str(Path("cache").resolve())
    rule = Rule.of(anew, inventory.columns, 1)
    source = kernel_cache.kernel_file(rule.lowered or "")
    code = source.with_suffix("._fold-1.nbc")
    if not source.exists():
        kernel_cache._written(rule.lowered or "")
        for file in (source, code):
            kernel_cache._put(file, b"half")

    def load(path: Path) -> Callable[..., int]:
        kernel_cache._put(code, b"compiled")
        return lambda *_: len(compile(path.read_bytes(), path, "exec").co_names)

    kernel_cache._load_file = load
    assert rule.compile()
    assert kernel_cache.is_kept(rule.lowered or "")


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
    record = engine.builder.require(engine.project.store("stock"), engine.chain.get(DAYS[NEW]))
    for stored in record.objects:
        Path("store", stored.name).write_bytes(b"damaged")
    spoil(shop)
    for path in (
        f"store/sinks/delta/turnover/{versions['turnover']}.json",
        f"store/search/bulk/offers/{versions['offers']}/meta.json",
        f"store/search/tantivy/offers_index/{versions['offers']}/meta.json",
    ):
        Path(path).write_bytes(b"damaged")


def let_rot(shop: Shop) -> None:
    """Damage an object of every kind that can be made again, none of which readers need."""
    retry(shop)
    engine = opened(shop)
    snapshot, stock = engine.chain.get(DAYS[OLD]), engine.project.store("stock")
    layout = engine.chain.layout(snapshot, "inventory")
    assert layout.repeats is not None
    # Another library wrote other bytes for the same, so that mending must write another layout.
    buffer = io.BytesIO()
    pq.write_table(from_parquet(engine.objects.get(layout.repeats.name), ""), buffer, compression="none")
    other = StoredObject(f"logs/inventory/repeats/{'e' * 32}.parquet", sha256_hex(buffer.getvalue()))
    layouts = {name: engine.chain.layout(snapshot, name) for name in snapshot.logs}
    engine.chain.replace_layout(snapshot, layouts | {"inventory": replace(layout, repeats=other)})
    # A proof of a state that was never built, and a damaged record of that state.
    record, name = engine.prover.require(stock, snapshot)
    proof = engine.prover.proofs.standing(name)
    assert proof is not None
    engine.prover.proofs.keep(replace(proof, inputs="f" * 64))
    _, served = engine.prover.require(engine.project.store("offers"), snapshot)
    names = [
        other.name,
        newest_seen(engine.chain, "inventory")[1][0].name,
        next(path.name for path in Path("store/retries/inventory").iterdir() if not path.name.endswith(".places")),
        record_name("stock", stock.code_version, record.inputs),
        record_name("stock", stock.code_version, "f" * 64),
        served,
        next(path.name for path in Path("store/expectations/stock").iterdir() if path.name.startswith("000002")),
    ]
    folders = {2: "retries/inventory/", 6: "expectations/stock/"}
    for place, each in enumerate(names):
        Path("store", folders.get(place, "") + each).write_bytes(b"damaged")
    min(Path("store/checked/inventory").iterdir()).write_bytes(b"damaged")


def wreck(shop: Shop) -> None:
    """Damage what is served in every sink: tables, views, commits, files of an export and of an index."""
    for statement in (
        "DROP VIEW turnover",
        "CREATE VIEW turnover AS SELECT 'nothing' AS product",
        "DROP VIEW stock",
        "DROP VIEW offers",
        "DROP TABLE refold_release",
        "UPDATE refold_versions SET row_count = 7 WHERE table_name = 'turnover'",
    ):
        execute(shop.database, lambda _, statement=statement: statement)
    execute(shop.database, lambda table: f'DROP TABLE "{table}"')
    execute(shop.database, lambda _: "DELETE FROM refold_versions WHERE table_name = 'stock' AND version < '000002'")
    Path("store/delta/levels/_delta_log/00000000000000000001.json").write_bytes(b"damaged")
    for number in (1, 7):  # of the one there is a commit, of the other none
        Path(f"store/sinks/delta/turnover/commits/{number:020d}.json").write_bytes(b"damaged")
    version = _versions(opened(shop))["offers"]
    Path(f"store/search/bulk/offers/{version}/aliases.json").write_bytes(b"damaged")
    Path(f"store/search/tantivy/offers_index/{version}/meta.json").write_bytes(b"damaged")


def spoil(shop: Shop) -> None:
    """Change a cell behind Refold's back, so that an expectation no longer holds, of a version that is not served."""
    version = _versions(opened(shop))["stock"]
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
        query = "SELECT rows_table FROM refold_versions WHERE table_name = 'stock' ORDER BY version DESC"
        connection.execute(sa.text(statement(str(connection.scalar(sa.text(query))))))


def publish_wide(shop: Shop) -> None:
    """The stock with one column more is published beside the served one without it."""
    for step in (seal, build, prove, publish, check):
        step(shop)
    forget_columns(shop)


def leave_orphans(shop: Shop) -> None:
    """What killed builds and proofs leave, objects that no record names; and segments that compaction has overtaken."""
    compact(shop)
    name = "e" * 40
    for path in (f"states/stock/rows/{name}.parquet", f"states/turnover/rows/{name}.parquet"):
        Path("store", path).write_bytes(b"orphan")
    proof = next(Path("store/proofs/stock").rglob("*.json"))
    shutil.copy(proof, proof.with_name(f"{name}.json"))


def link_landing(shop: Shop) -> None:
    """All copies read one landing, since a snapshot tells the identity of the files that it was made of."""
    Path("landing").symlink_to(Path("../../landing").resolve())


PHASES: Mapping[str, Phase] = {
    "landed": Phase(None, link_landing),
    "first proven": Phase("landed", lambda shop: in_turn(shop, 0, seal, build, prove)),
    "first published": Phase("first proven", lambda shop: in_turn(shop, 0, publish, check)),
    "first published again": Phase("first published", leave_copies),
    "served": Phase("first published", lambda shop: everything(shop, 0, OLD)),
    "sealed": Phase("served", seal),
    "built": Phase("sealed", build),
    "proven": Phase("built", prove),
    "rubble": Phase("proven", leave_rubble),
    "published": Phase("proven", publish),
    "checked": Phase("published", check),
    "damaged": Phase("checked", damage),
    "spoilt": Phase("checked", spoil),
    "released": Phase("checked", release),
    "cluttered": Phase("released", leave_orphans),
    "wrecked": Phase("released", wreck),
    "rotten": Phase("released", let_rot, "retrying"),
    "wide published": Phase("served", publish_wide, "wide"),
}

STAGES: Mapping[str, Stage] = {
    "compile": Stage("served", compile_anew),
    "seal the first": Stage("landed", lambda shop: seal(shop, 0), old=None, new=None),
    "seal": Stage("served", seal),
    "build": Stage("sealed", build),
    "prove": Stage("built", prove),
    "publish the first": Stage("first proven", lambda shop: publish(shop, 0), old=None, new=None, database=True),
    "publish": Stage("rubble", publish, database=True),
    "check expectations": Stage("published", check),
    "find an expectation broken": Stage("spoilt", check_again),
    "release the first": Stage("first published again", lambda shop: release(shop, 0), old=None, new=0, database=True),
    "release": Stage("checked", release, new=NEW, database=True),
    "release other columns": Stage("wide published", release, new=NEW, project="wide", database=True),
    "roll back": Stage("released", roll_back, old=NEW, new=OLD, database=True),
    "prune": Stage("cluttered", prune, old=NEW, new=NEW, database=True),
    "compact": Stage("released", compact, old=NEW, new=NEW),
    "retry the quarantine": Stage("served", retry, project="retrying", retried_from=NEW),
    "repair": Stage("damaged", mend, again=mend_and_publish, database=True),
    "repair what is served": Stage("wrecked", mend, old=NEW, new=NEW, readable=False),
    "repair at rest": Stage("rotten", mend_objects, old=NEW, new=NEW, project="retrying", retried_from=NEXT),
}
