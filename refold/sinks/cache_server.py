"""A Redis or Valkey server: connections, watched transactions that carry a fencing token, and understandable errors.

What the keys mean belongs to `refold.sinks.cache`. The client library is imported when a server is first asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

from refold.errors import AccessDenied, Damaged, Fenced, FixInput, Unavailable
from refold.storage.urls import mask_url

T = TypeVar("T")
_SECONDS = 30
_ATTEMPTS_MAX = 100
FENCE = "refold:fence"
_SCHEMES = ("redis", "rediss", "unix")


class CacheServer:
    """One server. Every call opens a connection and closes it, so that none survives a fork."""

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in _SCHEMES:
            raise FixInput(
                f"Expected the URL of a Redis or Valkey server, found {mask_url(url)}.",
                remedy="Use redis://host:6379/0, rediss:// for TLS, or unix:///path/to/socket?db=0.",
            )
        self.url = url
        self.place = mask_url(url)

    def run(self, work: Callable[[Any], T]) -> T:
        """Do something with a client. Raises Unavailable, AccessDenied, FixInput, Damaged."""
        with self._client() as client:
            return work(client)

    def keys(self, pattern: str) -> list[str]:
        """The keys that match a pattern."""
        return self.run(lambda client: [key.decode() for key in set(client.scan_iter(pattern, count=1000))])

    def fields(self, key: str, count: int) -> dict[bytes, bytes]:
        """All fields of a hash; empty where there is none. Read in pieces, so that the server serves others between."""
        return self.run(lambda client: dict(client.hscan_iter(key, count=count)))

    def load(self, key: str, fields: Sequence[tuple[str, bytes]], count: int, seconds: int) -> None:
        """Write a new hash in pieces, which expires unless it is kept."""

        def write(client: Any) -> None:
            left = iter(fields)
            while piece := dict(islice(left, count)):
                # At once, or a process that is killed between the two leaves a hash that never expires.
                with client.pipeline() as transaction:
                    transaction.hset(key, mapping=piece)
                    transaction.expire(key, seconds)
                    transaction.execute()

        self.run(write)

    def transaction(self, work: Callable[[Any], None], watched: Sequence[str], token: int | None) -> None:
        """Do what `work` looks at and queues at once, or again where one of the watched keys changed meanwhile.

        `work` reads, then calls `multi()`, then queues commands. Raises Fenced where a newer token wrote before.
        """
        from redis.exceptions import WatchError  # noqa: PLC0415

        with self._client() as client:
            for _ in range(_ATTEMPTS_MAX):
                with client.pipeline() as transaction:
                    transaction.watch(*watched, FENCE)
                    _require_newest(int(transaction.get(FENCE) or 0), token, self.place)
                    work(transaction)
                    if token is not None:
                        transaction.set(FENCE, token)
                    try:
                        transaction.execute()
                    except WatchError:
                        continue
                    return
        raise Unavailable(f"{self.place} is changed by others all the time.", remedy="Try again.")

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            import redis  # noqa: PLC0415
        except ImportError as error:
            raise FixInput(f"{self.place} needs the Redis client.", remedy="pip install 'refold[redis]'.") from error
        client = redis.Redis.from_url(self.url, socket_timeout=_SECONDS, socket_connect_timeout=10)
        try:
            yield client
        except redis.exceptions.RedisError as error:
            raise _explained(error, self.place) from error
        finally:
            client.close()


def _require_newest(seen: int, token: int | None, place: str) -> None:
    if token is not None and seen > token:
        raise Fenced(
            f"{place} was written with fencing token {seen}, so a write with token {token} is refused: another "
            "process took the lease of publishing.",
            remedy="Nothing was changed. `refold locks` shows who has it; run again once it has finished.",
        )


def _explained(error: Exception, place: str) -> Exception:
    """The Refold error for the client's error."""
    from redis import exceptions  # noqa: PLC0415

    text = str(error)
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError) or "NOAUTH" in text:
        return AccessDenied(f"Access denied to {place}: {text}.", remedy="Check user and password in its URL.")
    if isinstance(error, exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return FixInput(f"{place} is full: {text}.", remedy="Raise its maxmemory, or prune old versions.")
    if "WRONGTYPE" in text:
        return Damaged(f"{place} has a key of another type: {text}.", remedy="Remove it, then run `refold repair`.")
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | exceptions.ReadOnlyError):
        return Unavailable(f"{place} is unavailable: {text}.", remedy="Check that it runs, then try again.")
    return Unavailable(f"{place} refused a command: {text}.", remedy="Check the server, then try again.")
