"""Partial aggregates: what a query aggregates over a ledger, kept by group, so that new events are merged into it.

In a block that groups rows of a ledger, joined with other tables or not, the ledger is replaced by a table of partial
aggregates: one row for each combination of the ledger's values that the block uses outside aggregates. Counts and sums
become sums of partial ones, minima and maxima those of partial ones, a distinct count counts the values among the
groups. That holds for any join, since a row stands for all events of its group (eager aggregation: Yan and Larson,
"Eager Aggregation and Lazy Aggregation", VLDB 1995). An average is not merged: DuckDB divides in more digits than a
float has, so that the ratio of a sum and a count differs in the last bit of large sums.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from refold.stores.sql_tree import (
    Kind,
    Refusal,
    conjuncts,
    expressions_of,
    grouped,
    shown,
    sources_of,
    tables_in,
    text_of,
)

_SUMMED, _LEAST, _MOST = "sum", "min", "max"
_KEPT: Mapping[type[exp.Expr], str] = {
    exp.Min: _LEAST,
    exp.Max: _MOST,
    exp.LogicalAnd: "bool_and",
    exp.LogicalOr: "bool_or",
}
_SAME_OF_COPIES = (exp.Min, exp.Max, exp.LogicalAnd, exp.LogicalOr)


@dataclass(frozen=True)
class Value:
    """A partial aggregate: its name, the aggregate of events, and the function that merges partial ones."""

    name: str
    sql: str
    merged: str


@dataclass(frozen=True)
class Partial:
    """The partial aggregates of a ledger's events by group.

    Attributes:
        name: of the table that takes the ledger's place in the query.
        ledger: the name of the ledger's table.
        groups: the expression of each group column, by name.
        values: the partial aggregates.
        where: the conditions on an event, as SQL; "" for all events.
    """

    name: str
    ledger: str
    groups: Mapping[str, str]
    values: tuple[Value, ...]
    where: str

    def of_events(self, *more: str) -> str:
        """The query for the partial aggregates of the events in a table, also by the columns `more`."""
        columns = [*(f"{sql} AS {name}" for name, sql in self.groups.items()), *more]
        aggregates = [f"{value.sql} AS {value.name}" for value in self.values]
        by = f" GROUP BY {', '.join([*self.groups.values(), *more])}" if columns else " HAVING count(*) > 0"
        where = f" WHERE {self.where}" if self.where else ""
        return f'SELECT {", ".join([*columns, *aggregates])} FROM "{self.ledger}"{where}{by}'

    def cumulated(self, table: str, boundary: str) -> str:
        """The query for the partial aggregates up to every boundary at which a group changed, from those of each."""
        over = f"OVER (PARTITION BY {', '.join(self.groups)} ORDER BY {boundary})"
        if not self.groups:
            over = f"OVER (ORDER BY {boundary})"
        aggregates = [f"{value.merged}({value.name}) {over} AS {value.name}" for value in self.values]
        return f"SELECT {', '.join([boundary, *self.groups, *aggregates])} FROM {table}"


@dataclass
class Rewriting:
    """A query in which partial aggregates took the place of ledgers, and why others did not."""

    tree: exp.Query
    partials: list[Partial] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def with_partials(
    tree: exp.Query, ledgers: Collection[str], aggregates: Collection[str], scalars: Collection[str],
    type_of: Callable[[str, str], str],
) -> Rewriting:  # fmt: skip
    """The query over partial aggregates, wherever a block aggregates one of the ledgers in a way that allows it.

    `aggregates` and `scalars` are the engine's functions; `type_of` gives the type of an expression over a table.
    """
    found = Rewriting(tree.copy())
    ctes = {cte.alias for cte in found.tree.find_all(exp.CTE)}
    for block in list(found.tree.find_all(exp.Select)):
        tables = [each for each in sources_of(block) if isinstance(each, exp.Table) and each.name not in ctes]
        for table in tables:
            if table.name in ledgers:
                one = _Block(block, table, f"__partial_{len(found.partials) + 1}", aggregates, scalars, type_of)
                refusal = one.refusal()
                if refusal is None:
                    found.partials.append(one.replaced())
                else:
                    found.refusals.append(refusal)
    return found


@dataclass
class _Block:
    """A block that aggregates a ledger, on its way to partial aggregates."""

    block: exp.Select
    table: exp.Table
    name: str
    aggregates: Collection[str]
    scalars: Collection[str]
    type_of: Callable[[str, str], str]
    groups: dict[str, str] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    @property
    def alias(self) -> str:
        return self.table.alias_or_name

    def refusal(self) -> Refusal | None:
        """Why the block needs the events themselves; None where partial aggregates do."""
        calls = list(self._aggregates())
        if not calls and not grouped(self.block):
            return Refusal(Kind.AGGREGATE, f"it takes rows of {self.table.name} that it does not aggregate")
        if any(node.find(exp.Window) for node in expressions_of(self.block)):
            return Refusal(Kind.AGGREGATE, "a window in the block that aggregates; put it into a block around it")
        for join in self.block.args.get("joins") or ():
            side = (join.side or "").upper()
            if side == "FULL" or (side and join.this.alias_or_name == self.alias):
                return Refusal(Kind.JOIN, f"{self.table.name} is on the optional side of {shown(join)}")
        for node in (each for one in expressions_of(self.block) for each in one.find_all(exp.Func)):
            if self._is_foreign(node):
                return Refusal(Kind.AGGREGATE, f"{shown(node)} is not known as a function of one row")
        for call in calls:
            if not self._allowed(call):
                return Refusal(Kind.AGGREGATE, f"{shown(call)} cannot be merged from parts")
        return None

    def _name_of(self, node: exp.Expr) -> str:
        """The name of the function that a node calls; "" for operators, which are nodes of functions too."""
        name, parenthesis, _ = text_of(node).partition("(")
        is_call = parenthesis and not isinstance(node, exp.Binary | exp.Unary)
        return name.strip('"').lower() if is_call and name.strip('"').isidentifier() else ""

    def _is_foreign(self, node: exp.Expr) -> bool:
        """Whether a call could be anything: its name is written by the user, and no scalar of the engine's."""
        return isinstance(node, exp.Anonymous | exp.AnonymousAggFunc) and not (
            self._name_of(node) in self.scalars and self._name_of(node) not in self.aggregates
        )

    def _aggregates(self) -> Iterator[exp.Expr]:
        """The aggregates of the block, each with its FILTER."""
        for expression in expressions_of(self.block):
            for node in expression.find_all(exp.Func):
                if isinstance(node, exp.AggFunc) or self._name_of(node) in self.aggregates:
                    yield node.parent if isinstance(node.parent, exp.Filter) else node

    def _allowed(self, call: exp.Expr) -> bool:
        inner: Any = call.this if isinstance(call, exp.Filter) else call
        read = tables_in(call)
        if any(value for name, value in inner.args.items() if name not in ("this", "big_int")):
            return False  # such as an order, or how many of the greatest
        if read - {self.alias}:
            return self.alias not in read and isinstance(inner, _SAME_OF_COPIES)
        if isinstance(inner, exp.Count):
            argument: Any = inner.this
            if isinstance(argument, exp.Distinct):
                return not isinstance(call, exp.Filter) and len(argument.expressions) == 1
            return not inner.expressions
        if isinstance(inner, exp.Sum):
            return not isinstance(inner.this, exp.Distinct) and self._is_exact(inner)
        return type(inner) in _KEPT and not isinstance(inner.this, exp.Distinct)

    def _is_exact(self, call: exp.Expr) -> bool:
        """Whether a sum is exact, whatever its order."""
        kind = self._type(text_of(call))
        return kind == "HUGEINT" or kind.startswith("DECIMAL")

    def _type(self, sql: str) -> str:
        return self.type_of(sql, f'"{self.table.name}" AS "{self.alias}"')

    def replaced(self) -> Partial:
        """Rewrite the block, and give the partial aggregates that it reads now."""
        pushed, kept = list[str](), list[exp.Expr]()
        where = self.block.args.get("where")
        for each in conjuncts(where.this if where else None):
            if tables_in(each) <= {self.alias}:
                pushed.append(self._plain(each))
            else:
                kept.append(each)
        self.block.set("where", exp.Where(this=exp.and_(*kept)) if kept else None)
        for call in list(self._aggregates()):
            if self.alias in tables_in(call) or not tables_in(call):
                call.replace(self._merged(call))
        for group in grouped(self.block):
            if tables_in(group) == {self.alias} and not isinstance(group, exp.Column):
                self._replace_all(group)
        for expression in list(expressions_of(self.block)):
            for column in list(expression.find_all(exp.Column)):
                if column.table == self.alias and column.name not in self.groups and column.name not in self.values:
                    column.replace(self._group(column))
        table = exp.to_table(self.name, quoted=True)
        table.set("alias", self.table.args["alias"].copy())
        source = self.table.name
        self.table.replace(table)
        return Partial(self.name, source, self.groups, tuple(self.values.values()), " AND ".join(pushed))

    def _replace_all(self, group: exp.Expr) -> None:
        text = text_of(group)
        for expression in list(expressions_of(self.block)):
            for node in list(expression.find_all(type(group))):
                if text_of(node) == text:
                    node.replace(self._group(node))

    def _plain(self, node: exp.Expr) -> str:
        """The SQL of an expression over the ledger alone, whose columns need no table."""
        copy = node.copy()
        holder = exp.Paren(this=copy)
        for column in list(holder.find_all(exp.Column)):
            column.set("table", None)
        return text_of(holder)

    def _group(self, node: exp.Expr) -> exp.Column:
        sql = self._plain(node)
        known = {text: name for name, text in self.groups.items()}
        name = known.get(sql) or f"__group_{len(self.groups) + 1}"
        self.groups[name] = sql
        return exp.column(name, table=self.alias, quoted=True)

    def _value(self, sql: str, merged: str) -> tuple[exp.Column, str]:
        """The column of a partial aggregate, and the type of the aggregate."""
        kind = self._type(sql)
        name = next((each.name for each in self.values.values() if each.sql == sql), f"__value_{len(self.values) + 1}")
        self.values[name] = Value(name, sql, merged)
        return exp.column(name, table=self.alias, quoted=True), kind

    def _merged(self, call: exp.Expr) -> exp.Expr:
        """What takes an aggregate's place."""
        inner, condition = call, ""
        if isinstance(call, exp.Filter):
            inner = call.this
            condition = f" FILTER (WHERE {self._plain(call.expression.this)})"
        if isinstance(inner, exp.Count) and isinstance(inner.this, exp.Distinct):
            (value,) = inner.this.expressions
            return exp.Count(this=exp.Distinct(expressions=[self._group(value)]))
        if isinstance(inner, exp.Count):
            return self._counted(inner.this, condition)
        if isinstance(inner, exp.Sum):
            return self._summed(f"sum({self._plain(inner.this)}){condition}")
        merged = _KEPT[type(inner)]
        column, _ = self._value(f"{merged}({self._plain(inner.this)}){condition}", merged)
        return type(inner)(this=column)

    def _counted(self, value: exp.Expr | None, condition: str) -> exp.Expr:
        what = "*" if value is None or isinstance(value, exp.Star) else self._plain(value)
        column, _ = self._value(f"count({what}){condition}", _SUMMED)
        total = exp.Coalesce(this=exp.Sum(this=column), expressions=[exp.Literal.number(0)])
        return exp.cast(total, "BIGINT", dialect="duckdb")

    def _summed(self, sql: str) -> exp.Expr:
        column, kind = self._value(sql, _SUMMED)
        return exp.cast(exp.Sum(this=column), kind, dialect="duckdb")
