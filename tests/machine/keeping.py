"""What every step must keep: a piece of work is done, or crashes, or is refused, and the models are held against it.

The machine's rules (`tests.machine.machine`) say what a step may change; here it is done, and what came of it is found
in what is stored and served. Nothing here draws anything.
"""

from __future__ import annotations

import atexit
import logging
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest import mock

import pyarrow as pa
from hypothesis.stateful import RuleBasedStateMachine

from refold.engine import Engine
from refold.errors import Damaged, NotFound, RefoldError, Unproven
from refold.storage.wrappers import wrapped
from refold.stores import thinning
from refold.testing.faulty_store import Crash
from tests.machine.checks import Observer
from tests.machine.faults import Faults
from tests.machine.model import LogModel
from tests.machine.served import Held, Served, ServedModel
from tests.machine.shop import SINKS, Shop

NOTHING: Held = frozenset()
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Effect:
    """What a step may change, all of it where it is done.

    Attributes:
        seals: the keys it seals, in order.
        gains, drops: what sinks hold afterwards, or hold no more.
        number: the pointer's next number.
        rolls: whether sinks then show what the pointer says.
        refused: the kind of error that must end it, after what it seals and gains.
    """

    seals: Sequence[str] = ()
    gains: Held = NOTHING
    drops: Held = NOTHING
    number: Served | None = None
    rolls: bool = False
    refused: str | None = None


@dataclass
class Tally:
    """What was done by machines that came to their end, and how often each kind of step."""

    schedules: int = 0
    steps: Counter[str] = field(default_factory=Counter)


@cache
def own_folder() -> Path:
    """A folder of this process alone, in memory if there is such a place; it goes with the process."""
    folder = tempfile.mkdtemp(prefix="refold-machine-", dir=_MEMORY if _MEMORY.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def freshown_folder() -> Path:
    """The folder of the one shop at work: always the same, because releases tell where their database is."""
    folder = own_folder() / "shop"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def fresh_folder() -> Path:
    """The folder of the one shop at work: always the same, because releases tell where their database is."""
    folder = own_folder() / "shop"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


class Keeper(RuleBasedStateMachine):
    """One shop in a folder of its own, with the models beside it, from its first object to its end."""

    tally = Tally()

    def __init__(self) -> None:
        super().__init__()
        self.exit = ExitStack()
        log = logging.getLogger("refold")
        self.exit.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)  # damage is found on purpose, many times
        self.exit.callback(pa.set_cpu_count, pa.cpu_count())
        self.shop = Shop(fresh_folder())
        self.exit.callback(shutil.rmtree, self.shop.root, ignore_errors=True)
        self.faults = Faults()
        self.exit.enter_context(self.faults.at_work())
        # With 16, as it is, no checkpoint of so short a history would ever be thinned.
        self.exit.enter_context(mock.patch.object(thinning, "RECENT", 1))
        self.log = LogModel()
        self.served = ServedModel(list(SINKS))
        self.observer = Observer(self.shop, self.log)
        self.engine: Engine | None = None
        self.compiled = False

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.end()
                type(self).tally.schedules += 1
        finally:
            self.exit.close()

    def end(self) -> None:
        """What is to be done at the end of a schedule that kept everything."""

    def count(self, kind: str) -> None:
        """Note a step."""
        type(self).tally.steps[kind] += 1

    @property
    def next(self) -> int:
        """The place of the first day that is not sealed."""
        return len(self.log.days)

    def attempt(
        self,
        kind: str,
        work: Callable[[Engine], object],
        effect: Effect,
        crash: int | None = None,
        *,
        sinks: bool = False,
        strict: bool = False,
    ) -> bool:
        """Do a piece of work and hold what came of it against what it may change; whether it was done to its end.

        An error that the model does not foresee is one, unless damage is still there that it may be about; with
        `strict` not even then.
        """
        self.engine = self.engine or self._open()
        self.faults.left = crash
        error: BaseException | None = None
        try:
            work(self.engine)
        except (Crash, RefoldError) as caught:
            error = caught
        self.faults.left = None
        crashed = isinstance(error, Crash)
        self.count(f"{kind}, crashed" if crashed else f"{kind}, refused" if error else kind)
        if crashed:
            self.engine = None
        foreseen = effect.refused is not None and getattr(error, "kind", None) == effect.refused
        about_damage = isinstance(error, (Damaged, Unproven, NotFound)) and not strict and self.observer.outstanding()
        if isinstance(error, RefoldError) and not foreseen and not about_damage:
            raise AssertionError(f"{kind} should have been {effect.refused or 'done'}: {error}") from error
        assert error is not None or effect.refused is None, f"{kind} should have been refused as {effect.refused}"
        whole = foreseen and not self.observer.outstanding()  # damage may have refused it the same way, and earlier
        self._settle(effect, done=error is None, complete=error is None or whole, sinks=sinks)
        return error is None

    def _open(self) -> Engine:
        return self.shop.engine(self.compiled, wrapped(self.faults.wrap))

    def _settle(self, effect: Effect, *, done: bool, complete: bool, sinks: bool) -> None:
        """The models take over what came about, which is all of the effect where it is complete, else a part of it."""
        sealed = self.observer.sealed_keys()[self.next :]
        assert sealed == list(effect.seals)[: len(sealed)], f"sealed {sealed}, expected {effect.seals}"
        assert len(sealed) == len(effect.seals) or not complete, f"sealed {sealed}, expected {effect.seals}"
        for key in sealed:
            self.log.seal(key)
        before, model = self.served.current, self.served
        series = self.observer.series()
        expected = [*model.series, effect.number] if effect.number else model.series
        assert series == expected or (not done and series == model.series), f"the series {series}, expected {expected}"
        held, most = self.observer.held(), model.held | effect.gains
        least = model.held - effect.drops
        if complete:
            least, most = most - effect.drops, most - effect.drops
        assert least <= held <= most, f"sinks hold {sorted(held)}, expected {sorted(least)} to {sorted(most)}"
        model.series, model.held, model.retiring = series, held, self.observer.retiring()
        shown, current = self.observer.shown(), model.current
        if done and effect.rolls and current is not None:
            assert shown == (current.day, current.day), f"sinks show places {shown}, the pointer {current}"
        for now, then in zip(shown, model.shown, strict=True):
            former = {then, *(each.day for each in (before, current) if each and effect.rolls)}
            assert now in former, f"sinks show places {shown}, expected each to be one of {former}"
        model.shown = shown
        self.observer.look(sinks=sinks)
