"""How much longer a rebuild of money takes than one of integers: the same ledger in decimals and in cents.

Seals one stream of postings twice, with amounts of decimal(18, 2) and in cents, and then, round by round, folds
and proves each from offset 0. The answers must agree to the cent. `python -m benchmarks.money --events 1000000` prints
the processor seconds and the ratio of each round, since those are less disturbed by a shared machine than time is.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refold import Daily, Log, Project, decimal, enum, fold, int64, reject, text
from refold.config import Settings
from refold.engine import Engine
from refold.stores.declaration import Folded

START = dt.date(2026, 1, 1)
LOGS = ("cents", "money")


class Kind(Enum):
    """What a posting does to an account."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"


class Why(IntEnum):
    """Why a posting is refused."""

    OVERDRAWN = 1


class Cents(NamedTuple):
    """An account in cents."""

    balance: int = 0
    peak: int = 0
    fees: int = 0


class Money(NamedTuple):
    """An account in decimals."""

    balance: decimal(18, 2) = Decimal(0)  # type: ignore[valid-type]
    peak: decimal(18, 2) = Decimal(0)  # type: ignore[valid-type]
    fees: decimal(18, 4) = Decimal(0)  # type: ignore[valid-type]


_COLUMNS = {"id": text(), "account": text(), "kind": enum(Kind)}
cents = Log("cents", key="account", event_id="id", columns={**_COLUMNS, "amount": int64()})
money = Log("money", key="account", event_id="id", columns={**_COLUMNS, "amount": decimal(18, 2)})


@fold(cents, version=1)
def in_cents(row: Cents, event):
    """Balance, its peak, and a fee of 0.25 % in hundredths of a cent."""
    match event.kind:
        case Kind.WITHDRAWAL if event.amount > row.balance:
            return reject(Why.OVERDRAWN)
        case Kind.WITHDRAWAL:
            return row._replace(balance=row.balance - event.amount, fees=row.fees + event.amount * 25 // 100)
    balance = row.balance + event.amount
    return row._replace(balance=balance, peak=max(row.peak, balance))


@fold(money, version=1)
def in_money(row: Money, event):
    """The same in decimals."""
    match event.kind:
        case Kind.WITHDRAWAL if event.amount > row.balance:
            return reject(Why.OVERDRAWN)
        case Kind.WITHDRAWAL:
            fee = (event.amount * Decimal("0.0025")).quantize(Decimal("0.0001"), rounding="ROUND_DOWN")
            return row._replace(balance=row.balance - event.amount, fees=row.fees + fee)
    balance = row.balance + event.amount
    return row._replace(balance=balance, peak=max(row.peak, balance))


STORES: dict[str, Folded] = {"cents": in_cents, "money": in_money}


def postings(events: int, accounts: int, seed: int = 1) -> Iterator[tuple[str, str, int]]:
    """Account, kind and cents of random postings."""
    rng = np.random.default_rng(seed)
    who, much = rng.integers(0, accounts, events), rng.integers(1, 1_000_000, events)
    kinds = np.array(["deposit", "withdrawal"])[(rng.random(events) < 0.5).astype(np.int64)]
    yield from zip((f"a{n}" for n in who.tolist()), kinds.tolist(), much.tolist(), strict=True)


def land(folder: Path, events: int, days: int) -> None:
    """Write the landing of both logs."""
    shown = {"cents": str, "money": lambda n: f'"{n // 100}.{n % 100:02}"'}
    size = -(-events // days)
    for log in LOGS:
        stream = enumerate(postings(events, 50_000))
        for day in range(days):
            path = folder / log / "landing" / log / f"dt={START + dt.timedelta(days=day)}" / "part.jsonl"
            path.parent.mkdir(parents=True)
            with path.open("w") as file:
                for _, (number, (account, kind, amount)) in zip(range(size), stream, strict=False):
                    file.write(
                        f'{{"id":"{number}","account":"{account}","kind":"{kind}","amount":{shown[log](amount)}}}\n'
                    )


def engine(folder: Path, log: str) -> Engine:
    """A new engine over one of the logs."""
    places = folder / log
    project = Project(log, Daily(START), [STORES[log]])
    settings = Settings(str(places / "landing"), str(places / "store"), "sqlite://", places / "search")
    return Engine(project, settings, now=dt.datetime.now(dt.UTC))


def rebuild_seconds(folder: Path, log: str) -> float:
    """Fold and prove a log from offset 0; in processor seconds of all threads."""
    one = engine(folder, log)
    started = time.process_time()
    for _ in one.fold_history(log, one.chain.get(), fresh=True):
        pass
    for _, verdicts in one.prove_history(log, one.chain.get()):
        assert all(verdict.passed for verdict in verdicts.values())
    return time.process_time() - started


def rows_in_cents(folder: Path, log: str) -> list[tuple[object, ...]]:
    """What a log's store holds, money in hundredths of a cent."""
    one = engine(folder, log)
    factor = 1 if log == "cents" else 100
    rows = one.rows(STORES[log], one.chain.get()).select(["account", "balance", "peak", "fees"]).to_pylist()
    return [
        (r["account"], r["balance"] * factor, r["peak"] * factor, r["fees"] * (1 if log == "cents" else 10_000))
        for r in rows
    ]


def main() -> None:
    """Measure, and print one line a round and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refold-money-") as name:
        folder = Path(name)
        land(folder, chosen.events, chosen.days)
        for log in LOGS:
            for _ in engine(folder, log).sealing.seal():
                pass
            rebuild_seconds(folder, log)  # compiles the rule
        if rows_in_cents(folder, "cents") != rows_in_cents(folder, "money"):
            sys.exit("The two ledgers differ.")
        ratios = []
        for number in range(chosen.rounds):
            seconds = {log: rebuild_seconds(folder, log) for log in (LOGS if number % 2 else LOGS[::-1])}
            ratios.append(seconds["money"] / seconds["cents"])
            sys.stdout.write(
                f"cents {seconds['cents']:.3f} s, money {seconds['money']:.3f} s, ratio {ratios[-1]:.2f}\n"
            )
        sys.stdout.write(f"money takes {statistics.median(ratios):.2f} times as long as integers, median\n")


if __name__ == "__main__":
    main()
