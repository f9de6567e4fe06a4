"""A history with lost answers: sealing, layouts, proofs, publishing and the pointer end as if nothing was lost."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from refold import open_release
from refold.config import Settings
from refold.engine import Engine
from refold.errors import Unavailable
from refold.release.releaser import Releaser
from refold.storage.objects import ObjectStore, OpenStore, sha256_hex
from refold.storage.wrappers import WRITES, Operation
from refold.testing.faulty_store import Effect, Faults
from tests.release.little import DAYS, NOW, PROJECT
from tests.s3 import BUCKET, Proxy, s3, s3_address
from tests.support import LONG_AFTER

__all__ = ["s3", "s3_address"]

CONDITIONAL = re.compile("(snapshots|releases)/|layouts/.*/0+1.json|.*/released.json")
"""Objects that are created, and not put; readers of files are moved by a conditional write as well."""


@pytest.fixture
def landing(proven: Path) -> Path:
    return proven / "landing"


@pytest.fixture
def undisturbed(tmp_path: Path, landing: Path) -> Mapping[str, str]:
    """What a history leaves where nothing is lost."""
    store = str(tmp_path / "undisturbed" / "store")
    return _left(_history(tmp_path / "undisturbed", store, landing, ObjectStore.open))


def _history(root: Path, store: str, landing: Path, open_store: OpenStore) -> Engine:
    """Seal, fold, prove, publish and release two days, and replace the layout of the first; what is done stays."""
    root.mkdir(exist_ok=True)
    settings = Settings(str(landing), store, f"sqlite:///{root / 'refold.db'}", root / "search")
    engine = Engine(PROJECT, settings, open_store, now=LONG_AFTER)
    for _ in engine.sealing.seal(DAYS[1]):
        pass
    head = engine.chain.get(DAYS[1])
    for _ in engine.fold_history("moves", head):
        pass
    for _, verdicts in engine.prove_history("moves", head):
        assert all(verdict.passed for verdict in verdicts.values())
    releaser = Releaser(PROJECT, engine.objects, engine.prover, engine.publisher, clock=lambda: NOW, by=lambda: "us")
    for number, snapshot in enumerate(engine.chain, start=1):
        for each in PROJECT.in_order:
            for sink in each.sinks:
                engine.publisher.publish(each, sink, snapshot)
        if (engine.releaser.current().number if engine.releaser.current() else 0) < number:
            releaser.release(snapshot)
    first = engine.chain.get(DAYS[0])
    if not engine.chain.newest_layout(first).endswith("1.json"):
        engine.chain.replace_layout(first, {"moves": engine.chain.layout(first, "moves")})
    return engine


def _left(engine: Engine) -> Mapping[str, str]:
    """The objects of sealing and folding and what is served; proofs and commits tell times."""
    names = [info.name for info in engine.objects.list() if re.match("snapshots|layouts|logs|states", info.name)]
    left = {name: sha256_hex(engine.objects.get(name)) for name in names}
    settings = engine.settings
    release = open_release(settings.store, database=settings.database, search_folder=settings.search_folder)
    rows = [
        release.sql("on_hand"),
        release.delta("levels"),
        release.documents("moves"),
        release.documents("moves_index"),
    ]
    return left | {"number": str(release.number), "rows": str([table.to_pylist() for table in rows])}


@pytest.mark.parametrize("effect", [Effect.LOSE_ANSWER, Effect.RESEND])
def test_no_lost_answer_of_a_create_is_noticed(
    tmp_path: Path, landing: Path, undisturbed: Mapping[str, str], effect: Effect
):
    faults = Faults()
    faults.plan(Operation.CREATE, effect, times=None)
    engine = _history(tmp_path / "other", str(tmp_path / "other" / "store"), landing, faults.open)
    assert _left(engine) == undisturbed
    created = sorted(name for _, name, _ in faults.happened)
    assert created == [info.name for info in engine.objects.list() if CONDITIONAL.match(info.name)]
    assert len(created) == 6


def test_writes_that_are_sent_again_change_nothing(tmp_path: Path, landing: Path, undisturbed: Mapping[str, str]):
    faults = Faults()
    faults.plan(WRITES, Effect.RESEND, times=None)
    engine = _history(tmp_path / "other", str(tmp_path / "other" / "store"), landing, faults.open)
    assert _left(engine) == undisturbed and len(faults.happened) > 20


def test_what_stops_at_lost_answers_is_completed_by_running_again(
    tmp_path: Path, landing: Path, undisturbed: Mapping[str, str]
):
    """Answers to puts get lost more and more seldom, so that each run gets further."""
    faults, stopped = Faults(), 0
    for number in range(12):
        faults.plan(Operation.PUT, Effect.LOSE_ANSWER, after=number * (number + 1) // 2)
    for _ in range(13):
        try:
            engine = _history(tmp_path / "other", str(tmp_path / "other" / "store"), landing, faults.open)
        except Unavailable:
            stopped += 1
        else:
            break
    noticed = [name for _, name, _ in faults.happened if not CONDITIONAL.match(name)]
    assert stopped == len(noticed) >= 5
    assert _left(engine) == undisturbed


def test_no_lost_answer_of_a_create_is_noticed_on_s3(
    tmp_path: Path, landing: Path, undisturbed: Mapping[str, str], s3: Proxy
):
    """The proxy does the write and drops the answer, and the library sends it again. Commits of Delta tables, too."""
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    s3.plan("drop", f"PUT .*/({CONDITIONAL.pattern}|_delta_log/)", 99, once_each=True)
    engine = _history(tmp_path / "other", url, landing, ObjectStore.open)
    assert _left(engine) == undisturbed
    assert len([request for request in s3.hit if "_delta_log" not in request]) == 6
    assert len([request for request in s3.hit if "_delta_log" in request]) >= 2
