"""Reading a cache: what an application that has the key wants to know, in two round trips."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from refold.errors import NotFound
from refold.sinks.cache import pointer_of, version_key
from refold.sinks.cache_server import CacheServer
from refold.sinks.values import document_id

_LOOKS_MAX = 10


class CachedRows:
    """The rows of one cache as its last release shows them.

    Args:
        url: the URL of the server.
        cache: the name of the cache, as in `Cache("prices")`.
    """

    def __init__(self, url: str, cache: str) -> None:
        self._server = CacheServer(url)
        self._cache = cache

    def get(self, *key: object) -> Mapping[str, object] | None:
        """The row of a key as JSON values (decimals and times are text); None where the store has no such key.

        All of a row is of one version, and a key that is read again is of the same version or of another release.

        Raises:
            NotFound: the cache is cold: nothing was released, or the version that is served was evicted or has
                expired. Read the row elsewhere meanwhile.
            Unavailable: the server does not answer.
        """

        def look(client: Any) -> Mapping[str, object] | None:
            for _ in range(_LOOKS_MAX):
                pointer = client.get(pointer_of(self._cache))
                if pointer is None:
                    break
                version = json.loads(pointer)["version"]
                meta, row = client.hmget(version_key(self._cache, version), ["", document_id(key)])
                if meta is not None:
                    return json.loads(row) if row is not None else None
                if client.get(pointer_of(self._cache)) == pointer:
                    break
            raise NotFound(f"The cache {self._cache} in {self._server.place} is cold.", remedy="Run `refold rebuild`.")

        return self._server.run(look)
