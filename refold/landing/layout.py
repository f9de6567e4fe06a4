"""Landing layouts: what the name of a landing object says about it, whatever its content, and the order of names.

A layout distinguishes data from markers, finds the snapshot key and the log partition in a name, and refuses other
names. It reads no object and knows no format; `refold.landing.decoder` does. `refold.landing.listing` applies it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import NamedTuple, Protocol

from refold.errors import DeclarationError

MARKER = "_SUCCESS"
UNFINISHED = "._COPYING_"
"""How names end while `hdfs dfs -put` writes the object."""

_DIGITS = 20
"""Digits to which numbers in names are padded for sorting; an offset has 19 at most."""

_OFFSET = re.compile(r"(.*(?:([+_-])[0-9]+\2|\([0-9]+_))([0-9]+)(?=\)?(?:\.|$))", re.DOTALL)
_NUMBERED_FOLDER = re.compile(r"(?<=/)(?!partition=)([^/=]+=)([0-9]+)(?=/)")
_PARTITION = re.compile(r"partition=(\d+)", re.ASCII)
_FIELDS = {"date": r"\d{4}-\d{2}-\d{2}", "year": r"\d{4}", "month": r"\d{2}", "day": r"\d{2}", "hour": r"\d{2}"}
_SHOWN = {"date": "YYYY-MM-DD", "year": "YYYY", "month": "MM", "day": "DD", "hour": "HH"}


class Slot(NamedTuple):
    """Where an object belongs: the snapshot key of its folder, and its log partition if its name has one.

    The folder may name a day that no calendar has; whether it is a key is for the project's cadence to say.
    """

    folder: str
    partition: int | None


class Layout(Protocol):
    """How the objects of one log are named, below the folder of the log."""

    @property
    def expected(self) -> str:
        """The folders of a day or hour, as error messages show them."""
        ...

    def folder(self, key: str) -> str:
        """The folder of a snapshot key, relative to that of the log."""
        ...

    def is_data(self, name: str) -> bool:
        """Whether the name is that of data; markers and hidden objects are not."""
        ...

    def slot(self, name: str) -> Slot | None:
        """Where an object belongs; None for a name that the layout refuses."""
        ...

    def completes(self, name: str) -> str | None:
        """The key of the folder that this object marks as complete; None for any other object."""
        ...


@dataclass(frozen=True)
class Folders:
    """A folder for each day or hour, anywhere between the folder of the log and the object.

    A folder `partition=N` on the way names the log partition. As in Spark and Hive, objects below a folder whose name
    starts with `_` or `.` are not data (one that starts with `_` and contains `=` is a column, and may be), and neither
    are objects whose own names start so. The folders of the template are exempt. `_SUCCESS` right in the folder of
    a day or hour marks it as complete.

    Attributes:
        template: the folders of a day, with `{date}` (YYYY-MM-DD), or `{year}`, `{month}` and `{day}`; with `{hour}`
            after it, of an hour of UTC, for a project whose cadence is `Hourly`.

    Raises DeclarationError where the template does not name exactly one day or hour.

    >>> Folders("year={year}/month={month}/day={day}").slot("sales/year=2026/month=01/day=31/partition=3/a.jsonl")
    Slot(folder='2026-01-31', partition=3)
    >>> Folders("dt={date}/hour={hour}").slot("sales/dt=2026-01-31/hour=05/a.jsonl").folder
    '2026-01-31T05'
    >>> Folders().slot("sales/2026-01-31/a.jsonl") is None
    True
    """

    template: str = "dt={date}"

    def __post_init__(self) -> None:
        try:
            names = [name for _, name, _, _ in Formatter().parse(self.template) if name is not None]
        except ValueError:
            names = []
        days = sorted(name for name in names if name != "hour")
        if days not in (["date"], ["day", "month", "year"]) or names.count("hour") > 1:
            fault = f"expected {{date}}, or {{year}}, {{month}} and {{day}}, each once, found {self.template!r}"
            raise DeclarationError("Folders", [fault])

    @property
    def expected(self) -> str:
        """The template with YYYY, MM, DD and HH."""
        return self.template.format(**_SHOWN)

    def folder(self, key: str) -> str:
        """The folders of a day or hour."""
        date, _, hour = key.partition("T")
        year, month, day = date.split("-")
        return self.template.format(date=date, year=year, month=month, day=day, hour=hour)

    def is_data(self, name: str) -> bool:
        """Whether neither the object nor a folder on the way is hidden or unfinished."""
        folder, _, file = name.rpartition("/")
        return not (file.startswith(("_", ".")) or file.endswith(UNFINISHED) or self._is_hidden(folder))

    def slot(self, name: str) -> Slot | None:
        """The first day or hour, and the first `partition=N`, among the folders of a name.

        A day that no calendar has counts where there is no other.
        """
        folders = name.split("/")[1:-1]
        day, _ = self._day("/".join(folders))
        partition = next((int(found[1]) for part in folders if (found := _PARTITION.fullmatch(part))), None)
        return None if day is None else Slot(day, partition)

    def completes(self, name: str) -> str | None:
        """The day of a `_SUCCESS` object right in the folder of that day; one deeper or beside it marks only a part."""
        folder, _, file = name.rpartition("/")
        slot = self.slot(name) if file == MARKER else None
        whole = slot is not None and folder.partition("/")[2] == self.folder(slot.folder)
        return slot.folder if slot is not None and whole else None

    def _is_hidden(self, folder: str) -> bool:
        """Whether a folder, or one above it, is hidden; the folder of the log and those of the template are not."""
        if "/_" not in folder and "/." not in folder:
            return False
        _, others = self._day(folder.partition("/")[2])
        return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in others.split("/"))

    def _day(self, path: str) -> tuple[str | None, str]:
        """The day or hour among some folders, None if there is none, and the other folders."""
        named = [(_key(found.groupdict()), found) for found in self._pattern().finditer(path)]
        if not named:
            return None, path
        key, found = next((each for each in named if _is_real(each[0])), named[0])
        return key, path[: found.start()] + path[found.end("all") :]

    def _pattern(self) -> re.Pattern[str]:
        parsed = Formatter().parse(self.template)
        days = "".join(re.escape(t) + (f"(?P<{name}>{_FIELDS[name]})" if name else "") for t, name, _, _ in parsed)
        return re.compile(rf"(?<![^/])(?=(?P<all>{days})(?![^/]))", re.ASCII)


def _key(parts: Mapping[str, str]) -> str:
    date = parts.get("date") or "{year}-{month}-{day}".format(**parts)
    return f"{date}T{parts['hour']}" if "hour" in parts else date


def _is_real(key: str) -> bool:
    try:
        dt.datetime.fromisoformat(key)
    except ValueError:
        return False
    return True


DATED = Folders()
"""The usual layout: `dt=YYYY-MM-DD`."""


def landing_order(name: str) -> tuple[bytes, bytes]:
    """The sort key of an object's name: by bytes, but numbers that say where the object belongs in its log by value.

    These are the start offset at the end of a name (`topic+partition+offset.json`, `topic-partition-offset.json`,
    `topic_partition_offset.json`, `topic(partition_offset).json`) and folders `<column>=<digits>`, but for the folders
    of log partitions. They sort as if they were padded with zeros to 20 digits. Equal numbers sort by the bytes of
    the whole name.

    >>> sorted(["t/dt=2026-01-31/t-0-10.json", "t/dt=2026-01-31/t-0-9.json"], key=landing_order)
    ['t/dt=2026-01-31/t-0-9.json', 't/dt=2026-01-31/t-0-10.json']
    """
    folder, slash, file = f"/{name}".rpartition("/")
    folder = _NUMBERED_FOLDER.sub(lambda found: found[1] + _padded(found[2]), folder + slash)
    return (folder + _OFFSET.sub(lambda found: found[1] + _padded(found[3]), file)).encode(), name.encode()


def has_offset(name: str) -> bool:
    """Whether the name of an object ends in the start offset that `landing_order` sorts by."""
    return _OFFSET.match(name.rpartition("/")[2]) is not None


def _padded(digits: str) -> str:
    return digits.lstrip("0").zfill(_DIGITS)
