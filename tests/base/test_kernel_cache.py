"""Compiled kernels are kept between processes, and do without the cache where it cannot be used."""

import os
import subprocess
import sys
from enum import Enum
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa
import pytest

from refold.base import kernel_cache
from refold.rules import Rule
from refold.types import int64
from tests.rules.test_compiled_equals_interpreted import by_kernel


class Kind(Enum):
    A = 1


class Total(NamedTuple):
    total: int = 0


def total(row: Total, event):
    return row._replace(total=row.total + event.number)


def folded(rule):
    result = by_kernel(
        rule, rule.default_rows(2), np.array([0, 1, 0]), pa.table({"number": [1, 2, 3]}), np.ones(3, bool)
    )
    return result.rows.to_pydict()


def test_a_kernel_is_compiled_once_and_loaded_afterwards(tmp_path, monkeypatch):
    """This process compiles, another loads: numba counts a hit and no miss there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    first = Rule.of(total, {"number": int64()}, 1)
    assert first.compile()
    assert folded(first) == {"total": [4, 2]}
    assert sum(first._kernel._fold.stats.cache_misses.values()) == 1
    assert [path.suffix for path in (tmp_path / "refold").iterdir()] == [".kernel"]
    script = (
        "import sys; from pathlib import Path; from refold.base.kernel_cache import compiled\n"
        "stats = compiled(Path(sys.argv[1]).read_text()).stats\n"
        "print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))"
    )
    generated = tmp_path / "generated"
    generated.write_text(first._kernel.source)
    run = subprocess.run(
        [sys.executable, "-c", script, str(generated)], capture_output=True, text=True, env=dict(os.environ), check=True
    )
    assert run.stdout.split() == ["1", "0"]


def test_a_cache_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    """A file is where the folder should be."""
    (tmp_path / "refold").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    rule = Rule.of(total, {"number": int64()}, 1)
    assert rule.compile()
    assert folded(rule) == {"total": [4, 2]}


def test_the_cache_folder_follows_numbas_setting(tmp_path, monkeypatch):
    """Whoever has moved numba's cache has moved ours."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert kernel_cache.cache_folder() == tmp_path / "refold"


def test_a_rule_that_numba_refuses_is_interpreted_and_says_so():
    """The kernel's source is replaced by one that numba cannot type."""
    rule = Rule.of(total, {"number": int64()}, 1)
    rule._kernel.source = rule._kernel.source.replace("|= words[0]", "|= 'x'")
    assert rule.interpreted_because is None
    assert not rule.compile()
    assert "numba refuses it" in rule.interpreted_because
    n = 30_000
    result = rule.fold(
        rule.default_rows(1), np.zeros(n, np.int64), pa.table({"number": np.ones(n, int)}), np.ones(n, bool)
    )
    assert result.rows.to_pydict() == {"total": [n]}


def test_switched_off_compiling_is_a_reason_to_interpret(monkeypatch):
    """numba's own switch."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert "switched off" in Rule.of(total, {"number": int64()}, 1).interpreted_because


def test_kept_kernels_are_private_to_the_user(cache):
    """What is loaded from there runs as this user, so nobody else may write it."""
    assert [path.stat().st_mode & 0o777 for path in (cache, *cache.iterdir())] == [0o700, 0o600]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, into which a process has compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert not Rule.of(total, {"number": int64()}, 1).was_compiled
    assert Rule.of(total, {"number": int64()}, 1).compile()
    assert Rule.of(total, {"number": int64()}, 1).was_compiled
    return tmp_path / "refold"


def loaded():
    """A new rule's kernel, and whether numba loaded it."""
    rule = Rule.of(total, {"number": int64()}, 1)
    assert rule.compile()
    assert folded(rule) == {"total": [4, 2]}
    stats = getattr(rule._kernel._fold, "stats", None)
    return sum(stats.cache_hits.values()) == 1 and not stats.cache_misses


def one_bit(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [one_bit, lambda data: data[:100], lambda data: b"", lambda data: b"import os"],
    ids=["one bit", "cut off", "empty", "foreign"],
)
def test_compiled_code_that_is_not_what_was_kept_is_made_again_and_never_run(cache, damage):
    """A bit that flipped in machine code ends a process when it is run, or gives wrong rows."""
    assert loaded()
    for path in cache.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    assert not Rule.of(total, {"number": int64()}, 1).was_compiled
    assert not loaded()
    assert loaded()


def test_a_kernel_under_another_name_is_not_loaded(cache):
    """Its content is sound, and it is the kernel of another rule, signature or machine."""
    (path,) = cache.iterdir()
    other = path.with_name(path.name.replace("fold-", "fold-0"))
    path.replace(other)
    assert kernel_cache._read(other) is None
    assert kernel_cache._read(other.replace(path)) is not None


def test_the_identity_of_a_function_follows_what_it_calls_and_the_values_it_names():
    """A kernel contains the functions it calls, so that one changed in another module is another kernel."""
    source = "def helper(a): return a + {0}\ndef first(a): return helper(a) + K\n"

    def identity(constant, outside):
        scope = {"__name__": "made", "K": outside}
        exec(source.format(constant), scope)
        return kernel_cache.identity_of(scope["first"])

    assert identity(1, 2) == identity(1, 2)
    assert len({identity(1, 2), identity(2, 2), identity(1, 3)}) == 3


def test_a_folder_that_others_may_write_to_is_not_used(cache):
    """Whoever can put files there could run code as this user."""
    before = sorted(cache.rglob("*"))
    cache.chmod(0o777)
    assert "others may write to it" in kernel_cache.unusable_because(cache)
    rule = Rule.of(total, {"number": int64()}, 1)
    assert rule.compile()
    assert folded(rule) == {"total": [4, 2]}
    assert not rule._kernel._fold.stats.cache_hits
    assert sorted(cache.rglob("*")) == before


AT_ONCE = """
import sys
from pathlib import Path
import numpy as np
from refold.base.kernel_cache import compiled
source = Path(sys.argv[1]).read_text()
import numba  # before the starting signal, so that all compile at once
print("ready", flush=True)
sys.stdin.readline()
fold = compiled(source)
rows, outcomes, reasons = np.zeros(2, np.int64), np.full(3, 255, np.uint8), np.zeros(3, np.uint8)
numbers = np.array([1, 2, 3])
fold(0, np.array([0, 1, 0]), np.ones(3, bool), outcomes, reasons, np.zeros(1, np.int64), rows, numbers)
print(*rows, *outcomes)
"""


def test_processes_that_compile_at_once_all_fold_right_and_leave_a_sound_cache(tmp_path, monkeypatch):
    """Three begin with an empty cache at the same signal; one afterwards compiles nothing, or all over again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    source = tmp_path / "source"
    source.write_text(Rule.of(total, {"number": int64()}, 1)._kernel.source)
    command = [sys.executable, "-c", AT_ONCE, str(source)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(3)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0].split() for process in processes] == [["4", "2", "0", "0", "0"]] * 3
    loaded()
    assert loaded()
    assert not list((tmp_path / "cache").rglob("*.tmp"))
