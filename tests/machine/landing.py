"""What somebody else's tool does: objects land, on time, again, with other content, or late.

The rules of the machine (`tests.machine.machine`) that touch landing alone, and what they draw.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.machine.keeping import Keeper
from tests.machine.model import Record
from tests.machine.shop import START, moves

DAYS_MAX, PLACES_MAX = 4, 5

events = st.tuples(st.sampled_from("abü"), st.integers(1, 9), st.sampled_from(["add", "add", "remove", "drop"]))
names = st.sampled_from(["b", "a", "B", "10", "9", "é", "~"])
places = st.integers(0, PLACES_MAX)
picks = st.lists(st.integers(0, 30), min_size=1, max_size=3)

open_days = precondition(lambda self: self.next < DAYS_MAX)
sealed_days = precondition(lambda self: self.log.days)


def key_of(place: int) -> str:
    """The key of the day at a place."""
    return (START + dt.timedelta(days=place)).isoformat()


class Landing(Keeper):
    """The rules that land objects."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = 0

    @open_days
    @rule(ahead=st.integers(0, 2), name=names, drawn=st.lists(events, min_size=1, max_size=4), bad=st.booleans())
    def append(self, ahead: int, name: str, drawn: list[Any], bad: bool) -> None:
        """New events land in a folder that is not sealed."""
        self.count("append")
        lines: list[Record | str] = [self.new(event) for event in drawn]
        self.land(self.next + ahead, name, [*lines, "{"] if bad else lines)

    @open_days
    @rule(ahead=st.integers(0, 2), name=names, which=picks)
    def deliver_again(self, ahead: int, name: str, which: list[int]) -> None:
        """Events that landed before land again, the same to the letter or as other JSON."""
        self.count("re-deliver")
        self.land(self.next + ahead, name, self._again(which), turned=which[0] % 2 == 1)

    @open_days
    @rule(ahead=st.integers(0, 2), name=names, which=picks, by=st.sampled_from(["quantity", "product"]))
    def conflict(self, ahead: int, name: str, which: list[int], by: str) -> None:
        """Ids that landed before land again with other content, of the same key or of another."""
        self.count("conflict")
        self.land(self.next + ahead, name, self._other(which, by))

    @sealed_days
    @open_days
    @rule(back=places, name=names, drawn=st.lists(events, max_size=2), again=picks, other=picks, what=st.integers(1, 7))
    def land_late(self, back: int, name: str, drawn: list[Any], again: list[int], other: list[int], what: int) -> None:
        """An object lands in a folder that is sealed: new events, repeated ones, conflicting ones."""
        self.count("land late")
        lines = [self.new(event) for event in drawn] if what & 1 else []
        lines += self._again(again) if what & 2 else []
        lines += self._other(other, "quantity") if what & 4 else []
        self.land(self.next - 1 - back % self.next, name, lines)

    def new(self, drawn: tuple[str, int, str]) -> Record:
        self.ids += 1
        return {"id": f"e{self.ids}", **dict(zip(("product", "quantity", "kind"), drawn, strict=True))}

    def _again(self, which: list[int]) -> list[Record]:
        known = self.log.records
        return [known[n % len(known)] for n in which]

    def _other(self, which: list[int], by: str) -> list[Record]:
        change = {"quantity": lambda value: value + 1, "product": lambda value: "b" if value == "a" else "a"}[by]
        return [{**record, by: change(record[by])} for record in self._again(which)]

    def land(self, place: int, name: str, lines: Sequence[Record | str], turned: bool = False) -> None:
        folder = f"{moves.name}/dt={key_of(min(place, DAYS_MAX - 1))}"
        full = f"{folder}/{name}.jsonl"
        while full in self.log.landed:
            full = full.replace(".jsonl", "+.jsonl")
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        if turned:
            texts = [json.dumps(dict(reversed(list(json.loads(line).items()))), ensure_ascii=False) for line in texts]
        path = self.shop.landing / full
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(line + "\n" for line in texts), encoding="utf-8")
        self.log.land(full, lines)
