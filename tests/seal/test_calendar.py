"""Which keys are sealed at which time, and what waits in landing: against a plain model, and case by case."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.logs import stock_events
from assets.stock import stock
from refold import Daily, Folders, Hourly
from refold.errors import DeclarationError, FixInput, NotFound
from refold.plan.decisions import plan_rebuild
from refold.rebuild import rebuild_all
from refold.seal.cadence import Cadence
from refold.seal.sealing import Waits
from tests.seal.sealing import STOCK_ONLY, ids, with_log
from tests.support import Shop, moved

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOURS = Folders("dt={date}/hour={hour}")
GRACE = {Daily: dt.timedelta(hours=2), Hourly: dt.timedelta(minutes=15)}


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, STOCK_ONLY)


def land(shop: Shop, *days: str) -> None:
    """An object of one event in the folder of each day."""
    for number, day in enumerate(days):
        name = f"{len(list(shop.landing.rglob('*.jsonl'))) + number:03}"
        shop.land(f"dt={day}/{name}.jsonl", moved(f"{day} {name}", "lamp", 1))


def sealed_at(shop: Shop, now: str, through: str | None = None) -> list[str]:
    """Seal at a time; returns the keys."""
    reports = replace(shop, now=at(now)).engine().sealing.seal(through)
    return [report.snapshot.key for report in reports]


def waiting_at(shop: Shop, now: str) -> dict[str, Waits]:
    """The reasons of what waits at a time, by place."""
    return {each.place: each.why for each in replace(shop, now=at(now)).engine().sealing.left()}


class TestTheModel:
    """Random landings, markers and clocks, against days counted as whole numbers from the start."""

    STEPS = st.lists(
        st.one_of(
            st.tuples(st.just("land"), st.integers(-2, 9)),
            st.tuples(st.just("mark"), st.integers(0, 9)),
            st.tuples(st.just("wait"), st.sampled_from([1, 5, 10, 24, 26, 50])),
            st.tuples(st.just("seal"), st.just(0)),
        ),
        max_size=14,
    )

    @dataclass
    class Days:
        """The model: objects by day, marked days, and what was sealed."""

        hour: int = 0
        waiting: list[tuple[int, str]] = field(default_factory=list)
        marked: set[int] = field(default_factory=set)
        sealed: list[tuple[int, list[str]]] = field(default_factory=list)

        def seal(self) -> list[int]:
            following = len(self.sealed)
            closed, day = [], following
            while self.hour >= 24 * (day + 1) + 2 or (day in self.marked and self.hour >= 24 * day):
                closed.append(day)
                day += 1
            own = {day for day, _ in self.waiting if day in closed}
            late = {following for day, _ in self.waiting if 0 <= day < following and following in closed}
            keys = [day for day in closed if day <= max(own | late, default=-1)]
            for key in keys:
                taken = [item for item in self.waiting if 0 <= item[0] <= key]
                self.sealed.append((key, sorted(name for _, name in taken)))
                self.waiting = [item for item in self.waiting if item not in taken]
            return keys

    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def test_exactly_what_is_over_is_sealed_in_order_and_all_else_is_named(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
    ):
        shop, model = Shop(tmp_path_factory.mktemp("model"), STOCK_ONLY), self.Days()
        shop.landing.mkdir()
        for number, (what, value) in enumerate([*steps, ("seal", 0)]):
            day = (START + dt.timedelta(days=value)).date().isoformat()
            if what == "land":
                model.waiting.append((value, f"stock_events/dt={day}/{number:03}.jsonl"))
                shop.land(f"dt={day}/{number:03}.jsonl", moved(str(number), "lamp", 1))
            elif what == "mark":
                model.marked.add(value)
                shop.land(f"dt={day}/_SUCCESS")
            elif what == "wait":
                model.hour += value
            else:
                self.sealed_as_modelled(replace(shop, now=START + dt.timedelta(hours=model.hour)), model)

    def sealed_as_modelled(self, shop: Shop, model: Days) -> None:
        engine = shop.engine()
        sealer = engine.sealing.sealer()
        due = engine.sealing.due(sealer)
        expected = [(START + dt.timedelta(days=day)).date().isoformat() for day in model.seal()]
        planned = [] if not expected and not len(engine.chain) else [d.key for d in plan_rebuild(engine).to_seal]
        assert expected == planned == list(due) == [report.snapshot.key for report in engine.sealing.seal()]
        assert [sorted(o.name for o in s.cut("stock_events").objects) for s in shop.engine().chain] == [
            names for _, names in model.sealed
        ]
        places = {name.rpartition("/")[0] + "/" for _, name in model.waiting}
        assert {each.place for each in engine.sealing.left()} == places
        assert sum(each.objects for each in engine.sealing.left()) == len(model.waiting)


class TestTheFuture:
    """One folder of a wrong day must not seal, or hold up, any other day."""

    def test_a_folder_a_year_ahead_seals_nothing_and_waits_by_name(self, shop: Shop):
        land(shop, "2026-01-01", "2026-01-02", "2026-12-04")
        assert sealed_at(shop, "2026-01-03T02:00") == ["2026-01-01", "2026-01-02"]
        assert waiting_at(shop, "2026-01-03T02:00") == {"stock_events/dt=2026-12-04/": Waits.FUTURE}
        land(shop, "2026-01-03")
        assert sealed_at(shop, "2026-01-04T02:00") == ["2026-01-03"]

    def test_the_last_day_of_the_calendar_does_the_same(self, shop: Shop):
        land(shop, "2026-01-01", "9999-12-31")
        assert sealed_at(shop, "2026-01-02T02:00") == ["2026-01-01"]
        assert waiting_at(shop, "2026-01-02T02:00") == {"stock_events/dt=9999-12-31/": Waits.FUTURE}

    def test_a_marker_in_the_future_closes_nothing(self, shop: Shop):
        land(shop, "2026-01-01", "2026-12-04")
        shop.land("dt=2026-12-04/_SUCCESS")
        assert sealed_at(shop, "2026-01-02T02:00") == ["2026-01-01"]

    def test_a_rebuild_and_its_plan_name_it(self, shop: Shop, caplog: pytest.LogCaptureFixture):
        land(shop, "2026-01-01", "2026-12-04")
        engine = replace(shop, now=at("2026-01-03T00:00")).engine()
        plan = plan_rebuild(engine)
        assert [day.key for day in plan.to_seal] == ["2026-01-01"]
        assert [each.place for each in plan.waiting] == ["stock_events/dt=2026-12-04/"]
        assert rebuild_all(engine).key == "2026-01-01"
        assert "stock_events/dt=2026-12-04/ (1 object) waits: it is in the future" in caplog.text

    def test_the_present_day_is_sealed_by_name_alone_and_that_is_said(
        self, shop: Shop, caplog: pytest.LogCaptureFixture
    ):
        land(shop, "2026-01-01")
        today = replace(shop, now=at("2026-01-01T12:00"))
        with pytest.raises(NotFound, match=r"it is not over\. The day closes on 2026-01-02 02:00 UTC") as failure:
            rebuild_all(today.engine())
        assert "--through" in failure.value.remedy
        assert plan_rebuild(today.engine(), "2026-01-01").early == ["2026-01-01"]
        assert rebuild_all(today.engine(), "2026-01-01").key == "2026-01-01"
        assert "2026-01-01 is not over and was sealed since it was asked for by name" in caplog.text

    def test_a_job_does_not_seal_a_day_that_is_not_over(self, shop: Shop):
        land(shop, "2026-01-01")
        engine = replace(shop, now=at("2026-01-02T01:59")).engine()
        with pytest.raises(FixInput, match="sealed after 2026-01-02 02:00 UTC"):
            list(engine.sealing.seal("2026-01-01", only_due=True))
        assert ids(shop) == {}


class TestOtherPlaces:
    @pytest.mark.parametrize("day", ["2026-02-30", "2026-13-01", "0000-01-01"])
    def test_an_impossible_day_waits_by_name_and_the_others_are_sealed(self, shop: Shop, day: str):
        land(shop, "2026-01-01", day)
        assert sealed_at(shop, "2027-01-01T00:00") == ["2026-01-01"]
        assert waiting_at(shop, "2027-01-01T00:00") == {f"stock_events/dt={day}/": Waits.IMPOSSIBLE}

    def test_a_day_before_the_start_waits_until_the_start_is_moved_back(self, shop: Shop):
        land(shop, "2025-12-31", "2026-01-01")
        assert sealed_at(shop, "2026-01-02T02:00") == ["2026-01-01"]
        assert waiting_at(shop, "2026-01-02T02:00") == {"stock_events/dt=2025-12-31/": Waits.BEFORE}

    def test_a_day_after_the_end_waits_by_name(self, shop: Shop):
        ended = shop.declared(cadence=Daily(dt.date(2026, 1, 1), end=dt.date(2026, 1, 3)))
        land(ended, "2026-01-02", "2026-01-03")
        assert sealed_at(ended, "2027-01-01T00:00") == ["2026-01-01", "2026-01-02"]
        assert waiting_at(ended, "2027-01-01T00:00") == {"stock_events/dt=2026-01-03/": Waits.AFTER}

    def test_a_folder_or_object_that_no_log_reads_is_named(self, shop: Shop):
        land(shop, "2026-01-01")
        shop.land("stock_event/dt=2026-01-01/a.jsonl", moved("1", "lamp", 1))
        (shop.landing / "notes.txt").write_text("x")
        (shop.landing / "_temporary").mkdir()
        expected = {"stock_event/": Waits.UNKNOWN, "notes.txt": Waits.UNKNOWN}
        assert sealed_at(shop, "2026-01-02T02:00") == ["2026-01-01"]
        assert waiting_at(shop, "2026-01-02T02:00") == expected

    def test_commands_show_them(self, shop: Shop):
        """`refold plan` in words and as JSON, and `refold rebuild` at its end."""
        write_project(shop)
        land(shop, "2026-01-01", "2026-02-30")
        shown = shop.refold("plan", project=shop.root).output
        assert "stock_events/dt=2026-02-30/ (1 object) waits: no calendar has it" in shown
        (found,) = json.loads(shop.refold("plan", "--json", project=shop.root).output)["waiting"]
        assert (found["place"], found["why"]) == ("stock_events/dt=2026-02-30/", "no calendar has it")
        done = shop.refold("rebuild", project=shop.root)
        assert (done.exit_code, "dt=2026-02-30/ (1 object) waits" in done.output) == (0, True)


def write_project(shop: Shop) -> None:
    """A project file that names the project of these tests."""
    (shop.root / "pyproject.toml").write_text('[tool.refold]\nproject = "tests.seal.sealing:STOCK_ONLY"\n')


class TestTheStart:
    def test_is_moved_back_where_nothing_is_sealed(self, shop: Shop):
        land(shop, "2025-12-31", "2026-01-01")
        earlier = shop.declared(cadence=Daily(dt.date(2025, 12, 30)))
        assert sealed_at(earlier, "2026-01-02T02:00") == ["2025-12-30", "2025-12-31", "2026-01-01"]

    def test_is_moved_back_before_sealed_days_and_what_lies_there_enters_late(self, shop: Shop):
        land(shop, "2025-12-31", "2026-01-01")
        assert sealed_at(shop, "2026-01-02T02:00") == ["2026-01-01"]
        before = ids(shop)
        earlier = shop.declared(cadence=Daily(dt.date(2025, 12, 30)))
        assert waiting_at(earlier, "2026-01-02T03:00") == {"stock_events/dt=2025-12-31/": Waits.LATE}
        (report,) = replace(earlier, now=at("2026-01-03T02:00")).engine().sealing.seal()
        assert (report.snapshot.key, report.late) == ("2026-01-02", ["stock_events/dt=2025-12-31/000.jsonl"])
        assert ids(earlier).items() > before.items()
        with pytest.raises(FixInput, match="2025-12-31 is before the first snapshot 2026-01-01"):
            sealed_at(earlier, "2026-01-03T02:00", "2025-12-31")

    def test_is_the_first_folder_where_none_is_declared(self, shop: Shop):
        open_start = shop.declared(cadence=Daily())
        land(open_start, "2026-02-30", "2025-12-31", "2026-01-02")
        assert sealed_at(open_start, "2026-01-03T02:00") == ["2025-12-31", "2026-01-01", "2026-01-02"]
        land(open_start, "2025-12-30")
        assert waiting_at(open_start, "2026-01-03T02:00") == {
            "stock_events/dt=2025-12-30/": Waits.BEFORE,
            "stock_events/dt=2026-02-30/": Waits.IMPOSSIBLE,
        }

    def test_is_asked_for_where_the_first_folder_is_far_from_the_next(self, shop: Shop):
        """An object dated 1970 must not seal twenty thousand days."""
        open_start = shop.declared(cadence=Daily())
        land(open_start, "1970-01-01", "2026-01-01")
        with pytest.raises(FixInput, match="its first folder in landing, 1970-01-01, is more than 366 days before"):
            sealed_at(open_start, "2026-01-03T02:00")


class TestHours:
    @pytest.fixture
    def hourly(self, shop: Shop) -> Shop:
        return shop.declared(stores=[replace(stock, log=replace(stock_events, layout=HOURS))], cadence=Hourly(START))

    def test_are_sealed_when_they_are_over(self, hourly: Shop):
        for number, hour in enumerate(("2026-01-01/hour=22", "2026-01-02/hour=00", "2026-01-02/hour=24")):
            hourly.land(f"stock_events/dt={hour}/a.jsonl", moved(str(number), "lamp", 1))
        hourly = hourly.declared(cadence=Hourly(START + dt.timedelta(hours=22)))
        assert sealed_at(hourly, "2026-01-02T01:14") == ["2026-01-01T22"]
        assert sealed_at(hourly, "2026-01-02T01:15") == ["2026-01-01T23", "2026-01-02T00"]
        assert waiting_at(hourly, "2026-01-02T02:00") == {"stock_events/dt=2026-01-02/hour=24/": Waits.IMPOSSIBLE}

    def test_are_rebuilt_proven_and_released(self, hourly: Shop):
        hourly.land("stock_events/dt=2026-01-01/hour=01/a.jsonl", moved("1", "lamp", 1))
        assert rebuild_all(hourly.engine()).key == "2026-01-01T01"
        assert hourly.engine().releaser.current().snapshot == "2026-01-01T01"
        assert [each for each in hourly.engine().audit_objects() if each.problem] == []

    def test_need_folders_of_hours(self, shop: Shop):
        with pytest.raises(
            DeclarationError, match="dt=YYYY-MM-DD/<name>, are not those of a cadence whose keys are an hour"
        ):
            shop.declared(cadence=Hourly(START))
        with pytest.raises(
            DeclarationError, match="dt=YYYY-MM-DD/hour=HH/<name>, are not those of a cadence whose keys"
        ):
            with_log(shop, layout=HOURS)

    @pytest.mark.parametrize("time", [START.replace(tzinfo=None), START + dt.timedelta(minutes=30)])
    def test_start_on_a_whole_hour_with_a_zone(self, time: dt.datetime):
        with pytest.raises(DeclarationError, match="a whole hour with its time zone"):
            Hourly(time)


CADENCES = st.sampled_from([Daily(START.date()), Hourly(START)])
NAIVE = START.replace(tzinfo=None)
TIMES = st.datetimes(NAIVE, NAIVE.replace(year=2100), timezones=st.timezones())


@given(CADENCES, st.lists(TIMES, min_size=2, max_size=6))
def test_keys_are_utc_and_sort_as_the_times_they_stand_for(cadence: Cadence, times: list[dt.datetime]):
    """Whatever the zone of a time and its clock changes, its key is that of the instant."""
    utc = sorted(time.astimezone(dt.UTC) for time in times)
    keys = [cadence.key(time) for time in utc]
    assert keys == sorted(keys)
    size = len(keys[0].replace("T", " "))
    assert [str(time)[:size] for time in utc] == [key.replace("T", " ") for key in keys]
    for key, time in zip(keys, utc, strict=True):
        assert cadence.begins(key) <= time < cadence.begins(key) + cadence.period


@given(CADENCES, TIMES)
def test_the_newest_closed_key_is_closed_and_the_following_is_not(cadence: Cadence, now: dt.datetime):
    newest = cadence.newest_closed(now)
    following = cadence.key(cadence.begins(newest) + cadence.period)
    assert (cadence.closed(newest, now), cadence.closed(following, now)) == (True, False)
    assert now.astimezone(dt.UTC) - GRACE[type(cadence)] >= cadence.begins(following)
