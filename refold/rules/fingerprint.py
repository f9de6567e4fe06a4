"""The fingerprint of a rule: a checkpoint or proof is valid only for rules with the same fingerprint.

It covers the normalized syntax trees of the rule and of every helper function, the outside values they read (enum
members, constants), the row's fields with types and defaults, and the event columns read with their types. It does not
cover comments, layout, docstrings, annotations, decorators, and anything that depends on process, machine or path.
Empty syntax fields are omitted too, since Python versions differ in which of them exist.
"""

from __future__ import annotations

import ast
import hashlib
from types import FunctionType

from refold.rules.constants import Form, canonical
from refold.rules.outcome import ignore, reject
from refold.rules.purity import Program
from refold.rules.source import Source
from refold.storage.objects import canonical_json
from refold.types import ColumnType, Schema

_LEFT_OUT = frozenset({"ctx", "annotation", "returns", "type_comment", "type_params", "decorator_list", "kind"})


def fingerprint(program: Program, row_columns: Schema, defaults: tuple[object, ...], columns: Schema) -> str:
    """The sha256, in hexadecimal, of everything that determines the rule's answers.

    `defaults` are the row's default values in the order of `row_columns`; `columns` are the event columns read.
    """
    row: Form = [
        [name, column_form(column), canonical(default)]
        for (name, column), default in zip(row_columns.items(), defaults, strict=True)
    ]
    events: Form = [[name, column_form(column)] for name, column in columns.items()]
    content = ["refold rule 1", _function(program, program.rule, {}), row, events]
    return hashlib.sha256(canonical_json(content)).hexdigest()


def fingerprint_text(*parts: str) -> str:
    """The sha256, in hexadecimal, of some texts in order: the fingerprint of a store declared without a function.

    >>> fingerprint_text("a", "b") == fingerprint_text("ab")
    False
    """
    return hashlib.sha256(canonical_json(list(parts))).hexdigest()


def column_form(column: ColumnType) -> Form:
    """The canonical form of a column type: its name, and for an enum its members."""
    return [str(column), *([canonical(column.choices)] if column.choices is not None else [])]


def normalized(node: object) -> Form:
    """A syntax tree as lists and texts, without positions and parts that do not change its meaning.

    >>> normalized(ast.parse("x = 1  # one").body[0]) == normalized(ast.parse("x: int = (1)").body[0])
    True
    """
    if isinstance(node, ast.AnnAssign):
        if node.value is None:
            return ["Pass"]
        node = ast.Assign(targets=[node.target], value=node.value)
    if isinstance(node, ast.Constant):
        return ["Constant", "..." if node.value is ... else canonical(node.value)]
    if isinstance(node, ast.AST):
        fields = [[name, normalized(value)] for name, value in ast.iter_fields(node) if name not in _LEFT_OUT]
        return [type(node).__name__, *(field for field in fields if field[1] not in (None, []))]
    if isinstance(node, list):
        return [normalized(item) for item in node]
    return canonical(node)


def _function(program: Program, source: Source, seen: dict[FunctionType, str]) -> str:
    """The hash of one function with everything it reads; each helper is hashed once."""
    known = seen.get(source.function)
    if known is not None:
        return known
    names: list[Form] = []
    for name, value in sorted(program.names[source.function].items()):
        if isinstance(value, FunctionType) and value is not reject and value is not ignore:
            names.append([name, ["function", _function(program, program.functions[value], seen)]])
        else:
            names.append([name, canonical(value, sets=True)])
    function = source.function
    named = sorted((function.__kwdefaults__ or {}).items())
    content: Form = [
        normalized(source.tree.args),
        normalized(source.body),
        names,
        [canonical(value) for value in function.__defaults__ or ()],
        [[name, canonical(value)] for name, value in named],
    ]
    seen[function] = hashlib.sha256(canonical_json(content)).hexdigest()
    return seen[function]
