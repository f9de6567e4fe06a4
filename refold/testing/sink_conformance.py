"""The promises of `refold.sinks.base.Target` as tests: subclass `SinkConformance` to hold a sink to them.

A subclass is named `Test…`, gives the two fixtures below and says how a killed publish looks in its sink. Nothing is
mocked: the tests write to the place that `connections` names, which each test needs fresh. Needs pytest.
"""

from __future__ import annotations

import json
import re
import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from refold.errors import Conflict, DeclarationError, FixInput, NotFound
from refold.sinks.base import Content, Target
from refold.sinks.connections import Connections
from refold.testing.sink_contents import ALL_TYPES, LEVELS, NAUGHTY, assert_holds, content_of, levels
from refold.testing.sink_repeats import SinkRepeats
from refold.testing.sink_values import MakeSink
from refold.types import decimal, int64, text

__all__ = ["ALL_TYPES", "LEVELS", "NAUGHTY", "MakeSink", "SinkConformance", "assert_holds", "content_of", "levels"]


class SinkConformance(SinkRepeats):
    """Every promise that a target makes; a subclass inherits all tests."""

    @abstractmethod
    def leave_leftovers(self, connections: Connections, target: Target, content: Content) -> None:
        """Put there what a publish of `content` that was killed midway would leave."""

    def test_nothing_is_held_or_released_before_the_first_publish(self, open_target: Callable[..., Target]) -> None:
        """Opening and asking write nothing and find nothing."""
        target = open_target(levels("v1", 1))
        assert target.versions() == []
        assert target.released() is None
        for version in (None, "v1"):
            with pytest.raises(NotFound):
                target.read(version)
        with pytest.raises(NotFound):
            target.release("v1", {})
        target.drop("v1")

    def test_preparing_moves_changes_nothing_and_may_be_done_again(
        self, make_sink: MakeSink, open_target: Callable[..., Target]
    ) -> None:
        """Also where the release takes readers to other columns, and before the first release."""
        former = levels("v1", 1)
        later = content_of({"product_id": text(), "level": decimal(9, 2)}, [("P", 1)], "v2", ordinal=2)
        before, after = open_target(former), open_target(later)
        before.publish(former)
        after.publish(later)
        for served, target, content in ((None, before, former), ("v1", after, later), ("v2", before, former)):
            for _ in range(2):
                make_sink("stock_view").prepare([(target, content.version, content.lineage)])
            assert target.released() == served
            target.release(content.version, content.lineage)
            assert_holds(content, target.read())

    def test_a_version_without_rows_is_a_version(self, open_target: Callable[..., Target]) -> None:
        """No rows differ from no version."""
        content = content_of(ALL_TYPES, [], "v1")
        target = open_target(content)
        target.publish(content)
        assert target.versions() == ["v1"]
        target.release("v1", content.lineage)
        assert_holds(content, target.read())
        assert target.released() == "v1"

    def test_a_published_version_is_unseen_until_its_release(self, open_target: Callable[..., Target]) -> None:
        """Readers see nothing, then the first version, then still the first although the second is held."""
        first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
        target = open_target(first)
        target.publish(first)
        assert target.versions() == ["v1"]
        assert target.released() is None
        with pytest.raises(NotFound):
            target.read()
        target.release("v1", first.lineage)
        target.publish(second)
        assert target.versions() == ["v1", "v2"]
        assert_holds(first, target.read())
        assert_holds(second, target.read("v2"))

    def test_a_release_moves_readers_forward_and_back_and_a_rerun_changes_nothing(
        self, open_target: Callable[..., Target]
    ) -> None:
        """Older versions that are kept can be released again; another opening sees the same."""
        first, second = levels("v1", 1), levels("v2", 2, count=5, ordinal=2)
        target = open_target(first)
        for content in (first, second):
            target.publish(content)
        for content in (first, first, second, second, first, second):
            target.release(content.version, content.lineage)
            assert target.released() == content.version
            assert_holds(content, target.read())
            assert_holds(content, open_target(first).read())
        assert target.versions() == ["v1", "v2"]

    def test_publishing_twice_is_the_same_as_once(self, open_target: Callable[..., Target]) -> None:
        """Before its release and after it, since a rerun may come at any time."""
        content = levels("v1", 1)
        target = open_target(content)
        target.publish(content)
        target.publish(content)
        assert_holds(content, target.read("v1"))
        target.release("v1", content.lineage)
        open_target(content).publish(content)
        assert target.released() == "v1"
        assert_holds(content, target.read())

    def test_what_a_killed_publish_left_is_neither_counted_nor_kept(
        self, connections: Connections, open_target: Callable[..., Target]
    ) -> None:
        """A version that is not whole does not count, and publishing again makes it whole and exact."""
        other, content = levels("v0", 9), levels("v1", 1, ordinal=2)
        target = open_target(content)
        target.publish(other)
        self.leave_leftovers(connections, target, content)
        assert target.versions() == ["v0"]
        with pytest.raises(NotFound):
            target.read("v1")
        with pytest.raises(NotFound):
            target.release("v1", {})
        target.publish(content)
        assert target.versions() == ["v0", "v1"]
        assert_holds(content, target.read("v1"))
        assert_holds(other, target.read("v0"))

    def test_a_dropped_version_is_gone_and_can_be_published_again(self, open_target: Callable[..., Target]) -> None:
        """Dropping twice is not an error, and other versions stay."""
        first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
        target = open_target(first)
        for content in (first, second):
            target.publish(content)
        target.release("v2", second.lineage)
        target.drop("v1")
        target.drop("v1")
        assert target.versions() == ["v2"]
        with pytest.raises(NotFound):
            target.read("v1")
        with pytest.raises(NotFound):
            target.release("v1", first.lineage)
        assert_holds(second, target.read())
        target.publish(first)
        assert_holds(first, target.read("v1"))

    def test_the_released_version_cannot_be_dropped(self, open_target: Callable[..., Target]) -> None:
        """The refusal changes nothing."""
        content = levels("v1", 1)
        target = open_target(content)
        target.publish(content)
        target.release("v1", content.lineage)
        with pytest.raises(Conflict):
            target.drop("v1")
        assert_holds(content, target.read())

    def test_a_withdrawn_sink_serves_nothing_and_can_be_released_again(
        self, open_target: Callable[..., Target]
    ) -> None:
        """Versions stay, a rerun changes nothing, and other sinks are left alone."""
        first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
        target, other = open_target(first, "stock"), open_target(first, "stock_view")
        assert target.withdraw() == ""
        for content in (first, second):
            target.publish(content)
            other.publish(content)
            other.release(content.version, content.lineage)
            target.release(content.version, content.lineage)
        for _ in range(2):
            target.withdraw()
            assert (target.released(), target.versions()) == (None, ["v1", "v2"])
            with pytest.raises(NotFound):
                target.read()
            assert_holds(first, target.read("v1"))
        assert_holds(second, other.read())
        target.publish(second)
        assert target.released() is None
        target.release("v1", first.lineage)
        assert_holds(first, open_target(first, "stock").read())

    def test_a_withdrawal_that_was_overtaken_changes_nothing(self, open_target: Callable[..., Target]) -> None:
        """Where confirming raises."""
        content = levels("v1", 1)
        target = open_target(content)
        target.publish(content)
        target.release("v1", content.lineage)

        def overtaken() -> None:
            raise Conflict("A newer release was made.")

        with pytest.raises(Conflict, match="newer"):
            target.withdraw(overtaken)
        assert_holds(content, target.read())

    def test_versions_of_a_withdrawn_sink_can_all_be_dropped(self, open_target: Callable[..., Target]) -> None:
        """Nothing of it is left then, and the same name can be published again."""
        former = levels("v1", 1)
        later = content_of({"product_id": text(), "level": decimal(9, 2)}, [("P", 1)], "v2", ordinal=2)
        before, after = open_target(former), open_target(later)
        for target, content in ((before, former), (after, later)):
            target.publish(content)
            target.release(content.version, content.lineage)
        after.withdraw()
        for version in ("v2", "v1", "v1"):
            after.drop(version)
        assert after.begun() == []
        assert after.released() is None
        before.publish(former)
        before.release("v1", former.lineage)
        assert_holds(former, before.read())

    def test_an_unknown_version_is_not_found_and_changes_nothing(self, open_target: Callable[..., Target]) -> None:
        """Neither reading nor releasing it."""
        content = levels("v1", 1)
        target = open_target(content)
        target.publish(content)
        target.release("v1", content.lineage)
        with pytest.raises(NotFound):
            target.read("v9")
        with pytest.raises(NotFound):
            target.release("v9", {})
        assert target.released() == "v1"

    def test_two_stores_do_not_touch_each_other(self, open_target: Callable[..., Target]) -> None:
        """Even where one name begins with the other and the versions are named alike."""
        first, second = levels("v1", 1), levels("v1", 2)
        here, there = open_target(first, "stock"), open_target(second, "stock_view")
        here.publish(first)
        assert there.versions() == []
        there.publish(second)
        here.release("v1", first.lineage)
        assert there.released() is None
        there.release("v1", second.lineage)
        assert_holds(first, here.read())
        assert_holds(second, there.read())

    def test_several_targets_are_released_together(
        self, make_sink: MakeSink, open_target: Callable[..., Target]
    ) -> None:
        """Each ends at the version that its move names."""
        first, second = levels("v1", 1), levels("v2", 2)
        here, there = open_target(first, "stock"), open_target(second, "catalog")
        here.publish(first)
        there.publish(second)
        make_sink("stock").release_together([(there, "v2", second.lineage), (here, "v1", first.lineage)])
        assert (here.released(), there.released()) == ("v1", "v2")

    def test_versions_of_other_columns_can_be_released_but_not_read_as_what_they_are_not(
        self, open_target: Callable[..., Target]
    ) -> None:
        """A declaration may change between versions, and readers may be moved forward and back over the change."""
        former = levels("v1", 1)
        later = content_of(
            {"product_id": text(), "level": decimal(20, 2), "note": text(null=True)}, [("P", 1, None)], "v2"
        )
        before, after = open_target(former), open_target(later)
        before.publish(former)
        before.release("v1", former.lineage)
        after.publish(later)
        assert_holds(former, before.read())
        with pytest.raises(FixInput, match="other columns"):
            after.read()
        after.release("v2", later.lineage)
        assert_holds(later, after.read())
        assert_holds(former, before.read("v1"))
        after.release("v1", former.lineage)
        assert_holds(former, before.read())
        assert after.versions() == ["v1", "v2"]

    def test_a_release_records_options_that_make_the_same_sink(self, make_sink: MakeSink) -> None:
        """They survive JSON, and the kind of the sink fits an asset key."""
        sink = make_sink("stock_view")
        assert type(sink).from_options(json.loads(json.dumps(sink.options()))) == sink
        assert re.fullmatch("[a-z0-9_]+", sink.kind)
        assert sink.label and sink.connection

    def test_content_that_contradicts_itself_is_refused(self) -> None:
        """All faults are listed."""
        content = levels("v1", 1)
        with pytest.raises(DeclarationError) as caught:
            Content("s", ["sku"], {"level": int64()}, content.rows, "V 1", -1, {})
        assert len(caught.value.faults) == 4

    def test_what_was_published_and_released_has_no_faults(self, open_target: Callable[..., Target]) -> None:
        """Before, after and beside another version; mending what is whole changes nothing."""
        first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
        target = open_target(first)
        for content in (first, second):
            target.publish(content)
            assert target.faults(content) == []
            target.release(content.version, content.lineage)
            assert target.faults(content, content.lineage) == []
        target.mend(second)
        assert target.faults(first) == target.faults(second, second.lineage) == []
        for content, served in ((first, False), (second, True)):
            found = target.salvage(content.version, served=served)
            assert found is not None
            assert_holds(content, found)

    def test_a_version_that_is_missing_or_not_served_is_a_fault(self, open_target: Callable[..., Target]) -> None:
        """A missing version is reported, and so is another one that is served instead."""
        first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
        target = open_target(first)
        assert target.faults(first)
        target.publish(first)
        assert target.faults(first, first.lineage)
        target.release("v1", first.lineage)
        assert target.faults(second)
        target.publish(second)
        assert target.faults(second, second.lineage)
        assert target.faults(first, first.lineage) == []

    def test_concurrent_publishers_of_one_version_end_with_it_whole(self, open_target: Callable[..., Target]) -> None:
        """Neither tears what the other wrote, and none waits for ever."""
        content = levels("v1", 1, count=500)
        barrier = threading.Barrier(4)

        def publish(_: int) -> None:
            barrier.wait()
            open_target(content).publish(content)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(publish, range(4)))
        target = open_target(content)
        assert target.versions() == ["v1"]
        assert_holds(content, target.read("v1"))

    def test_concurrent_first_releases_end_at_one_of_them(self, open_target: Callable[..., Target]) -> None:
        """Whoever is last wins; readers see all of one version."""
        contents = {f"v{i}": levels(f"v{i}", i, ordinal=i) for i in (1, 2)}
        for content in contents.values():
            open_target(content).publish(content)
        barrier = threading.Barrier(2)

        def release(content: Content) -> None:
            barrier.wait()
            open_target(content).release(content.version, content.lineage)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(release, contents.values()))
        target = open_target(contents["v1"])
        assert_holds(contents[target.released() or ""], target.read())

    def test_readers_never_see_a_mix_while_releases_move_them(self, open_target: Callable[..., Target]) -> None:
        """Every read during twenty releases is one whole version."""
        first, second = levels("v1", 1), levels("v2", 2, count=30, ordinal=2)
        target = open_target(first)
        for content in (first, second):
            target.publish(content)
        target.release("v1", first.lineage)
        done = threading.Event()

        def read() -> set[tuple[int, int]]:
            seen, reader = set(), open_target(first)
            while not done.is_set():
                found = reader.read()
                seen.add((found.num_rows, sum(found["level"].to_pylist())))
            return seen

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                for content in (second, first) * 10:
                    target.release(content.version, content.lineage)
            finally:
                done.set()
            seen = set().union(*(reader.result() for reader in readers))
        assert seen <= {(20, 20), (30, 60)}
