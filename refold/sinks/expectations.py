"""Expectations: what a store's user declares about published content, in the words of Great Expectations.

Declared by name, so that a declaration does not import Great Expectations, which takes seconds. Validating what plainly
holds does not either: bounds, uniqueness and absence of nulls, plainly declared, that every row meets. Great
Expectations decides everything else, and whatever fails. Validation fails closed: an expectation that does not exist or
could not run has failed, with the reason in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

Severity = Literal["error", "warn"]


@dataclass(frozen=True)
class Expectation:
    """One expectation: its Great Expectations name, its arguments, and whether a failure stops a release."""

    name: str
    arguments: tuple[tuple[str, Any], ...]
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments)})"


def expect(name: str, *, severity: Severity = "error", **arguments: Any) -> Expectation:
    """Declare an expectation by its snake-case name, as in Great Expectations' gallery.

    >>> str(expect("column_values_to_be_between", column="level", min_value=0))
    "column_values_to_be_between(column='level', min_value=0)"
    """
    return Expectation(name.removeprefix("expect_"), tuple(arguments.items()), severity)


@dataclass(frozen=True)
class ExpectationResult:
    """What came of one expectation: passed or not, how many rows are against it, the first of them, and why.

    `rows` holds up to 20 rows, key columns first; `problem` says why it could not run, or what was observed.
    """

    expectation: Expectation
    passed: bool
    rows_unexpected: int
    rows: Sequence[dict[str, Any]]
    problem: str


_ROWS_MAX = 20


def validate(expectations: Sequence[Expectation], table: pa.Table, key: Sequence[str]) -> list[ExpectationResult]:
    """Validate expectations, one by one and in order, on a table; failing rows are named by `key`."""
    holds = [evidently_holds(each, table) for each in expectations]
    others = [each for each, evident in zip(expectations, holds, strict=True) if not evident]
    validated = iter(validate_all(others, table, key) if others else ())
    return [
        ExpectationResult(each, True, 0, [], "") if evident else next(validated)
        for each, evident in zip(expectations, holds, strict=True)
    ]


def evidently_holds(expectation: Expectation, table: pa.Table) -> bool:
    """Whether no row of a table is against an expectation, where that takes no more than Arrow; False if unknown."""
    arguments = dict(expectation.arguments)
    name = arguments.pop("column", None)
    if not isinstance(name, str) or name not in table.column_names:
        return False
    holds = _HOLDS.get(expectation.name)
    return holds is not None and holds(table[name], arguments)


def _is_between(column: pa.ChunkedArray, bounds: Mapping[str, Any]) -> bool:
    """Whether all values that are not null are within bounds, of which there is one or both."""
    if not bounds or bounds.keys() - {"min_value", "max_value"} or column.type not in (pa.int64(), pa.float64()):
        return False
    if any(type(bound) is not int or abs(bound) > _EXACT_MAX for bound in bounds.values()):
        return False
    low, high = bounds.get("min_value", -_EXACT_MAX), bounds.get("max_value", _EXACT_MAX)
    within = pc.and_(
        pc.greater_equal(column, pa.scalar(low, column.type)), pc.less_equal(column, pa.scalar(high, column.type))
    )
    return bool(pc.all(within, min_count=0).as_py())


def _is_unique(column: pa.ChunkedArray, more: Mapping[str, Any]) -> bool:
    is_plain = column.type in (pa.int64(), pa.string())
    return not more and is_plain and bool(pc.count_distinct(column).as_py() == len(column) - column.null_count)


def _is_never_null(column: pa.ChunkedArray, more: Mapping[str, Any]) -> bool:
    return not more and column.null_count == 0 and not pa.types.is_floating(column.type)  # a NaN counts as null


_EXACT_MAX = 1 << 53
_HOLDS: Mapping[str, Callable[[pa.ChunkedArray, Mapping[str, Any]], bool]] = {
    "column_values_to_be_between": _is_between,
    "column_values_to_be_unique": _is_unique,
    "column_values_to_not_be_null": _is_never_null,
}


def validate_all(expectations: Sequence[Expectation], table: pa.Table, key: Sequence[str]) -> list[ExpectationResult]:
    """What `validate` does, by Great Expectations alone."""
    import great_expectations as gx  # noqa: PLC0415  # takes 2 to 3 s
    import pandas as pd  # noqa: PLC0415  # takes 0.4 s
    from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: PLC0415

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("published")
    definition = source.add_dataframe_asset("content").add_batch_definition_whole_dataframe("all")
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    batch = definition.get_batch({"dataframe": frame})
    return [_validate_one(gx, batch, expectation, key) for expectation in expectations]


def _validate_one(gx: Any, batch: Any, expectation: Expectation, key: Sequence[str]) -> ExpectationResult:
    name = "Expect" + "".join(word.capitalize() for word in expectation.name.split("_"))
    detail = {"result_format": "COMPLETE", "unexpected_index_column_names": list(key)}
    try:
        built = getattr(gx.expectations, name)(**dict(expectation.arguments))
        result = batch.validate(built, result_format=detail)
    except Exception as error:  # Great Expectations raises many kinds; whatever it was, the check has failed
        return ExpectationResult(expectation, False, 0, (), f"could not run: {error}")
    problems = sorted(set(_raised(result.exception_info)))
    found = result.result or {}
    if problems:
        return ExpectationResult(expectation, False, 0, (), f"could not run: {'; '.join(problems)}")
    rows = [_ordered(row, key) for row in (found.get("unexpected_index_list") or [])[:_ROWS_MAX]]
    observed = f"observed {found['observed_value']}" if "observed_value" in found else ""
    return ExpectationResult(expectation, bool(result.success), int(found.get("unexpected_count") or 0), rows, observed)


def _raised(info: Any) -> Iterator[str]:
    """The messages in an exception_info, which is one record or a dictionary of them by metric."""
    records = [info] if "raised_exception" in (info or {}) else list((info or {}).values())
    for record in records:
        if record.get("raised_exception"):
            yield str(record.get("exception_message"))


def _ordered(row: dict[str, Any], key: Sequence[str]) -> dict[str, Any]:
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
    return {name: plain[name] for name in [*key, *(n for n in plain if n not in key)] if name in plain}
