"""The command `refold`, as the package's entry point names it; commands are in `refold.cli.group.COMMANDS`."""

from refold.cli.group import cli

__all__ = ["cli"]
