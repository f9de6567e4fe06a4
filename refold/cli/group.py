"""The command group of `refold`: which commands there are, how a project is found, and how errors are shown.

A command's module is imported when the command is used: together they take seconds, and `refold --help` none of them.
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from refold.errors import RefoldError, Unavailable

if TYPE_CHECKING:
    from refold.engine import Engine
    from refold.log.snapshot import Snapshot
    from refold.storage.objects import ObjectStore


THROUGH = "The last snapshot, sealed even where it is not over; by default all that is over."


class Listed(NamedTuple):
    """The module of a command, and its sentence in `refold --help`: the first of the command's own docstring."""

    module: str
    sentence: str


COMMANDS: Mapping[str, Listed] = {
    "conflicts": Listed(
        "conflicts",
        "List the events of a LOG (default: all) that repeat an id with other content; no store takes their values.",
    ),
    "demo": Listed(
        "repair",
        "Rebuild three weeks of the sample in a temporary folder; with --break, damage one cell and see it found.",
    ),
    "diff": Listed(
        "diff", "Compare a STORE (default: all) as declared here with what another git ref or module declares."
    ),
    "explain": Listed(
        "explain", "Say how a STORE is computed: compiled or interpreted, and why, what it reads and shares."
    ),
    "init": Listed(
        "init", "Write a project that runs into FOLDER (default: the working folder), with a first log and store."
    ),
    "locks": Listed(
        "locks",
        "Show the leases of sealing, pruning and publishing: who holds them, how long, and with which token.",
    ),
    "log": Listed("spread", "The sealed logs."),
    "plan": Listed(
        "plan",
        "Show what a rebuild would read, fold, prove and publish, and why, with seconds and memory; changes nothing.",
    ),
    "prune": Listed(
        "release",
        "Give up old versions in the sinks and rows of old checkpoints; shows what it would do unless --apply is "
        "given.",
    ),
    "quarantine": Listed("quarantine", "The landing records that could not become events."),
    "rebuild": Listed("rebuild", "Seal, fold, prove, publish and release everything, without Dagster."),
    "release": Listed("release", "What readers are served, and what they were served before."),
    "repair": Listed(
        "repair",
        "Verify a STORE (default: all) and its sinks, rebuild just what differs, and prove it. Exits 1 where it "
        "cannot.",
    ),
    "report": Listed(
        "report",
        "Write a page of HTML about a release, by default the one that is served: proofs, changes, quarantine, keys.",
    ),
    "sample": Listed("rebuild", "Write the project's sample landing folder; the same bytes on every machine."),
    "search": Listed("store", "Search the released documents for WORDS."),
    "show": Listed(
        "store", "Show the rows of a STORE, or the row of a KEY, at a snapshot, and what its sinks serve now."
    ),
    "verify": Listed(
        "verify", "Verify a STORE (default: all) and its sinks against full replay. Exits 1 where one differs."
    ),
    "why": Listed("store", "Show the events behind the row of a KEY: place in the log, outcome, running value."),
}


class _Commands(click.Group):
    """Imports the command that is asked for, and shows Refold's errors as sentences, not as tracebacks."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            importlib.import_module(f"refold.cli.{COMMANDS[cmd_name].module}")  # the command registers itself
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            _equip(found)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:  # it looked for similar names among the commands that are imported
            raise click.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.sentence) for name, listed in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # what the encoding of the terminal has no letter for
        try:
            return super().invoke(ctx)
        except (RefoldError, MemoryError, RuntimeError) as error:
            problem = error if isinstance(error, RefoldError) else _exhausted(error)
            if problem is None:
                raise
            from refold.cli import terminal as view  # noqa: PLC0415  # only where there is something to show

            view.error(problem)
            sys.exit(1)


def _equip(command: click.Command) -> None:
    """Give a command, or those of a group, `--json` and the completion of names, unless they have them."""
    from refold.cli import completion, machine  # noqa: PLC0415  # `refold --help` needs neither

    for each in command.commands.values() if isinstance(command, click.Group) else ():
        _equip(each)
    if isinstance(command, click.Group) or any(param.name == "json_lines" for param in command.params):
        return
    completion.complete_names(command)
    if not any("--json" in param.opts for param in command.params):
        command.params.append(machine.option())


def _exhausted(error: MemoryError | RuntimeError) -> Unavailable | None:
    """The sentence for a process that got no more memory or threads; None for any other error."""
    if isinstance(error, RuntimeError) and "can't start new thread" not in str(error):
        return None
    return Unavailable(
        f"This process got no more memory or threads: {error or type(error).__name__}.",
        remedy="Raise its limits (`ulimit -v`, `ulimit -u`, those of the container), or lower REFOLD_MEMORY_LIMIT_MB. "
        "The next run goes on from what is stored.",
    )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refold")
@click.option("--project", "root", type=click.Path(path_type=Path), help="Project folder; by default found upwards.")
@click.pass_context
def cli(context: click.Context, root: Path | None) -> None:
    """Rebuild every derived store by folding the log again, and prove that it is right."""
    context.obj = root


def open_project(context: click.Context, wrap: Callable[[ObjectStore], ObjectStore] = lambda store: store) -> Engine:
    """The engine over the project of the working folder, or of --project; `wrap` is given each store that it opens."""
    from refold.engine import open_engine  # noqa: PLC0415  # half a second that `--help` need not wait for
    from refold.project import find_root, load_project  # noqa: PLC0415
    from refold.release.releaser import utc_now  # noqa: PLC0415
    from refold.storage.wrappers import wrapped  # noqa: PLC0415

    root = find_root(context.obj)
    return open_engine(load_project(root), root, utc_now(), wrapped(wrap))


def snapshot_of(engine: Engine, as_of: str | None) -> Snapshot:
    """The snapshot of a key; without one what is served, else the newest."""
    served = engine.releaser.current() if as_of is None else None
    return engine.chain.get(served.snapshot if served else as_of)
