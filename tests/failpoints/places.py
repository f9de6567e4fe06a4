"""A shop in a folder, with its database in the folder or on a server, that can be copied and compared. Not a test."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from tests.failpoints.shop import DATABASE_FILE, SQLITE, Shop

_OTHERWISE = (DATABASE_FILE, "data/anchor", "anchor/", "cache/refold/__pycache__", "store/leases/")
"""Files that are not the same each time. Leases name their holder, and the next run takes them once more."""


@dataclass
class Place:
    """A folder with a shop, and the name of its database on the server where it has one there."""

    root: Path
    url: str

    @property
    def name(self) -> str:
        return "_".join(self.root.parts[-3:]).replace(" ", "_").replace("-", "_").lower()[-60:]

    def shop(self, project: str = "plain") -> Shop:
        """Go there."""
        os.chdir(self.root)
        os.environ["PGDATABASE"] = self.name
        time.perf_counter = lambda: 0.0  # a proof tells how long it took, and is named after all it tells
        return Shop(project, self.url)

    def copied_from(self, other: Place | None) -> None:
        """Make it a copy, or empty."""
        if other is not None:
            shutil.copytree(other.root, self.root, symlinks=True)
        else:
            self.root.mkdir(parents=True)
        if self.url != SQLITE:
            _administer(self.url, f'CREATE DATABASE "{self.name}"' + (f' TEMPLATE "{other.name}"' if other else ""))

    def remove(self) -> None:
        shutil.rmtree(self.root)
        if self.url != SQLITE:
            _administer(self.url, f'DROP DATABASE "{self.name}" WITH (FORCE)')

    def files(self) -> dict[str, str]:
        """What is in the folder, but for bytes that are a time or place or are made anew each time."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_dir() or name.startswith(_OTHERWISE):
                continue
            if "/tantivy/" in name and name.count("/") > 4 and not name.endswith("/refold.json"):
                continue
            data = path.read_bytes()
            if name.startswith("store/releases/"):
                data = _without_places(data)
            timed = "_delta_log" in name or "/commits/" in name or "/tantivy/" in name
            found[name] = "" if timed else hashlib.sha256(data).hexdigest()
        return found

    def rows(self) -> dict[str, list[str]]:
        """All tables of the database with all their rows."""
        if self.url == SQLITE:
            if not (self.root / DATABASE_FILE).exists():
                return {}
            connection: Any = sqlite3.connect(self.root / DATABASE_FILE)
            names = "SELECT name FROM sqlite_master WHERE type = 'table'"
        else:
            connection = psycopg2.connect(_libpq(self.url), dbname=self.name)
            names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        try:
            cursor = connection.cursor()
            cursor.execute(names)
            tables = sorted(name for (name,) in cursor.fetchall() if name != "refold_fences")
            found = {}
            for table in tables:
                cursor.execute(f'SELECT * FROM "{table}"')
                found[table] = sorted(map(repr, cursor.fetchall()))
            return found
        finally:
            connection.close()


def _without_places(data: bytes) -> bytes:
    """The record of a release without the paths that it tells to people."""
    body = json.loads(data)["body"]
    for sinks in body["sinks"].values():
        for sink in sinks:
            del sink["place"]
    return json.dumps(body).encode()


def _libpq(url: str) -> str:
    return url.replace("postgresql+psycopg2://", "postgresql://")


def _administer(url: str, statement: str) -> None:
    connection = psycopg2.connect(_libpq(url), dbname="postgres")
    connection.autocommit = True
    connection.cursor().execute(statement)
    connection.close()


def kind(url: str) -> str:
    """The kind of a database, as part of a folder's name."""
    return "sqlite" if url == SQLITE else "postgres"
