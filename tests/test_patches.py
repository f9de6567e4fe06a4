"""Tests inject what they replace. The few places that patch code are listed here, each with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MACHINE = "number of cores and thresholds of this machine, which no caller chooses"
CONSTANT = "a limit that no caller chooses, made small so that little data reaches it"
PATHS = "Python's import path, which a command loads a project through"
NUMBA = "numba's switch, which is read from a module of numba"
WATCHED = "calls are counted and passed on, at a function that takes no observer"

ALLOWED = {
    "base/test_kernel_cache.py": (1, NUMBA),
    "base/test_parallel.py": (1, MACHINE),
    "dagster/test_automation.py": (1, "the delay before Dagster retries, fixed when assets are defined"),
    "dedup/test_rereading.py": (1, "the folder of temporary files, to see what is left in it"),
    "diff/conftest.py": (2, PATHS),
    "failpoints/watching.py": (2, "every function that writes outside Refold is watched, to kill the process there"),
    "landing/test_jsonl_fast_path.py": (4, f"{MACHINE}; {CONSTANT}; {WATCHED}"),
    "log/test_compaction.py": (2, MACHINE),
    "log/test_segments.py": (3, f"{MACHINE}; {CONSTANT}"),
    "machine/keeping.py": (1, CONSTANT),
    "machine/mutants.py": (7, "mutants change code on purpose; the machine must notice"),
    "machine/test_machine.py": (1, "a wrong answer of the model, which must fail the schedule"),
    "plan/house.py": (5, WATCHED),
    "plan/test_forecast.py": (2, "a forecast that fails in its parts must fail no rebuild"),
    "proof/test_double_fold.py": (5, f"a compiled rule that computes wrong, as broken memory would; {MACHINE}"),
    "proof/test_prover.py": (2, "versions of libraries, as another environment has them"),
    "release/racing.py": (1, "the process kills itself where a sink would be moved or dropped"),
    "rules/test_explain.py": (2, f"{NUMBA}; {WATCHED}"),
    "seal/test_decoding.py": (2, f"{MACHINE}; {CONSTANT}"),
    "seal/test_seen_index.py": (2, MACHINE),
    "sinks/test_delta.py": (1, CONSTANT),
    "sinks/test_other_package.py": (2, "the project that commands load; a package that is not installed"),
    "stores/test_another_kind.py": (1, PATHS),
    "stores/test_state.py": (1, "hashes that collide, which no small data gives"),
}
"""By file: how many patches, and why they cannot be parameters."""


def patches(source: str) -> Iterator[int]:
    """The lines that set an attribute of other code: `setattr`, `monkeypatch.setattr`, `mock.patch` and its kind."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")
            if name[-1] == "setattr" or (
                "patch" in (name[-1], *name[-2:-1]) and name[-1] in ("patch", "object", "dict")
            ):
                yield node.lineno


@pytest.mark.parametrize(
    "call",
    [
        "setattr(x, 'y', 1)",
        "monkeypatch.setattr(x, 'y', 1)",
        "mock.patch('x')",
        "mock.patch.object(x, 'y')",
        "patch('x')",
    ],
)
def test_every_way_to_patch_is_found(call: str):
    assert list(patches(f"def f():\n    with g():\n        {call}\n")) == [3]


def test_no_test_patches_code_but_those_listed():
    found = {
        path.relative_to(TESTS).as_posix(): count
        for path in sorted(TESTS.rglob("*.py"))
        if (count := len(list(patches(path.read_text()))))
    }
    assert found == {name: count for name, (count, _) in ALLOWED.items()}, (
        "hand it in instead, or list it with a reason"
    )
