"""A disk that is full, and a port that is not a number: typed errors that name the place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from refold.dedup.repeated_hashes import RepeatedHashes
from refold.dedup.spill import Kept
from refold.errors import DeclarationError, FixInput, Unavailable
from refold.sinks import Connections, Delta, Sql, Tantivy
from refold.sinks.base import Sink, Target
from refold.storage.objects import ObjectStore
from refold.testing.sink_conformance import levels


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, *, but_bytes: int = 0) -> None:
    """Leave no more room than this."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - but_bytes))


def target_of(sink: Sink, disk: Path) -> Target:
    content = levels("v1", 3)
    urls = {"database": f"sqlite:///{disk / 'refold.db'}", "search": str(disk / "search")}
    return sink.open(Connections(ObjectStore.open(str(disk / "store")), urls), "a_store", content.key, content.columns)


@pytest.mark.parametrize("free_bytes", [0, 4096, 12288, 40960])
@pytest.mark.parametrize("sink", [Sql("stock_view"), Delta("stock"), Tantivy("stock")], ids=lambda sink: sink.kind)
def test_a_sink_on_a_full_disk_is_unavailable_serves_what_it_did_and_goes_on(
    disk: Path, sink: Sink, free_bytes: int
) -> None:
    """F11: ValueError of tantivy, OSError of Delta's commit."""
    content = levels("v1", 3)
    target = target_of(sink, disk)
    target.publish(content)
    target.release("v1", {})
    larger = levels("v2", 4, count=20_000)
    fill(disk, but_bytes=free_bytes)
    with pytest.raises(Unavailable, match=str(disk)):
        target.publish(larger)
    assert target.released() == "v1"
    assert target.read().sort_by("product_id").equals(content.rows)
    (disk / "filler").unlink()
    target.publish(levels("v2", 4))
    target.release("v2", {})
    assert target.released() == "v2"


@pytest.mark.parametrize("sink", [Sql("stock_view"), Delta("stock"), Tantivy("stock")], ids=lambda sink: sink.kind)
def test_a_release_on_a_full_disk_is_unavailable(disk: Path, sink: Sink) -> None:
    """F11: the commit of a release, which writes little, on a disk that takes nothing."""
    target = target_of(sink, disk)
    for version in ("v1", "v2"):
        target.publish(levels(version, 3))
    target.release("v1", {})
    fill(disk)
    with pytest.raises(Unavailable, match=str(disk)):
        target.release("v2", {})
    assert target.released() == "v1"
    (disk / "filler").unlink()
    target.release("v2", {})
    assert target.released() == "v2"


def test_a_full_folder_of_temporary_files_is_unavailable_and_named(disk: Path) -> None:
    """F11: a traceback where TMPDIR was full; ids and hashes spill there."""
    program = "import tests.attacks.test_full_disks as t; t.spill_hashes(); t.spill_values()"
    fill(disk, but_bytes=8192)
    environment = dict(os.environ, TMPDIR=str(disk))
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.count(f"Temporary files cannot be written to TMPDIR={disk}: the file system is unavailable") == 2


def spill_hashes() -> None:
    """More hashes than memory and disk hold; prints the error."""
    try:
        repeated = RepeatedHashes(memory_bytes=1024)
        for start in range(0, 4_000_000, 100_000):
            repeated.add(np.arange(start, start + 100_000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    except Unavailable as error:
        print(error)  # noqa: T201  # for the test that runs this


def spill_values() -> None:
    """More values than memory and disk hold; prints the error."""
    try:
        kept = Kept[bytes](memory_bytes=10, size_of=len)
        for key in range(1000):
            kept.keep(key, bytes(10_000))
    except Unavailable as error:
        print(error)  # noqa: T201  # for the test that runs this


@pytest.mark.parametrize(
    "url", ["postgresql://ann:secret@db:port/shop", "postgresql://ann:secret@db:99999999/shop", "postgresql://db:5 4/x"]
)
def test_a_database_port_that_is_not_a_number_is_named_without_the_password(url: str, tmp_path: Path) -> None:
    """F11: a traceback of the driver's URL parser."""
    content = levels("v1", 3)
    places = Connections(ObjectStore.open(str(tmp_path)), {"database": url})
    with pytest.raises((DeclarationError, FixInput), match=r"port|URL") as told:
        Sql("stock_view").open(places, "a_store", content.key, content.columns).read()
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:port", "http://127.0.0.1:99999999"])
def test_an_object_store_with_a_port_that_is_not_a_number_is_a_matter_of_the_url(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F11: the address of the object store, which the environment gives."""
    monkeypatch.setenv("AWS_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(FixInput, match=f"AWS_ENDPOINT={endpoint} is not an address: "):
        ObjectStore.open("s3://bucket/x").get("nothing")
