"""The cache on a real Valkey: flips, expiry, eviction, loss and drift, and what readers are told meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis

from refold import Cache, CachedRows, Project
from refold.config import Settings
from refold.errors import AccessDenied, Conflict, DeclarationError, Fenced, FixInput, NotFound, Unavailable
from refold.rebuild import rebuild_all
from refold.sinks import Connections, Content
from refold.sinks.cache import CacheTarget
from refold.testing.sink_contents import assert_holds, levels
from tests import shop
from tests.support import Shop
from tests.valkey import serving

PROJECT = shop.little({"on_hand": [Cache("on_hand")], "last_move": [Cache("last_move")]})


@dataclass(frozen=True)
class Cached(Shop):
    """The little shop, whose stores are two caches of one server."""

    project: Project = PROJECT
    url: str = ""

    @property
    def settings(self) -> Settings:
        return replace(super().settings, connections={"cache": self.url})

    def level(self, product: str = "nut") -> object:
        row = CachedRows(self.url, "on_hand").get(product)
        return None if row is None else row["level"]


@pytest.fixture
def cached(tmp_path: Path, valkey: str) -> Cached:
    """Two days, rebuilt."""
    cached = Cached(tmp_path / "root", url=valkey)
    for day in shop.DAYS[:2]:
        shop.land(
            cached.landing, "moves", day, [shop.move(f"{day} {product}", product, 5) for product in ("nut", "bolt")]
        )
    rebuild_all(cached.engine())
    return cached


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey) as client:
        yield client


def dumped(client: redis.Redis) -> dict[bytes, dict[bytes, bytes] | bytes | None]:
    """Everything that the server holds."""
    keys = sorted(client.scan_iter())
    return {key: client.hgetall(key) if b":v:" in key else client.get(key) for key in keys}


def target_of(connections: Connections, valkey: str, content: Content, **options: int) -> CacheTarget:
    return Cache("levels", **options).open(connections.using(cache=valkey), "s", content.key, content.columns)


def test_a_reader_finds_rows_and_tells_a_missing_one_from_a_cold_cache(cached: Cached, client: redis.Redis):
    assert cached.level() == 10
    assert cached.level("screw") is None
    client.flushall()
    with pytest.raises(NotFound, match=r"The cache on_hand in .* is cold"):
        cached.level()


def test_all_is_lost_and_the_next_rebuild_serves_it_again(cached: Cached, client: redis.Redis):
    """Without a new event; what is read back has the proven digest."""
    before = dumped(client)
    client.flushall()
    (differed, _) = [each for each in cached.engine().served.check() if each.differences]
    assert "none that is whole" in str(differed.differences[0])
    rebuild_all(cached.engine())
    assert dumped(client) == before
    assert not [each for each in cached.engine().served.check() if each.differences]


def test_a_server_that_starts_cold_is_filled(tmp_path: Path):
    """As after a restart without persistence."""
    root = tmp_path / "root"
    shop.land(root / "landing", "moves", shop.DAYS[0], [shop.move("1", "nut", 5)])
    for _ in range(2):
        (tmp_path / "server").mkdir(exist_ok=True)
        with serving(tmp_path / "server", "--save", "") as url:
            cached = Cached(root, url=url)
            rebuild_all(cached.engine())
            assert cached.level() == 5


def test_a_lost_version_is_lost_whole_and_repaired(cached: Cached, client: redis.Redis):
    """An eviction takes a key, which is a version: nobody reads a row that is not there for no row."""
    version = cached.engine().releaser.current().versions["on_hand"]
    client.delete(f"refold:on_hand:v:{version}")
    with pytest.raises(NotFound, match="cold"):
        cached.level()
    rebuild_all(cached.engine())
    assert cached.level() == 10


def test_drift_is_named_by_key_and_repaired(cached: Cached, client: redis.Redis):
    """A changed row, a missing one, a strange one and one that cannot be read."""
    version = cached.engine().releaser.current().versions["on_hand"]
    key = f"refold:on_hand:v:{version}"
    row = client.hget(key, "nut")
    client.hset(key, "nut", row.replace(b'"level":10', b'"level":999'))
    client.hset(key, "screw", b"{")
    client.hdel(key, "bolt")
    (differed,) = [each for each in cached.engine().served.check() if each.differences]
    told = "\n".join(map(str, differed.differences))
    for name in ("key nut", "key screw", "key bolt"):
        assert name in told, told
    rebuild_all(cached.engine())
    assert client.hget(key, "nut") == row
    assert client.hlen(key) == 3


def test_two_caches_are_moved_in_one_transaction(cached: Cached, client: redis.Redis):
    """Somebody who reads both pointers at once, all the while, sees one release."""
    seen, done = set[tuple[str, ...]](), threading.Event()

    def watch() -> None:
        while not done.is_set():
            values = client.mget("refold:on_hand:released", "refold:last_move:released")
            seen.add(tuple(json.loads(value)["lineage"]["release"] for value in values))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            for day in (2, 3):
                shop.land(cached.landing, "moves", shop.DAYS[day], [shop.move(f"{day}", "nut", 5)])
                rebuild_all(cached.engine())
        finally:
            done.set()
        watching.result()
    assert seen == {("1", "1"), ("2", "2"), ("3", "3")}


def test_what_is_served_expires_unless_it_is_released_again(connections: Connections, valkey: str, client: redis.Redis):
    """The time counts from the last release; publishing what is served again counts too."""
    content = levels("v1", 1)
    target = target_of(connections, valkey, content, ttl_seconds=100)
    target.publish(content)
    assert client.ttl(target.key_of("v1")) == -1
    target.release("v1", {})
    assert 98 <= client.ttl(target.key_of("v1")) <= 100
    client.expire(target.key_of("v1"), 5)
    target.publish(content)
    assert 98 <= client.ttl(target.key_of("v1")) <= 100
    client.pexpire(target.key_of("v1"), 1)
    while target.versions():
        pass
    assert target.released() is None
    assert [fault.found for fault in target.faults(content, {})] == ["none that is whole"]
    with pytest.raises(NotFound):
        target.release("v1", {})


def test_a_former_version_expires_and_one_that_is_released_again_does_not(
    connections: Connections, valkey: str, client: redis.Redis
):
    first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
    target = target_of(connections, valkey, first, former_ttl_seconds=100)
    for content in (first, second):
        target.publish(content)
        target.release(content.version, {})
    assert 98 <= client.ttl(target.key_of("v1")) <= 100
    assert client.ttl(target.key_of("v2")) == -1
    target.release("v1", {})
    assert client.ttl(target.key_of("v1")) == -1
    assert 98 <= client.ttl(target.key_of("v2")) <= 100
    assert_holds(first, target.read())


def test_a_release_that_is_overtaken_between_look_and_write_looks_again(connections: Connections, valkey: str):
    """What it was told to confirm is asked again, and what the newer one wrote stays."""
    first, second = levels("v1", 1), levels("v2", 2, ordinal=2)
    target = target_of(connections, valkey, first)
    for content in (first, second):
        target.publish(content)
    asked = []

    def confirm() -> None:
        asked.append(target.released())
        if len(asked) == 1:
            target.release("v2", {})
        else:
            raise Conflict("A newer release was made.")

    with pytest.raises(Conflict, match="newer"):
        Cache("levels").release_together([(target, "v1", {})], confirm)
    assert asked == [None, "v2"]
    assert_holds(second, target.read())


def test_a_token_below_one_that_was_seen_is_refused_in_the_write_itself(connections: Connections, valkey: str):
    """Publishing, releasing, dropping and withdrawing alike; nothing changes."""
    content = levels("v1", 1)

    def with_token(token: int) -> CacheTarget:
        @contextmanager
        def fence(_: str) -> Iterator[int]:
            yield token

        return target_of(replace(connections, fence=fence), valkey, content)

    with_token(2).publish(content)
    with_token(2).release("v1", {})
    old = with_token(1)
    for write in (lambda: old.publish(content), lambda: old.release("v1", {}), lambda: old.drop("v2"), old.withdraw):
        with pytest.raises(Fenced, match="fencing token 2, so a write with token 1 is refused"):
            write()
    assert_holds(content, with_token(3).read())


@pytest.mark.parametrize("died_after", range(3))
def test_a_publish_that_died_leaves_nothing_that_stays(
    died_after: int, connections: Connections, valkey: str, client: redis.Redis
):
    """What it has built expires, and a version is there or not."""
    content = levels("v1", 1, count=12)
    target = target_of(connections, valkey, content)
    pieces = [[("", b"{}")], *([(f"P-{n}", b"{}")] for n in range(3))][: died_after + 1]
    target.server.load("refold:levels:b:v1:dead", [field for piece in pieces for field in piece], 1, 3600)
    assert target.versions() == []
    assert 3590 <= client.ttl("refold:levels:b:v1:dead") <= 3600
    target.publish(content)
    assert_holds(content, target.read("v1"))
    assert client.ttl(target.key_of("v1")) == -1


@pytest.mark.parametrize(
    ("options", "fault"), [({"ttl_seconds": 0}, "ttl_seconds is 0"), ({"former_ttl_seconds": -1}, "is -1")]
)
def test_a_time_that_is_none_is_refused(options: dict[str, int], fault: str):
    with pytest.raises(DeclarationError, match=fault):
        Cache("levels", **options)


def test_servers_that_cannot_be_used_are_told_apart(connections: Connections, tmp_path: Path):
    """No server, a wrong password, a full one, and a URL that is none."""
    content = levels("v1", 1, count=2000)
    with pytest.raises(FixInput, match="URL of a Redis or Valkey server, found http"):
        target_of(connections, "http://127.0.0.1", content)
    with pytest.raises(Unavailable, match="is unavailable"):
        target_of(connections, f"unix://{tmp_path}/none.sock", content).publish(content)
    for name, options, error, told in (
        ("a", ("--requirepass", "secret"), AccessDenied, "Check user and password"),
        ("b", ("--maxmemory", "1mb", "--maxmemory-policy", "noeviction"), FixInput, "is full"),
    ):
        (tmp_path / name).mkdir()
        with serving(tmp_path / name, *options) as url, pytest.raises(error, match=told):
            target_of(connections, url, content).publish(content)


def test_the_password_of_a_server_is_shown_nowhere(connections: Connections):
    target = target_of(connections, "redis://ada:hunter2@127.0.0.1:1/0", levels("v1", 1))
    assert "hunter2" not in target.place
    with pytest.raises(Unavailable) as caught:
        target.versions()
    assert "hunter2" not in str(caught.value)


def test_a_release_records_how_its_cache_is_opened_again(cached: Cached):
    """By a project that no longer declares it: it is withdrawn, and nothing is served."""
    without = replace(cached, project=shop.little({"on_hand": []}))
    shop.land(cached.landing, "moves", shop.DAYS[2], [shop.move("9", "nut", 5)])
    rebuild_all(without.engine())
    with pytest.raises(NotFound, match="cold"):
        cached.level()
