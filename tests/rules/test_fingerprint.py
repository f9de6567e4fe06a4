"""The fingerprint changes with what a rule answers, and with nothing else."""

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from refold.errors import DeclarationError
from refold.rules import Rule
from refold.types import boolean, enum, int64, text

BASE = '''
from enum import Enum, IntEnum
from typing import NamedTuple
from refold.rules import reject, ignore

LIMIT = 100
NAMES = frozenset({"a", "b", "c"})

class Movement(Enum):
    ADD = "add"
    REMOVE = "remove"

class Why(IntEnum):
    TOO_MUCH = 1

class Stock(NamedTuple):
    level: int = 0
    moves: int = 0

def capped(value, most=LIMIT):
    """Not part of it."""
    return min(value, most)

def stock(row: Stock, event):
    """Units on hand."""
    if event.country in NAMES:
        return ignore()
    match event.event_type:
        case Movement.ADD:
            return row._replace(level=capped(row.level + event.quantity))
        case Movement.REMOVE if event.quantity > row.level:
            return reject(Why.TOO_MUCH)
    return row._replace(level=row.level - event.quantity)
'''

_numbers = itertools.count()


def columns_of(module):
    return {"quantity": int64(), "event_type": enum(module.Movement), "country": text(), "flag": boolean()}


def load(folder: Path, source: str):
    name = f"rule_of_test_{next(_numbers)}"
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def fingerprint_of(folder, source, columns=columns_of):
    module = load(folder, source)
    return Rule.of(module.stock, columns(module), 1).fingerprint


def changed(*pairs):
    source = BASE
    for old, new in pairs:
        assert source.count(old) >= 1, old
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("# a comment\n\n\n" + BASE, id="lines before it"),
        pytest.param(changed(("    if event.country", "    # why\n    if  event.country")), id="comment and space"),
        pytest.param(changed(('    """Units on hand."""\n', "")), id="docstring of the rule"),
        pytest.param(changed(("Not part of it.", "Changed.")), id="docstring of a helper"),
        pytest.param(
            changed(("stock(row: Stock, event)", "stock(row: Stock, event: object) -> object")), id="annotations"
        ),
        pytest.param(changed(("capped(value,", "capped(value: int,")), id="annotation of a helper"),
        pytest.param(
            changed(("row.level + event.quantity", "(row.level\n                + event.quantity)")), id="layout"
        ),
        pytest.param(changed(("def stock(", "def unrelated():\n    return 7\n\ndef stock(")), id="other functions"),
        pytest.param(changed(('"a", "b", "c"', '"c", "a", "b"')), id="order of a frozenset"),
        pytest.param(changed(("LIMIT = 100", "LIMIT = 10 ** 2")), id="the same constant, written otherwise"),
        pytest.param(
            "def same(f):\n    return f\n" + changed(("def stock(", "@same\ndef stock(")),
            id="a decorator that returns it",
        ),
    ],
)
def test_what_does_not_change_the_answer_keeps_the_fingerprint(tmp_path, source):
    """Layout, comments, docstrings, annotations and the rest of the file do not count."""
    assert fingerprint_of(tmp_path, source) == fingerprint_of(tmp_path, BASE)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(changed(("LIMIT = 100", "LIMIT = 101")), id="default that a helper reads"),
        pytest.param(changed(("min(value, most)", "max(value, most)")), id="body of a helper"),
        pytest.param(changed(('"a", "b", "c"', '"a", "b"')), id="constant"),
        pytest.param(changed(('ADD = "add"', 'ADD = "plus"')), id="value of an enum member"),
        pytest.param(changed(("TOO_MUCH = 1", "TOO_MUCH = 2")), id="reason code"),
        pytest.param(changed(("TOO_MUCH", "FAR_TOO_MUCH")), id="reason name"),
        pytest.param(changed(("level: int = 0", "level: int = 1")), id="default of a field"),
        pytest.param(changed(("moves: int = 0", "moves: bool = False")), id="type of a field"),
        pytest.param(changed(("moves: int = 0", "moves: int = 0\n    more: int = 0")), id="another field"),
        pytest.param(changed(("event.quantity > row.level", "event.quantity >= row.level")), id="operator"),
        pytest.param(changed(("return ignore()", "return row")), id="answer"),
        pytest.param(changed(("row.level - event.quantity", "row.level - event.quantity - 0")), id="term"),
    ],
)
def test_what_changes_the_answer_changes_the_fingerprint(tmp_path, source):
    """Everything the rule reads counts, wherever it is written."""
    assert fingerprint_of(tmp_path, source) != fingerprint_of(tmp_path, BASE)


def test_the_types_of_the_columns_read_count_and_those_of_others_do_not(tmp_path):
    """A column that becomes nullable changes what the rule sees; one it does not read changes nothing."""
    base = fingerprint_of(tmp_path, BASE)
    nullable = fingerprint_of(tmp_path, BASE, lambda m: columns_of(m) | {"quantity": int64(null=True)})
    unread = fingerprint_of(tmp_path, BASE, lambda m: columns_of(m) | {"flag": int64(), "more": text()})
    assert nullable != base
    assert unread == base


def test_the_declared_version_is_in_the_code_version_alone(tmp_path):
    """Version and fingerprint are told apart."""
    module = load(tmp_path, BASE)
    one, two = (Rule.of(module.stock, columns_of(module), version) for version in (1, 2))
    assert one.fingerprint == two.fingerprint
    assert (one.code_version, two.code_version) == (f"1-{one.fingerprint[:12]}", f"2-{one.fingerprint[:12]}")


def test_values_that_only_compare_equal_are_told_apart(tmp_path):
    """1, True and "1" are different constants."""
    sources = [changed(("LIMIT = 100", f"LIMIT = {value}")) for value in ("1", "True", "'1'", "b'1'", "None", "(1,)")]
    assert len({fingerprint_of(tmp_path, source) for source in sources}) == len(sources)


def test_hash_seed_and_folder_do_not_count(tmp_path):
    """A process with a fixed hash seed agrees with this one, whose seed is another; so does the frozen value below."""
    script = (
        "import sys, importlib; sys.path.insert(0, sys.argv[1]); m = importlib.import_module('kept');\n"
        "from refold.rules import Rule\nfrom refold.types import *\n"
        "columns = {'quantity': int64(), 'event_type': enum(m.Movement), 'country': text()}\n"
        "print(Rule.of(m.stock, columns, 1).fingerprint)"
    )
    (tmp_path / "kept.py").write_text(BASE)
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.strip() == fingerprint_of(tmp_path, BASE)


def test_the_fingerprint_of_a_known_rule_is_frozen(tmp_path):
    """Another value here invalidates the checkpoints and proofs of all users: change the format's name with it."""
    assert fingerprint_of(tmp_path, BASE) == "0cb7d8e21f229e2e58270605e5d3973b5234f2c4a5a2a389806759b33f54ffcf"


def test_a_file_changed_since_it_was_loaded_is_refused(tmp_path):
    """Else the fingerprint would be of a text that does not run."""
    module = load(tmp_path, BASE)
    Path(module.__file__).write_text(changed(("row.level - event.quantity", "row.level + event.quantity")))
    with pytest.raises(DeclarationError, match="has changed since it was loaded"):
        Rule.of(module.stock, columns_of(module), 1)


def test_a_helper_changed_since_it_was_loaded_is_refused(tmp_path):
    """The same for what the rule calls."""
    module = load(tmp_path, BASE)
    Path(module.__file__).write_text(changed(("min(value, most)", "max(value, most)")))
    with pytest.raises(DeclarationError, match="capped has changed since it was loaded"):
        Rule.of(module.stock, columns_of(module), 1)


CHANGES = {
    "a constant": ("LIMIT", "module.LIMIT = 200", "LIMIT is 200 now, and was 100"),
    "a constant that is gone": ("LIMIT", "del module.LIMIT", "LIMIT is gone now, and was 100"),
    "a constant of a class": ("Limits.MOST", "module.Limits.MOST = 200", "Limits.MOST is 200 now, and was 100"),
    "one of another type": ("LIMIT", "module.LIMIT = Decimal(100)", "LIMIT is Decimal('100') now, and was 100"),
    "a helper": ("LIMIT", "module.capped = max", "capped is <built-in function max> now, and was a function"),
    "a default": ("LIMIT", "module.capped.__defaults__ = (200,)", "capped has other code or defaults"),
    "a helper's code": ("LIMIT", "module.capped.__code__ = other.__code__", "capped has other code or defaults"),
}


@pytest.mark.parametrize(("read", "change", "found"), CHANGES.values(), ids=CHANGES)
def test_a_rule_does_not_run_by_what_its_fingerprint_does_not_cover(tmp_path, read, change, found):
    """A module that sets a constant again below the rule would have other rows proven under the same name."""

    def other(value, most=1):
        return 0

    source = changed(
        ("def capped(value, most=LIMIT):", "class Limits:\n    MOST = 100\n\ndef capped(value, most=0):"),
        ("return min(value, most)", f"return min(value, {read}) + most"),
    )
    module = load(tmp_path, source)
    rule = Rule.of(module.stock, columns_of(module), 1)
    events = pa.table({"quantity": [3], "event_type": ["add"], "country": ["d"]})
    rows = rule.default_rows(1)
    folded = rule.fold(rows, np.array([0]), events, np.ones(1, bool)).rows
    assert folded["level"].to_pylist() == [3]
    exec(change, {"module": module, "other": other, "Decimal": Decimal})
    with pytest.raises(DeclarationError, match=re.escape(found)):
        rule.fold(rows, np.array([0]), events, np.ones(1, bool))
    with pytest.raises(DeclarationError, match=re.escape(found)):
        list(rule.steps((0, 0), events))
