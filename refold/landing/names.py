"""Names by template: landing whose names carry log partition and offset, and landing without folders of days.

This is how Kafka's sink connectors, Firehose and AWS DMS name objects; ready layouts for them are at the end. A layout
with a folder for each day, and any names in it, is `refold.landing.layout.Folders`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from string import Formatter

from refold.errors import DeclarationError
from refold.landing.layout import (
    FIELDS,
    SHOWN,
    UNFINISHED,
    Skip,
    Slot,
    digits,
    is_chosen,
    is_hidden,
    is_hidden_folder,
    key_of,
)

ARRIVAL = ("day", "hour")
UNKNOWN_ARRIVAL = "unknown"
"""The key of an object that is sealed by its arrival, where that is not known; no cadence has it."""

_ANY = {**FIELDS, "partition": r"\d+", "offset": r"\d+", "topic": r"[^/]+", "any": r"[^/]+"}
_DAYS = (["date"], ["day", "month", "year"])
_SHOWN = {**SHOWN, "partition": "<partition>", "offset": "<offset>", "topic": "<topic>", "any": "<any>"}
_EXAMPLE = {"partition": "0", "offset": "0", "topic": "topic", "any": "x"}


@dataclass(frozen=True)
class Names:
    """The names of objects by one template or several, below the folder of the log and without the decoder's suffix.

    A template has these fields, each of which must have the same text wherever it occurs in a name: `{date}`
    (YYYY-MM-DD), or `{year}`, `{month}` and `{day}`, perhaps `{hour}`; `{partition}`, the log partition; `{offset}`,
    usually that of the first record; `{topic}`; and `{any}`, which is any text without a slash and may differ. `**/` is
    any number of folders. Digits may be padded or not. `_SUCCESS` has no meaning here.

    Objects of one key are sealed by template, then by log partition and offset as numbers, then by name.

    Attributes:
        templates: the first that fits a name counts.
        arrival: `day` or `hour`, of UTC, for names without a date: an object belongs to the key in which the store
            says it was written. That moves when objects are copied; what is sealed stays where it is.
        include, exclude: patterns of names below the folder of the log, in which `*` is any text, slashes included.
            Objects that match none of those to include, if there are any, or one of those to exclude, are not data.
        offset_is_last: whether the offset is that of the last record.

    Raises DeclarationError where a template has unknown fields, or no date without `arrival`.

    >>> layout = Names("{topic}+{partition}+{offset}", arrival="day")
    >>> layout.slot("t+3+17.json", dt.datetime(2026, 1, 31, tzinfo=dt.UTC))
    Slot(folder='2026-01-31', partition=3, offset=17, turn=0)
    >>> Names("year={year}/month={month}/day={day}/**/{topic}+{partition}+{offset}").slot(
    ...     "year=2026/month=01/day=31/hour=07/t+3+0000000017.json"
    ... ).folder
    '2026-01-31'
    """

    templates: tuple[str, ...]
    arrival: str | None = None
    include: tuple[str, ...] = field(default=(), kw_only=True)
    exclude: tuple[str, ...] = field(default=(), kw_only=True)
    offset_is_last: bool = field(default=False, kw_only=True)

    def __init__(
        self,
        *templates: str,
        arrival: str | None = None,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        offset_is_last: bool = False,
    ) -> None:
        given = {"arrival": arrival, "include": include, "exclude": exclude, "offset_is_last": offset_is_last}
        for name, value in {"templates": templates, **given}.items():
            object.__setattr__(self, name, value)
        faults = [fault for template in templates for fault in self._faults(template)]
        faults += [] if templates else ["expected a template"]
        if arrival not in (None, *ARRIVAL):
            faults.append(f"arrival is {arrival!r}; expected 'day' or 'hour'")
        if faults:
            raise DeclarationError("Names", faults)

    def _faults(self, template: str) -> Iterator[str]:
        try:
            names = _fields(template)
        except ValueError as error:
            yield f"{template!r} is not a template: {error}"
            return
        yield from (f"{template!r} has the field {{{n}}}; expected one of {', '.join(_ANY)}" for n in names - {*_ANY})
        days = sorted(names & {"date", "year", "month", "day"})
        if days and days not in _DAYS:
            yield f"{template!r} has {', '.join(days)}; expected {{date}}, or {{year}}, {{month}} and {{day}}"
        if not days and self.arrival is None:
            yield f"{template!r} has no date; expected arrival='day' to seal objects by the day of their arrival"
        if "hour" in names and not days:
            yield f"{template!r} has {{hour}} without a date"

    @property
    def expected(self) -> str:
        """The templates with YYYY, MM, DD and HH."""
        return " or ".join(template.format(**_SHOWN) for template in self.templates)

    def example(self, key: str) -> str:
        """The first template, filled in."""
        date, _, hour = key.partition("T")
        year, month, day = date.split("-")
        values = {"date": date, "year": year, "month": month, "day": day, "hour": hour, **_EXAMPLE}
        return self.templates[0].replace("**/", "").format(**values)

    def skip(self, name: str) -> Skip | None:
        """Whether the object or a folder on the way is hidden or unfinished, or the name is excluded.

        What a template spells, such as `_daily/`, is not hidden; what one of its fields or `**/` stands for is.
        """
        if not is_chosen(name, self.include, self.exclude):
            return Skip.EXCLUDED
        spelled = [template.split("/") for template in self.templates]
        *folders, file = name.split("/")
        own = {part for parts in spelled for part in parts[:-1]}
        hidden = any(is_hidden_folder(part) for part in folders if part not in own)
        mine = not file.endswith(UNFINISHED) and any(parts[-1][:1] == file[:1] for parts in spelled)
        return Skip.HIDDEN if hidden or (is_hidden(file) and not mine) else None

    def slot(self, name: str, written_at: dt.datetime | None = None) -> Slot | None:
        """The key, log partition and offset that the name has; the key by arrival where it has no date."""
        found = self._found(name)
        if found is None:
            return None
        turn, fields = found
        partition, offset = (int(fields[each]) if each in fields else None for each in ("partition", "offset"))
        key = key_of(fields) if {"date", "day"} & fields.keys() else self._arrived(written_at)
        return Slot(key, partition, offset, turn)

    def completes(self, name: str) -> str | None:
        """None: landing by these names has no markers."""
        return None

    def _arrived(self, written_at: dt.datetime | None) -> str:
        if written_at is None:
            return UNKNOWN_ARRIVAL
        return written_at.astimezone(dt.UTC).strftime("%Y-%m-%d" if self.arrival == "day" else "%Y-%m-%dT%H")

    def _found(self, name: str) -> tuple[int, dict[str, str]] | None:
        fits = ((turn, pattern.fullmatch(name)) for turn, pattern in enumerate(self._patterns))
        return next(((turn, match.groupdict()) for turn, match in fits if match), None)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(_pattern(template) for template in self.templates)


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def _pattern(template: str) -> re.Pattern[str]:
    """The pattern of names; a suffix begins with the first point after the template."""
    pattern, seen = "", set[str]()
    for text, name, _, _ in Formatter().parse(template):
        pattern += "(?:[^/]+/)*".join(map(re.escape, text.split("**/")))
        if name == "any":
            pattern += _ANY[name]
        elif name is not None:
            field_pattern = digits(text, name) if name in FIELDS else _ANY[name]
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>{field_pattern})"
            seen.add(name)
    return re.compile(rf"{pattern}(?:\.[^/]*)?", re.ASCII)


CONFLUENT = Names("partition={partition}/{topic}+{partition}+{offset}", arrival="day")
"""Confluent's S3 sink with its default partitioner; the folder of the log is `topics/<topic>`."""
CONFLUENT_DAILY = Names("year={year}/month={month}/day={day}/**/{topic}+{partition}+{offset}")
"""Its time-based partitioner with days, or with hours below them, in UTC."""
CONFLUENT_HOURLY = Names("year={year}/month={month}/day={day}/hour={hour}/{topic}+{partition}+{offset}")
"""Its time-based partitioner with hours, for a project whose cadence is `Hourly`."""
CONFLUENT_FIELDS = Names("**/{topic}+{partition}+{offset}", arrival="day")
"""Its field partitioner: folders such as `country=DE`."""
AIVEN = Names("{topic}-{partition}-{offset}", arrival="day")
"""Aiven's S3 sink; the folder of the log is the configured prefix, and `include` chooses one of several topics."""
LENSES = Names("{topic}/{partition}/{offset}", "{topic}({partition}_{offset})", arrival="day", offset_is_last=True)
"""Lenses' S3 sink with hierarchical and with flat names. Its offset is the last one of an object."""
FIREHOSE = Names("{year}/{month}/{day}/{hour}/{any}")
"""Amazon Data Firehose, for a project whose cadence is `Hourly`."""
FIREHOSE_DAILY = Names("{year}/{month}/{day}/**/{any}")
"""Amazon Data Firehose, for a project whose cadence is `Daily`."""
DMS = Names("LOAD{any}", "{year}{month}{day}-{any}", arrival="day")
"""AWS DMS: the full load, by its arrival, is before the changes of the same day. The folder is `<schema>/<table>`."""
