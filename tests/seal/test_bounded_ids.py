"""A log that remembers ids for some snapshots only: what comes again later counts again, and proofs say so."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from refold.errors import DeclarationError
from refold.rebuild import rebuild_all
from refold.seal.id_costs import id_costs
from refold.seal.seen_index import newest_seen
from tests import shop
from tests.support import Shop

DAYS = shop.DAYS
PROJECT = shop.little({"on_hand": []})


def shop_of(root: Path, within: int | None) -> Shop:
    return Shop(root, shop.little({"on_hand": []}, moves=replace(shop.moves, repeats_within=within)))


def land(root: Path, days: list[list[str]]) -> None:
    """What is delivered each day: the id of an event says its product, and each adds one unit."""
    for day, ids in zip(DAYS, days, strict=False):
        shop.land(root / "landing", "moves", day, [shop.move(event_id, event_id, 1) for event_id in ids])


def counted(days: list[list[str]], within: int | None) -> dict[str, int]:
    """How often each id counts, by a plain loop."""
    first: dict[str, int] = {}
    found: dict[str, int] = {}
    for day, ids in enumerate(days):
        for event_id in ids:
            if event_id not in first or (within is not None and day - first[event_id] > within):
                first[event_id] = day
                found[event_id] = found.get(event_id, 0) + 1
    return found


def levels(shop: Shop) -> dict[str, int]:
    engine = shop.engine()
    rows = engine.rows(engine.project.store("on_hand"), engine.chain.get())
    return dict(zip(rows["product"].to_pylist(), rows["level"].to_pylist(), strict=True))


@pytest.mark.parametrize("within", [1, 2, None])
def test_an_id_that_is_no_longer_remembered_counts_again(within: int | None, tmp_path: Path):
    """As a plain loop says; built, replayed and refolded by the reference alike."""
    own = random.Random(7)
    days = [[own.choice("abcdefgh") for _ in range(6)] for _ in DAYS]
    land(tmp_path, days)
    bounded = shop_of(tmp_path, within)
    rebuild_all(bounded.engine())
    assert levels(bounded) == counted(days, within)
    engine = bounded.engine()
    stores = engine.stores_of("moves")
    assert all(verdict.passed for verdict in engine.compare_with_reference(stores, engine.chain.get()))
    if within is not None:
        assert levels(bounded) != counted(days, None)


def test_a_proof_says_what_is_no_longer_found(tmp_path: Path):
    engine = shop_of(tmp_path, 2).engine()
    (log,) = engine.project.logs
    (said,) = log.assumed
    assert said.startswith("an id is remembered for the 2 snapshots before: an event that comes again later")
    land(tmp_path, [["a"], ["b"]])
    rebuild_all(engine)
    engine = engine.reopened()
    _, proof = engine.prover.require(engine.project.stores[0], engine.chain.get())
    assert said in engine.objects.get(proof).decode()
    assert replace(log, repeats_within=None).assumed == []
    with pytest.raises(DeclarationError, match="repeats_within is 0"):
        replace(log, repeats_within=0)


def test_the_seen_index_holds_what_is_remembered_and_is_computed_again_alike(tmp_path: Path):
    """Its runs begin later than the log, so that it stays as small as the window; damage costs reading the log."""
    land(tmp_path, [[f"{day} {n}" for n in range(300)] for day in range(5)])
    bounded = shop_of(tmp_path, 1)
    rebuild_all(bounded.engine(), DAYS[3])
    files = newest_seen(bounded.engine().chain, "moves")[1]
    assert files[0].seq_start >= 600
    for file in files:
        (bounded.store / file.name).unlink()
    rebuild_all(bounded.engine())
    damaged = [file.name for file in newest_seen(bounded.engine().chain, "moves")[1]]
    land(tmp_path / "again", [[f"{day} {n}" for n in range(300)] for day in range(5)])
    again = shop_of(tmp_path / "again", 1)
    rebuild_all(again.engine())
    assert damaged == [file.name for file in newest_seen(again.engine().chain, "moves")[1]]


def test_another_number_is_refused_by_full_replay(tmp_path: Path):
    """What is served stays."""
    land(tmp_path, [["a"], ["b"], ["a"]])
    rebuild_all(shop_of(tmp_path, 1).engine())
    other = shop_of(tmp_path, None).engine()
    verdicts = [verdict for _, found in other.prove_history("moves", other.chain.get()) for verdict in found.values()]
    assert not all(verdict.passed for verdict in verdicts)


@pytest.mark.parametrize(("sealed", "declared"), [(1, None), (1, 2), (None, 1)])
def test_another_number_is_refused_before_anything_is_sealed(sealed: int | None, declared: int | None, tmp_path: Path):
    """With both numbers; the one of a log without it is not written, so that its manifests are as before."""
    land(tmp_path, [["a"], ["b"], ["a"]])
    rebuild_all(shop_of(tmp_path, sealed).engine(), DAYS[1])
    manifests = [path.read_text() for path in sorted((shop_of(tmp_path, 1).store / "snapshots").glob("*.json"))]
    assert [("repeats_within" in body) for body in manifests] == [sealed is not None] * 2
    expected = f"sealed with repeats_within={sealed} and is declared with repeats_within={declared}"
    with pytest.raises(DeclarationError, match=expected):
        rebuild_all(shop_of(tmp_path, declared).engine())
    rebuild_all(shop_of(tmp_path, sealed).engine())
    assert len(shop_of(tmp_path, sealed).engine().chain) == 3


def test_the_cost_of_ids_is_shown(tmp_path: Path):
    """Bytes of what is remembered, and the seconds of a look-up."""
    land(tmp_path, [[f"{day} {n}" for n in range(300)] for day in range(4)])
    engine = shop_of(tmp_path, 1).engine()
    (log,) = engine.project.logs
    assert id_costs(engine.objects, engine.chain, log) is None
    rebuild_all(engine)
    costs = id_costs(engine.objects, engine.chain, log)
    assert costs is not None
    assert (costs.events, costs.remembered, costs.looked_up) == (1200, 600, 300)
    assert 24 * 600 < costs.size_bytes < 40 * 600
    assert costs.seconds_per_million > 0


def test_the_command_shows_it_for_every_log_that_has_events(tmp_path: Path):
    land(tmp_path, [["a", "b"]])
    bounded = shop_of(tmp_path, None)
    (tmp_path / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.seal.test_bounded_ids:PROJECT"\n')
    rebuild_all(bounded.engine())
    shown = bounded.refold("log", "ids", project=tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "Ids of 1 logs" in shown.output and "all of the log" in shown.output
