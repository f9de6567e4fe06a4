"""The shop at work in a folder of its own."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from assets import PROJECT
from refold import Daily
from tests.engine.support import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """This project from 2026-01-01 on, with nothing landed and nothing sealed."""
    return Shop(tmp_path, PROJECT.with_cadence(Daily(dt.date(2026, 1, 1))))
