"""Completion in the shell: names of stores and logs, and the keys of sealed snapshots.

`eval "$(_REFOLD_COMPLETE=bash_source refold)"` switches it on; zsh and fish likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from refold.cli.group import open_project
from refold.engine import Engine
from refold.project import find_root, load_project


class Named(click.ParamType[str]):
    """A text that is completed from names; any text is accepted, and the command says what there is."""

    name = "text"

    def __init__(self, names: Callable[[click.Context], Iterable[str]]) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so; none where the project cannot be read, since a shell shows no errors."""
        try:
            return [CompletionItem(name) for name in self._names(ctx.find_root()) if name.startswith(incomplete)]
        except Exception:
            return []


def _stores(context: click.Context) -> list[str]:
    return [store.name for store in load_project(find_root(context.params.get("root"))).stores]


def _logs(context: click.Context) -> list[str]:
    return [log.name for log in load_project(find_root(context.params.get("root"))).logs]


def _snapshots(context: click.Context) -> list[str]:
    context.obj = context.params.get("root")  # the group's own function does not run while a shell completes
    engine: Engine = open_project(context)
    return [snapshot.key for snapshot in engine.chain.through(engine.chain.get().key)]


def complete_names(command: click.Command) -> None:
    """Complete the arguments STORE and LOG of a command, and what it calls SNAPSHOT."""
    for param in command.params:
        if param.type is not click.STRING:
            continue
        if isinstance(param, click.Argument) and param.name in ("store", "log", "name"):
            param.type = Named(_logs if param.name == "log" else _stores)
        elif param.name in ("as_of", "through", "snapshot"):
            param.type = Named(_snapshots)
