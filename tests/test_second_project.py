"""Somebody else's project, in a folder of its own, with nothing of this repository but the built wheel."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import sysconfig
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROJECT_TOML = """
[tool.refold]
project = "bank:PROJECT"
"""

BANK = '''
"""A bank account: deposits, withdrawals, and no debts."""

import datetime as dt
from enum import Enum, IntEnum
from typing import NamedTuple

from refold import Daily, Log, Project, Sql, enum, expect, fold, int64, reject, text, timestamp


class Kind(Enum):
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"


class Refused(IntEnum):
    NO_COVER = 1


class Account(NamedTuple):
    balance_cents: int = 0


bookings = Log(
    "bookings",
    key="account",
    event_id="booking_id",
    event_time="booked_at",
    partitions=2,
    columns={
        "booking_id": text(),
        "account": text(empty=False),
        "kind": enum(Kind),
        "amount_cents": int64(1),
        "booked_at": timestamp(),
    },
    owner="team:bank",
    description="Everything that was booked.",
)


@fold(
    bookings,
    version=1,
    sinks=[Sql("balances")],
    expect=[expect("column_values_to_be_between", column="balance_cents", min_value=0)],
)
def balances(row: Account, event):
    """The balance of every account. A withdrawal without cover is refused."""
    if event.kind == Kind.DEPOSIT:
        return row._replace(balance_cents=row.balance_cents + event.amount_cents)
    if event.amount_cents > row.balance_cents:
        return reject(Refused.NO_COVER)
    return row._replace(balance_cents=row.balance_cents - event.amount_cents)


PROJECT = Project("bank", cadence=Daily(dt.date(2026, 3, 1)), stores=[balances])
'''

DEFINITIONS = '''
"""The bank in Dagster."""

from pathlib import Path

from bank import PROJECT
from refold.config import Settings
from refold.dagster import EngineResource, build_defs


class Bank(EngineResource):
    """Where the environment says."""

    def settings(self) -> Settings:
        return Settings.from_environment(Path(__file__).parent)


defs = build_defs(PROJECT, Bank())
'''

MATERIALIZE = """
import dagster as dg
from definitions import defs

quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
with dg.DagsterInstance.ephemeral() as instance:
    job = defs.resolve_job_def("rebuild_snapshot")
    result = job.execute_in_process(instance=instance, partition_key="2026-03-02", run_config=quiet)
    checks = result.get_asset_check_evaluations()
    assets = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
print(result.success, all(check.passed for check in checks), len(checks), sorted(assets))
"""


def booking(number: int, account: str, cents: int) -> str:
    kind = "deposit" if cents > 0 else "withdrawal"
    event = {"booking_id": f"b{number}", "account": account, "kind": kind, "amount_cents": abs(cents)}
    return json.dumps(event | {"booked_at": "2026-03-01T12:00:00Z"}) + "\n"


DAYS = {
    "2026-03-01": booking(1, "ann", 1000) + booking(2, "bob", -5) + booking(3, "ann", -300),
    "2026-03-02": booking(1, "ann", 1000) + booking(4, "bob", 50) + booking(5, "ann", -701),
}
BALANCES = {"ann": 700, "bob": 50}


@dataclass
class Elsewhere:
    """The project's folder and an environment that holds the wheel."""

    folder: Path
    bin: Path

    def run(self, program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **more}
        return subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def balances(self, below: str) -> dict[str, int]:
        with sqlite3.connect(self.folder / below / "refold.db") as connection:
            return dict(connection.execute("SELECT account, balance_cents FROM balances"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """A clean environment: what Refold depends on comes from here, Refold itself from the wheel alone."""
    place = tmp_path_factory.mktemp("elsewhere")
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", place / "dist", ROOT]
    subprocess.run([sys.executable, *build], check=True, capture_output=True)
    (wheel,) = (place / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "clean"], check=True)
    install = ["-m", "uv", "--no-config", "pip", "install", "--offline", "--no-index", "--no-deps", "--quiet"]
    subprocess.run([sys.executable, *install, "--python", place / "clean" / "bin" / "python", wheel], check=True)
    (packages,) = (place / "clean" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    folder = place / "bank"
    folder.mkdir()
    files = {"pyproject.toml": PROJECT_TOML, "bank.py": BANK, "definitions.py": DEFINITIONS}
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text))
    for key, lines in DAYS.items():
        day = folder / ".refold" / "landing" / "bookings" / f"dt={key}"
        day.mkdir(parents=True)
        (day / "bookings.jsonl").write_text(lines)
    return Elsewhere(folder, place / "clean" / "bin")


def test_the_engine_is_imported_from_the_wheel_and_without_dagster(elsewhere: Elsewhere):
    code = "import sys, refold, refold.engine, refold.cli.main; print(refold.__file__, 'dagster' in sys.modules)"
    done = elsewhere.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    file, dagster = done.stdout.split()
    assert Path(file).is_relative_to(elsewhere.bin.parent)
    assert dagster == "False"


def test_the_command_rebuilds_it(elsewhere: Elsewhere):
    done = elsewhere.run("refold", "rebuild")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "balances" in done.stdout
    assert elsewhere.balances(".refold") == BALANCES
    why = elsewhere.run("refold", "why", "balances", "ann")
    assert why.returncode == 0, why.stdout + why.stderr
    assert "rejected (NO_COVER)" in why.stdout
    assert "duplicate" in why.stdout


def test_dagster_materializes_it_from_its_own_definitions(elsewhere: Elsewhere):
    places = {
        "REFOLD_STORE": str(elsewhere.folder / "other" / "store"),
        "REFOLD_DATABASE": f"sqlite:///{elsewhere.folder / 'other' / 'refold.db'}",
    }
    done = elsewhere.run("python", "-c", MATERIALIZE, **places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "True True 5 ['log/bookings', 'release', 'sql/balances', 'state/balances']"
    assert elsewhere.balances("other") == BALANCES


def test_its_history_job_runs_by_the_command(elsewhere: Elsewhere):
    done = elsewhere.run("python", "-m", "refold.dagster.rebuild", "--definitions", "definitions")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "asset checks passed" in done.stdout
    assert elsewhere.balances(".refold") == BALANCES
