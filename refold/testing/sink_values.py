"""The promises about values, which `refold.testing.sink_conformance` tests with all others."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import replace
from decimal import Decimal

import pytest

from refold.errors import FixInput
from refold.sinks.base import Content, Sink, Target
from refold.sinks.connections import Connections
from refold.testing.sink_contents import ALL_TYPES, EXTREMES, IMPOSSIBLE, NAUGHTY, assert_holds, content_of
from refold.types import INT64_MAX, INT64_MIN, int64, text

_EARLIEST = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
_LATEST = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
_WIDE = Decimal("9999999999999999999999999999.9999999999")
MakeSink = Callable[[str], Sink]


class SinkValues(ABC):
    """Every value is read back exactly, or refused by name before anything is held."""

    refused: Collection[str] = ()
    """Names in `refold.testing.sink_contents.EXTREMES` of what the sink refuses to publish."""

    @pytest.fixture
    @abstractmethod
    def make_sink(self) -> MakeSink:
        """A function from a table's or index's name (lower-case) to the sink's declaration."""

    @pytest.fixture
    @abstractmethod
    def connections(self) -> Connections:
        """Places that nothing was written to."""

    @pytest.fixture
    def open_target(self, make_sink: MakeSink, connections: Connections) -> Callable[..., Target]:
        """A function that opens the target named `stock_view`, or another, for some content."""

        def opened(content: Content, name: str = "stock_view") -> Target:
            return make_sink(name).open(connections, content.store, content.key, content.columns)

        return opened

    def test_all_types_nulls_and_extremes_are_read_back_exactly(self, open_target: Callable[..., Target]) -> None:
        """Exact values with exactly the declared Arrow types come back, by version and as released."""
        lowest = _WIDE.copy_negate()  # the minus sign would round to the 28 digits of the decimal context
        low = (dt.date.min, INT64_MIN, "", lowest, Decimal(-(10**18) + 1), dt.date.min, _EARLIEST, False, b"", -1e308)
        high = (dt.date.max, INT64_MAX, "z", _WIDE, Decimal(10**18 - 1), dt.date.max, _LATEST, True, b"\0\xff", 5e-324)
        before_1970 = dt.datetime(1969, 12, 31, 23, 59, 59, 1, dt.UTC)
        tiny = (Decimal("1E-10"), Decimal(0), None, before_1970, None, bytes(range(256)), 0.1)
        small = (dt.date(2020, 2, 29), 0, " ", *tiny)
        empty = (dt.date(2020, 1, 1), *(None,) * 9)
        content = content_of(ALL_TYPES, [("low", *low), ("high", *high), ("low", *small), ("", *empty)], "v1")
        target = open_target(content)
        target.publish(content)
        target.release("v1", content.lineage)
        assert_holds(content, target.read("v1"))
        assert_holds(content, target.read())

    def test_naughty_strings_stay_distinct_keys_and_exact_values(self, open_target: Callable[..., Target]) -> None:
        """Keys compare byte for byte: nothing is trimmed, folded, normalized, unescaped or executed."""
        rows = [(word, dt.date(2020, 1, 1), i, word, *(None,) * 7) for i, word in enumerate(NAUGHTY)]
        content = content_of(ALL_TYPES, rows, "v1")
        target = open_target(content)
        target.publish(content)
        target.release("v1", content.lineage)
        assert_holds(content, target.read("v1"))
        assert_holds(content, target.read())

    @pytest.mark.parametrize("kind", EXTREMES)
    def test_extreme_values_are_read_back_exactly_or_refused_before_anything_is_held(
        self, kind: str, open_target: Callable[..., Target]
    ) -> None:
        """As keys and as values; a sink is to name the kinds that it refuses in `refused`."""
        column, values = EXTREMES[kind]
        as_key = content_of({"value": column, "n": int64()}, [(value, n) for n, value in enumerate(values)], "v1")
        rows = [(f"{n}", value) for n, value in enumerate([*values, None])]
        as_value = content_of({"n": text(), "value": replace(column, null=True)}, rows, "v1")
        for content, name in ((as_key, "as_key"), (as_value, "as_value")):
            target = open_target(content, name)
            if kind in self.refused:
                with pytest.raises(FixInput, match="value"):
                    target.publish(content)
                assert target.versions() == []
                continue
            target.publish(content)
            assert_holds(content, target.read("v1"))
            target.release("v1", content.lineage)
            assert_holds(content, target.read())
            assert target.faults(content, content.lineage) == []
            found = target.salvage("v1", served=True)
            assert found is not None
            assert_holds(content, found)

    @pytest.mark.parametrize("what", IMPOSSIBLE)
    def test_what_no_sink_can_hold_is_refused_by_name(self, what: str, open_target: Callable[..., Target]) -> None:
        """Before anything is written, and the message names the column and the key."""
        column, value = IMPOSSIBLE[what]
        content = content_of({"product_id": text(), "odd": column}, [("P-1", None), ("P-2", value)], "v1")
        target = open_target(content)
        with pytest.raises(FixInput, match=r"odd.*P-2"):
            target.publish(content)
        assert target.versions() == []
