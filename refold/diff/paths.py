"""The import path of another process: that of this one, with one source tree replaced."""

from __future__ import annotations

import site
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path


def moved_path(path: Sequence[str], tree: Path, copy: Path) -> list[str]:
    """A search path with every folder of a source tree replaced by the same folder of its copy, absolute, in order.

    Folders that the copy has not are left out, but for those of installed packages, which belong to no source tree
    even where they lie in one (a virtual environment in a checkout).
    """
    found = []
    for entry in (Path(text).absolute() for text in path):
        place = entry.resolve()
        if not place.is_relative_to(tree) or _installed(place):
            found.append(str(entry))
        elif (copy / place.relative_to(tree)).exists():
            found.append(str(copy / place.relative_to(tree)))
    return found


def loaded_from(tree: Path, *exempt: Path) -> list[str]:
    """The imported modules whose files lie in a source tree, by name; installed ones and those `exempt` are not."""
    files = ((name, getattr(module, "__file__", None)) for name, module in sorted(sys.modules.items()))
    return [name for name, file in files if file and _inside(Path(file).resolve(), tree, exempt)]


def _inside(file: Path, tree: Path, exempt: Iterable[Path]) -> bool:
    outside = any(file.is_relative_to(folder) for folder in exempt)
    return file.is_relative_to(tree) and not outside and not _installed(file)


def _installed(place: Path) -> bool:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [*(sysconfig.get_path(name) for name in names), *site.getsitepackages(), site.getusersitepackages()]
    return any(place.is_relative_to(Path(folder).resolve()) for folder in folders)
