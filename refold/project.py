"""A project: its stores, the logs they come from, and the cadence of its snapshots.

A user declares it once. It holds no connections; `refold.engine` runs it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from refold.config import project_table
from refold.errors import DeclarationError, FixInput, NotFound
from refold.importing import import_code
from refold.log.declaration import Log
from refold.seal.cadence import Cadence
from refold.stores.declaration import Folded, Store
from refold.stores.recheck import Recheck

_Value = TypeVar("_Value", str, tuple[str, str])


@dataclass(frozen=True)
class Project:
    """The stores that are sealed, proven and released together.

    Attributes:
        name: for people.
        cadence: when snapshots are cut.
        stores: every derived store, in any order.
        keep: titles of sinks that are no longer declared, such as `Sql/stock_view`, and that go on serving what they
            served last. The others are withdrawn by the next release.
        sample: writes a sample landing folder, if the project has one: (folder, late) -> summary.
        release_together: groups of names of stores whose readers always see one snapshot: where one of a group cannot
            follow a release, the whole group is held back. Stores in no group are held back one by one.
        recheck: what of the proven history a rebuild looks at again.

    Raises DeclarationError where names collide or an input is missing.
    """

    name: str
    cadence: Cadence
    stores: Sequence[Store]
    sample: Callable[[Path, bool], object] | None = None
    keep: Sequence[str] = ()
    release_together: Sequence[Sequence[str]] = ()
    recheck: Recheck = field(default_factory=Recheck)

    def __post_init__(self) -> None:
        faults = [*self._repeated_names(), *self._faults_of_logs(), *self._faults_of_sinks(), *self._unknown_stores()]
        if faults:
            raise DeclarationError(f"Project {self.name!r}", faults)

    def _repeated_names(self) -> Iterator[str]:
        names = [store.name for store in self.stores] + [log.name for log in self.logs]
        names += [store.ledger.name for store in self.folded]
        yield from (f"the name {name!r} is used twice" for name in _repeated(names))
        sinks = [(type(sink).__name__, sink.name.casefold()) for store in self.stores for sink in store.sinks]
        yield from (f"the sink {kind}({name!r}) is used twice" for kind, name in _repeated(sinks))

    def _faults_of_logs(self) -> Iterator[str]:
        probe = self.cadence.key(dt.datetime(2000, 2, 29, 23, tzinfo=dt.UTC))
        for log in self.logs:
            if _slot(log, probe) != probe:
                names = f"the names of log {log.name!r}, {log.layout.expected}"
                yield f"{names}, are not those of a cadence whose keys are {self.cadence.shape}"

    def _faults_of_sinks(self) -> Iterator[str]:
        declared = {f"{type(sink).__name__}/{sink.name}" for store in self.stores for sink in store.sinks}
        for title in sorted(declared & {*self.keep}):
            yield f"keep names {title}, which is declared: take it out of one of them"

    def _unknown_stores(self) -> Iterator[str]:
        names = {store.name for store in self.stores}
        for name in (name for group in self.release_together for name in group if name not in names):
            yield f"release_together names {name!r}, which is not a store of the project"
        for store in self.stores:
            for needed in store.inputs:
                if needed not in self.stores:
                    yield f"store {store.name!r} reads {needed.name!r}, which is not in the project"

    @property
    def logs(self) -> list[Log]:
        """The logs its stores are folded from, in the order of first use."""
        found = [store.log for store in self.folded]
        return [log for place, log in enumerate(found) if log not in found[:place]]

    @property
    def folded(self) -> list[Folded]:
        """The stores folded from logs, in declared order."""
        return [ledger.store for store in self.stores if (ledger := store.ledger) is not None]

    @property
    def relations(self) -> list[Store]:
        """The stores that are computed from others, each after what it reads."""
        waiting = [store for store in self.stores if store.ledger is None]
        ordered: list[Store] = []
        while waiting:
            ready = [r for r in waiting if not any(source in waiting for source in r.inputs)]
            if not ready:
                raise DeclarationError(
                    f"Project {self.name!r}", [f"{r.name!r} reads itself in a circle" for r in waiting]
                )
            ordered += ready
            waiting = [r for r in waiting if r not in ready]
        return ordered

    @property
    def in_order(self) -> list[Store]:
        """All stores, each after what it reads."""
        return [*self.folded, *self.relations]

    def held_with(self, names: Collection[str]) -> set[str]:
        """Some stores that are held back, and those that are released together with one of them."""
        held, before = set(names), -1
        while len(held) > before:
            before = len(held)
            held |= {name for group in self.release_together if held & set(group) for name in group}
        return held

    def store(self, name: str) -> Store:
        """A store by name. Raises NotFound, naming what there is."""
        for store in self.stores:
            if store.name == name:
                return store
        raise _missing("store", name, [store.name for store in self.stores])

    def log(self, name: str) -> Log:
        """A log by name. Raises NotFound, naming what there is."""
        for log in self.logs:
            if log.name == name:
                return log
        raise _missing("log", name, [log.name for log in self.logs])

    def with_cadence(self, cadence: Cadence) -> Project:
        """The same stores under another cadence."""
        return replace(self, cadence=cadence)


def _missing(what: str, name: str, names: Sequence[str]) -> NotFound:
    near = get_close_matches(name, names, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return NotFound(f"There is no {what} {name!r}; this project has {', '.join(names)}.{meant}")


def _slot(log: Log, key: str) -> str | None:
    """The key of an object in the folder of a key."""
    slot = log.layout.slot(log.layout.example(key), dt.datetime.fromisoformat(key).replace(tzinfo=dt.UTC))
    return slot.folder if slot else None


def _repeated(values: Sequence[_Value]) -> list[_Value]:
    """The values that occur more than once, sorted."""
    return sorted({value for value in values if values.count(value) > 1})


def find_root(start: Path | None = None) -> Path:
    """The nearest folder, from `start` (default: the working folder) upwards, whose pyproject.toml has [tool.refold].

    Raises NotFound, also if `start` does not exist, or FixInput if a pyproject.toml on the way cannot be read.
    """
    here = (start or Path.cwd()).resolve()
    if not here.exists():
        raise NotFound(f"Expected the folder of a project at {here}, found nothing.", remedy="Correct the path.")
    for folder in (here, *here.parents):
        if _setting(folder) is not None:
            return folder
    raise NotFound(
        f"No Refold project at {here} or above it: expected a pyproject.toml with [tool.refold].",
        remedy='Add `[tool.refold]` with `project = "assets:PROJECT"`, or change into the project.',
    )


def load_project(root: Path) -> Project:
    """Import the project that `[tool.refold] project = "module:NAME"` of a root's pyproject.toml names.

    Raises NotFound if the setting names nothing, FixInput if that is not a project, and what `import_code` raises.
    """
    setting = _setting(root) or ""
    module, _, name = setting.partition(":")
    named = name.isidentifier() and all(part.isidentifier() for part in module.split("."))
    if not named or module.endswith(".py"):
        meant = re.sub(r"[/\\\\]", ".", module.removesuffix(".py"))
        raise NotFound(
            f'Expected [tool.refold] with project = "module:NAME" in {root / "pyproject.toml"}, found {setting!r}.',
            remedy=f'Set it, for example to "{meant or "assets"}:{name or "PROJECT"}".',
        )
    found = vars(import_code(module, root))
    projects = [f"{module}:{each}" for each, value in found.items() if isinstance(value, Project)]
    if name not in found:
        raise NotFound(
            f"The module {module!r} of the project {setting!r} in {root / 'pyproject.toml'} has no {name!r}; its "
            f"projects are: {', '.join(projects) or 'none'}.",
            remedy="Correct the setting, or declare it there.",
        )
    project = found[name]
    if not isinstance(project, Project):
        raise FixInput(
            f"{setting!r} in {root / 'pyproject.toml'} is a {type(project).__name__}; expected a refold.Project, as "
            f"are: {', '.join(projects) or 'none'}.",
            remedy="Correct the setting.",
        )
    return project


def _setting(folder: Path) -> str | None:
    setting = (project_table(folder) or {}).get("project")
    return setting if isinstance(setting, str) else None
