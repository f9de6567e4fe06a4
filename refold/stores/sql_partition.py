"""The partition of a query: columns of its result such that rows with some values there depend on rows with them alone.

Where a result's columns c make a partition, and `by` names for every table the columns that hold the same values, then
for any set of values V

    query(tables) where c in V  =  query(tables where by(table) in V),

so that after a change only the partitions of changed rows are computed again. The rule for each operator: filters and
projections keep a partition; GROUP BY, windows and DISTINCT keep the columns that they group by; an equality of an
inner join or of WHERE extends a column to both sides, one of a left join from the left side to the right, and that of a
full join to both by coalesce; set operations go by place. A limit ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from refold.stores.relating import AT
from refold.stores.sql_tree import conjuncts, grouped, sources_of, text_of

Origins = Mapping[tuple[int, str], frozenset[str]]
"""For each use of a table, by number and name, its columns that hold the same value."""


_Ctes = Mapping[str, tuple[exp.Expr, Any]]
"""The CTEs that a block can read, by name: each with those that it can read itself."""


@dataclass
class _Result:
    """The columns of a query or table with their origins, in order, and all uses of tables below it."""

    columns: dict[str, Origins]
    uses: set[tuple[int, str]]


def partition_of(tree: exp.Query, tables: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """The columns of a result that make a partition; for each, the column of every table that holds its value.

    A table that is used twice must have the same column in both uses.
    """
    found = _Analysis({name.lower(): list(names) for name, names in tables.items()}).query(tree, {})
    partition = dict[str, dict[str, str]]()
    for column, origins in found.columns.items():
        by = dict[str, set[str]]()
        for use in found.uses:
            names = origins.get(use, frozenset())
            by[use[1]] = by[use[1]] & names if use[1] in by else set(names)
        if by and all(by.values()):
            partition[column] = {table: min(names) for table, names in by.items()}
    return partition


@dataclass
class _Analysis:
    tables: Mapping[str, list[str]]
    _uses: int = field(default=0)

    def query(self, node: exp.Expr, ctes: _Ctes) -> _Result:
        for cte in node.args["with_"].expressions if node.args.get("with_") else ():
            ctes = {**ctes, cte.alias: (cte.this, ctes)}
        if isinstance(node, exp.SetOperation):
            left, right = self.query(node.this, ctes), self.query(node.expression, ctes)
            pairs = zip(left.columns.items(), right.columns.values(), strict=True)
            found = _Result({name: _both(mine, other) for (name, mine), other in pairs}, left.uses | right.uses)
        elif isinstance(node, exp.Subquery):
            found = self.query(node.this, ctes)
        else:
            assert isinstance(node, exp.Select)
            found = self._block(node, ctes)
        if node.args.get("limit") or node.args.get("offset"):
            found.columns = {name: {} for name in found.columns}
        return found

    def _source(self, node: exp.Expr, ctes: _Ctes) -> _Result:
        if isinstance(node, exp.Subquery):
            return self.query(node, ctes)
        if node.name in ctes:
            return self.query(*ctes[node.name])
        self._uses += 1
        use = (self._uses, node.name)
        return _Result({name.lower(): {use: frozenset([name.lower()])} for name in self.tables[node.name]}, {use})

    def _block(self, block: exp.Select, ctes: _Ctes) -> _Result:
        sources = {each.alias_or_name: self._source(each, ctes) for each in sources_of(block)}
        equal = _equalities(block)
        windows = [{text_of(each) for each in window.args.get("partition_by") or ()} for window in _windows(block)]
        groups = {text_of(each) for each in grouped(block)} if block.args.get("group") else None
        columns = dict[str, Origins]()
        for projection in block.expressions:
            value = projection.this if isinstance(projection, exp.Alias) else projection
            text = text_of(value)
            kept = (groups is None or text in groups) and all(text in names for names in windows)
            origins: Origins = {}
            for table, column in equal.members(value) if kept else ():
                origins = _both(origins, sources[table].columns.get(column, {}))
            name = projection.alias_or_name
            columns[name if name not in columns else f"{name} {len(columns)}"] = origins  # by its place alone
        return _Result(columns, set[tuple[int, str]]().union(*(each.uses for each in sources.values())))


def _both(one: Origins, other: Origins) -> Origins:
    return {use: one.get(use, frozenset()) | other.get(use, frozenset()) for use in {**one, **other}}


Place = tuple[str, str]
"""A column by its table's alias and its name."""


@dataclass
class _Equalities:
    """Which columns of a block are equal.

    Attributes:
        equal: the columns that a column is equal to in every row, or that are null with their whole table; directed,
            since the key of a left join's left side may be equal to nothing.
        optional: the sources that may be missing.
        full: the two keys of a full join by one equality.
    """

    equal: dict[Place, set[Place]] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    full: set[Place] = field(default_factory=set)

    def members(self, value: exp.Expr) -> set[Place]:
        """The columns that have the value of an expression wherever their table has a row; none where it may lack."""
        if isinstance(value, exp.Coalesce):
            parts = [value.this, *value.expressions]
            places = {(each.table, each.name) for each in parts if isinstance(each, exp.Column)}
            return places if len(parts) == 2 and self.full and places == self.full else set()
        if not isinstance(value, exp.Column) or value.table in self.optional:
            return set()
        found, new = set[Place](), {(value.table, value.name)}
        while new:
            found |= new
            new = {other for place in new for other in self.equal.get(place, ())} - found
        return found


def _equalities(block: exp.Select) -> _Equalities:
    found = _Equalities()
    where = block.args.get("where")
    strict = _pairs(conjuncts(where.this if where else None))
    for join in block.args.get("joins") or ():
        side, name, pairs = (join.side or "").upper(), join.this.alias_or_name, _pairs(conjuncts(join.args.get("on")))
        across = [(one, other) for one, other in pairs if name in (one[0], other[0])]
        if side == "FULL":
            found.optional = {each.alias_or_name for each in sources_of(block)}
            found.full = {*across[0]} if len(across) == 1 else set()
        elif side == "LEFT":
            found.optional.add(name)
            for one, other in across:
                left, right = (other, one) if one[0] == name else (one, other)
                found.equal.setdefault(left, set()).add(right)
        else:
            strict += pairs
    for one, other in strict:
        found.equal.setdefault(one, set()).add(other)
        found.equal.setdefault(other, set()).add(one)
    return found


def _pairs(conditions: Sequence[exp.Expr]) -> list[tuple[Place, Place]]:
    """The equalities of columns of two tables among some conditions."""
    sides = [(each.this, each.expression) for each in conditions if isinstance(each, exp.EQ)]
    return [
        ((one.table, one.name), (other.table, other.name))
        for one, other in sides
        if isinstance(one, exp.Column) and isinstance(other, exp.Column) and one.table != other.table
    ]


def _windows(block: exp.Expr) -> list[exp.Window]:
    clauses = [*block.expressions, *(block.args[name] for name in ("qualify", "order") if block.args.get(name))]
    return [window for clause in clauses for window in clause.find_all(exp.Window)]


def at_every_boundary(tree: exp.Query) -> exp.Query:
    """The query over tables whose rows carry a boundary in `__at`, for each boundary by itself, and with that column.

    Only for a query that has a partition, so that each of its blocks groups by columns or not at all.
    """
    tree = tree.copy()
    for block in list(tree.find_all(exp.Select)):
        first, *others = (each.alias_or_name for each in sources_of(block))
        boundary: exp.Expr = exp.column(AT, table=first, quoted=True)
        for join, name in zip(block.args.get("joins") or (), others, strict=True):
            mine = exp.column(AT, table=name, quoted=True)
            join.on(exp.EQ(this=boundary.copy(), expression=mine), append=True, copy=False)
            if (join.kind or "").upper() == "CROSS":
                join.set("kind", "INNER")
            if (join.side or "").upper() == "FULL":
                boundary = exp.Coalesce(this=boundary.copy(), expressions=[mine.copy()])
        if block.args.get("group"):
            block.args["group"].append("expressions", boundary.copy())
        for window in _windows(block):
            window.append("partition_by", boundary.copy())
        block.append("expressions", exp.alias_(boundary.copy(), AT, quoted=True))
    return tree
