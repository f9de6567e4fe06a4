"""Cached machine code that was damaged, or that another user may write, is compiled again and never run."""

import importlib.util
import marshal
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from refold.base import kernel_cache

TRIALS = 200

FOLD = """
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from refold.canonical.encoding import encode_rows
from refold.rules import Rule
from refold.types import int64


class Total(NamedTuple):
    total: int = 0


def total(row: Total, event):
    return row._replace(total=row.total + event.number)


rule = Rule.of(total, {"number": int64()}, 1)
rule.compile()
events = pa.table({"number": np.arange(100_000)})
result = rule.fold(rule.default_rows(7), np.arange(100_000) % 7, events, np.ones(100_000, bool))
rows = encode_rows(result.rows, rule.row_columns)
print(*result.rows["total"].to_pylist(), *(hex(value) for value in rows.hashes()))
"""
"""A rule and two of the library's own kernels; what they compute is compared with plain Python below."""


def folded(cache: Path) -> list[int]:
    """The totals of a new process, which must not fail; it checks that hashes were given as well."""
    program = cache.parent / "fold.py"
    program.write_text(FOLD)
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(cache), PYTHONDONTWRITEBYTECODE="")
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = run.stdout.split()
    assert found[7:] == HASHES
    return [int(value) for value in found[:7]]


TOTALS = [sum(range(key, 100_000, 7)) for key in range(7)]


def murmur64a(data: bytes) -> int:
    """MurmurHash64A of nine bytes with seed 0, in plain Python."""
    m, mask = 0xC6A4A7935BD1E995, (1 << 64) - 1
    h = len(data) * m & mask
    k = int.from_bytes(data[:8], "little") * m & mask
    h = (h ^ ((k ^ (k >> 47)) * m & mask)) * m & mask
    h = (h ^ data[8]) * m & mask
    h = (h ^ (h >> 47)) * m & mask
    return h ^ (h >> 47)


HASHES = [hex(murmur64a(b"\x01" + value.to_bytes(8, "little"))) for value in TOTALS]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[Path, bytes]:
    """What a process keeps that computes for the first time: every file, by its path below the cache."""
    cache = tmp_path_factory.mktemp("compiled") / "cache"
    assert folded(cache) == TOTALS
    return {path.relative_to(cache): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


@pytest.fixture
def cache(compiled, tmp_path) -> Path:
    """A folder of the test's own with these files."""
    for name, content in compiled.items():
        path = tmp_path / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_bytes(content)
    return tmp_path / "cache"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_bit_flipped_in_every_kept_file_is_compiled_again(cache, compiled, seed):
    """F7: numba ran what its files held: 12 crashes, 3 errors and one log sealed wrongly in 48 trials."""
    rng = random.Random(seed)
    for path in sorted(each for each in cache.rglob("*") if each.is_file()):
        size = path.stat().st_size
        # in machine code rather than in padding: the last third of a file is names and environments
        flip(path, rng.randrange(size * 8 // 10, size * 8 * 6 // 10))
    assert folded(cache) == TOTALS
    assert {path.relative_to(cache) for path in cache.rglob("*") if path.is_file()} == set(compiled)
    assert all(kernel_cache._read(cache / name) is not None for name in compiled)


def test_none_of_200_flipped_bits_passes_the_check(cache, compiled):
    """F7: the check before each load, at any place of any file."""
    rng, files = random.Random(7), sorted(compiled)
    assert len(files) >= 3  # one rule, two kernels of the library
    assert all(kernel_cache._read(cache / name) is not None for name in files)
    for trial in range(TRIALS):
        path = cache / files[trial % len(files)]
        place = rng.randrange(path.stat().st_size * 8)
        flip(path, place)
        assert kernel_cache._read(path) is None, (path.name, place)
        flip(path, place)
        assert kernel_cache._read(path) is not None


def others_may_write(folder: Path) -> None:
    folder.chmod(0o777)


def another_users(folder: Path) -> None:
    os.chown(folder, 12345, 12345)


def another_users_files(folder: Path) -> None:
    for path in folder.iterdir():
        os.chown(path, 12345, 12345)


def files_others_may_write(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o666)


@pytest.mark.parametrize("open_up", [others_may_write, another_users, another_users_files, files_others_may_write])
def test_what_another_user_could_have_written_is_not_loaded(cache, compiled, open_up):
    """F7: in a `NUMBA_CACHE_DIR` of mode 1777 another user's code ran."""
    cache.chmod(0o1777)
    if open_up in (another_users, another_users_files) and os.getuid() != 0:
        pytest.skip("only root can give files away")
    folders = {(cache / name).parent for name in compiled}
    for folder in folders:
        open_up(folder)
    assert all(kernel_cache._read(cache / name) is None for name in compiled)


def test_code_planted_in_a_shared_folder_is_not_run(cache, compiled):
    """F7: the planted file is a pickle that ends the process; its folder may be written by others."""
    cache.chmod(0o1777)
    for name in compiled:
        (cache / name).parent.chmod(0o777)
        (cache / name).write_bytes(b"cos\n_exit\n(I7\ntR.")
    assert folded(cache) == TOTALS


def test_a_changed_pyc_beside_a_generated_rule_is_not_run(cache, compiled):
    """F8: Python preferred the `.pyc` to the source that was checked, and wrong rows were "equal to full replay"."""
    for name in compiled:
        if name.suffix != ".py":
            (cache / name).unlink()
    for source in cache.rglob("*.py"):
        wrong = compile(source.read_text().replace("return c\n", "return c + 1\n"), source, "exec")
        stamp = int(source.stat().st_mtime).to_bytes(4, "little") + source.stat().st_size.to_bytes(4, "little")
        path = Path(importlib.util.cache_from_source(str(source)))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(importlib.util.MAGIC_NUMBER + bytes(4) + stamp + marshal.dumps(wrong))
    assert folded(cache) == TOTALS
    assert not [path for path in cache.rglob("*") if path.suffix in (".py", ".pyc")]
