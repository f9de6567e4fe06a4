"""Queries over a ledger and two stores, each with how it is to be maintained.

`E` is the ledger of the events, `u` their newest rows by key, `w` the newest rows of another log, which deletes.
"""

# ruff: noqa: E501  # a case a line

from __future__ import annotations

from typing import NamedTuple

from refold import Log, boolean, date, decimal, int64, latest_by_key, ratio, text, timestamp
from refold.stores.sql_tree import Kind
from refold.types import ColumnType
from tests.relations.house import newest

words = Log(
    "words",
    key="k",
    event_id="id",
    columns={"id": text(), "k": text(), "w": text(null=True), "g": int64(null=True), "op": text()},
)
spoken = latest_by_key(
    words,
    "spoken",
    version=1,
    columns={"w": words.columns["w"], "g": words.columns["g"]},
    delete_when=("op", "d"),
)
SOURCES = [newest.ledger, newest, spoken]

N, K = int64(null=True), text(null=True)


class Case(NamedTuple):
    """A query, what it returns, its key; the partition and number of partial aggregates; why something is whole."""

    sql: str
    returns: dict[str, ColumnType]
    key: tuple[str, ...]
    partition: tuple[str, ...] = ()
    partials: int = 0
    refused: frozenset[Kind] = frozenset()


def _because(*kinds: Kind) -> frozenset[Kind]:
    return frozenset(kinds)


_ROWS = _because(Kind.AGGREGATE)
L = "newest_ledger"
_KN = {"k": text(), "n": N}

CASES = [
    # partial aggregates of a ledger
    Case(f"SELECT k, count(*) AS n FROM {L} GROUP BY k", _KN, ("k",), ("k",), 1),
    Case(f"SELECT k, count(n) AS n, sum(n) AS s, min(p) AS lo, max(ts) AS hi FROM {L} WHERE b GROUP BY k",
         {**_KN, "s": N, "lo": decimal(18, 4, null=True), "hi": timestamp()}, ("k",), ("k",), 1),
    Case(f"SELECT k, sum(p) AS p, sum(n) / count(n) AS r, bool_or(b) AND bool_and(b) AS t FROM {L} GROUP BY k",
         {"k": text(), "p": decimal(38, 4, null=True), "r": ratio(null=True), "t": boolean(null=True)}, ("k",), ("k",), 1),
    Case(f"SELECT k, count(DISTINCT s) AS n FROM {L} GROUP BY k", _KN, ("k",), ("k",), 1),
    Case(f"SELECT k, s, sum(n) FILTER (WHERE n > 3) AS n FROM {L} GROUP BY ALL", {**_KN, "s": K}, ("k", "s"), (), 0,
         _because(Kind.GROUPING)),
    Case(f"SELECT k, s, sum(n) FILTER (WHERE n > 3) AS n FROM {L} GROUP BY k, s", {**_KN, "s": K}, ("k", "s"),
         ("k", "s"), 1),
    Case(f"SELECT event_date AS d, k, count(*) AS n FROM {L} WHERE n > 1 OR s = 'x' GROUP BY event_date, k",
         {"d": date(), **_KN}, ("d", "k"), ("d", "k"), 1),
    Case(f"SELECT CAST(date_trunc('month', ts AT TIME ZONE 'UTC') AS DATE) AS d, sum(n) AS n FROM {L} GROUP BY d",
         {"d": date(), "n": N}, ("d",), ("d",), 1),
    Case(f"SELECT k, n / nullif(m, 0) AS r FROM (SELECT k, sum(n) AS n, count(*) FILTER (WHERE b) AS m FROM {L} "
         "GROUP BY k)", {"k": text(), "r": ratio(null=True)}, ("k",), ("k",), 1),
    Case(f"SELECT k, sum(n) AS n FROM {L} GROUP BY k HAVING count(*) > 2 AND sum(n) IS NOT NULL", _KN, ("k",), ("k",), 1),
    Case(f"SELECT 'all' AS k, count(*) AS n FROM {L}", _KN, ("k",), (), 1, _because(Kind.PARTITION)),
    Case(f"SELECT s AS k, max(n) AS n FROM {L} WHERE s IS NOT NULL GROUP BY s ORDER BY n DESC, k LIMIT 2", _KN, ("k",),
         (), 1, _because(Kind.PARTITION)),
    Case(f"WITH t AS (SELECT k, sum(n) AS n FROM {L} GROUP BY k) SELECT a.k, a.n + b.n AS n FROM t a JOIN t b ON a.k = b.k",
         _KN, ("k",), ("k",), 1),
    # joined with stores
    Case(f"SELECT k, sum(e.n) AS n, max(u.s) AS s FROM {L} e JOIN newest u USING (k) GROUP BY k", {**_KN, "s": K}, ("k",),
         ("k",), 1),
    Case(f"SELECT e.k, w.w, count(*) AS n FROM {L} e LEFT JOIN spoken w ON w.k = e.k GROUP BY e.k, w.w",
         {**_KN, "w": K}, ("k", "w"), ("k",), 1),
    Case(f"SELECT w.k, count(e.id) AS n FROM spoken w LEFT JOIN {L} e ON w.k = e.k GROUP BY w.k", _KN, ("k",), ("k",), 0,
         _because(Kind.JOIN)),
    Case(f"SELECT e.k, sum(e.n * w.g) AS n FROM {L} e JOIN spoken w ON w.k = e.k GROUP BY e.k", _KN, ("k",), ("k",), 0,
         _ROWS),
    Case(f"SELECT w.g AS g, count(*) AS n FROM {L} e JOIN spoken w ON w.k = e.k WHERE w.g IS NOT NULL GROUP BY w.g",
         {"g": int64(), "n": N}, ("g",), (), 1, _because(Kind.PARTITION)),
    Case("SELECT k, l.n, r.g FROM newest l FULL JOIN spoken r USING (k)", {**_KN, "g": N}, ("k",), ("k",)),
    Case("SELECT coalesce(r.k, l.k) AS k, l.n FROM newest l FULL JOIN spoken r ON l.k = r.k", _KN, ("k",), ("k",)),
    Case("SELECT l.k, r.g AS n FROM newest l LEFT JOIN spoken r ON l.k = r.k AND r.g > 1", _KN, ("k",), ("k",)),
    Case("SELECT DISTINCT l.k, l.n FROM newest l JOIN spoken r ON l.k = r.w", _KN, ("k",), ("k",)),
    Case("SELECT l.k, count(*) AS n FROM newest l CROSS JOIN spoken r GROUP BY l.k", _KN, ("k",), (), 0,
         _because(Kind.PARTITION)),
    Case("SELECT l.k, r.k AS j, l.n FROM newest l, spoken r WHERE l.n = r.g", {**_KN, "j": text()}, ("k", "j"), (), 0,
         _because(Kind.PARTITION)),
    Case("SELECT g, count(*) AS n FROM spoken WHERE g IS NOT NULL GROUP BY g", {"g": int64(), "n": N}, ("g",), ("g",)),
    Case("SELECT n AS g, count(*) AS c FROM newest WHERE n IS NOT NULL GROUP BY n",
         {"g": int64(), "c": int64()}, ("g",), ("g",)),
    Case("SELECT k, w AS n FROM spoken WHERE w IS NOT NULL", {"k": text(), "n": K}, ("k",), ("k",)),
    # windows, distinct, set operations
    Case(f"SELECT k, id, sum(n) OVER (PARTITION BY k) AS n FROM {L}", {**_KN, "id": text()}, ("k", "id"), ("k", "id")[:1],
         0, _ROWS),
    Case(f"SELECT k, n FROM {L} QUALIFY row_number() OVER (PARTITION BY k ORDER BY ts DESC, id) = 1", _KN, ("k",), ("k",),
         0, _ROWS),
    Case(f"SELECT k, n, r FROM (SELECT k, n, rank() OVER (PARTITION BY k ORDER BY n DESC, id) AS r FROM {L}) WHERE r <= 2",
         {**_KN, "r": int64()}, ("k", "r"), ("k",), 0, _ROWS),
    Case("SELECT k, rank() OVER (ORDER BY n DESC, k) AS n FROM newest", _KN, ("k",), (), 0, _because(Kind.PARTITION)),
    Case(f"SELECT DISTINCT k, s FROM {L}", {"k": text(), "s": K}, ("k", "s"), ("k", "s"), 0, _ROWS),
    Case("SELECT k, n FROM newest UNION ALL SELECT k || '+' AS k, g FROM spoken", _KN, ("k",), (), 0,
         _because(Kind.PARTITION)),
    Case("SELECT k, sum(n) AS n FROM (SELECT k, n FROM newest UNION ALL SELECT k, g FROM spoken) GROUP BY k", _KN, ("k",),
         ("k",)),
    Case("SELECT k FROM newest EXCEPT SELECT k FROM spoken", {"k": text()}, ("k",), ("k",)),
    Case(f"SELECT k, arg_max(n, id) AS n FROM {L} GROUP BY k", _KN, ("k",), ("k",), 0, _ROWS),
    Case(f"SELECT k, median(n) AS n FROM {L} WHERE n IS NOT NULL GROUP BY k", {"k": text(), "n": ratio()}, ("k",), ("k",), 0,
         _ROWS),
    # tables, CTEs and columns that share names, or are not read
    Case("WITH t AS (SELECT k, count(*) AS n FROM spoken GROUP BY k) SELECT k, n FROM newest", _KN, ("k",), ("k",)),
    Case("WITH newest AS (SELECT k, g AS n FROM spoken) SELECT k, n FROM newest", _KN, ("k",), ("k",)),
    Case("SELECT k, min(s) AS s FROM (SELECT k, s FROM newest UNION ALL SELECT k, k FROM spoken) GROUP BY k",
         {"k": text(), "s": K}, ("k",), ("k",)),
    # what DuckDB rounds or writes in another way when the query is rewritten
    Case(f"SELECT k, avg(n) AS r FROM {L} GROUP BY k", {"k": text(), "r": ratio(null=True)}, ("k",), ("k",), 0, _ROWS),
    Case(f"SELECT k, avg(p) AS r FROM {L} GROUP BY k", {"k": text(), "r": ratio(null=True)}, ("k",), ("k",), 0, _ROWS),
    Case(f"SELECT l.k, e.id, CAST(coalesce(l.n, e.p) AS VARCHAR) AS s FROM newest l JOIN {L} e ON l.k = e.k AND l.n = e.p",
         {"k": text(), "id": text(), "s": K}, ("k", "id"), ("k",), 0, _ROWS),
    Case(f"SELECT k, CAST(max(n, 2) AS VARCHAR) AS s FROM {L} GROUP BY k", {"k": text(), "s": K}, ("k",), ("k",), 0, _ROWS),
    Case("SELECT k, CAST(to_json({'A': n}) AS VARCHAR) AS s FROM newest", {"k": text(), "s": K}, ("k",), (), 0,
         _because(Kind.SYNTAX)),
    Case("SELECT k, CAST(to_json(x) AS VARCHAR) AS s FROM (SELECT k, n FROM newest) x", {"k": text(), "s": K}, ("k",), (), 0,
         _because(Kind.SYNTAX)),
    Case("SELECT k, concat_ws(',', *COLUMNS(*)) AS s FROM (SELECT k, s FROM newest)", {"k": text(), "s": K}, ("k",), (), 0,
         _because(Kind.SYNTAX)),
    Case("SELECT k, a.__at AS n FROM (SELECT k, n AS __at FROM newest) a", _KN, ("k",), (), 0, _because(Kind.SYNTAX)),
    # whole
    Case("SELECT k, n FROM newest WHERE k IN (SELECT k FROM spoken)", _KN, ("k",), (), 0, _because(Kind.SUBQUERY)),
    Case(f"SELECT u.k, z.n FROM newest u, LATERAL (SELECT count(*) AS n FROM {L} l WHERE l.k = u.k) z", _KN,
         ("k",), (), 0,
         _because(Kind.SYNTAX)),
    Case("SELECT l.k, l.n FROM newest l SEMI JOIN spoken r ON l.k = r.k", _KN, ("k",), (), 0, _because(Kind.JOIN)),
]  # fmt: skip
