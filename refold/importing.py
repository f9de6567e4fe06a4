"""Importing the code of a project: what fails is named by file and line, with what was expected there.

Comes before `refold.project`, `refold.diff` and `refold.dagster`, which import modules that users wrote.
"""

from __future__ import annotations

import builtins
import difflib
import importlib
import inspect
import linecache
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import NamedTuple

from refold.errors import FixInput, NotFound, RefoldError

_CALLED = re.compile(r"([\w.]+)\(\) (?:got|missing|takes)\b")
_LIBRARY = Path(__file__).parent


class _Place(NamedTuple):
    """A line of a file, and the frame that ran it; a file that does not parse has no frame."""

    file: str
    line: int
    frame: FrameType | None

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def import_code(module: str, root: Path | None = None) -> ModuleType:
    """Import a module that a user wrote; `root` is the folder from which places are shown and is searched first.

    Raises:
        NotFound: there is no module of that name.
        FixInput: its code failed, named by file and line, with what was expected there.
        RefoldError: what its declarations raised, with a note of file and line.
    """
    if root is not None and str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        return importlib.import_module(module)
    except RefoldError as error:
        place = _place_of(error, root)
        if place is not None:
            error.add_note(f"Declared in {place}.")
        raise
    except (Exception, SystemExit) as error:
        if _is_absent(error, module):
            raise NotFound(
                f"There is no module {module!r} in {root or Path.cwd()}.", remedy="Check its name."
            ) from error
        raise _failure(error, module, root) from error


def _is_absent(error: BaseException, module: str) -> bool:
    """Whether the module itself, or a package above it, was not found; or its name is not that of a module."""
    if isinstance(error, ModuleNotFoundError):
        return error.name is not None and f"{module}.".startswith(f"{error.name}.")
    return not all(part.isidentifier() for part in module.split("."))


def _failure(error: BaseException, module: str, root: Path | None) -> FixInput:
    place = _place_of(error, root)
    kind = "sys.exit" if isinstance(error, SystemExit) else type(error).__name__
    what = error.msg if isinstance(error, SyntaxError) else str(error)
    source = linecache.getline(str((root or Path()) / place.file), place.line).strip() if place else ""
    expected = _expected(error, place.frame if place else None)
    return FixInput(
        f"The module {module!r} cannot be imported: {kind}{f': {what}' if what else ''}"
        + (f"\n  {place}" if place else "")
        + (f"\n    {source}" if source else "")
        + (f"\nExpected {expected}." if expected else ""),
        remedy="\nCorrect that line.",
    )


def _place_of(error: BaseException, root: Path | None) -> _Place | None:
    """The innermost line outside of Refold and other libraries; a line that does not parse is one."""
    if isinstance(error, SyntaxError) and error.filename:
        return _Place(_shown(error.filename, root), error.lineno or 1, None)
    mine = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_users(frame, root)]
    if not mine:
        return None
    frame, line = mine[-1]
    return _Place(_shown(frame.f_code.co_filename, root), line, frame)


def _is_users(frame: FrameType, root: Path | None) -> bool:
    file = Path(frame.f_code.co_filename)
    if not file.is_file() or file.is_relative_to(_LIBRARY) or "site-packages" in file.parts:
        return False
    inside = (root or Path.cwd()).resolve()
    return file.resolve().is_relative_to(inside) or not file.is_relative_to(sys.base_prefix)


def _shown(file: str, root: Path | None) -> str:
    path = Path(file)
    return str(path.relative_to(root)) if root is not None and path.is_relative_to(root) else file


def _expected(error: BaseException, frame: FrameType | None) -> str:
    """What the line may have meant: a similar name, or the parameters of what it called; "" if that is unknown."""
    if isinstance(error, TypeError) and frame is not None and (called := _CALLED.match(str(error))):
        return _signature(called[1], frame)
    names: Iterator[str] = iter(())
    if isinstance(error, NameError) and frame is not None:
        names = iter({**vars(builtins), **frame.f_globals, **frame.f_locals})
    elif isinstance(error, AttributeError):
        names = iter(dir(error.obj))
    elif isinstance(error, ImportError) and error.name in sys.modules:
        names = iter(dir(sys.modules[error.name]))
    wanted = _wanted(error)
    near = difflib.get_close_matches(wanted, [name for name in names if not name.startswith("_")]) if wanted else []
    return " or ".join(repr(name) for name in near)


def _wanted(error: BaseException) -> str:
    """The name that was not found."""
    if isinstance(error, NameError | AttributeError):
        return error.name or ""
    found = re.match(r"cannot import name '(\w+)'", str(error))
    return found[1] if found else ""


def _signature(qualified: str, frame: FrameType) -> str:
    """A function or class of the frame as it is called; "" if it is not there under that name."""
    name, _, attribute = qualified.removesuffix(".__init__").partition(".")
    called = {**frame.f_globals, **frame.f_locals}.get(name)
    try:
        called = getattr(called, attribute) if attribute else called
        parameters = inspect.signature(called).parameters  # type: ignore[arg-type]  # TypeError where it is no function
    except (AttributeError, TypeError, ValueError):
        return ""
    shown = (f"{each.name}=…" if each.default is not each.empty else str(each.replace(annotation=each.empty))
             for each in parameters.values())  # fmt: skip
    return f"{qualified.removesuffix('.__init__')}({', '.join(shown)})"
