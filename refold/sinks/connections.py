"""Connections: the places that sinks write to, by name.

Three names always exist: `objects` is the project's object store, `database` the SQL database and `search` the local
folder of search indexes. A project names more through its settings (`REFOLD_CONNECTION_CACHE` names `cache`), and a
sink says which one it uses. What a sink does there belongs to the sink's module.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from refold.errors import FixInput
from refold.storage.objects import ObjectStore
from refold.storage.urls import mask_url

OBJECTS, DATABASE, SEARCH = "objects", "database", "search"
"""The names of the connections that every project has."""

_MASK = "***"


class Fence(Protocol):
    """What holds the writes of sinks to the lease of publishing."""

    def __call__(self, what: str) -> AbstractContextManager[int]:
        """Hold the lease, and give its fencing token. Raises Fenced, saying that `what` is not written."""


@dataclass(frozen=True)
class Connections:
    """The places that sinks write to.

    Attributes:
        objects: the object store.
        urls: the URL or path of every other connection, by name. Passwords are not masked, so it is never shown.
        fence: where there are leases, what every write of a sink is held to. A sink that can compare tokens in the
            write itself does.
    """

    objects: ObjectStore
    urls: Mapping[str, str] = field(repr=False)
    fence: Fence | None = field(default=None, repr=False, compare=False)

    def fenced(self, what: str) -> AbstractContextManager[int | None]:
        """Write under the fence, where there is one. Raises Fenced."""
        return nullcontext() if self.fence is None else self.fence(what)

    def check_fence(self, what: str) -> None:
        """Raise Fenced where the lease is lost, so that `what` is not written."""
        with self.fenced(what):
            pass

    def url(self, name: str) -> str:
        """The URL or path of a connection.

        Raises:
            FixInput: there is no such connection, or its password was masked because a release recorded it.
        """
        url = self.urls.get(name)
        if not url:
            known = ", ".join(sorted(known for known, given in self.urls.items() if given))
            raise FixInput(
                f"A sink needs the connection {name!r}; found only {known}.",
                remedy=f"Set {_setting(name)}, or pass it: open_release(url, {_argument(name)}).",
            )
        if _MASK in url:
            raise FixInput(
                f"The connection {name!r} is known only without its password: {url}.",
                remedy=f"Give it whole: set {_setting(name)}, or pass it: open_release(url, {_argument(name)}).",
            )
        return url

    def path(self, name: str) -> Path:
        """The local folder of a connection. Raises FixInput where it is the URL of something else."""
        url = self.url(name)
        if "://" in url:
            raise FixInput(f"Expected a local folder as the connection {name!r}, found {mask_url(url)}.")
        return Path(url)

    def using(self, **urls: str) -> Connections:
        """The same connections with some of them replaced or added."""
        return replace(self, urls={**self.urls, **urls})

    def recorded(self, name: str) -> str:
        """What a release records of a connection: secrets masked, a folder inside the store relative to the store."""
        url = self.url(name)
        if "://" in url:
            return mask_url(url)
        return self.objects.shorten(Path(url))


def _setting(name: str) -> str:
    return "REFOLD_DATABASE" if name == DATABASE else f"REFOLD_CONNECTION_{name.upper()}"


def _argument(name: str) -> str:
    return "database=..." if name == DATABASE else f"connections={{{name!r}: ...}}"
