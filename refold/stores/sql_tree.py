"""A query as sqlglot's tree, with every column qualified by its table, and what in it no incremental way supports.

Supported are SELECT blocks, subqueries in FROM, CTEs, set operations by place, inner, left, full and cross joins,
GROUP BY a list of expressions, and windows. `refold.stores.sql_partition` and `refold.stores.sql_partials` read and
rewrite the tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from sqlglot import TokenType, exp, parse_one, tokenize
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.eliminate_ctes import eliminate_ctes
from sqlglot.optimizer.qualify import qualify

DIALECT = "duckdb"
_CLAUSES = {"kind", "expressions", "from_", "joins", "where", "group", "having", "qualify", "order", "distinct",
            "with_", "limit", "offset"}  # fmt: skip
_SOURCES = {"this", "alias", "joins"}
_WRITTEN = "written"
_DIGITS_MAX = 38


class Kind(StrEnum):
    """Why a query, or a part of it, is computed whole."""

    SYNTAX = "syntax"
    SUBQUERY = "subquery"
    JOIN = "join"
    GROUPING = "grouping"
    AGGREGATE = "aggregate"
    LIMIT = "limit"
    PARTITION = "partition"
    INPUT = "input"


class Refusal(NamedTuple):
    """Why something is computed whole: the kind, and the part of the query with what is the matter."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class Refused(Exception):
    """A query that cannot be read as such a tree."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.refusal = Refusal(kind, text)


def parsed(sql: str, tables: Mapping[str, Sequence[str]]) -> exp.Query:
    """The qualified tree of a query over tables with these columns, names in lower case. Raises Refused."""
    schema: dict[str, object] = {
        name.lower(): {column.lower(): "VARCHAR" for column in names} for name, names in tables.items()
    }
    try:
        read = parse_one(_with_typed_fractions(sql), dialect=DIALECT)
        _require_fields_in_lower_case(read)
        for written in read.find_all(exp.Coalesce):
            written.meta[_WRITTEN] = True
        tree = eliminate_ctes(qualify(read, schema=schema, dialect=DIALECT))
    except SqlglotError as error:
        raise Refused(Kind.SYNTAX, str(error).partition("\n")[0]) from error
    if not isinstance(tree, exp.Query):
        raise Refused(Kind.SYNTAX, "it is not one SELECT")
    _require_known(tree)
    for block in tree.find_all(exp.Select):
        _without_coalesced_keys(block)
    return tree


def _with_typed_fractions(sql: str) -> str:
    """The query with `.5` as a cast to its type, since sqlglot would write `0.5`, which has one more digit.

    >>> _with_typed_fractions("SELECT a * .50, t.b, 1.5")
    "SELECT a * CAST('.50' AS DECIMAL(2,2)), t.b, 1.5"
    """
    tokens = tokenize(sql, dialect=DIALECT)
    for dot, number in reversed(list(pairwise(tokens))):
        digits = number.text.replace("_", "")
        fraction = dot.token_type is TokenType.DOT and number.start == dot.end + 1 and digits.isdigit()
        if fraction and len(digits) <= _DIGITS_MAX:  # with more it is a double, however it is written
            typed = f"CAST('.{digits}' AS DECIMAL({len(digits)},{len(digits)}))"
            sql = sql[: dot.start] + typed + sql[number.end + 1 :]
    return sql


def text_of(node: exp.Expr) -> str:
    """The SQL of a node, for people and for DuckDB."""
    return node.sql(dialect=DIALECT)


def shown(node: exp.Expr, limit: int = 60) -> str:
    """The SQL of a node without quotes, cut, for messages."""
    text = text_of(node).replace('"', "")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def sources_of(block: exp.Select) -> list[exp.Expr]:
    """The tables and subqueries of a block, in the order of its FROM."""
    first = block.args.get("from_")
    return [*([first.this] if first else []), *(join.this for join in block.args.get("joins") or ())]


def conjuncts(condition: exp.Expr | None) -> list[exp.Expr]:
    """The parts of a condition that AND joins."""
    if condition is None:
        return []
    if isinstance(condition, exp.Paren):
        return conjuncts(condition.this)
    if isinstance(condition, exp.And):
        return [*conjuncts(condition.this), *conjuncts(condition.expression)]
    return [condition]


def tables_in(node: exp.Expr) -> set[str]:
    """The aliases of the tables whose columns an expression reads."""
    return {column.table for column in node.find_all(exp.Column)}


def grouped(block: exp.Select) -> list[exp.Expr]:
    """The expressions of a block's GROUP BY."""
    group = block.args.get("group")
    return list(group.expressions) if group else []


def expressions_of(block: exp.Select) -> Iterator[exp.Expr]:
    """The expressions of a block that are not its sources: results, conditions, groups, order."""
    yield from block.expressions
    for clause in ("where", "group", "having", "qualify", "order"):
        if block.args.get(clause):
            yield block.args[clause]
    yield from (join.args["on"] for join in block.args.get("joins") or () if join.args.get("on"))


def _require_fields_in_lower_case(tree: exp.Expr) -> None:
    """Refuse fields of structs that qualifying would rename, since it takes their names for those of columns."""
    for node in tree.find_all(exp.PropertyEQ, exp.Kwarg):
        if node.name != node.name.lower():
            raise Refused(Kind.SYNTAX, f"a field whose name has capital letters: {shown(node)}")


def _require_known(tree: exp.Expr) -> None:
    for node in tree.walk():
        if isinstance(node, exp.Select):
            _require_known_block(node)
        elif isinstance(node, exp.SetOperation):
            if node.args.get("by_name") or node.args.get("on"):
                raise Refused(Kind.SYNTAX, "a set operation BY NAME")
        elif isinstance(node, exp.CTE | exp.With):
            if node.args.get("recursive"):
                raise Refused(Kind.SYNTAX, "WITH RECURSIVE")
            if isinstance(node, exp.CTE) and node.args["alias"].args.get("columns"):
                raise Refused(Kind.SYNTAX, f"a CTE that renames columns: {node.alias}")
        elif isinstance(node, exp.TableColumn | exp.Columns):  # which would have the columns that are added as well
            raise Refused(Kind.SYNTAX, f"a row as a whole, {shown(node)}; name its columns")
        elif isinstance(node, exp.Identifier) and node.name.startswith("__"):
            raise Refused(Kind.SYNTAX, f"a name that begins with two underscores: {node.name}")


def _require_known_block(block: exp.Select) -> None:
    unknown = [name for name, value in block.args.items() if value and name not in _CLAUSES]
    if unknown or block.args.get("kind"):
        raise Refused(Kind.SYNTAX, f"{', '.join(unknown) or 'SELECT AS'} in: {shown(block)}")
    distinct = block.args.get("distinct")
    if distinct and distinct.args.get("on"):
        raise Refused(Kind.SYNTAX, "DISTINCT ON; write row_number() OVER (PARTITION BY … ORDER BY …) = 1")
    _require_known_grouping(block)
    if not sources_of(block):
        raise Refused(Kind.SYNTAX, f"a SELECT without FROM: {shown(block)}")
    for source in sources_of(block):
        _require_known_source(source)
    for join in block.args.get("joins") or ():
        _require_known_join(join)
    for expression in expressions_of(block):
        inner = expression.find(exp.Query)
        if inner is not None:
            raise Refused(Kind.SUBQUERY, f"a subquery in an expression, {shown(inner)}; write it as a join")


def _require_known_grouping(block: exp.Select) -> None:
    group = block.args.get("group")
    if group and (not group.expressions or any(value for name, value in group.args.items() if name != "expressions")):
        raise Refused(Kind.GROUPING, f"{shown(group)}; list the expressions")
    if any(isinstance(each, exp.Literal) for each in grouped(block)):
        raise Refused(Kind.GROUPING, f"{shown(block.args['group'])} groups by a place; name the expressions")


def _require_known_source(source: exp.Expr) -> None:
    known = isinstance(source, exp.Table | exp.Subquery) and not (
        isinstance(source, exp.Subquery) and not isinstance(source.this, exp.Query)
    )
    more = [name for name, value in source.args.items() if value and name not in _SOURCES]
    if not known or more or source.args.get("joins") or _renames(source):
        raise Refused(Kind.SYNTAX, f"a source that is neither a table nor a subquery: {shown(source)}")
    if isinstance(source, exp.Table) and not isinstance(source.this, exp.Identifier):
        raise Refused(Kind.SYNTAX, f"a table function: {shown(source)}")


def _renames(source: exp.Expr) -> bool:
    alias = source.args.get("alias")
    return bool(alias and alias.args.get("columns"))


def _require_known_join(join: exp.Join) -> None:
    side, kind = (join.side or "").upper(), (join.kind or "").upper()
    unknown = [name for name, value in join.args.items() if value and name not in {"this", "side", "kind", "on"}]
    if unknown or side not in ("", "LEFT", "FULL") or kind not in ("", "INNER", "OUTER", "CROSS"):
        raise Refused(Kind.JOIN, f"{shown(join)}; INNER, LEFT and FULL JOIN … ON are supported")
    if side and not join.args.get("on"):
        raise Refused(Kind.JOIN, f"an outer join without ON: {shown(join)}")
    if side == "FULL" and join.parent is not None and len(join.parent.args["joins"]) > 1:
        raise Refused(Kind.JOIN, f"a FULL JOIN among other joins: {shown(join)}; write it in a subquery")


def _without_coalesced_keys(block: exp.Select) -> None:
    """Replace what USING became, the first non-null of columns that a join makes equal, by the first of them.

    Of an inner join both are equal; of a left join the right one is equal or null. A full join needs the coalesce, and
    one that is written stays: its type is that of all columns.
    """
    found = True
    while found:
        found = False
        equal = _equal_to_first(block)
        for node in [each for expression in expressions_of(block) for each in expression.find_all(exp.Coalesce)]:
            first = node.this
            if _WRITTEN in node.meta or not isinstance(first, exp.Column):
                continue
            if all((text_of(first), text_of(e)) in equal for e in node.expressions):
                node.replace(first.copy())
                found = True


def _equal_to_first(block: exp.Select) -> set[tuple[str, str]]:
    """The pairs of expressions of which the second is equal to the first, or null, in every row."""
    equal = set[tuple[str, str]]()
    for join in block.args.get("joins") or ():
        side, name = (join.side or "").upper(), join.this.alias_or_name
        for each in conjuncts(join.args.get("on")):
            if not isinstance(each, exp.EQ) or side == "FULL":
                continue
            for first, second in ((each.this, each.expression), (each.expression, each.this)):
                if not side or (tables_in(second) == {name} and name not in tables_in(first)):
                    equal.add((text_of(first), text_of(second)))
    return equal
