"""Queries over `tests.relations.house` whose result depends on the order of rows."""

from __future__ import annotations

from collections.abc import Iterator

from refold.types import ColumnType, decimal, int64, ratio, text

L = "newest_ledger"

Case = tuple[str, ColumnType, tuple[str, ...]]
"""A query, the type of its column `v`, and the names of the rows over which it depends on their order."""

_EVERYWHERE = ("two", "same ends", "many")
_TYPES = {"n": int64(null=True), "p": decimal(18, 4, null=True), "s": text(null=True)}
_TIES = """
first({0})
last({0})
any_value({0})
arbitrary({0})
arg_max({0}, ts)
arg_min({0}, ts)
max_by({0}, ts)
min_by({0}, ts)
argmax({0}, ts)
first({0} ORDER BY ts)
last({0} ORDER BY ts)
any_value({0} ORDER BY ts)
mode({0})
list({0})[1]
list({0})[2]
array_agg({0} ORDER BY ts)[1]
"""
_TEXTS = """
string_agg(s, ',')
string_agg(s, ',' ORDER BY ts)
group_concat(s)
listagg(s, ',')
string_agg(DISTINCT s, ',')
array_to_string(list(s), ',')
array_to_string(list(s ORDER BY ts), ',')
array_to_string(array_agg(s ORDER BY k), ',')
list_first(list(s ORDER BY ts))
list_last(list(s ORDER BY ts))
list_reduce(list(s ORDER BY ts), lambda x, y: x || y)
md5(string_agg(s, '' ORDER BY ts))
left(string_agg(s, '' ORDER BY k), 9)
to_json(list(s ORDER BY ts))::VARCHAR
json_group_array(s)::VARCHAR
listagg(s, '-' ORDER BY ts)
array_to_string(list(upper(s)), '')
list_string_agg(list(s ORDER BY ts))
arg_max(upper(s), ts)
arg_min(s || k, event_date)
max_by(s, (ts, k))
list_any_value(list(s ORDER BY ts))
first(s ORDER BY k, ts)
list_extract(list(s ORDER BY event_date), 2)
"""
_FLOATS = """
sum(n / 3)
avg(n / 3)
sum(p::DOUBLE)
avg(p::FLOAT)
stddev(n)
stddev_pop(n)
var_samp(n)
var_pop(p)
corr(n, p)
covar_pop(n, p)
regr_slope(n, p)
skewness(n)
kurtosis(n)
product(n)
fsum(n)
favg(p)
kahan_sum(p)
geomean(n)
entropy(n)
sem(n)
sum(sqrt(n))
sum(DISTINCT n / 7)
sum(CAST(n AS REAL))
weighted_avg(n / 3, n)
approx_quantile(n, 0.5)
reservoir_quantile(n, 0.5)
round(sum(n / 3), 2)
"""
_NUMBERS = """
row_number() OVER ()
row_number() OVER (PARTITION BY k)
row_number() OVER (ORDER BY ts)
ntile(3) OVER (ORDER BY ts)
row_number() OVER (PARTITION BY k ORDER BY ts)
ntile(3) OVER (PARTITION BY k ORDER BY ts)
sum(n) OVER (ORDER BY ts ROWS UNBOUNDED PRECEDING)
sum(n) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
count(*) OVER (ROWS 1 PRECEDING)
sum(n) OVER (ROWS UNBOUNDED PRECEDING)
max(n) OVER (ORDER BY ts ROWS 1 PRECEDING)
ntile(3) OVER ()
rowid
first_value(n) OVER (PARTITION BY k ORDER BY ts ROWS 1 PRECEDING)
lag(n) OVER ()
first_value(n) OVER ()
"""
_LIMITS = {
    "LIMIT 1": _EVERYWHERE,
    "LIMIT 1 OFFSET 1": _EVERYWHERE,
    "LIMIT 30%": _EVERYWHERE,
    "ORDER BY ts LIMIT 1": _EVERYWHERE,
    "ORDER BY ts DESC LIMIT 2": _EVERYWHERE,
    "ORDER BY b LIMIT 1": ("same ends", "many"),
    "ORDER BY event_date LIMIT 40%": ("same ends", "many"),
    "ORDER BY k, ts FETCH FIRST 1 ROW ONLY": _EVERYWHERE,
    "USING SAMPLE 1": _EVERYWHERE,
    "USING SAMPLE 50%": _EVERYWHERE,
    "TABLESAMPLE reservoir(2 ROWS)": _EVERYWHERE,
}
_SUBQUERIES = [
    f"SELECT k, (SELECT n FROM {L} l WHERE l.k = u.k LIMIT 1) AS v FROM newest u",
    f"SELECT k, (SELECT n FROM {L} l WHERE l.k = u.k ORDER BY ts LIMIT 1) AS v FROM newest u",
    f"SELECT k, n AS v FROM newest WHERE n IN (SELECT n FROM {L} LIMIT 2)",
    f"WITH f AS (SELECT * FROM {L} LIMIT 2) SELECT 'x' AS k, sum(n) AS v FROM f",
    f"WITH RECURSIVE f AS ((SELECT n FROM {L} LIMIT 1) UNION SELECT n FROM f) SELECT 'x' AS k, n AS v FROM f",
    f"SELECT u.k, z.n AS v FROM newest u, LATERAL (SELECT n FROM {L} l WHERE l.k = u.k LIMIT 1) z",
    f"SELECT l.id AS k, u.n AS v FROM {L} l POSITIONAL JOIN newest u",
    f"SELECT DISTINCT ON (k) k, n AS v FROM {L}",
    f"SELECT k, n AS v FROM {L} TABLESAMPLE 50% QUALIFY row_number() OVER (PARTITION BY k ORDER BY id) = 1",
]


def lines(listed: str) -> list[str]:
    """The queries or expressions of a text, one a line."""
    return [line.strip() for line in listed.strip().splitlines()]


def per_key(value: str) -> str:
    """A query for one value a key."""
    return f"SELECT k, {value} AS v FROM {L} GROUP BY k"


def _of_columns() -> Iterator[Case]:
    for column, kind in _TYPES.items():
        yield from ((per_key(call.format(column)), kind, _EVERYWHERE) for call in lines(_TIES))
        for order in ("ts", "ts DESC", "event_date, ts"):
            yield from ((sql, kind, _EVERYWHERE) for sql in _first_row(order, column))
        for call in (f"first_value({column})", f"lag({column})", f"lead({column})", f"nth_value({column}, 2)"):
            yield f"SELECT id AS k, {call} OVER (PARTITION BY k ORDER BY ts) AS v FROM {L}", kind, _EVERYWHERE
        asof = f"FROM {L} AS q ASOF JOIN {L} AS p ON q.k = p.k AND q.ts >= p.ts"
        yield f"SELECT q.id AS k, p.{column} AS v {asof}", kind, _EVERYWHERE
        if column != "s":
            yield per_key(f"arg_max({column}, s[1])"), kind, ("many",)


def _first_row(order: str, column: str) -> list[str]:
    """Ways to take the first row of each key in an order."""
    numbered = f"row_number() OVER (PARTITION BY k ORDER BY {order})"
    return [
        f"SELECT k, {column} AS v FROM {L} QUALIFY {numbered} = 1",
        f"SELECT k, {column} AS v FROM (SELECT *, {numbered} AS place FROM {L}) WHERE place = 1",
        f"SELECT DISTINCT ON (k) k, {column} AS v FROM {L} ORDER BY k, {order}",
        f"SELECT k, {column} AS v FROM {L} WHERE k = 'a' OR k = 'k00' ORDER BY {order} LIMIT 1",
    ]


def dependent() -> Iterator[Case]:
    """Queries whose result depends on the order of rows."""
    yield from _of_columns()
    yield from ((per_key(call), text(null=True), _EVERYWHERE) for call in lines(_TEXTS))
    yield from ((per_key(call), ratio(), ("many",)) for call in lines(_FLOATS))
    for window in ("OVER ()", "OVER (ORDER BY k)", "FILTER (k > '') OVER ()", "OVER (ROWS 3 PRECEDING)"):
        yield f"SELECT k, sum(r) {window} AS v FROM shares", ratio(), ("many",)
    yield from ((f"SELECT id AS k, {call} AS v FROM {L}", int64(null=True), _EVERYWHERE) for call in lines(_NUMBERS))
    for limit, rows in _LIMITS.items():
        for table in (f"(SELECT * FROM {L} {limit})", f"(SELECT * FROM (SELECT * FROM {L} WHERE n > 0) {limit})"):
            yield f"SELECT 'x' AS k, string_agg(id, '' ORDER BY id) AS v FROM {table}", text(null=True), rows
    yield from ((sql, int64(null=True), ("two", "many")) for sql in _SUBQUERIES)
