"""How a command's process ends: with its code, all its output and its threads waited for, and not taken apart."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEGINNING = """
import atexit, sys, threading, time
import click
from refold.cli.main import cli, main

class Left:
    def __del__(self):
        print("taken apart", flush=True)

left = Left()

@cli.command("ending")
def ending():
    print("said")
    atexit.register(print, "registered at exit")
    threading.Thread(target=lambda: (time.sleep(0.2), print("waited for"))).start()
    {how}

sys.argv = ["refold", "ending"]
main()
"""


def run(how: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    script = BEGINNING.replace("{how}", how)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, env=buffered, check=False
    )


@pytest.mark.parametrize(
    ("how", "code", "error"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit('for a reason')", 1, "for a reason\n"),
        ("raise click.UsageError('not so')", 2, "Error: not so\n"),
        ("raise KeyboardInterrupt", 1, "Aborted!\n"),
        ("raise ValueError('a bug')", 1, "ValueError: a bug\n"),
    ],
)
def test_a_command_ends_with_its_code_and_is_not_taken_apart_under_threads_of_libraries(
    how: str, code: int, error: str
):
    """One of 120 runs of `refold log verify` ended with SIGABRT after its work was done."""
    done = run(how)
    assert (done.returncode, done.stdout) == (code, "said\nwaited for\nregistered at exit\n")
    assert done.stderr.endswith(error) and bool(done.stderr) == bool(error)


def test_output_that_cannot_be_written_is_a_failure():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = run("pass", full.fileno())
    assert done.returncode == 120
