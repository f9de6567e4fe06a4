"""A process that gets no more memory or threads, as under `ulimit -v` or in a small container."""

from __future__ import annotations

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from refold.cli.main import cli


def failing(error: Exception) -> Result:
    """What a command gives that ends with an error."""
    group = type(cli)("refold")

    @group.command()
    def run() -> None:
        raise error

    return CliRunner().invoke(group, ["run"])


@pytest.mark.parametrize(
    "error",
    [MemoryError(), MemoryError("Unable to allocate 8 GiB"), pa.ArrowMemoryError("malloc failed"),
     RuntimeError("can't start new thread")],
    ids=str,
)  # fmt: skip
def test_it_ends_with_a_sentence_that_says_what_to_raise(error: Exception):
    """Not with a traceback: the next run goes on where there is room."""
    done = failing(error)
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    assert done.stderr.startswith("unavailable\nThis process got no more memory or threads")
    assert "ulimit -v" in done.stderr


def test_any_other_error_is_a_defect_and_stays_one():
    done = failing(RuntimeError("something else"))
    assert isinstance(done.exception, RuntimeError)
