"""The views of SQL sinks: what they show, and how they follow other columns.

A view that has to show other columns is replaced in the transaction of the release. On PostgreSQL, columns that are
added go to its end, which keeps everything about it. Where a column is dropped or changes its type, the view has to be
dropped and created again: its owner, options, grants and comments are kept, and the change is refused where anything
else depends on the view. SQLite has none of these; there it is refused where another view would fail.

SQLite has no decimal type. Its tables hold decimals as exact text, and its views show them as numbers:

| decimal | shown as | beside it |
|---|---|---|
| without a scale, at most 18 digits | INTEGER, exact | |
| at most 15 digits | REAL, the nearest double, which compares, sorts and prints as it does | `<column>_exact` |
| more digits, only with `round_decimals` | REAL, right to 15 digits | `<column>_exact` |

SQLite before 3.43 adds doubles without compensation, so that sums over many rows are right to fewer digits. An exact
sum, in units of the last place, is `sum(CAST(replace(price_exact, '.', '') AS INTEGER))`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateView, DropView

from refold.errors import FixInput
from refold.sinks.bulk import Query
from refold.sinks.sql_tables import HIDDEN, VERSION, releases
from refold.types import Schema, describe

DIGITS_MAX, INTEGER_DIGITS_MAX = 15, 18
"""How many digits of a decimal SQLite computes with exactly, as a REAL and as an INTEGER."""

_DECIMAL = re.compile(r"^(.+) decimal\((\d+), (\d+)\)\??$", re.MULTILINE)
_DEPENDENTS = sa.text("""
    SELECT DISTINCT CASE WHEN ev_class IS NULL THEN pg_describe_object(classid, objid, 0)
        WHEN ev_class = shown.oid THEN 'rule ' || rulename ELSE 'view ' || ev_class::regclass END
    FROM pg_class shown JOIN pg_depend ON refclassid = 'pg_class'::regclass AND refobjid = shown.oid
        OR refclassid = 'pg_type'::regclass AND refobjid = shown.reltype
    LEFT JOIN pg_rewrite ON classid = 'pg_rewrite'::regclass AND pg_rewrite.oid = objid
    WHERE shown.oid = to_regclass(:view) AND (classid IN ('pg_trigger'::regclass, 'pg_attrdef'::regclass)
        OR deptype = 'n' AND ev_class IS DISTINCT FROM shown.oid OR ev_class = shown.oid AND rulename <> '_RETURN')
    ORDER BY 1""")
_COLUMNS = sa.text("""
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass(:relation) AND attnum > 0 AND NOT attisdropped ORDER BY attnum""")
_KEPT = sa.text("""
    WITH held AS (SELECT oid, quote_ident(relname) AS name, relowner, relacl, reloptions FROM pg_class
        WHERE oid = to_regclass(:view)), columns AS (SELECT attnum, quote_ident(attname) AS name, attacl
        FROM pg_attribute, held WHERE attrelid = oid AND attnum > 0 AND attname = ANY(:names))
    SELECT 'an owner' AS what, format('ALTER VIEW %s OWNER TO %I', name, pg_get_userbyid(relowner)) FROM held
        WHERE relowner <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
    UNION ALL SELECT 'options', format('ALTER VIEW %s SET (%s)', name, array_to_string(reloptions, ', ')) FROM held
        WHERE reloptions IS NOT NULL
    UNION ALL SELECT 'the comment', format('COMMENT ON VIEW %s IS %L', name, description) FROM held
        JOIN pg_description ON objoid = oid AND classoid = 'pg_class'::regclass AND objsubid = 0
    UNION ALL SELECT 'comments of columns',
            format('COMMENT ON COLUMN %s.%s IS %L', held.name, columns.name, description)
        FROM held, columns, pg_description
        WHERE objoid = oid AND classoid = 'pg_class'::regclass AND objsubid = attnum
    UNION ALL SELECT 'grants', format('GRANT %s ON %s TO %s%s', privilege_type, name,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
            CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM held, aclexplode(relacl) WHERE grantee <> relowner
    UNION ALL SELECT 'grants of columns', format('GRANT %s (%s) ON %s TO %s%s', privilege_type, columns.name, held.name,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
            CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM held, columns, aclexplode(attacl) WHERE grantee <> relowner
    ORDER BY 1, 2""")
_BY_DEFAULT = sa.text("""
    SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', quote_ident(relname),
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
    FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass(:view) AND grantee <> relowner""")


def decimals_of(description: str) -> dict[str, tuple[int, int]]:
    """Precision and scale of the decimal columns in a text of `refold.types.describe`.

    >>> decimals_of("price decimal(9, 2)?")
    {'price': (9, 2)}
    """
    return {name: (int(precision), int(scale)) for name, precision, scale in _DECIMAL.findall(description)}


def is_exact_integer(precision: int, scale: int) -> bool:
    """Whether SQLite shows a decimal as an INTEGER, which needs no exact text beside it."""
    return scale == 0 and precision <= INTEGER_DIGITS_MAX


def exact_name(column: str) -> str:
    """The column of a SQLite view that holds the exact text of a decimal."""
    return f"{column}_exact"


def decimal_number(text: sa.ColumnElement[str], precision: int, scale: int) -> sa.ColumnElement[object]:
    """The number that SQLite shows for a decimal's text.

    Two integers that doubles hold exactly are divided, which gives the nearest double on every platform; CAST of the
    text to REAL may be one off in the last place, and then differs from a parameter of the same value.
    """
    if is_exact_integer(precision, scale):
        return sa.cast(text, sa.BigInteger)
    if precision > DIGITS_MAX:
        return sa.cast(text, sa.REAL)
    units = sa.cast(sa.func.replace(text, ".", ""), sa.BigInteger)
    return units.op("/")(sa.literal_column(f"1{'0' * scale}.0"))


def decimal_faults(columns: Schema, *, may_round: bool) -> list[str]:
    """Why a SQLite view cannot show these columns as numbers with their exact text beside them."""
    faults = []
    taken = {name.lower() for name in columns}
    for name, (precision, scale) in decimals_of(describe(columns)).items():
        if is_exact_integer(precision, scale):
            continue
        if exact_name(name).lower() in taken:
            faults.append(f"the column {exact_name(name)!r} would hold the exact text of {name!r}: rename it")
        if precision > DIGITS_MAX and not may_round:
            faults.append(
                f"the column {name!r} has {precision} digits, and SQLite computes exactly with {DIGITS_MAX}: declare "
                "fewer digits, use PostgreSQL, or permit rounding in the view: Sql(..., round_decimals=True)"
            )
    return faults


def follow_columns(connection: sa.Connection, view: str, rows_table: str, description: str) -> None:
    """Make the view show a table of rows with these columns, or create it, in the way that keeps most.

    Raises FixInput, naming what depends on the view, where that is in the way. The caller then rolls back.
    """
    shown = _view(connection, view, view, rows_table, description)
    if connection.dialect.name == "sqlite":
        before = _failing_views(connection)
        _run(connection, [DropView(sa.Table(view, sa.MetaData()), if_exists=True), shown])
        broken = [f"view {name}: {fault}" for name, fault in _failing_views(connection).items() if name not in before]
        if broken:
            raise _refusal(view, "Views of others would fail", broken)
        return
    held, wanted = _columns(connection, view), _columns(connection, rows_table)
    here = {"view": _quoted(view), "names": sorted(held.keys() & wanted.keys())}
    kept = [(what, _verbatim(text)) for what, text in connection.execute(_KEPT, here).tuples()]
    changed = sorted(name for name in held if wanted.get(name) != held[name])
    if not changed:
        shown.or_replace = bool(held)
        _run(connection, [shown, *(statement for what, statement in kept if what == "options")])
        return
    dependents = list(connection.scalars(_DEPENDENTS, {"view": _quoted(view)}))
    if dependents:
        raise _refusal(view, f"It would drop or retype {', '.join(changed)}, and others depend on the view", dependents)
    _run(connection, [DropView(sa.Table(view, sa.MetaData())), shown])
    by_default = connection.scalars(_BY_DEFAULT, {"view": _quoted(view)}).all()
    _run(connection, [*map(_verbatim, by_default), *(statement for _, statement in kept)])


def dependents(connection: sa.Connection, view: str) -> list[str]:
    """What of others would fail, or prevents it, where a view were dropped; the view stays."""
    if connection.dialect.name != "sqlite":
        return list(connection.scalars(_DEPENDENTS, {"view": _quoted(view)}))
    before = _failing_views(connection)
    with connection.begin_nested() as trial:
        connection.execute(DropView(sa.Table(view, sa.MetaData()), if_exists=True))
        found = [f"view {name}" for name in _failing_views(connection) if name not in before]
        trial.rollback()
    return found


def _refusal(view: str, why: str, dependents: Sequence[str]) -> FixInput:
    listed = "".join(f"\n  - {name}" for name in dependents)
    return FixInput(
        f"The view {view} cannot change its columns. {why}:{listed}",
        remedy="\nDrop them, release again, and create them again over the new columns; or keep the columns.",
    )


def _run(connection: sa.Connection, statements: Iterable[sa.Executable]) -> None:
    for statement in statements:
        connection.execute(statement)


def _verbatim(statement: str) -> sa.TextClause:
    return sa.text(statement.replace(":", "\\:"))  # a colon would begin a parameter


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _columns(connection: sa.Connection, relation: str) -> dict[str, str]:
    """Names and types of a table's or view's shown columns on PostgreSQL, in order; empty where there is none."""
    found: dict[str, str] = dict(connection.execute(_COLUMNS, {"relation": _quoted(relation)}).tuples().all())
    return {name: kind for name, kind in found.items() if name not in HIDDEN}


def _failing_views(connection: sa.Connection) -> dict[str, str]:
    """The views of a SQLite database that cannot be read, and why."""
    failing = {}
    for name in connection.scalars(sa.text("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name")).all():
        try:
            connection.execute(sa.select(sa.text("*")).select_from(sa.table(name)).limit(0))
        except OperationalError as error:
            failing[str(name)] = str(error.orig)
    return failing


def _view(
    connection: sa.Connection, name: str, view: str, rows_table: str, description: str, *, temporary: bool = False
) -> CreateView:
    """The definition of the view over the rows of the version that the release row of `view` names."""
    names = [str(column["name"]) for column in sa.inspect(connection).get_columns(rows_table)]
    rows = sa.table(rows_table, *(sa.column(name, sa.Text()) for name in names))
    names = [name for name in names if name not in HIDDEN]
    columns: list[sa.ColumnElement[object]] = [rows.c[name] for name in names]
    shown: sa.ColumnElement[str | None] = releases.c.version
    if connection.dialect.name == "sqlite":
        columns = list(_with_numbers(rows, names, decimals_of(description)))
    else:
        places = {name: place for place, name in enumerate(_columns(connection, view))}
        names.sort(key=lambda name: places.get(name, len(places)))  # a column that is added goes to the end
        columns = [rows.c[name] for name in names]
        # A transaction that began before a view was replaced finds the new view and the old release row, by which the
        # table of the new one is empty. No rows would be a mix with what it reads of other views; so it is an error.
        stale = shown + ": the columns of this view have changed since this transaction began; begin another"
        refused = sa.cast(sa.cast(stale, sa.BigInteger), sa.Text)
        shown = sa.case((releases.c.rows_table == rows_table, shown), else_=refused)
    shown = sa.select(shown).where(releases.c.table_name == view).scalar_subquery()
    return CreateView(sa.select(*columns).where(rows.c[VERSION] == shown), name, temporary=temporary)


def _with_numbers(
    rows: sa.TableClause, names: Sequence[str], decimals: Mapping[str, tuple[int, int]]
) -> Iterator[sa.ColumnElement[object]]:
    """The columns of a SQLite view: decimals as numbers, and their exact text beside those that are doubles."""
    for name in names:
        if name not in decimals:
            yield rows.c[name]
            continue
        yield decimal_number(rows.c[name], *decimals[name]).label(name)
        if not is_exact_integer(*decimals[name]):
            yield rows.c[name].label(exact_name(name))


def shows_columns(connection: sa.Connection, view: str, rows_table: str, description: str) -> bool:
    """Whether the view is the one that Refold creates over a table of rows."""
    if not sa.inspect(connection).has_table(rows_table):
        return True  # nothing can be shown of it, which is a fault of its own
    expected, found = view_texts(connection, view, rows_table, description)
    return expected == found


def shows_exactly(connection: sa.Connection, view: str, rows: sa.Table, version: str) -> bool:
    """Whether a view on PostgreSQL gives the shown columns of a version, and of nothing else, row by row."""
    names = [column.name for column in rows.c if column.name not in HIDDEN]
    source = sa.table(view, *(sa.column(name) for name in names))
    seen = sa.select(*(source.c[name] for name in names))
    held = sa.select(*(rows.c[name] for name in names)).where(rows.c[VERSION] == version)
    differing = sa.union_all(sa.except_all(seen, held), sa.except_all(held, seen))
    return connection.execute(differing.limit(1)).first() is None


def shown(connection: sa.Connection, view: str, columns: Schema) -> Query:
    """A query for what a view shows, and on SQLite for the exact text behind a number that is that text's."""
    decimals = decimals_of(describe(columns)) if connection.dialect.name == "sqlite" else {}
    source = sa.table(view, *(sa.column(name) for name in columns))
    shown = [_behind(name, *decimals[name]) if name in decimals else source.c[name] for name in columns]
    return sa.select(*shown).select_from(source)


def _behind(name: str, precision: int, scale: int) -> sa.ColumnElement[object]:
    number: sa.ColumnElement[object] = sa.column(name)
    if is_exact_integer(precision, scale):
        return sa.cast(number, sa.Text)
    text = sa.column(exact_name(name), sa.Text())
    same = number.is_not_distinct_from(decimal_number(text, precision, scale))
    return sa.case((same, text), else_=sa.cast(number, sa.Text))


def view_texts(connection: sa.Connection, view: str, rows_table: str, description: str) -> tuple[str, str | None]:
    """The definition that a view should have, and the one it has; None where there is no view of that name.

    PostgreSQL rewrites definitions, so the same view is created for a moment and its definition is compared; the
    transaction must be allowed to write, and the temporary view is rolled back.
    """
    if connection.dialect.name == "sqlite":
        query = sa.text("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = :view")
        expected = str(_view(connection, view, view, rows_table, description).compile(dialect=connection.dialect))
        found = connection.scalar(query, {"view": view})
        return _flat(expected), None if found is None else _flat(found)
    query = sa.text(
        "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relname = :view AND relkind = 'v' AND pg_table_is_visible(oid)"
    )
    found = connection.scalar(query, {"view": view})
    probe = f"refold_probe_{view}"[:63]
    with connection.begin_nested() as nested:
        connection.execute(_view(connection, probe, view, rows_table, description, temporary=True))
        expected = str(connection.scalar(query, {"view": probe}))
        nested.rollback()
    return _flat(expected), None if found is None else _flat(found)


def _flat(text: str) -> str:
    return " ".join(text.split())
