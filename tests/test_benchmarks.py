"""The benchmarks compute what they claim to; how long it takes is no test's business."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks import formats, money, ours
from benchmarks.dataset import json_lines, murmur2_partitions, write_log
from benchmarks.generate import CHUNK_EVENTS, Shape, Stream, batches
from benchmarks.measures import MEASURES, READ, Measure, measure
from benchmarks.peers import plain_loop, read
from benchmarks.program import Program, load, run
from benchmarks.report import rows_of, summary, table
from benchmarks.run import WrongAnswerError, run_rounds, run_subject, sizes
from refold.canonical.encoding import kafka_partitions
from refold.landing.jsonl import JsonLines

EVENTS = 5_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks") / f"log-{EVENTS}-1"
    write_log(Shape(EVENTS), folder)
    return folder


@pytest.fixture(scope="module")
def little_stream() -> pa.Table:
    return pa.concat_tables(Stream(Shape(EVENTS)))


def test_refold_and_the_plain_loop_give_the_answer_the_generator_knows_and_reading_reads_every_event(
    data: Path,
) -> None:
    compare = measure("compare")
    chosen = [subject for subject in compare.subjects if subject.name in ("read", "loop", "rebuild")]
    (found,) = run_rounds(chosen, data, rounds=1, seconds=60)
    verified = run(ours.VERIFY, data)
    assert found["loop"]["answer"] == found["rebuild"]["answer"] == verified["answer"]
    assert found["loop"]["answer"] == asdict(write_log(Shape(EVENTS), data))
    assert found["read"]["details"] == {"events": EVENTS}


@pytest.mark.parametrize("name", ["INCREMENTAL", "INCREMENTAL_JSON"])
def test_more_events_give_the_answer_over_all_of_them(data: Path, name: str) -> None:
    program = getattr(ours, name)
    program.prepare(data)
    told = run(program, data)
    assert told["answer"] == told["expected"] != asdict(write_log(Shape(EVENTS), data))


def test_a_wrong_answer_is_an_error_and_names_both(data: Path, tmp_path: Path) -> None:
    about = (data / "about.json").read_text()
    broken = tmp_path / "log"
    broken.mkdir()
    for folder in data.glob("partition=*"):
        (broken / folder.name).symlink_to(folder)
    (broken / "about.json").write_text(about.replace('"rejected": ', '"rejected": 1'))
    with pytest.raises(WrongAnswerError, match=r"expected the answer .* found"):
        run_subject(next(s for s in measure("compare").subjects if s.name == "loop"), broken)


def test_the_first_events_of_a_longer_log_are_those_of_a_shorter_one() -> None:
    longer = next(iter(batches(Stream(Shape(CHUNK_EVENTS + 300)), CHUNK_EVENTS + 300)))
    shorter = next(iter(batches(Stream(Shape(EVENTS)), EVENTS)))
    assert longer.slice(0, EVENTS).combine_chunks() == shorter
    assert next(iter(batches(Stream(Shape(EVENTS, seed=2)), EVENTS))) != shorter


def test_the_shares_of_redeliveries_and_insufficient_removals_are_those_of_the_shape() -> None:
    stream = Stream(Shape(200_000))
    events = pa.concat_tables(stream)
    assert stream.answer.duplicate == len(events) - len(events["event_id"].unique())
    assert 0.018 < stream.answer.duplicate / len(events) < 0.022
    assert 0.009 < stream.answer.rejected / len(events) < 0.011
    assert stream.applied + stream.rejected + stream.duplicate == len(events)


def test_a_wide_log_has_a_key_an_event() -> None:
    stream = Stream(Shape.wide(EVENTS))
    events = pa.concat_tables(stream)
    assert len(events["product_id"].unique()) == stream.answer.applied == EVENTS


def test_log_partitions_are_those_of_kafka_as_the_engine_computes_them(little_stream: pa.Table) -> None:
    keys = little_stream["product_id"].combine_chunks()
    assert murmur2_partitions(keys, 8).tolist() == kafka_partitions(keys, 8).tolist()


def test_json_lines_decode_to_the_events_they_were_made_of(little_stream: pa.Table) -> None:
    from benchmarks.adapter import project

    (log,) = project().logs
    decoded = JsonLines().decode("a.jsonl", json_lines(little_stream), log.columns)
    assert decoded.bad == []
    assert decoded.rows.combine_chunks() == little_stream.cast(decoded.rows.schema).combine_chunks()


def test_a_peer_that_is_not_installed_is_a_row_that_says_so_and_no_failure(data: Path) -> None:
    missing = replace(READ, name="gone", target="no_such_package.module")
    chosen = Measure("compare", "", "log", [READ, missing])
    rounds = list(run_rounds(chosen.subjects, data, rounds=1, seconds=60))
    result = {
        "measure": "compare",
        "events": EVENTS,
        "rounds": rounds,
        "subjects": [asdict(s) for s in chosen.subjects],
    }
    assert [row.get("missing") for row in rows_of(result)] == [None, "no_such_package is not installed"]
    assert "no_such_package is not installed" in summary(result)
    assert "no_such_package is not installed" in table(result)


def test_slow_subjects_run_at_a_size_of_their_own_beside_the_same_baseline() -> None:
    groups = {size: [subject.name for subject in part.subjects] for size, part in sizes(measure("compare"), 10**7)}
    assert groups[10**6] == ["read", "bytewax"]
    assert groups[10**5] == ["read", "pathway", "eventsourcing"]
    assert groups[10**7][:3] == ["read", "rebuild", "verify"]


def test_ratios_are_to_the_baseline_of_the_same_round() -> None:
    def took(seconds: float) -> dict[str, object]:
        return {"seconds": seconds, "cpu_seconds": seconds, "peak_bytes": 1, "details": {}, "answer": None}

    rounds = [{"read": took(1.0), "rebuild": took(3.0)}, {"read": took(4.0), "rebuild": took(8.0)}]
    subjects = [asdict(s) for s in measure("rebuild").subjects[:2]]
    row = rows_of({"measure": "rebuild", "events": 1, "rounds": rounds, "subjects": subjects})[1]
    assert (row["ratio"], row["median_ratio"]) == (2.0, 2.5)


def test_every_measure_names_programs_that_are_there() -> None:
    for subject in (subject for each in MEASURES for subject in each.subjects):
        try:
            assert isinstance(load(subject.target), Program)
        except ModuleNotFoundError as error:
            assert (error.name or "").split(".")[0] not in ("benchmarks", "refold")


def test_the_peers_columns_are_read_alike_by_all(data: Path) -> None:
    assert read.work(data, None) == sum(1 for _ in plain_loop.events(data)) == EVENTS


def test_money_and_cents_are_the_same_ledger_and_both_compiled(tmp_path: Path) -> None:
    """The ratio is of two compiled folds of one stream."""
    money.land(tmp_path, events=2_000, days=3)
    for log in money.LOGS:
        for _ in money.engine(tmp_path, log).sealing.seal():
            pass
        assert money.rebuild_seconds(tmp_path, log) > 0
        account = money.STORES[log].account()
        assert account.because is None
        assert ("64-bit integers" in account.how) == (log == "money")
    assert money.rows_in_cents(tmp_path, "cents") == money.rows_in_cents(tmp_path, "money")


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_format_is_sealed_whole_and_parsed_by_its_library(name: str) -> None:
    """`measure` refuses records that are not sealed as events."""
    (found,) = formats.measure(name, 80, 1)
    assert min(found) > 0
