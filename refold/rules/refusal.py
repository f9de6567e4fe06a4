"""Reports why a rule is not compiled, with the line of its source; the text is for people and decides nothing.

This module checks the types of rows and events, which need no lowering. `refold.rules.lowering` refuses statements and
expressions by raising `Unsupported`.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass

from refold.rules.kinds import SCALE_MAX, Unsupported
from refold.rules.purity import Program
from refold.rules.source import Place
from refold.types import ColumnKind, ColumnType, Schema


@dataclass(frozen=True)
class Refusal:
    """A sentence, and the place in the source that it is about; None where it is about this process."""

    sentence: str
    place: Place | None = None

    @classmethod
    def of(cls, error: Unsupported) -> Refusal:
        """A refusal by the lowering."""
        return cls(f"It uses {error}, which is not compiled.", error.place)


def refused_types(program: Program, row: type, row_columns: Schema, columns: Schema) -> Refusal | None:
    """Why rows and events of these types are interpreted; None where they can be compiled."""
    for name, kind in row_columns.items():
        if kind.kind is ColumnKind.ENUM or not _is_compiled(kind):
            sentence = f"The row field {name} is {kind}; only {_COMPILED} fields without null are compiled."
            return Refusal(sentence, field_place(row, name) or rule_place(program))
    for name, kind in columns.items():
        if not _is_compiled(kind):
            sentence = (
                f"The event column {name} is {kind}; only {_COMPILED} and enum columns without null are compiled."
            )
            return Refusal(sentence, _reading_place(program, name) or rule_place(program))
    return None


_COMPILED = f"int64, boolean, decimal (of up to {SCALE_MAX} digits after the point)"


def _is_compiled(kind: ColumnType) -> bool:
    if kind.kind is ColumnKind.DECIMAL:
        return not kind.null and kind.scale is not None and kind.scale <= SCALE_MAX
    return not kind.null and kind.kind in (ColumnKind.INT64, ColumnKind.BOOLEAN, ColumnKind.ENUM)


def rule_place(program: Program) -> Place:
    """The place where the rule begins."""
    return program.rule.place(program.rule.tree)


def field_place(row: type, name: str) -> Place | None:
    """The place where a row field is declared; None where its class has no class statement or no file."""
    try:
        lines, first = inspect.getsourcelines(row)
        file = inspect.getsourcefile(row)
    except (OSError, TypeError):
        return None
    indented = lines[0][:1].isspace()
    tree = ast.parse("if True:\n" + "".join(lines) if indented else "".join(lines))
    ast.increment_lineno(tree, first - 1 - int(indented))
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            return Place.of(file or "", node, node.lineno)
    return None


def _reading_place(program: Program, column: str) -> Place | None:
    """The place where an event column is first read, in the rule and then in its helper functions."""
    for source in program.functions.values():
        for statement in source.body:
            for node in ast.walk(statement):
                if isinstance(node, ast.Attribute) and node.attr == column:
                    return source.place(node)
    return None
