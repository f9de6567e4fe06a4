"""The code version of a log follows its whole declaration, in every process alike."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from assets.logs import stock_events
from refold import Debezium, JsonLines
from refold.dagster.keys import log_code_version
from refold.errors import DeclarationError
from refold.landing.layout import Folders

DECLARED = [
    stock_events,
    replace(stock_events, decoder=JsonLines({"country": ("where.country",)})),
    replace(stock_events, decoder=JsonLines({"country": ("where.country", "country")})),
    replace(stock_events, decoder=JsonLines({"country": ("country", "where.country")})),
    replace(stock_events, decoder=JsonLines(line_bytes_max=7)),
    replace(stock_events, decoder=Debezium()),
    replace(stock_events, decoder=Debezium(enveloped=True)),
    replace(stock_events, layout=Folders("{year}/{month}/{day}")),
    replace(stock_events, partitions=stock_events.partitions + 1),
]


def test_logs_that_are_declared_differently_have_different_code_versions():
    assert len({log_code_version(log) for log in DECLARED}) == len(DECLARED)
    assert log_code_version(replace(stock_events)) == log_code_version(stock_events)


def test_another_process_finds_the_same_code_version():
    script = "from assets.logs import stock_events; from refold.dagster.keys import log_code_version as v; "
    found = subprocess.run([sys.executable, "-c", script + "print(v(stock_events))"], capture_output=True, check=True)
    assert found.stdout.decode().strip() == log_code_version(stock_events)


def test_a_decoder_whose_declaration_is_unknown_is_refused():
    class Plain:
        suffixes = (".txt",)

    with pytest.raises(DeclarationError, match="expected a dataclass"):
        log_code_version(replace(stock_events, decoder=Plain()))
