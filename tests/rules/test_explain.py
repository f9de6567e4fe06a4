"""`refold explain`: every reason to interpret a rule comes with its line, and what is said of a store is so."""

from __future__ import annotations

import inspect
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from assets import PROJECT
from assets.logs import stock_events
from assets.stock import Stock
from refold import Log, boolean, decimal, enum, fold, ignore, int64, latest_by_key, reject, text
from refold.cli.main import cli
from refold.explain.computation import explain
from refold.log.reader import LogReader
from refold.rules import Rule
from refold.stores.folding import columns_to_read
from tests.seal.sealing import STOCK_ONLY
from tests.support import Shop, moved

ROOT = Path(__file__).parents[2]


class Kind(Enum):
    IN = "in"
    OUT = "out"


class Why(IntEnum):
    TOO_MUCH = 7


class Level(NamedTuple):
    level: int = 0
    seen: bool = False


class Named(NamedTuple):
    level: int = 0
    name: str | None = None  # HERE typed_row


class Maybe(NamedTuple):
    level: int | None = None  # HERE nullable_row


class Priced(NamedTuple):
    price: decimal(38, 20) = Decimal(0)  # HERE decimal_row


COLUMNS = {
    "quantity": int64(),
    "flag": boolean(),
    "kind": enum(Kind),
    "country": text(null=True),
    "units": int64(null=True),
    "price": decimal(38, 20),
}
LIMIT = 5
NAMES = ("a", "b")


def typed_row(row: Named, event):
    return row


def nullable_row(row: Maybe, event):
    return row


def decimal_row(row: Priced, event):
    return row


def text_column(row: Level, event):
    if event.flag:
        return row
    return row._replace(level=len(event.country or ""))  # HERE text_column


def nullable_column(row: Level, event):
    return row._replace(level=event.units or 0)  # HERE nullable_column


def length(event):
    return int(event.price)  # HERE column_in_a_helper


def column_in_a_helper(row: Level, event):
    return row._replace(level=length(event))


def loop(row: Level, event):
    for step in (1, 2):  # HERE loop
        row = row._replace(level=row.level + step)
    return row


def while_loop(row: Level, event):
    level = row.level
    while level > LIMIT:  # HERE while_loop
        level = level - event.quantity
    return row._replace(level=level)


def power(row: Level, event):
    level = row.level
    level = level + event.quantity**2  # HERE power
    return row._replace(level=level)


def shift(row: Level, event):
    return row._replace(level=event.quantity << 2)  # HERE shift


def text_constant(row: Level, event):
    name = "a"  # HERE text_constant
    return row._replace(level=len(name))


def comparison_of_texts(row: Level, event):
    return row._replace(seen=event.quantity in (1, 2) and "a" in NAMES)  # HERE comparison_of_texts


def pattern(row: Level, event):
    match event.quantity:
        case int():  # HERE pattern
            return row
    return ignore()


def squared(number):
    return number**2  # HERE power_in_a_helper


def power_in_a_helper(row: Level, event):
    return row._replace(level=squared(event.quantity))


def several(event):  # HERE returns_of_two_kinds
    if event.flag:
        return 1
    return event.flag


def returns_of_two_kinds(row: Level, event):
    return row._replace(level=several(event))


def two_names(row: Level, event):
    low, high = event.quantity, row.level  # HERE two_names
    return row._replace(level=low + high)


def two_kinds(row: Level, event):
    level = row.level
    level = event.flag  # HERE two_kinds
    return row._replace(seen=level)


def perhaps_unset(row: Level, event):
    if event.flag:
        level = 1
    return row._replace(level=level)  # HERE perhaps_unset


def truth_of_an_enum(row: Level, event):
    if event.kind:  # HERE truth_of_an_enum
        return row
    return reject(Why.TOO_MUCH)


def unpacked(row: Level, event):
    return row._replace(**{"level": event.quantity})  # HERE unpacked


def built_in(row: Level, event):
    return row._replace(level=max(row.level, event.flag))  # HERE built_in


def attribute(row: Level, event):
    return row._replace(seen=event.kind.value == "in")  # HERE attribute


def method(row: Level, event):
    return row._replace(level=event.quantity.bit_length())  # HERE method


def of_another_kind(row: Level, event):
    return row._replace(level=event.flag)  # HERE of_another_kind


INTERPRETED = {
    typed_row: "row field name is text?",
    nullable_row: "row field level is int64?",
    decimal_row: "row field price is decimal(38, 20)",
    text_column: "event column country is text?",
    nullable_column: "event column units is int64?",
    column_in_a_helper: "event column price is decimal(38, 20)",
    loop: "It uses For",
    while_loop: "It uses While",
    power: "operator Pow",
    shift: "operator LShift",
    text_constant: "constant 'a'",
    comparison_of_texts: "constant 'a'",
    pattern: "pattern `int()`",
    power_in_a_helper: "operator Pow",
    returns_of_two_kinds: "returns of different kinds in several",
    two_names: "It uses Tuple",
    two_kinds: "variable level for values of different kinds",
    perhaps_unset: "variable level where it may have no value yet",
    truth_of_an_enum: "truth of a value",
    unpacked: "* or ** in a call",
    built_in: "the call max(row.level, event.flag)",
    attribute: "the attribute value",
    method: "the call event.quantity.bit_length()",
    of_another_kind: "value in the field level that is not of the kind integer",
}


def line_marked(name: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if line.endswith(f"# HERE {name}"))


@pytest.mark.parametrize("function", INTERPRETED, ids=lambda function: function.__name__)
def test_every_reason_to_interpret_a_rule_is_told_with_its_line(function):
    rule = Rule.of(function, COLUMNS, 1)
    assert not rule.compile()
    assert INTERPRETED[function] in rule.refusal.sentence
    place = rule.refusal.place
    assert (Path(place.file), place.line) == (Path(__file__), line_marked(function.__name__))
    line = Path(__file__).read_text().splitlines()[place.line - 1]
    # Python writes a tuple in parentheses and text in single quotes, whatever its author did.
    assert letters(place.text) in letters(line)


def letters(source: str) -> str:
    return "".join(character for character in source if not character.isspace() and character not in "()\"'")


def test_what_numba_refuses_is_told_with_the_line_of_the_rule():
    def counted(row: Level, event):
        return row._replace(level=row.level + event.quantity)

    rule = Rule.of(counted, COLUMNS, 1)
    rule._kernel.source = rule._kernel.source.replace("|= words[0]", "|= 'x'")
    assert not rule.compile()
    assert "numba refuses it" in rule.refusal.sentence
    assert rule.refusal.place.line == inspect.getsourcelines(counted)[1]
    assert rule.refusal.place.text == "def counted(row: Level, event)"


def test_a_process_that_compiles_nothing_says_so_and_blames_no_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    refusal = Rule.of(lambda_free, COLUMNS, 1).refusal
    assert "switched off" in refusal.sentence
    assert refusal.place is None


def lambda_free(row: Level, event):
    return row._replace(level=min(row.level + event.quantity, LIMIT))


def stock_again(row: Stock, event):
    return row._replace(level=row.level + event.quantity)


ENTRIES = Log("entries", key="account", event_id="id", columns={"id": text(), "account": text(), **COLUMNS})


def test_what_enters_the_fingerprint_is_named():
    store = fold(ENTRIES, version=3)(power_in_a_helper)
    found = explain(PROJECT, store)
    assert found.code_version == store.code_version
    assert found.code_version.startswith("3-")
    functions = found.fingerprint_of["syntax trees"]
    assert [text.rpartition(": def ")[2] for text in functions] == [
        "power_in_a_helper(row: Level, event)",
        "squared(number)",
    ]
    assert found.fingerprint_of["row"] == ["level int64 = 0", "seen boolean = False"]
    assert found.fingerprint_of["event columns"] == ["quantity int64"]
    assert explain(PROJECT, fold(ENTRIES, version=1)(lambda_free)).fingerprint_of["outside values"] == ["LIMIT = 5"]


def test_the_columns_read_are_those_that_folding_asks_a_segment_for():
    for store in PROJECT.folded:
        columns = [column for column in explain(PROJECT, store).columns if column.of == "segment"]
        assert [column.name for column in columns] == list(store.log.schema.names)
        assert {column.name for column in columns if column.read} == set(columns_to_read(store))


def test_stores_of_one_log_are_told_to_share_a_pass_and_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Three stores read each snapshot's events once to be built and once to be proven, one store as often."""
    twin = fold(stock_events, version=1)(stock_again)
    newest = latest_by_key(stock_events, "newest", version=1, columns={"country": text(null=True)})
    read: list[tuple[str, frozenset[str]]] = []
    unread = LogReader.unread

    def watched(self, snapshot, columns, *files):
        read.append((snapshot.key, frozenset(columns)))
        return unread(self, snapshot, columns, *files)

    def reads(stores) -> list[list[tuple[str, frozenset[str]]]]:
        shop = Shop(tmp_path / str(len(stores)), STOCK_ONLY).declared(stores=stores)
        for day in (1, 2, 3):
            shop.land(f"dt=2026-01-0{day}/a.jsonl", moved(f"e{day}", "lamp", day), moved("same", "sofa", 1))
        list(shop.engine().sealing.seal())
        engine, found = shop.engine(), []
        for each in (engine.fold_history, engine.prove_history):
            read.clear()
            assert all(
                set(by_store) == {s.name for s in stores} for _, by_store in each("stock_events", engine.chain.get())
            )
            found.append(list(read))
        return found

    monkeypatch.setattr(LogReader, "unread", watched)
    stores = [PROJECT.store("stock"), twin, newest]
    shared, alone = reads(stores), reads(stores[:1])
    assert [[key for key, _ in each] for each in shared] == [[key for key, _ in each] for each in alone]
    assert [key for key, _ in shared[0]] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert {columns for _, columns in shared[0]} == {frozenset(c for s in stores for c in columns_to_read(s))}
    project = STOCK_ONLY.__class__("shop", STOCK_ONLY.cadence, stores)
    assert list(explain(project, twin).shared_with) == ["stock", "newest"]


def ran(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["--project", str(ROOT), "explain", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_says_how_each_store_of_this_project_is_computed():
    told = {store.name: " ".join(ran(store.name).split()) for store in PROJECT.stores}
    assert "stock: A rule, compiled by numba" in told["stock"]
    assert "Movement.ADD = 'add'" in told["stock"]
    assert "there is no rule to compile; op = 'd' deletes the key" in told["product_catalog"]
    assert "A relation: DuckDB runs its query" in told["monthly_revenue"]
    assert "stock_ledger: the ledger of stock, with the events of log stock_events" in told["monthly_revenue"]


def test_the_source_that_is_compiled_is_printed_and_nothing_else():
    assert ran("stock", "--source") == PROJECT.store("stock").rule.lowered + "\n"
    compile(ran("stock", "--source"), "stock", "exec")
    assert ran("monthly_revenue", "--source") == PROJECT.store("monthly_revenue").sql + "\n"
    done = CliRunner().invoke(cli, ["--project", str(ROOT), "explain", "product_catalog", "--source"])
    assert done.exit_code == 1
    assert "Nothing is generated for store product_catalog" in done.output
