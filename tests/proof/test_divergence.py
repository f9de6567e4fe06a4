"""A fold that went wrong is located at exactly the event at which it did, by its cause, reading next to nothing."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from benchmarks import divergence as bench
from refold.proof.divergence import Mark, first_parting
from tests.support import verify_reference

SNAPSHOTS = 20


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> bench.Places:
    """20,000 events in 20 snapshots, folded and proven."""
    places = bench.Places(tmp_path_factory.mktemp("divergence"), 20_000, SNAPSHOTS, products=400)
    bench.land(places)
    bench.build(places)
    engine = places.engine()
    assert engine.prover.prove(bench.levels, engine.chain.get()).passed
    return places


@pytest.fixture
def places(folded: bench.Places, tmp_path: Path) -> bench.Places:
    shutil.copytree(folded.folder, tmp_path / "copy")
    return bench.Places(tmp_path / "copy", folded.events, folded.snapshots, folded.products)


def _segments_of(places: bench.Places, ordinal: int) -> set[str]:
    chain = places.engine().chain
    snapshot = chain.through(chain.get().key)[ordinal]
    return {file.name for file in chain.layout(snapshot, "movements").segments}


@pytest.mark.parametrize("ordinal", [1, 11, SNAPSHOTS - 1])
@pytest.mark.parametrize("name", bench.SLIPS)
def test_the_offset_of_the_slip_is_named_with_its_cause(places: bench.Places, name: str, ordinal: int):
    slip, cause = bench.SLIPS[name]
    falsifier = bench.Falsifier(places, ordinal)
    position = falsifier.falsify(slip, falsifier.choose(slip))

    measured = bench.compare(places, name, position)

    found = measured.verdict.divergence
    assert not measured.verdict.passed
    assert measured.exact, str(found)
    assert (found.snapshot, found.agrees) == (_key(places, ordinal), _key(places, ordinal - 1))
    assert found.cause == cause
    assert found.event["log_seq"] == position["log_seq"] and found.segment in _segments_of(places, ordinal)
    assert found.event["product_id"] == found.key
    assert found.keys == 0 or found.stored != found.right
    segments = {read for read in measured.names_after if "/segments/" in read}
    assert segments == {found.segment}, "of the log, the segment of that event and no other is read"
    assert measured.share < 3 / SNAPSHOTS  # the segment, and two checkpoints of a state that is large beside it


def _key(places: bench.Places, ordinal: int) -> str:
    chain = places.engine().chain
    return chain.through(chain.get().key)[ordinal].key


def test_a_checkpoint_that_was_wrong_in_an_untouched_key_blames_no_event(tmp_path: Path):
    places = bench.Places(tmp_path, 400, 8, products=200)
    bench.land(places)
    bench.build(places)
    bench.Falsifier(places, 4).falsify(bench.row_changed, 0)

    found = bench.compare(places, "row changed", {}).verdict.divergence

    assert (found.cause, found.event, found.snapshot) == ("checkpoint", None, _key(places, 4))
    assert "a bad checkpoint was resumed" in found.because
    assert found.stored["level"] == found.right["level"] + 1_000_000 and found.before == found.right


def test_a_row_that_no_single_slip_explains_gives_the_range_in_which_it_went_wrong(places: bench.Places):
    """One of a key's several events was folded with another quantity: which one, the stored rows do not tell."""
    falsifier, seen = bench.Falsifier(places, 6), []
    falsifier.falsify(partial(_more_of_a_middle_event, seen), 0)

    found = bench.compare(places, "quantity", {}).verdict.divergence

    assert not found.exact
    assert found.not_before["log_seq"] < seen[0] < found.event["log_seq"]
    assert (found.snapshot, found.cause) == (_key(places, 6), "row")


def _more_of_a_middle_event(seen: list[int], fold: bench.Fold, _: int):
    """A key's second of three added quantities, made larger."""
    keys, kinds = fold.events["product_id"].to_pylist(), fold.events["kind"].to_pylist()
    own = next(
        places
        for key in keys
        if len(places := [n for n, other in enumerate(keys) if other == key]) == 3 and kinds[places[1]] == "add"
        and not any(kinds[n] == "remove" for n in places) and not fold.deliveries[places].any()
    )  # fmt: skip
    seen.append(fold.events["log_seq"][own[1]].as_py())
    quantity = fold.events["quantity"].to_numpy().copy()
    quantity[own[1]] += 100_000
    at = fold.events.schema.get_field_index("quantity")
    events = fold.events.set_column(at, "quantity", bench.pa.array(quantity))
    return fold.state, bench.fold_events(fold.state, events, fold.deliveries)


def test_two_events_that_explain_a_row_equally_well_give_the_range_between_them(places: bench.Places):
    falsifier, seen = bench.Falsifier(places, 6), []
    falsifier.falsify(partial(_lost_of_two_alike, seen), 0)

    found = bench.compare(places, "lost", {}).verdict.divergence

    assert [found.not_before["log_seq"], found.event["log_seq"]] == seen
    assert found.cause == "events"


def _lost_of_two_alike(seen: list[int], fold: bench.Fold, _: int):
    """The first of two equal additions to one key is lost."""
    rows = fold.events.to_pylist()
    names = ("product_id", "quantity", "kind")
    alike = [tuple(row[name] for name in names) for row in rows]
    first, second = next(
        places
        for one in alike
        if one[2] == "add" and len(places := [n for n, other in enumerate(alike) if other == one]) == 2
        and not fold.deliveries[places].any() and not _refused_between(rows, one[0])
    )  # fmt: skip
    seen += [rows[first]["log_seq"], rows[second]["log_seq"]]
    return bench.lost(fold, first)


def _refused_between(rows: list[dict], key: str) -> bool:
    return any(row["kind"] == "remove" for row in rows if row["product_id"] == key)


def test_thinned_checkpoints_cost_a_longer_fold_and_give_the_same_answer(places: bench.Places):
    falsifier = bench.Falsifier(places, 9)
    position = falsifier.falsify(bench.refused, falsifier.choose(bench.refused))
    engine = places.engine()
    for snapshot in engine.chain.through(_key(places, 8))[6:]:
        engine.builder.checkpoints.thin(engine.builder.require(bench.levels, snapshot))

    measured = bench.compare(places, "refused", position)

    assert measured.exact
    assert measured.verdict.divergence.folded_from == _key(places, 5)


def test_repair_folds_again_from_the_last_agreement_and_not_from_the_bad_checkpoint(
    places: bench.Places, folded: bench.Places
):
    falsifier = bench.Falsifier(places, 7)
    falsifier.falsify(bench.twice, falsifier.choose(bench.twice))
    engine = places.engine()
    head = engine.chain.get()
    record = engine.builder.require(bench.levels, engine.chain.get(_key(places, 6)))
    drift = engine.drifts.find(bench.levels, head)
    assert drift.verdict.sound_through == 7
    assert f"of the first {7} snapshots" in drift.remedy

    assert engine.drifts.repair(drift).passed

    engine, right = places.engine(), folded.engine()
    for snapshot in engine.chain.through(head.key):
        assert engine.builder.require(bench.levels, snapshot) == right.builder.require(bench.levels, snapshot)
    assert engine.builder.require(bench.levels, engine.chain.get(_key(places, 6))) == record
    assert verify_reference(engine, head) == []


def test_a_proof_of_what_was_folded_wrongly_is_gone(places: bench.Places):
    engine = places.engine()
    assert engine.prover.prove(bench.levels, engine.chain.get(_key(places, 9))).passed
    falsifier = bench.Falsifier(places, 9)
    falsifier.falsify(bench.lost, falsifier.choose(bench.lost))
    engine = places.engine()
    wrong = engine.builder.require(bench.levels, engine.chain.get(_key(places, 9)))
    assert not engine.prover.prove(bench.levels, engine.chain.get()).passed
    assert engine.prover.proofs.names(wrong.claim) == []


def test_the_picture_shows_history_from_the_slip_on_and_the_bucket_of_its_key(places: bench.Places):
    falsifier = bench.Falsifier(places, 15)
    falsifier.falsify(bench.refused, falsifier.choose(bench.refused))
    engine = places.engine()

    drift = engine.drifts.find(bench.levels, engine.chain.get())

    history, first, last, legend = drift.picture.lines()
    strip = history.split()[1]
    assert len(strip) == SNAPSHOTS
    assert strip.rstrip("█▓") == "·" * 15
    found = drift.verdict.divergence
    (bucket,) = found.buckets
    column = bucket // 64
    assert first.startswith(f"keys at {found.snapshot}") and last.startswith(f"keys at {engine.chain.get().key}")
    assert [place for place, mark in enumerate(first.split()[-1]) if mark != "·"] == [column]
    assert "rows differ" in legend


@pytest.mark.parametrize(
    ("state", "ledger", "expected"),
    [
        ("......", "......", None),
        ("..xxxx", "....xx", 2),
        ("......", "...xxx", 3),
        (".x....", "......", 1),
        ("..-xxx", "..-xxx", 3),
        ("......", ".x....", 1),
        ("x.xxxx", "...xxx", 0),
    ],
    ids=["equal", "rows first", "outcomes", "healed", "not built", "one record changed", "healed and parted"],
)
def test_the_first_parting_is_found_in_the_marks(state: str, ledger: str, expected: int | None):
    class Record:
        def __init__(self, state: str, ledger: str) -> None:
            self.state_digest, self.ledger_digest = state, ledger

    marks = [
        Mark(None, None if one == "-" else Record(one, other), ".", ".", True)
        for one, other in zip(state, ledger, strict=True)
    ]
    assert first_parting(marks) == expected
