"""What in a query could depend on more than the rows of its inputs as a set, found in DuckDB's own tree and plan of it.

Refused are functions that were not reviewed (`refold.stores.sql_functions`), tables that are not inputs, samples, and
whatever depends on the order of rows for certain: a limit or `row_number` without an order, `first`, `list`, sums of
floats. What depends on it only where rows tie is found when the query runs over other orders
(`refold.proof.reordered`); `chooses_among_ties` names it. Binding is `refold.stores.sql_binding`; nothing is run here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from refold.stores.sql_functions import BOUND, ORDERED, ORDERED_WINDOWS, REVIEWED, ROUNDED, TABLES, TIED

Node = dict[str, Any]

_FROM = {"BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "PIVOT", "SUBQUERY", "TABLE_FUNCTION"}
_FLOATS = {"DOUBLE", "FLOAT"}
_NOWHERE = 2**64 - 1


class QueryFault(NamedTuple):
    """Why a query is refused, and where in its text; None where that is not known."""

    text: str
    offset: int | None = None


def impurities(tree: Node, plan: Node, tables: Sequence[str], columns: Sequence[str]) -> list[QueryFault]:
    """Every reason why a query's result could depend on more than the rows of its inputs, each once.

    `tree` and `plan` are one statement of DuckDB's `json_serialize_sql` and `json_serialize_plan`.
    """
    named = {_lower(entry.get("key")) for node in _nodes(tree) for entry in _maps(node)} | set(map(str.lower, tables))
    faults = [fault for node in _nodes(tree) for fault in _faults_of(node, named, set(map(str.lower, columns)))]
    faults += [fault for node in _nodes(plan) for fault in _bound_faults(node)]
    found = dict[str, QueryFault]()
    for fault in faults:
        found.setdefault(fault.text, fault)
    return list(found.values())


def refused_before_binding(tree: Node) -> list[QueryFault]:
    """What DuckDB cannot bind without more than the text: parameters."""
    found = (node for node in _nodes(tree) if node.get("class") == "PARAMETER")
    return [_fault(node, "it has a parameter; write the value in the query") for node in found]


def bare_names(tree: Node) -> list[QueryFault]:
    """The names that a query reads without a table's, each once, with where it does."""
    references = (node for node in _nodes(tree) if node.get("class") == "COLUMN_REF" and len(node["column_names"]) == 1)
    found = [_fault(node, node["column_names"][0]) for node in references]
    return list({fault.text: fault for fault in reversed(found)}.values())[::-1]


def chooses_among_ties(tree: Node) -> list[str]:
    """What in a query takes one of the rows that tie, in words, each once and in the order of its text."""
    return list(dict.fromkeys(word for node in _nodes(tree) for word in _choices(node)))


def _choices(node: Node) -> Iterator[str]:
    name, kind = _lower(node.get("function_name")), node.get("class")
    if kind == "WINDOW" and (name in ORDERED_WINDOWS or name in ORDERED or name in TIED or _is_framed(node)):
        yield f"{name}() OVER (… ORDER BY …)"
    elif kind == "FUNCTION" and (name in TIED or name in ORDERED or (node.get("order_bys") or {}).get("orders")):
        yield f"{name}(…)"
    elif kind == "COLLATE":
        yield "COLLATE"
    if node.get("ref_type") == "ASOF":
        yield "ASOF JOIN"
    modifiers = _types(node)
    if "ORDER_MODIFIER" in modifiers and modifiers & {"LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER"}:
        yield "ORDER BY … LIMIT"
    if "ORDER_MODIFIER" in modifiers and "DISTINCT_MODIFIER" in modifiers:
        yield "DISTINCT ON"


def _faults_of(node: Node, tables: set[str], columns: set[str]) -> Iterator[QueryFault]:
    if node.get("sample"):
        yield _fault(node, "it takes a sample of rows; select rows by what is in them")
    if node.get("class") == "FUNCTION":
        yield from _call_faults(node)
    elif node.get("class") == "WINDOW":
        yield from _window_faults(node)
    elif node.get("class") == "POSITIONAL_REFERENCE":
        yield _fault(node, f"it reads column #{node.get('index')} by its place; name the column")
    elif node.get("class") == "COLUMN_REF":
        if _lower(node["column_names"][-1]) == "rowid" and "rowid" not in columns:
            yield _fault(node, "it reads rowid, the place of a row in its table; order by columns instead")
    elif "sample" in node and "alias" in node:
        yield from _table_faults(node, tables)
    yield from _modifier_faults(node)


def _call_faults(node: Node) -> Iterator[QueryFault]:
    name, arguments = _lower(node["function_name"]), node.get("arguments") or []
    if name not in REVIEWED:
        yield _fault(node, _unreviewed(node["function_name"]))
    elif name == "age" and len(arguments) != 2:  # of one time until today
        yield _fault(node, "it calls age of one time, which depends on today; write age(later, earlier)")
    elif name in ORDERED and not (node.get("order_bys") or {}).get("orders"):
        better = ORDERED[name].format("x")
        yield _fault(node, f"it calls {name}(x), which gives what the order of rows gives; write {better}")


def _window_faults(node: Node) -> Iterator[QueryFault]:
    name = _lower(node["function_name"])
    ordered = node["orders"] or node["arg_orders"]
    if name not in REVIEWED:
        yield _fault(node, _unreviewed(node["function_name"]))
    elif not ordered and (name in ORDERED_WINDOWS or name in ORDERED):
        yield _fault(node, f"it calls {name}() over a window without an order; add ORDER BY to the window")
    elif not node["orders"] and _is_framed(node):
        yield _fault(node, f"it calls {name}() over a frame of rows without an order; add ORDER BY to the window")


def _is_framed(node: Node) -> bool:
    """Whether a window's frame counts rows, and not values of its order alone."""
    bounds = f"{node['start']} {node['end']}"
    return "_ROWS" in bounds or "_GROUPS" in bounds or node["exclude_clause"] != "NO_OTHER"


def _table_faults(node: Node, tables: set[str]) -> Iterator[QueryFault]:
    kind = node["type"]
    if kind == "BASE_TABLE":
        name = ".".join(filter(None, (node["catalog_name"], node["schema_name"], node["table_name"])))
        if name.lower() not in tables:
            yield _fault(node, f"it reads {name!r}, which is not among its inputs")
    elif kind == "TABLE_FUNCTION":
        name = _lower(node["function"]["function_name"])
        if name not in TABLES:
            yield _fault(node, f"it reads {name}(…), which is not among its inputs")
    elif kind == "JOIN" and node.get("ref_type") == "POSITIONAL":
        yield _fault(node, "it joins rows by their place; join by columns")
    elif kind not in _FROM:
        yield _fault(node, f"it reads from {kind}, which is not among what a relation may read")


def _modifier_faults(node: Node) -> Iterator[QueryFault]:
    kinds = _types(node)
    if "ORDER_MODIFIER" in kinds:
        return
    if kinds & {"LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER"}:
        yield _fault(node, "it takes the first rows without an order; add ORDER BY before LIMIT")
    if any(modifier.get("distinct_on_targets") for modifier in node.get("modifiers") or ()):
        yield _fault(node, "it has DISTINCT ON without an order; add ORDER BY")


def _bound_faults(node: Node) -> Iterator[QueryFault]:
    kind = node.get("expression_class") or node.get("type")
    if kind not in ("BOUND_FUNCTION", "BOUND_AGGREGATE", "BOUND_WINDOW", "LOGICAL_GET") and "qname" not in node:
        return
    if kind == "BOUND_WINDOW" and "qname" not in node:  # ranks and the like, which the tree shows as well
        return
    name = _lower((node.get("qname") or {"path": [node.get("name")]})["path"][-1])
    if name not in REVIEWED and name not in BOUND:
        yield _fault(node, _unreviewed(name))
    kinds = {(child.get("return_type") or {}).get("id") for child in node.get("children") or ()}
    if name in ROUNDED and kind != "BOUND_FUNCTION" and kinds & _FLOATS and not node.get("order_bys"):
        yield _fault(node, f"it calls {name}() of floats, which rounds in the order of rows; compute it in exact types")
    if name == "timezone" and "TIME WITH TIME ZONE" in kinds:
        yield _fault(node, "it moves a time of day to another zone, which depends on today; use a timestamp")


def _unreviewed(name: str) -> str:
    return f"it calls {name}, which depends on more than its inputs or was not reviewed"


def _fault(node: Node, text: str) -> QueryFault:
    offset = node.get("query_location", _NOWHERE)
    return QueryFault(text, None if offset == _NOWHERE else offset)


def _types(node: Node) -> set[str]:
    modifiers = node.get("modifiers")
    return {each["type"] for each in modifiers} if isinstance(modifiers, list) else set()


def _maps(node: Node) -> list[Node]:
    """The common table expressions that a node of the tree defines."""
    found = node.get("cte_map")
    return found["map"] if isinstance(found, dict) else []


def _lower(name: object) -> str:
    return str(name).lower()


def _nodes(tree: object) -> Iterator[Node]:
    """Every object of a tree, parents first."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)
