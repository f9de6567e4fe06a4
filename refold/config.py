"""Settings: where landing, store and database are. The environment sets them, for Dagster and the command line alike.

They are read when work starts, never while definitions are imported.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from refold.errors import FixInput
from refold.storage.urls import local_path, mask_url

_CONNECTION = "REFOLD_CONNECTION_"
IN_STORE = "store"
"""The setting that keeps leases in the object store."""


@dataclass(frozen=True)
class Settings:
    """The locations that one project uses.

    Attributes:
        landing: URL or path of the folder with one folder per log.
        store: URL or path where logs, states, proofs and the release pointer are kept.
        database: SQLAlchemy URL of the database for SQL sinks.
        search_folder: local folder of the search indexes.
        memory_limit_mb: how much memory sealing may use for new events, and replay for the ids of a log, in MiB; the
            rest is in temporary files. Fewer threads are used where it is below 128 for each. It does not include the
            program itself (350 MB), nor the hashes of the new ids (100 bytes an event). None means half of the
            machine's memory. Results do not depend on it.
        connections: URLs or paths of further places that sinks write to, by name.
        anchor: URL or path outside the store where every release is anchored; "" for none.
        anchor_key: PEM file of the key that signs anchor entries, or only verifies them.
        leases: where leases are kept: `store`, the SQLAlchemy URL of a database, or "" for no leases.
        lease_seconds: how long this process may be silent before another one takes its leases.
        lease_wait_seconds: how long it waits for a lease that another one holds.
        landing_links: folders outside landing that symbolic links in landing may lead to.
    """

    landing: str
    store: str
    database: str
    search_folder: Path
    memory_limit_mb: int | None = None
    connections: Mapping[str, str] = field(default_factory=dict)
    landing_links: Sequence[Path] = ()
    anchor: str = ""
    anchor_key: Path | None = None
    leases: str = field(default="", repr=False)
    lease_seconds: float = 30.0
    lease_wait_seconds: float = 120.0

    @property
    def sink_places(self) -> dict[str, str]:
        """The URL or path of every connection of sinks but the store itself, by name, with passwords."""
        return {**self.connections, "database": self.database, "search": str(self.search_folder)}

    @classmethod
    def from_environment(cls, root: Path, environ: Mapping[str, str] | None = None) -> Settings:
        """REFOLD_LANDING, REFOLD_STORE, REFOLD_DATABASE and REFOLD_MEMORY_LIMIT_MB, with defaults.

        Defaults are below `.refold/` of the project root, or for landing the `landing` in [tool.refold] of its
        pyproject.toml. REFOLD_CONNECTION_CACHE sets a further connection named
        `cache`, and so on. REFOLD_LANDING_LINKS names folders, separated as in PATH. REFOLD_ANCHOR and
        REFOLD_ANCHOR_KEY name the anchor and its key. REFOLD_LEASES, REFOLD_LEASE_SECONDS and
        REFOLD_LEASE_WAIT_SECONDS set the leases. Search indexes are inside a local
        store, and below `.refold/` if the store is remote.

        Raises:
            FixInput: REFOLD_STORE is the URL of a folder that this machine cannot have, or REFOLD_MEMORY_LIMIT_MB is
                not a whole number above 0, or seconds are not a number above 0.
        """
        environ = os.environ if environ is None else environ
        home = root.resolve() / ".refold"
        store = environ.get("REFOLD_STORE") or str(home / "store")
        folder = local_path(store) or home
        return cls(
            landing=environ.get("REFOLD_LANDING") or _declared_landing(root) or str(home / "landing"),
            store=store,
            database=environ.get("REFOLD_DATABASE") or f"sqlite:///{home / 'refold.db'}",
            search_folder=folder / "search",
            memory_limit_mb=_megabytes(environ.get("REFOLD_MEMORY_LIMIT_MB")),
            connections=_connections(environ),
            anchor=environ.get("REFOLD_ANCHOR") or "",
            anchor_key=Path(key) if (key := environ.get("REFOLD_ANCHOR_KEY")) else None,
            leases=environ.get("REFOLD_LEASES") or "",
            lease_seconds=_seconds(environ, "REFOLD_LEASE_SECONDS", 30.0),
            lease_wait_seconds=_seconds(environ, "REFOLD_LEASE_WAIT_SECONDS", 120.0),
            landing_links=[Path(p) for p in environ.get("REFOLD_LANDING_LINKS", "").split(os.pathsep) if p],
        )

    def shown(self) -> dict[str, str]:
        """The settings with secrets masked, for people."""
        places = {"landing": self.landing, "store": self.store, "database": self.database, **self.connections}
        places |= {"anchor": self.anchor} if self.anchor else {}
        places |= {"leases": self.leases} if self.leases else {}
        return {name: mask_url(url) for name, url in places.items()}


def project_table(folder: Path) -> Mapping[str, object] | None:
    """The table [tool.refold] of a folder's pyproject.toml; None without one.

    Raises FixInput where that file cannot be read.
    """
    file = folder / "pyproject.toml"
    if not file.is_file():
        return None
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("refold")
        return None if table is None else dict(table)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise FixInput(
            f"Expected TOML with a table [tool.refold] in {file}, found: {error}.",
            remedy="Mend that file, or point --project at the project's folder.",
        ) from error


def _declared_landing(root: Path) -> str | None:
    landing = (project_table(root) or {}).get("landing")
    if not isinstance(landing, str) or not landing:
        return None
    return landing if "://" in landing else str(root.resolve() / landing)


def _connections(environ: Mapping[str, str]) -> dict[str, str]:
    given = {
        name.removeprefix(_CONNECTION).lower(): url for name, url in environ.items() if name.startswith(_CONNECTION)
    }
    found = {name: url for name, url in sorted(given.items()) if url}
    taken = sorted({"objects", "database", "search", "landing", "store"} & found.keys())
    if taken:
        raise FixInput(
            f"Expected a name of its own for every further connection, found {_CONNECTION}{taken[0].upper()}.",
            remedy="Choose another name; REFOLD_STORE and REFOLD_DATABASE give the connections of every project.",
        )
    return found


def _megabytes(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise FixInput(
            f"REFOLD_MEMORY_LIMIT_MB is {text!r}; expected a whole number of MiB above 0, such as 512.",
            remedy="Correct it, or unset it for half of the machine's memory.",
        )
    return int(text)


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise FixInput(
            f"{name} is {text!r}; expected a number of seconds above 0, such as {default:g}.",
            remedy=f"Correct it, or unset it for {default:g}.",
        )
    return seconds
