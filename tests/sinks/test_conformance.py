"""Every sink keeps every promise of a target, on real databases, files and indexes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import redis

from refold.sinks import BulkNdjson, Cache, Connections, Content, Delta, Sql, Tantivy, Target
from refold.sinks.sql import SqlTarget
from refold.testing.sink_conformance import MakeSink, SinkConformance


def some_rows_without_record(target: Target, content: Content) -> None:
    """Rows of a version that no row of refold_versions counts; a kill cannot leave them, a careless hand can."""
    assert isinstance(target, SqlTarget)
    with target.database.writing() as connection:
        target.database.load(connection, target.rows_table, content.version, content.rows.slice(0, 7), content.columns)


class TestSqlite(SinkConformance):
    @pytest.fixture
    def make_sink(self) -> MakeSink:
        return Sql

    @pytest.fixture
    def connections(self, connections: Connections) -> Connections:
        return connections

    def leave_leftovers(self, connections: Connections, target: Target, content: Content) -> None:
        some_rows_without_record(target, content)


class TestPostgres(SinkConformance):
    @pytest.fixture
    def make_sink(self) -> MakeSink:
        return Sql

    @pytest.fixture
    def connections(self, connections: Connections, postgres: str) -> Connections:
        return connections.using(database=postgres)

    def leave_leftovers(self, connections: Connections, target: Target, content: Content) -> None:
        some_rows_without_record(target, content)


class TestDelta(SinkConformance):
    @pytest.fixture
    def make_sink(self) -> MakeSink:
        return Delta

    @pytest.fixture
    def connections(self, connections: Connections) -> Connections:
        return connections

    def leave_leftovers(self, connections: Connections, target: Target, content: Content) -> None:
        connections.objects.put(f"delta/stock_view/{content.version}/0123-00000.parquet", b"PAR1 half of")


class TestBulkNdjson(SinkConformance):
    @pytest.fixture
    def make_sink(self) -> MakeSink:
        return BulkNdjson

    @pytest.fixture
    def connections(self, connections: Connections) -> Connections:
        return connections

    def leave_leftovers(self, connections: Connections, target: Target, content: Content) -> None:
        connections.objects.put(f"search/bulk/stock_view/{content.version}/bulk-00000.ndjson", b'{"index":')
        connections.objects.put(f"search/bulk/stock_view/{content.version}/bulk-00007.ndjson", b"{}\n{}\n")


class TestBulkNdjsonInManyParts(TestBulkNdjson):
    @pytest.fixture
    def make_sink(self) -> MakeSink:
        return lambda name: BulkNdjson(name, part_size_bytes_max=700)


class TestTantivy(SinkConformance):
    @pytest.fixture
    def make_sink(self) -> MakeSink:
        return Tantivy

    @pytest.fixture
    def connections(self, connections: Connections) -> Connections:
        return connections

    def leave_leftovers(self, connections: Connections, target: Target, content: Content) -> None:
        folder = Path(target.place)
        shutil.copytree(folder / "v0", folder / ".building-killed")
        (folder / ".building-file").write_bytes(b"{")
        (folder / ".dropped-killed" / "index").mkdir(parents=True)


class TestCache(SinkConformance):
    @pytest.fixture
    def make_sink(self) -> MakeSink:
        return Cache

    @pytest.fixture
    def connections(self, connections: Connections, valkey: str) -> Connections:
        return connections.using(cache=valkey)

    def leave_leftovers(self, connections: Connections, target: Target, content: Content) -> None:
        with redis.Redis.from_url(connections.url("cache")) as client:
            client.hset(f"refold:stock_view:b:{content.version}:dead", mapping={"P-1": b'{"level":'})


class TestCacheThatExpires(TestCache):
    @pytest.fixture
    def make_sink(self) -> MakeSink:
        return lambda name: Cache(name, ttl_seconds=3600, former_ttl_seconds=3600)
