"""How landing writes the values of a column where that is not the usual way: what a column type may declare of it.

`refold.types` has the declarations, `refold.landing` reads by them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class Epoch(StrEnum):
    """What a number counts from 1970-01-01T00:00Z on, where landing writes times as integers."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"
    DAYS = "days"


class Encoding(StrEnum):
    """How landing writes numbers that JSON could write as numbers, or does not write as such."""

    QUOTED = "quoted"
    """An integer as a text of its digits, as ProtoJSON writes 64 bits."""
    BASE64 = "base64"
    """A decimal as base64 of its unscaled value in two's complement, high byte first, as Kafka Connect writes it."""
    SCALED = "scaled"
    """A decimal as `{"scale": …, "value": …}`, with the value as in `BASE64`, as Debezium writes variable scales."""


class Nanoseconds(StrEnum):
    """The treatment of nonzero digits of a second after the sixth."""

    REFUSE = "refuse"
    TRUNCATE = "truncate"


@dataclass(frozen=True)
class Reading:
    """How landing writes the values of a column, where that is not the usual way; declared, and never guessed.

    Attributes:
        zone: the zone of times that have none: a name such as `Europe/Berlin`, or an offset such as `+02:00`.
        nanoseconds: whether digits below microseconds are refused or left out.
        epoch: the unit of times and days that are integers; texts are refused then.
        encoding: how integers and decimals are written.
        true, false: the texts or numbers that are true, and those that are false; empty for JSON's own.
        default: the value where a record has null or nothing; None for none.
    """

    zone: str | None = None
    nanoseconds: Nanoseconds = Nanoseconds.REFUSE
    epoch: Epoch | None = None
    encoding: Encoding | None = None
    true: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    default: Any = None

    @property
    def offset(self) -> str | None:
        """The offset of a zone that has always the same, as a text has it; None for other zones."""
        if self.zone in ("UTC", "Z"):
            return "Z"
        return self.zone if self.zone is not None and _OFFSET.fullmatch(self.zone) else None


_OFFSET = re.compile(r"[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]")
USUAL = Reading()


def is_zone(name: str) -> bool:
    """Whether there is a time zone of this name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
