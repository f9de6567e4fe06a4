"""The other side of a diff, as `--against` names it: a git ref of the repository, or a module with another declaration.

The new side is always the engine's project as it is now, with edits that are not committed; the old side is what is
named here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from refold.diff.remote import remote_shadow
from refold.diff.shadow import Shadow, Side
from refold.diff.tree import Commit, find_commit
from refold.engine import Engine
from refold.errors import FixInput, NotFound
from refold.importing import import_code
from refold.log.snapshot import Snapshot
from refold.project import Project
from refold.stores.declaration import Store

WORKING_TREE = "the working tree"


@contextmanager
def two_sides(
    engine: Engine, root: Path, snapshot: Snapshot, against: str, store: str | None = None
) -> Iterator[tuple[Side, Side, list[str]]]:
    """The old and the new side, ready to be folded, and the names of the stores to compare.

    Args:
        root: the project's folder.
        against: a git ref; or a module; or `module:store`, the store of that name or variable there.
        store: the store to compare; by default all of both sides, or all that the module declares.

    Raises:
        NotFound: there is no such ref, module or store; the message names those there are.
        FixInput: there is no git repository, or the declarations cannot be loaded.
    """
    declared = {each.name: each for each in engine.project.stores}
    new = Shadow(WORKING_TREE, engine.objects, engine.chain, snapshot, declared)
    commit = _commit_named(root, against)
    if commit is None:
        module, _, name = against.partition(":")
        others = _stores_of(module, name, wanted=store)
        old = Shadow(against, engine.objects, engine.chain, snapshot, others)
        yield old, new, [store] if store else list(others)
        return
    url = engine.objects.location
    if url is None:
        raise FixInput(
            "A store in memory cannot be read by the process that loads a git ref.",
            remedy="Use a folder or an object store, or compare with a module.",
        )
    with remote_shadow(commit, url, snapshot) as other:
        every = list(dict.fromkeys([*declared, *other.describe()]))
        yield other, new, [store] if store else every


def _commit_named(root: Path, against: str) -> Commit | None:
    """The commit that is named; None for a module. A git ref takes precedence over a module of the same name."""
    if ":" in against:  # no git ref has a colon
        return None
    try:
        return find_commit(root, against)
    except (NotFound, FixInput) as error:
        if _importable(against):
            return None
        message = str(error).removesuffix(error.remedy).rstrip()
        raise type(error)(f"{message} It is not a module that can be imported either.", remedy=error.remedy) from error


def _importable(name: str) -> bool:
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _stores_of(module: str, name: str, *, wanted: str | None) -> dict[str, Store]:
    """The stores that a module declares, or one of them, by the names they are compared under.

    `name` is the store in the module, by default the one of the `wanted` name.
    """
    found = _variables_of(module)
    stores = _stores_in(found)
    name = name or wanted or ""
    if not name:
        return {each.name: each for each in stores}
    named = [*(each for each in stores if each.name == name), *(each for each in stores if found.get(name) is each)]
    if not named:
        raise NotFound(
            f"Expected a store {name!r} in the module {module!r}, found "
            f"{', '.join(each.name for each in stores) or 'none'}.",
            remedy=f"Name one: --against {module}:STORE.",
        )
    return {wanted or named[0].name: named[0]}


def _variables_of(module: str) -> Mapping[str, object]:
    """The variables of a module, which is imported. Raises what `import_code` raises."""
    return vars(import_code(module))


def _stores_in(variables: Mapping[str, object]) -> list[Store]:
    """The stores among variables, then those of the projects among them; each once."""
    stores = [each for each in variables.values() if isinstance(each, Store)]
    projects = [each for each in variables.values() if isinstance(each, Project)]
    return list(dict.fromkeys([*stores, *(store for project in projects for store in project.stores)]))
