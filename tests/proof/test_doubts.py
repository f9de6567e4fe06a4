"""What is proven and may not be meant, with file and line: branches that no event took, most events rejected."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import NamedTuple

import pytest

from assets.logs import Movement, stock_events
from assets.stock import Why
from refold import Daily, Project, Sql, fold, reject
from refold.proof.records import ProofRecords
from refold.rebuild import rebuild_all
from refold.stores.declaration import Folded
from tests.dagster.house import House, reasons
from tests.support import Shop, moved

HERE = Path(__file__)


class Level(NamedTuple):
    level: int = 0


class Named(NamedTuple):
    level: int = 0
    last: str | None = None


def compiled(row: Level, event):
    match event.event_type:
        case Movement.ADD:  # compiled: ADD
            return row._replace(level=row.level + event.quantity)
        case Movement.REMOVE if event.quantity > row.level:  # compiled: TOO MANY
            return reject(Why.INSUFFICIENT_STOCK)
    if event.quantity > 100:  # compiled: LARGE
        return row
    return row._replace(level=row.level - event.quantity)


def interpreted(row: Named, event):
    match event.event_type:
        case Movement.ADD:  # interpreted: ADD
            return row._replace(level=row.level + event.quantity)
        case Movement.REMOVE if event.quantity > row.level:  # interpreted: TOO MANY
            return reject(Why.INSUFFICIENT_STOCK)
    if event.quantity > 100:  # interpreted: LARGE
        return row
    return row._replace(level=row.level - event.quantity)


STORES: list[Folded] = [
    fold(stock_events, version=1, sinks=[Sql(function.__name__)])(function) for function in (compiled, interpreted)
]
PROJECT = Project("doubted", Daily(dt.date(2026, 1, 1)), STORES)


def line_of(store: str, branch: str) -> str:
    lines = HERE.read_text().splitlines()
    return f"{HERE}:{next(n for n, line in enumerate(lines, start=1) if line.endswith(f'# {store}: {branch}'))}: "


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.proof.test_doubts:PROJECT"\n')
    shop = Shop(tmp_path, PROJECT)
    shop.land("dt=2026-01-01/a.jsonl", moved("1", "lamp", 5), moved("2", "rug", -9), moved("3", "rug", -8))
    return shop


def warned(shop: Shop, caplog: pytest.LogCaptureFixture) -> dict[str, list[str]]:
    """What a rebuild warns of, by store."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "refold"):
        rebuild_all(shop.engine())
    found = {}
    for record in caplog.records:
        head, *lines = record.getMessage().split("\n  - ")
        found[head.split("'")[1]] = lines
    return found


def test_branches_and_rejections_are_warned_of_until_events_take_them(shop: Shop, caplog: pytest.LogCaptureFixture):
    """Compiled and interpreted alike; counted over the whole log, whatever was folded incrementally."""
    names = [store.name for store in STORES]
    found = warned(shop, caplog)
    assert found.keys() == set(names)
    for name in names:
        rejected, large = found[name]
        assert rejected.startswith(f"{HERE}:")
        assert rejected.endswith(
            f"def {name}(row: {'Level' if name == 'compiled' else 'Named'}, event): rejected 2 of 3 events"
        )
        assert large == f"{line_of(name, 'LARGE')}if event.quantity > 100: taken by none of 3 events"
    assert warned(shop, caplog) == found
    shop.land("dt=2026-01-02/a.jsonl", moved("4", "rug", 300), moved("5", "lamp", 1), moved("6", "rug", -8))
    assert {name: len(lines) for name, lines in warned(shop, caplog).items()} == dict.fromkeys(names, 1)
    shop.land("dt=2026-01-03/a.jsonl", moved("7", "rug", -101))
    assert warned(shop, caplog) == {}


def test_commands_and_proofs_say_so(shop: Shop):
    """`refold explain` from the newest proof, `refold verify` from the replay; the proof keeps numbers and no paths."""
    before = shop.refold("explain", "compiled", project=shop.root)
    assert before.exit_code == 0
    assert "may not be meant" not in before.output
    rebuild_all(shop.engine())
    for name in ("compiled", "interpreted"):
        for words in (("explain", name), ("verify", name)):
            output = shop.refold(*words, project=shop.root).output
            assert f"{line_of(name, 'LARGE')}if event.quantity > 100: taken by none of 3 events" in output
            assert "rejected 2 of 3 events" in output
            assert "TOO MANY" not in output
        store = next(store for store in STORES if store.name == name)
        engine = shop.engine()
        record = engine.builder.require(store, engine.chain.get())
        found = ProofRecords(engine.objects).find(record.claim)
        assert found is not None
        assert list(found[1].untaken) == [2]


def test_dagster_shows_it_beside_the_passed_check(shop: Shop):
    """As an entry of the check `full_replay`."""
    house = House(shop)
    result = house.run("rebuild_snapshot", "2026-01-01")
    assert result.success, reasons(result)
    (check,) = [
        each for each in result.get_asset_check_evaluations()
        if each.check_name == "full_replay" and each.asset_key.to_user_string() == "state/compiled"
    ]  # fmt: skip
    assert check.passed
    assert "taken by none of 3 events" in str(check.metadata["may not be meant"].value)
