"""The promises about writes that are repeated, reordered and raced, which `sink_conformance` tests with all others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import permutations

import pytest

from refold.errors import Conflict
from refold.sinks.base import Content, Target
from refold.testing.sink_contents import assert_holds, levels
from refold.testing.sink_values import MakeSink, SinkValues

_PAUSE_SECONDS = 0.5
Write = Callable[[Target], None]


class SinkRepeats(SinkValues):
    """Every write can be repeated, come in another order and race with others, and readers notice nothing."""

    def test_every_write_done_again_at_any_later_time_changes_nothing(self, open_target: Callable[..., Target]) -> None:
        """Each by an opening of its own, as by a process that was paused and goes on; all before it again as well."""
        first, second, third = (levels(f"v{n}", n, ordinal=n) for n in (1, 2, 3))
        script: Sequence[Write] = [
            lambda target: target.publish(first),
            lambda target: target.publish(second),
            lambda target: target.release("v2", second.lineage),
            lambda target: target.publish(third),
            lambda target: target.drop("v1"),
            lambda target: target.release("v3", third.lineage),
        ]
        for done in range(1, len(script) + 1):
            script[done - 1](open_target(first))
            before = _seen(open_target(first), [first, second, third])
            script[done - 1](open_target(first))
            assert _seen(open_target(first), [first, second, third]) == before
        for late in (second, third):
            open_target(first).publish(late)
            assert _seen(open_target(first), [first, second, third]) == before

    def test_publishes_in_any_order_end_with_the_same(self, open_target: Callable[..., Target]) -> None:
        """Also when the newest comes first, and each comes twice."""
        contents = [levels(f"v{n}", n, ordinal=n) for n in (1, 2, 3)]
        for place, order in enumerate(permutations(contents)):
            target = open_target(contents[0], f"order_{place}")
            for content in (*order, *order[:2]):
                target.publish(content)
            target.release("v2", contents[1].lineage)
            assert target.versions() == ["v1", "v2", "v3"]
            for content in contents:
                assert_holds(content, target.read(content.version))
            assert_holds(contents[1], target.read())

    def test_a_release_that_was_overtaken_changes_nothing(
        self, make_sink: MakeSink, open_target: Callable[..., Target]
    ) -> None:
        """Where it learns so right before it moves readers, however late it comes."""
        first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
        target = open_target(first)
        for content in (first, second):
            target.publish(content)
        target.release("v2", second.lineage)

        def overtaken() -> None:
            raise Conflict("A newer release was made.")

        for _ in range(2):
            with pytest.raises(Conflict, match="newer"):
                make_sink("stock_view").release_together([(open_target(first), "v1", first.lineage)], overtaken)
            assert target.released() == "v2"
            assert_holds(second, target.read())

    def test_a_release_that_pauses_after_its_last_look_never_takes_readers_back(
        self, make_sink: MakeSink, open_target: Callable[..., Target]
    ) -> None:
        """A newer release is done right after `confirm`, as it is while a process is paused there.

        Either the sink finds out that readers were moved, and asks again, or it has a lock, and the newer one waits.
        """
        first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
        target = open_target(first)
        for content in (first, second):
            target.publish(content)
        for number, former in enumerate((None, "v2", "v1")):
            stale = {**first.lineage, "release": str(3 * number + 2)}
            newer = {**second.lineage, "release": str(3 * number + 3)}
            if former is not None:
                target.release(former, {**stale, "release": str(3 * number + 1)})
            asked: list[threading.Thread] = []

            def confirm(newer: dict[str, str] = newer, asked: list[threading.Thread] = asked) -> None:
                if asked:
                    raise Conflict("A newer release was made.")
                asked.append(threading.Thread(target=lambda: open_target(first).release("v2", newer)))
                asked[0].start()
                asked[0].join(_PAUSE_SECONDS)

            with suppress(Conflict):
                make_sink("stock_view").release_together([(open_target(first), "v1", stale)], confirm)
            asked[0].join()
            assert target.released() == "v2"
            assert_holds(second, target.read())

    def test_writes_that_race_end_as_one_after_the_other(self, open_target: Callable[..., Target]) -> None:
        """Publishes, a drop and a release at once, each twice: what is served stays whole, and nothing is torn."""
        kept, dropped, new = (levels(f"v{n}", n, count=40, ordinal=n) for n in (1, 2, 3))
        target = open_target(kept)
        for content in (kept, dropped):
            target.publish(content)
        target.release("v1", kept.lineage)
        writes: Sequence[Write] = [
            lambda target: target.publish(new),
            lambda target: target.publish(kept),
            lambda target: target.drop("v2"),
            lambda target: target.release("v1", kept.lineage),
        ] * 2
        barrier = threading.Barrier(len(writes))

        def race(write: Write) -> None:
            barrier.wait()
            write(open_target(kept))

        with ThreadPoolExecutor(len(writes)) as pool:
            list(pool.map(race, writes))
        assert target.versions() == ["v1", "v3"]
        assert_holds(kept, target.read())
        assert_holds(new, target.read("v3"))


def _seen(target: Target, contents: Sequence[Content]) -> tuple[object, ...]:
    """What is held and served, with the rows of each version."""
    held = target.versions()
    for content in contents:
        if content.version in held:
            assert_holds(content, target.read(content.version))
    return held, target.released()
