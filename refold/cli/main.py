"""The command `refold`, as the package's entry point names it; commands are in `refold.cli.group.COMMANDS`."""

from __future__ import annotations

import atexit
import os
import sys

from refold.cli.group import cli

__all__ = ["cli", "main"]

_CANNOT_FLUSH = 120
"""What the interpreter itself exits with where the last output cannot be written."""


def main() -> None:
    """Run a command, and end the process with its exit code without taking the interpreter apart.

    Libraries keep threads of their own until the process ends: those of Arrow, of the object store and of what redraws
    progress. One that wants the interpreter while it is being taken apart can abort the process, though the command has
    done its work. So the process ends once threads that must be waited for have ended, what the command registered to
    run at exit has run, and output is written.
    """
    ending = _Ending()
    atexit.register(ending.leave)  # the first that is registered runs last
    try:
        cli(prog_name="refold")
    except SystemExit as ended:
        ending.code = _exit_code(ended.code)
    sys.exit(ending.code)


class _Ending:
    """How the process ends; 1 unless the command says otherwise, as after an error that nobody expected."""

    code = 1

    def leave(self) -> None:
        """End the process now, with output that could not be written as a failure."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                self.code = self.code or _CANNOT_FLUSH
        os._exit(self.code)


def _exit_code(code: str | int | None) -> int:
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return code or 0
