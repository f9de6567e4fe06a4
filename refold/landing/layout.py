"""Landing layouts: what the name of a landing object says about it, whatever its content, and the order of names.

A layout distinguishes data from markers, finds the snapshot key and the log partition in a name, and refuses other
names. It reads no object and knows no format; `refold.landing.decoder` does. `refold.landing.listing` applies it.
`Folders` is for landing with a folder for each day or hour, `refold.landing.names` for all else.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
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
FIELDS = {"date": r"\d{4}-\d{2}-\d{2}", "year": r"\d{4}", "month": r"\d{2}", "day": r"\d{2}", "hour": r"\d{2}"}
SHOWN = {"date": "YYYY-MM-DD", "year": "YYYY", "month": "MM", "day": "DD", "hour": "HH"}


class Skip(StrEnum):
    """Why an object is not data of its log."""

    HIDDEN = "hidden"
    """Its name, or that of a folder on the way, starts with `_` or `.`, or it is still being written."""
    MARKER = "marker"
    """It has no bytes, and its name is that of a folder or of nothing that the log takes."""
    SIDECAR = "sidecar"
    """It holds the Kafka keys or headers of the object beside it."""
    EXCLUDED = "excluded"
    """The layout includes only other names, or excludes this one."""


class Slot(NamedTuple):
    """Where an object belongs: its snapshot key, its log partition and start offset if its name has them.

    The key may name a day that no calendar has; whether it is a key is for the project's cadence to say. Of one key,
    objects of a lower `turn` come first, then those of lower offsets in their log partition; without `turn` names alone
    decide.
    """

    folder: str
    partition: int | None
    offset: int | None = None
    turn: int | None = None


class Layout(Protocol):
    """How the objects of one log are named, below the folder of the log."""

    @property
    def expected(self) -> str:
        """The names that are taken, without suffix, as error messages show them."""
        ...

    def example(self, key: str) -> str:
        """A name, without suffix, of an object of a snapshot key."""
        ...

    def skip(self, name: str) -> Skip | None:
        """Why the name is not that of data (hidden or excluded); None where it may be."""
        ...

    def slot(self, name: str, written_at: dt.datetime | None = None) -> Slot | None:
        """Where an object belongs; None for a name that the layout refuses.

        `written_at` is when the object was last written, if that is known.
        """
        ...

    def completes(self, name: str) -> str | None:
        """The key of the folder that this object marks as complete; None for any other object."""
        ...


def is_hidden(file: str) -> bool:
    """Whether the name of a file is one that Spark and Hive hide, or one that is still being written."""
    return file.startswith(("_", ".")) or file.endswith(UNFINISHED)


def is_hidden_folder(part: str) -> bool:
    """Whether the name of a folder is one that Spark and Hive hide; `_column=value` is not."""
    return part.startswith(".") or (part.startswith("_") and "=" not in part)


def is_chosen(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a name matches one of the patterns to include, if there are any, and none of those to exclude.

    >>> is_chosen("eu/orders-0-7.json", ["*orders-*"], ["us/*"])
    True
    """
    included = not include or any(fnmatchcase(name, pattern) for pattern in include)
    return included and not any(fnmatchcase(name, pattern) for pattern in exclude)


@dataclass(frozen=True)
class Folders:
    """A folder for each day or hour, anywhere between the folder of the log and the object.

    A folder `partition=N` on the way names the log partition. As in Spark and Hive, objects below a folder whose name
    starts with `_` or `.` are not data (one that starts with `_` and contains `=` is a column, and may be), and neither
    are objects whose own names start so. The folders of the template are exempt. `_SUCCESS` right in the folder of
    a day or hour marks it as complete.

    Months, days and hours right after `=` may lack their zero, as Spark and Hive write the folders of integers.

    Attributes:
        template: the folders of a day, with `{date}` (YYYY-MM-DD), or `{year}`, `{month}` and `{day}`; with `{hour}`
            after it, of an hour of UTC, for a project whose cadence is `Hourly`.
        include, exclude: patterns of names below the folder of the log, in which `*` is any text, slashes included.
            Objects that match none of those to include, if there are any, or one of those to exclude, are not data.

    Raises DeclarationError where the template does not name exactly one day or hour.

    >>> Folders("year={year}/month={month}/day={day}").slot("year=2026/month=01/day=31/partition=3/a.jsonl")
    Slot(folder='2026-01-31', partition=3, offset=None, turn=None)
    >>> Folders("dt={date}/hour={hour}").slot("dt=2026-01-31/hour=5/a.jsonl").folder
    '2026-01-31T05'
    >>> Folders().slot("2026-01-31/a.jsonl") is None
    True
    """

    template: str = "dt={date}"
    include: tuple[str, ...] = field(default=(), kw_only=True)
    exclude: tuple[str, ...] = field(default=(), kw_only=True)

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
        return f"{self.template.format(**SHOWN)}/<name>"

    def folder(self, key: str) -> str:
        """The folders of a day or hour."""
        date, _, hour = key.partition("T")
        year, month, day = date.split("-")
        return self.template.format(date=date, year=year, month=month, day=day, hour=hour)

    def example(self, key: str) -> str:
        """An object in the folder of a day or hour."""
        return f"{self.folder(key)}/part-00000"

    def skip(self, name: str) -> Skip | None:
        """Whether the object or a folder on the way is hidden or unfinished, or the name is excluded."""
        folder, _, file = name.rpartition("/")
        if is_hidden(file) or self._is_hidden(folder):
            return Skip.HIDDEN
        return None if is_chosen(name, self.include, self.exclude) else Skip.EXCLUDED

    def slot(self, name: str, written_at: dt.datetime | None = None) -> Slot | None:
        """The first day or hour, and the first `partition=N`, among the folders of a name.

        A day that no calendar has counts where there is no other.
        """
        folders = name.split("/")[:-1]
        day, _ = self._day("/".join(folders))
        partition = next((int(found[1]) for part in folders if (found := _PARTITION.fullmatch(part))), None)
        return None if day is None else Slot(day, partition)

    def completes(self, name: str) -> str | None:
        """The day of a `_SUCCESS` object right in the folder of that day; one deeper or beside it marks only a part."""
        folder, _, file = name.rpartition("/")
        slot = self.slot(name) if file == MARKER else None
        whole = slot is not None and not self._day(folder)[1]
        return slot.folder if slot is not None and whole else None

    def _is_hidden(self, folder: str) -> bool:
        """Whether a folder, or one above it, is hidden; those of the template are not."""
        if "/_" not in f"/{folder}" and "/." not in f"/{folder}":
            return False
        _, others = self._day(folder)
        return any(map(is_hidden_folder, others.split("/")))

    def _day(self, path: str) -> tuple[str | None, str]:
        """The day or hour among some folders, None if there is none, and the other folders."""
        named = [(key_of(found.groupdict()), found) for found in self._pattern().finditer(path)]
        if not named:
            return None, path
        key, found = next((each for each in named if is_real(each[0])), named[0])
        return key, path[: found.start()] + path[found.end("all") :]

    def _pattern(self) -> re.Pattern[str]:
        parsed = Formatter().parse(self.template)
        days = "".join(re.escape(t) + (f"(?P<{name}>{digits(t, name)})" if name else "") for t, name, _, _ in parsed)
        return re.compile(rf"(?<![^/])(?=(?P<all>{days})(?![^/]))", re.ASCII)


def key_of(parts: Mapping[str, str]) -> str:
    """The snapshot key of the fields of a template."""
    date = parts.get("date") or "{year}-{month:0>2}-{day:0>2}".format(**parts)
    return f"{date}T{parts['hour']:0>2}" if "hour" in parts else date


def digits(before: str, name: str) -> str:
    """The pattern of a field of a template after some text; right after `=` it may lack its zero."""
    return FIELDS[name].replace("{2}", "{1,2}") if before.endswith("=") and name != "date" else FIELDS[name]


def is_real(key: str) -> bool:
    """Whether a key is a day or hour of the calendar."""
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
