"""A row and the columns of a log for rules that are declared in tests, and the faults of a rule."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import pytest

from refold.errors import DeclarationError
from refold.rules import Rule
from refold.types import boolean, enum, int64, ratio, text, timestamp


class Movement(Enum):
    ADD = "add"
    REMOVE = "remove"


class Stock(NamedTuple):
    level: int = 0
    name: str | None = None
    open: bool = True


COLUMNS = {
    "product_id": text(),
    "quantity": int64(),
    "event_type": enum(Movement),
    "occurred_at": timestamp(),
    "country": text(null=True),
    "flag": boolean(),
    "share": ratio(),
}


def faults_of(function, columns=COLUMNS):
    with pytest.raises(DeclarationError) as caught:
        Rule.of(function, columns, 1)
    return "\n".join(caught.value.faults)
