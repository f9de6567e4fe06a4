"""The command `refold`: the group and all its commands, which register themselves when they are imported."""

from refold.cli import diff, log, quarantine, rebuild, release, repair, store, verify
from refold.cli.group import cli

__all__ = ["cli", "diff", "log", "quarantine", "rebuild", "release", "repair", "store", "verify"]
