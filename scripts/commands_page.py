"""Write the reference of the command line, docs/reference/commands.md, from the help of every command."""

from collections.abc import Iterator
from pathlib import Path

import click

from refold.cli.main import cli

PAGE = Path(__file__).parents[1] / "docs/reference/commands.md"
INTRODUCTION = """# Commands

`refold` finds the project's `pyproject.toml` upwards from where it is called. Commands that check something exit with 1
where it does not hold, and with 2 where they are called wrongly.

`eval "$(_REFOLD_COMPLETE=bash_source refold)"` completes commands, and names of stores, logs and snapshots.

With `--json` a command writes JSON objects, one on each line. `kind` is `table` (`title`, `columns`, `rows` as objects;
numbers are exact, decimals and times are texts, bytes are base64), `text` (`text`) or `error` (`error`, `message`,
`notes`; on standard error). `plan`, `diff`, `conflicts`, `quarantine ls`, `log order`, `log audit` and `log inspect`
write the objects that they find.
"""


def sections(command: click.Command, context: click.Context) -> Iterator[str]:
    """The help of a command, and of those below it, in the order of their names."""
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in sorted(command.list_commands(context)):
            below = command.get_command(context, name)
            if below is not None:
                yield from sections(
                    below, click.Context(below, info_name=name, parent=context, **below.context_settings)
                )


def main() -> None:
    """Write the page."""
    context = click.Context(cli, info_name="refold", terminal_width=100, max_content_width=100, **cli.context_settings)
    PAGE.write_text("\n".join([INTRODUCTION, *sections(cli, context)]), encoding="utf-8")


if __name__ == "__main__":
    main()
