"""The source of a function: its syntax tree, and the values of its names.

This module reads a function and looks up its outside names; `refold.rules.purity` checks them next.
Fingerprint, lineage and lowering all work on the same `Source`.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, EnumMeta
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import NamedTuple


class _Unknown:
    """The type of UNKNOWN."""


UNKNOWN = _Unknown()
"""A value that is not known before the function runs, or does not exist."""

FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class SourceFault(Exception):
    """The source of a function cannot be read, or is not the code that runs; the message says why and what to do."""


_TEXT_LENGTH = 100


class Place(NamedTuple):
    """A piece of source: its file and line, and its first line as Python writes it."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"

    @classmethod
    def of(cls, file: str, node: ast.AST, line: int) -> Place:
        """The place of a node in a file."""
        if isinstance(node, ast.FunctionDef):
            text = f"def {node.name}({ast.unparse(node.args)})"  # without decorators, which stand before it
        else:
            text = ast.unparse(node).partition("\n")[0]
        return cls(file, line, text if len(text) <= _TEXT_LENGTH else f"{text[:_TEXT_LENGTH]} …")


@dataclass(frozen=True)
class Source:
    """A function with its syntax tree; line numbers are those of the file."""

    function: FunctionType
    tree: ast.FunctionDef

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters, in order."""
        return tuple(inspect.signature(self.function).parameters)

    @property
    def doc(self) -> str:
        """Its docstring, clean of indentation, or the empty text; kept also under `python -OO`."""
        return ast.get_docstring(self.tree) or ""

    @property
    def body(self) -> list[ast.stmt]:
        """Its statements without the docstring."""
        return self.tree.body[1:] if ast.get_docstring(self.tree, clean=False) is not None else self.tree.body

    @property
    def names(self) -> dict[str, object]:
        """The names an annotation may use: those of the module, and those the function closes over."""
        free = {name: self.static(ast.Name(name, ast.Load())) for name in self.function.__code__.co_freevars}
        return {**self.function.__globals__, **free}

    def where(self, node: ast.AST) -> str:
        """The place of a node, for messages."""
        line = getattr(node, "lineno", self.tree.lineno)
        return f"{Path(self.function.__code__.co_filename).name} line {line} ({self.name})"

    def place(self, node: ast.AST) -> Place:
        """The place of a node in its file."""
        file = self.function.__code__.co_filename
        return Place.of(file, node, getattr(node, "lineno", self.tree.lineno))

    def is_local(self, name: str) -> bool:
        """Whether a name is a parameter or a local variable."""
        code = self.function.__code__
        return name in code.co_varnames or name in code.co_cellvars

    def static(self, node: ast.AST) -> object:
        """The value of a name or dotted name outside the function; UNKNOWN where it is known only at run time."""
        if isinstance(node, ast.Name):
            return UNKNOWN if self.is_local(node.id) else _outside(self.function, node.id)
        if isinstance(node, ast.Attribute):
            base = self.static(node.value)
            return UNKNOWN if base is UNKNOWN else _member(base, node.attr)
        return UNKNOWN


def read_source(function: Callable[..., object]) -> Source:
    """Read the source of a plain function.

    Raises:
        SourceFault: it is a lambda, a method or wrapped, its source cannot be found, or the file has changed since.
    """
    if not isinstance(function, FunctionType):
        raise SourceFault(f"expected a function written with def, found {type(function).__name__}.")
    if function.__name__ == "<lambda>":
        raise SourceFault("a lambda has no name and no place for a docstring; write a function with def.")
    if hasattr(function, "__wrapped__"):
        raise SourceFault(f"{function.__name__} is wrapped by a decorator, which would hide it; remove the decorator.")
    try:
        lines, first = inspect.getsourcelines(function.__code__)
        text = "".join(lines)
        # Wrapping instead of dedenting keeps the content of texts that run over several lines.
        indented = text[:1].isspace()
        tree = ast.parse(f"if True:\n{text}" if indented else text)
    except (OSError, TypeError, SyntaxError) as error:
        raise SourceFault(
            f"the source of {function.__name__} cannot be read ({error}); write it in a .py file, not at a prompt."
        ) from error
    outer = tree.body[0].body if indented and isinstance(tree.body[0], ast.If) else tree.body
    definition = outer[0]
    if not isinstance(definition, ast.FunctionDef):
        raise SourceFault(f"expected a plain function, found an {type(definition).__name__}; write it with def.")
    ast.increment_lineno(tree, first - 1 - int(indented))
    if not _is_what_runs(definition, function):
        raise SourceFault(f"the file of {function.__name__} has changed since it was loaded; start the process again.")
    return Source(function, definition)


def is_named_tuple(value: object) -> bool:
    """Whether a value is a class made by `NamedTuple`."""
    return isinstance(value, type) and value.__bases__ == (tuple,) and hasattr(value, "_field_defaults")


def _outside(function: FunctionType, name: str) -> object:
    code = function.__code__
    if name in code.co_freevars:
        cell = (function.__closure__ or ())[code.co_freevars.index(name)]
        try:
            return cell.cell_contents
        except ValueError:  # the enclosing function has not assigned it yet
            return UNKNOWN
    if name in function.__globals__:
        return function.__globals__[name]
    return getattr(builtins, name, UNKNOWN)


def _member(base: object, name: str) -> object:
    """An attribute that cannot change: of a module, a class, an enum member or a named tuple."""
    if isinstance(base, EnumMeta):
        return base.__members__.get(name, UNKNOWN)
    if isinstance(base, Enum):
        return getattr(base, name) if name in ("name", "value") else UNKNOWN
    if is_named_tuple(type(base)):
        return getattr(base, name) if name in type(base)._fields else UNKNOWN  # type: ignore[attr-defined]
    if isinstance(base, ModuleType | type):
        return getattr(base, name, UNKNOWN)
    return UNKNOWN


def _is_what_runs(tree: ast.FunctionDef, function: FunctionType) -> bool:
    """Whether the file, compiled again, holds the code of the function; so that a file edited after loading is noticed.

    The whole file is compiled, because the code of a function depends on the imports around it.
    """
    if any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        return True  # test runners rewrite these; purity refuses them with a better sentence
    code = function.__code__
    lines, _ = inspect.findsource(code)
    codes = _codes_of("".join(lines), code.co_flags & FUTURES)
    return any(found.co_firstlineno == code.co_firstlineno and _shape(found) == _shape(code) for found in codes)


@lru_cache(maxsize=64)
def _codes_of(text: str, flags: int) -> tuple[CodeType, ...]:
    """The code of everything in a file, or nothing where it does not compile."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = [compile(text, "<check>", "exec", flags=flags, dont_inherit=True)]
    except SyntaxError:
        return ()
    for code in found:
        found += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return tuple(found)


def _shape(code: CodeType) -> tuple[object, ...]:
    constants = tuple((type(c), c) for c in code.co_consts if not isinstance(c, CodeType))
    return code.co_name, code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants
