"""Queries over `tests.relations.house` whose result depends on the rows alone, whatever their order."""

from __future__ import annotations

from collections.abc import Iterator

from refold.types import ColumnType, boolean, date, decimal, int64, ratio, text, timestamp
from tests.relations.queries import L, lines, per_key

_AGGREGATES: dict[ColumnType, str] = {
    int64(null=True): """
        count(*)
        count(n)
        count(DISTINCT s)
        sum(n)
        min(n)
        max(n)
        quantile_disc(n, 0.9)
        bit_xor(n)
        bit_or(n)
        count_if(b)
        bool_or(b)::BIGINT
        count(*) FILTER (b)
        coalesce(sum(n) FILTER (n > 5), 0)
        sum(DISTINCT n)
        sum(CASE WHEN b THEN n ELSE 0 END)
        max(n) - min(n)
        sum(n) * 100 // sum(n + 1)
        len(list(DISTINCT n ORDER BY n))
        list_sum(list(n ORDER BY n))
        any_value(n ORDER BY n)
        arg_max(n, id)
        arg_max(n, ts ORDER BY n)
        mode(n ORDER BY n)
        max(n, 3)[1]
        histogram(n)[1]
        count(DISTINCT k) FILTER (n > 1)
        sum(n) FILTER (NOT b)
        bool_and(b)::BIGINT
        count(*) * 2
        date_diff('hour', min(ts), max(ts))
        max(event_date) - min(event_date)
        sum(n ORDER BY ts)
        list_max(list(n ORDER BY n))
        regr_count(n, p)
        list_contains(list(n ORDER BY n), 2)::BIGINT
        sum(n) % 7
        bit_and(n)
        min(-n)
        sum(epoch_ms(ts))
        count(DISTINCT (n, s))
        max(struct_pack(a := ts, n := n)).n
        bit_count(bit_xor(n))
        sum(len(s))
    """,
    decimal(38, 4, null=True): """
        sum(p)
        sum(n * p)
    """,
    decimal(18, 4, null=True): """
        max(p)
        max_by(p, log_seq)
    """,
    text(null=True): """
        min(s)
        max(s)
        string_agg(s, ',' ORDER BY s)
        string_agg(DISTINCT s, ',' ORDER BY s)
        array_to_string(list(n ORDER BY n), ',')
        first(s ORDER BY s)
        arg_min(s, id)
        arg_max(s, (ts, log_seq))
        min(struct_pack(a := n, b := s)).b
        max(s ORDER BY ts)
        max(lower(s)) || min(k)
        max(upper(s))
        md5(max(s))
        max(age(ts, TIMESTAMPTZ '2020-01-01'))::VARCHAR
    """,
    timestamp(null=True): """
        min(ts)
        max(ts)
    """,
    date(null=True): """
        min(event_date)
    """,
    ratio(null=True): """
        avg(n)
        avg(p)
        median(n)
        quantile_cont(n, 0.25)
        mad(n)
        sum(n) / count(*)
        weighted_avg(n, n)
        avg(b::BIGINT)
        round(avg(n), 2)
        max(sqrt(n))
        min(n / 3)
    """,
    decimal(38, 2, null=True): """
        sum(p)::DECIMAL(38, 2)
    """,
}
_SCALARS: dict[ColumnType, str] = {
    int64(null=True): """
        n
        n + 1
        n * 2 - 1
        n // 2
        n % 3
        -n
        abs(n)
        greatest(n, 3)
        coalesce(n, 0)
        nullif(n, 1)
        floor(p)::BIGINT
        n & 3 | 4
        xor(n, 5)
        if(b, n, 0)
        CASE WHEN n > 2 THEN 1 WHEN n BETWEEN 0 AND 1 THEN 2 ELSE 0 END
        sign(n)
        length(s)
        strpos(s, 'x')
        extract(year FROM ts)
        hour(ts)
        date_part('dow', event_date)
        date_diff('day', DATE '2020-01-01', event_date)
        epoch_ms(ts)
        isodow(event_date)
        TRY_CAST(s AS BIGINT)
        CAST('7' AS BIGINT)
        list_sort([n, 2, 1])[1]
        {'a': n}.a
        list_transform([n], lambda x: x + 1)[1]
        row_number() OVER (ORDER BY id)
        rank() OVER (ORDER BY ts)
        dense_rank() OVER (PARTITION BY k ORDER BY ts)
        sum(n) OVER (PARTITION BY k)
        sum(n) OVER (ORDER BY ts)
        lag(n) OVER (PARTITION BY k ORDER BY log_seq)
        sum(n) OVER (ORDER BY log_seq ROWS 3 PRECEDING)
        max(n) OVER (PARTITION BY k ORDER BY ts RANGE UNBOUNDED PRECEDING)
        count(*) OVER (ORDER BY id)
        ntile(4) OVER (ORDER BY id)
        1
    """,
    ratio(null=True): """
        n / 3
        power(n, 2)
        ln(n + 1)
        percent_rank() OVER (ORDER BY n)
        avg(n) OVER (PARTITION BY k)
        cume_dist() OVER (ORDER BY n)
    """,
    decimal(38, 4, null=True): """
        n::DECIMAL(18, 0) * p
    """,
    decimal(18, 4, null=True): """
        round(p, 2)
    """,
    decimal(38, 5, null=True): """
        p * 1.5
    """,
    text(null=True): """
        s
        upper(s)
        s || '-' || k
        concat(s, k)
        left(s, 1)
        substr(s, 2, 3)
        s[1]
        replace(s, 'x', 'y')
        split_part(s, 'x', 1)
        regexp_replace(s, '[0-9]', '', 'g')
        regexp_extract(s, '([a-z])', 1)
        trim(s)
        lpad(s, 5, '0')
        md5(s)
        sha256(s)
        strftime(ts, '%Y-%m')
        monthname(event_date)
        CAST(n AS VARCHAR)
        hex(s)
        json_extract_string('{"a": 1}', '$.a')
        lead(s) OVER (ORDER BY ts, log_seq)
        first_value(s) OVER (PARTITION BY k ORDER BY log_seq)
        NULL
        'x'
    """,
    boolean(null=True): """
        s LIKE 'x%'
        s ILIKE 'X%'
        s SIMILAR TO 'x'
        s IN ('x', 'y')
        s IS NULL
        s IS DISTINCT FROM 'x'
        NOT b
        true
    """,
    timestamp(null=True): """
        ts
        date_trunc('day', ts)
        ts + INTERVAL 1 DAY
        time_bucket(INTERVAL '2 hours', ts)
    """,
    date(null=True): """
        CAST(ts AS DATE)
        CAST(ts AT TIME ZONE 'Europe/Berlin' AS DATE)
        event_date
        event_date + 1
        CAST(date_trunc('month', event_date) AS DATE)
        last_day(event_date)
        make_date(2020, 1, 1)
    """,
    decimal(9, 2, null=True): """
        1.50
    """,
}
_WHOLE = [
    f"SELECT k, sum(n) AS v FROM {L} GROUP BY ALL ORDER BY ALL",
    f"SELECT k, n AS v FROM {L} QUALIFY row_number() OVER (PARTITION BY k ORDER BY ts, log_seq) = 1",
    f"SELECT DISTINCT ON (k) k, n AS v FROM {L} ORDER BY k, log_seq DESC",
    f"SELECT id AS k, n AS v FROM {L} ORDER BY ts, id LIMIT 2",
    f"SELECT k, (SELECT max(n) FROM {L} l WHERE l.k = u.k) AS v FROM newest u",
    f"SELECT k, (SELECT n FROM {L} l WHERE l.k = u.k ORDER BY id LIMIT 1) AS v FROM newest u",
    f"SELECT k, n AS v FROM newest WHERE k IN (SELECT k FROM {L})",
    f"SELECT k, n AS v FROM newest u WHERE EXISTS (SELECT 1 FROM {L} l WHERE l.k = u.k AND l.n > 1)",
    f"SELECT k, n AS v FROM newest ANTI JOIN {L} USING (k)",
    f"SELECT k, newest.n AS v FROM newest SEMI JOIN {L} USING (k)",
    f"SELECT u.k, count(*) AS v FROM newest u LEFT JOIN {L} l ON l.k = u.k AND l.n < u.n GROUP BY u.k",
    f"SELECT k, max(v) AS v FROM (SELECT k, n AS v FROM {L} UNION ALL SELECT k, n FROM newest) GROUP BY k",
    f"SELECT 'x' AS k, count(*) AS v FROM (SELECT k, n FROM {L} EXCEPT SELECT k, n FROM newest)",
    f"SELECT 'x' AS k, count(*) AS v FROM (SELECT k, n FROM {L} INTERSECT SELECT k, n FROM newest)",
    f"WITH f AS (SELECT k, sum(n) AS total FROM {L} GROUP BY k) SELECT k, total AS v FROM f WHERE total > 0",
    f"WITH f AS MATERIALIZED (SELECT * FROM {L}) SELECT a.id AS k, 1 AS v FROM f a JOIN f b ON a.id = b.id",
    "WITH RECURSIVE f AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM f WHERE i < 9) SELECT 'x' AS k, sum(i) AS v FROM f",
    f"SELECT coalesce(k, 'all') AS k, sum(n) AS v FROM {L} GROUP BY ROLLUP (k)",
    f"SELECT 'x' AS k, count(*) AS v FROM {L} GROUP BY GROUPING SETS (())",
    f"FROM {L} SELECT k, count(*) AS v GROUP BY k",
    f"SELECT l.id AS k, u.n AS v FROM {L} l NATURAL JOIN newest u",
    f"SELECT q.id AS k, p.n AS v FROM {L} AS q ASOF JOIN {L} AS p ON q.k = p.k AND q.log_seq >= p.log_seq",
    "SELECT CAST(range AS VARCHAR) AS k, range AS v FROM range(5)",
    f"SELECT k, count(*) AS v FROM {L}, generate_series(1, 2) GROUP BY k",
    f"SELECT CAST(i AS VARCHAR) AS k, 1 AS v FROM (SELECT unnest(generate_series(min(n), max(n))) AS i FROM {L})",
    "SELECT k, v FROM (UNPIVOT newest ON n INTO NAME name VALUE v)",
    f"SELECT 'x' AS k, a AS v FROM (PIVOT (SELECT k, n FROM {L}) ON k IN ('a' AS a, 'k00' AS b) USING sum(n))",
    "SELECT a AS k, b AS v FROM (VALUES ('a', 1), ('b', 2)) AS t(a, b)",
    f"SELECT x AS k, sum(y) AS v FROM (SELECT k, n FROM {L}) AS t(x, y) GROUP BY x",
    f"SELECT k, count(t) AS v FROM {L} AS t GROUP BY k",
    f"SELECT k, sum(n) AS v FROM {L} GROUP BY k HAVING count(*) > 1",
    f"SELECT DISTINCT k, n AS v FROM {L} WHERE log_seq < 1",
    f"SELECT k, count(DISTINCT COLUMNS('^s$')) AS v FROM {L} GROUP BY k",
    "SELECT k, count(*) AS v FROM shares WHERE r > 0.5 GROUP BY k",
    f"SELECT l.k, max(r * n)::DECIMAL(18, 4)::BIGINT AS v FROM {L} l JOIN shares USING (k) GROUP BY l.k",
]


def independent() -> Iterator[tuple[str, ColumnType]]:
    """Queries whose result depends on the rows alone."""
    for kind, listed in _AGGREGATES.items():
        yield from ((per_key(call), kind) for call in lines(listed))
    for kind, listed in _SCALARS.items():
        yield from ((f"SELECT id AS k, {value} AS v FROM {L}", kind) for value in lines(listed))
    yield from ((sql, int64(null=True)) for sql in _WHOLE)
