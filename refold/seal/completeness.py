"""Whether a sealed log has all that was to land: gaps and overlaps of source offsets, and days that stand out.

Read from the manifests and the names of sealed objects alone, so it costs no events. What producers number is
`refold.log.ordering`; whether landing still holds what was sealed is `refold.seal.against_landing`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import NamedTuple

from refold.log.declaration import Log
from refold.log.snapshot import Snapshot
from refold.storage.names import is_retry

_CELLS = 50
"""How wide the picture of a log partition is."""

FEW, MANY = 10, 10
"""A snapshot stands out with a tenth of the median of records, or ten times as many."""


class Gap(StrEnum):
    """What is not as a whole log would be."""

    MISSING = "missing"
    """Offsets that no object holds. Nulls, compaction and markers of transactions leave such gaps too."""
    OVERLAP = "overlap"
    """Offsets that two objects hold: records that were delivered twice."""
    EMPTY = "empty"
    """A snapshot without records of the log, between two that have some."""
    FEW = "few"
    """A snapshot with far fewer records than most."""
    MANY = "many"
    """A snapshot with far more records than most."""


@dataclass(frozen=True)
class Finding:
    """One place where a log may not be whole.

    Attributes:
        gap: of which kind.
        place: the log partition or the snapshot.
        what: expected and found, as a sentence.
    """

    gap: Gap
    place: str
    what: str


class OffsetRange(NamedTuple):
    """The source offsets of the objects of one log partition: `end` is the one after the last."""

    partition: int
    objects: int
    start: int
    end: int


class _Held(NamedTuple):
    start: int
    end: int
    name: str


@dataclass(frozen=True)
class Completeness:
    """What the names and counts of a log's sealed objects say.

    Attributes:
        ranges: by log partition, where names have source offsets.
        without_offset: how many objects have none in their names.
        covered: of each range, which parts of it objects hold; see `picture`.
        findings: by log partition and offset, then by snapshot.
    """

    ranges: Sequence[OffsetRange]
    without_offset: int
    findings: Sequence[Finding]
    covered: Sequence[str] = ()

    def picture(self) -> list[str]:
        """A line for each log partition, from its first offset to its last.

        `█` is held once, `▒` in part, `·` by no object, and `╳` holds an offset twice.
        """
        places = [(f"{r.partition}", f"{r.start:,}", f"{r.end - 1:,}") for r in self.ranges]
        wide = [max(map(len, column)) for column in zip(*places, strict=True)] if places else []
        return [
            f"{place:>{wide[0]}}  {start:>{wide[1]}} {cells} {end:>{wide[2]}}"
            for (place, start, end), cells in zip(places, self.covered, strict=True)
        ]


def completeness(log: Log, snapshots: Sequence[Snapshot]) -> Completeness:
    """What is missing, held twice, or out of proportion in the snapshots of a log, which are in order."""
    held = defaultdict[int, list[_Held]](list)
    without = 0
    last = getattr(log.layout, "offset_is_last", False)
    for snapshot in snapshots:
        for item in snapshot.cut(log.name).objects:
            slot = None if is_retry(item.name) else log.slot_of(item.name)
            if slot is None or slot.offset is None:
                without += not is_retry(item.name)
                continue
            start = slot.offset + 1 - item.records if last else slot.offset
            held[slot.partition or 0].append(_Held(start, start + item.records, item.name))
    ranges, findings, covered = [], list[Finding](), []
    for partition, objects in sorted(held.items()):
        ordered = sorted(objects)
        ranges.append(OffsetRange(partition, len(objects), ordered[0].start, max(each.end for each in objects)))
        findings += _between(partition, ordered)
        covered.append(_covered(ordered, ranges[-1]))
    return Completeness(ranges, without, [*findings, *_of_days(log, snapshots)], covered)


def _covered(objects: Sequence[_Held], whole: OffsetRange) -> str:
    """A range in cells of equal numbers of offsets; the objects are in order."""
    span = max(whole.end - whole.start, 1)
    cells = min(_CELLS, span)
    held, twice, reached = [0] * cells, [False] * cells, whole.start
    for item in objects:
        for cell in range(*_cells(item.start, min(item.end, reached), whole.start, span, cells)):
            twice[cell] = True
        start = max(item.start, reached)
        for cell in range(*_cells(start, item.end, whole.start, span, cells)):
            first, after = (whole.start + n * span // cells for n in (cell, cell + 1))
            held[cell] += min(item.end, after) - max(start, first)
        reached = max(reached, item.end)
    sizes = [(n + 1) * span // cells - n * span // cells for n in range(cells)]
    marks = ("█" if part == size else "▒" if part else "·" for part, size in zip(held, sizes, strict=True))
    return "".join("╳" if is_twice else mark for is_twice, mark in zip(twice, marks, strict=True))


def _cells(start: int, end: int, origin: int, span: int, cells: int) -> tuple[int, int]:
    """The first cell of some offsets and the one after the last; none where there are no offsets."""
    if end <= start:
        return 0, 0

    def cell(offset: int) -> int:
        return ((offset - origin + 1) * cells - 1) // span

    return cell(start), cell(end - 1) + 1


def _between(partition: int, objects: Sequence[_Held]) -> Iterator[Finding]:
    """Where the next object of a log partition does not begin at the offset after those before it."""
    place, reached = f"log partition {partition}", objects[0]
    for item in objects[1:]:
        if item.start > reached.end:
            lost = f"Offsets {reached.end} to {item.start - 1} are in no object"
            yield Finding(Gap.MISSING, place, f"{lost}, between {reached.name} and {item.name}.")
        elif item.start < reached.end and item.end > item.start:
            shared = f"{item.start} to {min(item.end, reached.end) - 1}"
            yield Finding(Gap.OVERLAP, place, f"Offsets {shared} are in {reached.name} and in {item.name}.")
        reached = max(reached, item, key=lambda each: each.end)


def _of_days(log: Log, snapshots: Sequence[Snapshot]) -> Iterator[Finding]:
    """The snapshots from the first to the last with records that have none, or that stand out."""
    counts = [(each.key, each.cut(log.name).read) for each in snapshots]
    filled = [place for place, (_, count) in enumerate(counts) if count]
    if not filled:
        return
    usual = median(counts[place][1] for place in filled)
    for key, count in counts[filled[0] : filled[-1] + 1]:
        if not count:
            yield Finding(Gap.EMPTY, key, "No records, between snapshots that have some.")
        elif count * FEW < usual or count > MANY * usual:
            gap = Gap.FEW if count < usual else Gap.MANY
            yield Finding(gap, key, f"{count:,} records, where the median of snapshots is {usual:,.0f}.")
