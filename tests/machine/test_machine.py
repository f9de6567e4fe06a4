"""Random schedules of everything that can happen, held after every step against replay, reference and a plain model.

A bounded number of them, the same each time; `python -m tests.machine --schedules 10000` runs as many as are wanted,
and `docs/schedules.md` tells the result of the largest run.
"""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from refold.canonical.encoding import kafka_partitions
from tests.machine.machine import Machine, prepare
from tests.machine.model import PARTITIONS, LogModel, partition_of
from tests.machine.running import Result, command, run_alone, run_batch, write_page
from tests.machine.served import Held, Refused, ServedModel

SEED, SCHEDULES = 2, 60
NEEDED = {
    "append", "re-deliver", "conflict", "land late", "reorder listing", "seal", "fold", "prove", "resume",
    "damage a checkpoint", "damage a proof", "damage the seen index", "damage a content check", "change parallelism",
    "publish", "release", "roll back", "prune", "rebuild", "seal, crashed", "fold, crashed", "publish, crashed",
}  # fmt: skip


@pytest.fixture(scope="module")
def result() -> Result:
    """What a few schedules came to."""
    return run_alone(SEED, 0, SCHEDULES)


def test_after_every_step_of_every_schedule_all_that_is_stored_and_served_is_right(result: Result):
    assert not result.failure, result.failure
    assert result.schedules >= SCHEDULES


def test_the_schedules_have_every_kind_of_step(result: Result):
    assert NEEDED - result.steps.keys() == set()


def test_the_result_is_told_on_a_page(result: Result, tmp_path):
    failed = Result(result.schedules, result.steps, 1.0, "AssertionError: told")
    for each in (Result(result.schedules, result.steps, 1.0), failed):
        write_page(each, SCHEDULES, SEED, 2, tmp_path / "page.md")
        page = (tmp_path / "page.md").read_text()
        assert f"| schedules | {each.schedules} of {SCHEDULES} asked for |" in page
        assert f"| append | {each.steps['append']:,} |" in page
        assert ("AssertionError: told" in page) == bool(each.failure)


def test_a_schedule_that_fails_is_told_with_the_command_that_runs_it_again(monkeypatch: pytest.MonkeyPatch):
    def wrong(*_: object, **__: object) -> None:
        raise AssertionError("never right")

    prepare()
    monkeypatch.setattr(Machine, "_settle", wrong)
    failed = run_batch(7, 3, 5, shrink=False)
    assert "never right" in failed.failure
    assert "state.begin(" in failed.failure
    assert command(7, 3, 5) in failed.failure


# The model itself, where a few lines can be checked by hand.


def _sealed(*days: dict[str, list[tuple[str, str, int, str]]]) -> LogModel:
    log = LogModel()
    for place, objects in enumerate(days):
        for name, events in objects.items():
            log.land(name, [dict(zip(("id", "product", "quantity", "kind"), event, strict=True)) for event in events])
        log.seal(f"2026-01-0{place + 1}")
    return log


def test_the_model_refuses_what_is_not_there_in_the_order_of_names_and_lines():
    after = {"m/dt=2026-01-01/b": [("1", "a", 10, "add")], "m/dt=2026-01-01/a": [("2", "a", 5, "remove")]}
    (day,) = _sealed(after).days
    assert [name for *_, name, _ in day.outcomes["on_hand"]] == ["rejected", "applied"]
    assert day.rows["on_hand"]["a"]["level"] == 10
    (day,) = _sealed({"m/dt=2026-01-01/a": [("1", "a", 10, "add"), ("2", "a", 5, "remove")]}).days
    assert day.rows["on_hand"]["a"]["level"] == 5


def test_the_model_tells_repeats_from_conflicts_also_where_they_come_late():
    first = {"m/dt=2026-01-01/a": [("1", "a", 10, "add")]}
    late = {"m/dt=2026-01-01/b": [("1", "a", 10, "add"), ("1", "a", 11, "add"), ("2", "a", 1, "drop")]}
    _, day = _sealed(first, late).days
    assert [name for *_, name, _ in day.outcomes["on_hand"]] == ["duplicate", "conflict", "ignored"]
    assert day.objects == [("m/dt=2026-01-01/b", True)]
    assert day.published("last_move") == []
    assert day.published("on_hand")[0]["log_seq"] == 3


def test_the_model_puts_keys_where_kafka_puts_them():
    keys = ["", "a", "ab", "abc", "abcd", "ü", *(str(random.Random(n).random()) for n in range(50))]
    assert [partition_of(key) for key in keys] == kafka_partitions(pa.array(keys), PARTITIONS).tolist()


def test_the_model_of_serving_keeps_the_law_of_rollbacks():
    model = ServedModel(["x"])
    model.held = Held({("x", 0), ("x", 1), ("x", 2)})
    for day in (0, 1):
        model.series.append(model.release(day, ready=True))
    model.series.append(model.roll_back(None))
    assert (model.current.day, model.current.left) == (0, 1)
    with pytest.raises(Refused, match="fix-input"):
        model.release(1, ready=True)
    assert model.release(1, ready=True, again=True).day == 1
    model.series.append(model.release(2, ready=True))
    assert model.current.left is None
    assert model.roll_back(1).day == 0
    assert model.prune(1, model.held)[1] == Held({("x", 0), ("x", 1)})
