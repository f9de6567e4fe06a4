"""Landing layouts: what the name of a landing object says of it, whatever its content.

A layout tells data from markers, finds the snapshot key and the log partition in a name, and refuses other names.
It reads no object and knows no format; `refold.landing.decoder` does. `refold.landing.listing` applies it.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from string import Formatter
from typing import NamedTuple, Protocol

from refold.errors import DeclarationError

MARKER = "_SUCCESS"

_PARTITION = re.compile(r"partition=(\d+)", re.ASCII)
_FIELDS = {"date": r"\d{4}-\d{2}-\d{2}", "year": r"\d{4}", "month": r"\d{2}", "day": r"\d{2}"}
_SHOWN = {"date": "YYYY-MM-DD", "year": "YYYY", "month": "MM", "day": "DD"}


class Slot(NamedTuple):
    """Where an object belongs: the snapshot key of its folder, and its log partition if its name has one."""

    folder: str
    partition: int | None


class Layout(Protocol):
    """How the objects of one log are named, below the folder of the log."""

    @property
    def expected(self) -> str:
        """The folders of a day, as error messages show them."""
        ...

    def folder(self, key: str) -> str:
        """The folder of a snapshot key, relative to that of the log."""
        ...

    def is_data(self, name: str) -> bool:
        """Whether an object holds records; a marker or a hidden object does not."""
        ...

    def slot(self, name: str) -> Slot | None:
        """Where an object belongs; None for a name that the layout refuses."""
        ...

    def completes(self, name: str) -> str | None:
        """The key of the folder that this object marks as complete; None for any other object."""
        ...


@dataclass(frozen=True)
class Folders:
    """A folder for each day, anywhere between the folder of the log and the object.

    A folder `partition=N` on the way names the log partition. Objects that start with `_` or `.` hold no records, and
    `_SUCCESS` marks its day as complete.

    Attributes:
        template: the folders of a day, with `{date}` (YYYY-MM-DD), or `{year}`, `{month}` and `{day}`.

    Raises DeclarationError where the template does not name exactly one day.

    >>> Folders("year={year}/month={month}/day={day}").slot("sales/year=2026/month=01/day=31/partition=3/a.jsonl")
    Slot(folder='2026-01-31', partition=3)
    >>> Folders().slot("sales/dt=2026-02-30/a.jsonl") is None
    True
    """

    template: str = "dt={date}"

    def __post_init__(self) -> None:
        try:
            names = [name for _, name, _, _ in Formatter().parse(self.template) if name is not None]
        except ValueError:
            names = []
        if sorted(names) not in (["date"], ["day", "month", "year"]):
            fault = f"expected {{date}}, or {{year}}, {{month}} and {{day}}, each once, found {self.template!r}"
            raise DeclarationError("Folders", [fault])

    @property
    def expected(self) -> str:
        """The template with YYYY, MM and DD."""
        return self.template.format(**_SHOWN)

    def folder(self, key: str) -> str:
        """The folders of a day."""
        year, month, day = key.split("-")
        return self.template.format(date=key, year=year, month=month, day=day)

    def is_data(self, name: str) -> bool:
        """Whether the last part of a name starts with neither `_` nor `.`."""
        return not name.rpartition("/")[2].startswith(("_", "."))

    def slot(self, name: str) -> Slot | None:
        """The first day of the calendar and the first `partition=N` among the folders of a name."""
        folders = name.split("/")[1:-1]
        day = self._day("/".join(folders))
        partition = next((int(found[1]) for part in folders if (found := _PARTITION.fullmatch(part))), None)
        return None if day is None else Slot(day, partition)

    def completes(self, name: str) -> str | None:
        """The day of a `_SUCCESS` object."""
        slot = self.slot(name) if name.rpartition("/")[2] == MARKER else None
        return slot.folder if slot else None

    def _day(self, path: str) -> str | None:
        for found in self._pattern().finditer(path):
            parts = found.groupdict()
            try:
                return dt.date.fromisoformat(parts.get("date") or "{year}-{month}-{day}".format(**parts)).isoformat()
            except ValueError:
                continue  # a day that no calendar has
        return None

    def _pattern(self) -> re.Pattern[str]:
        parsed = Formatter().parse(self.template)
        days = "".join(re.escape(t) + (f"(?P<{name}>{_FIELDS[name]})" if name else "") for t, name, _, _ in parsed)
        return re.compile(rf"(?<![^/])(?={days}(?![^/]))", re.ASCII)


DATED = Folders()
"""The usual layout: `dt=YYYY-MM-DD`."""
