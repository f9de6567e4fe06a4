"""Text from outside the project, such as names in landing, values of events and errors of servers, as it is shown.

Whoever writes to landing chooses such text. Each function gives the form for one place, in which every character is
shown as itself and none is obeyed. Messages of the logger `refold` and of Refold's errors are escaped where they are
made. In SQL, names are quoted by SQLAlchemy or for DuckDB, and values are bound.
"""

from __future__ import annotations

import html
import logging
import re

_MARKUP = re.compile(r"[\\`*\[\]|~$!]|(?<![^\W_])_|_(?![^\W_])|(?m:^[ ]*(?:[#=+>]|-(?! )))")


def printable(text: str) -> str:
    r"""Text on one line for a terminal: what is not printed is escaped as in a Python string.

    That are line breaks, escape sequences, marks that reverse the direction of writing, and lone surrogates.

    >>> printable("red \x1b[31m, reversed \u202e, é\n")
    'red \\x1b[31m, reversed \\u202e, é\\n'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Text as `printable` gives it, with its line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def as_markdown(text: str) -> str:
    r"""Text for Markdown, each line as `printable` gives it; a list of `- ` remains one.

    >>> as_markdown("stock_events/![](https://a.example/b.png) <img>")
    'stock_events/\\!\\[\\](https://a.example/b.png) &lt;img&gt;'
    """
    return _MARKUP.sub(
        lambda found: found[0][:-1] + "\\" + found[0][-1], html.escape(printable_lines(text), quote=False)
    )


def as_code(text: str) -> str:
    """A name for Markdown as code, in which no address becomes a link.

    >>> as_code("a`b")
    '``a`b``'
    """
    shown = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    padding = " " if shown.startswith(("`", " ")) or shown.endswith(("`", " ")) else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def _escaped(record: logging.LogRecord) -> bool:
    """A filter that no record fails: it escapes its message."""
    record.msg, record.args = printable_lines(record.getMessage()), ()
    return True


logging.getLogger("refold").addFilter(_escaped)
