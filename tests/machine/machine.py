"""The state machine: random schedules of everything that can happen to a project, and what must hold after each step.

A step lands objects, or has the engine do a piece of work, perhaps with a crash at its n-th write, or does damage. What
the step may change is predicted by two plain models (`model`, `served`); afterwards it must have come about,
wholly where the step was done, in part where it crashed (`keeping`); and all that is stored and served must be right
(`checks`). `tests.machine.running` runs many schedules; `python -m tests.machine --help` is the command line.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from refold.engine import Engine
from refold.rebuild import rebuild_all
from refold.release.retention import Pruner
from refold.repair.garbage import remove_unreferenced
from tests.machine.checks import Observer
from tests.machine.keeping import NOTHING, Effect, own_folder
from tests.machine.landing import DAYS_MAX, PLACES_MAX, Landing, events, key_of, places, sealed_days
from tests.machine.model import LogModel
from tests.machine.served import Held, Refused, ServedModel
from tests.machine.shop import SINKS, START, compile_rules, moves

_REBUILDS_MAX = 1  # each takes as long as ten other steps

crashes = st.integers(0, 34).map(lambda n: n - 18 if n >= 18 else None)
"""At which write to crash, counted from 0, or not at all; Hypothesis draws small numbers more often than others."""

spots = {"which": st.integers(0, 40), "how": st.integers(0, 3), "at": st.integers(0, 99)}
"""Which object to damage, how, and where in it."""


@dataclass(frozen=True)
class Past:
    """A shop that has released some days, to begin with: a copy of its folder, and the models."""

    folder: Path
    log: LogModel
    served: ServedModel
    observer: Observer
    ids: int


PASTS: dict[int, Past] = {}
"""Shops by how many days they have released; made by `prepare`."""


def prepare() -> None:
    """Compile the rule, and make the shops that schedules begin with, by the machine itself; a rerun does nothing."""
    compile_rules()
    machine = None if PASTS else Machine()
    for day in (0, 1) if machine else ():
        again = [machine.log.records[0]] if day else []
        drawn = [("a", 3, "add"), ("b", 2, "add"), ("ü", 4, "add"), ("a", 5 + day, "remove"), ("b", 1, "drop")]
        machine.land(day, "a", [*again, *map(machine.new, drawn)])
        machine._rebuild(day)
        folder = shutil.copytree(machine.shop.root, own_folder() / f"past{day + 1}")
        log = deepcopy(machine.log)
        seen = machine.observer.copy(machine.shop, log)
        PASTS[day + 1] = Past(Path(folder), log, deepcopy(machine.served), seen, machine.ids)
    if machine:
        machine.exit.close()


class Machine(Landing):
    """The rules: what a step can be."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = False
        self.rebuilds = 0

    def end(self) -> None:
        """Everything once more; then perhaps one undisturbed rebuild of all there is, and what that has changed."""
        if self.log.landed:
            self.observer.look(whole=True)
            if self.ending:
                self.engine = None
                self._rebuild(None)

    # Landing.

    @initialize(
        age=st.sampled_from([0, 2, 1]),
        first=st.lists(events, min_size=1, max_size=4),
        second=st.lists(events, max_size=3),
        ending=st.sampled_from([False, False, False, True]),
    )
    def begin(self, age: int, first: list[Any], second: list[Any], ending: bool) -> None:
        """A shop that has released so many days, and two more days of it; with `ending` all is rebuilt at the end."""
        self.ending = ending
        if age:
            past = PASTS[age]
            shutil.copytree(past.folder, self.shop.root, dirs_exist_ok=True)
            self.log, self.served, self.ids = deepcopy(past.log), deepcopy(past.served), past.ids
            self.observer = past.observer.copy(self.shop, self.log)
        self.land(age, "a", [self.new(event) for event in first])
        if second:
            self.land(age + 1, "a", [self.new(event) for event in second])

    # The machine that the engine runs on.

    @rule(seed=st.none() | st.integers(0, 99))
    def reorder_listing(self, seed: int | None) -> None:
        """From now on stores list in another order."""
        self.count("reorder listing")
        self.faults.shuffle = seed

    @rule(threads=st.integers(1, 3), compiled=st.booleans())
    def change_parallelism(self, threads: int, compiled: bool) -> None:
        """From now on with another number of threads, and with rules compiled or interpreted."""
        self.count("change parallelism")
        pa.set_cpu_count(threads)
        self.compiled = compiled
        self.engine = None

    @rule(compiled=st.booleans())
    def resume(self, compiled: bool) -> None:
        """Go on in another process."""
        self.count("resume")
        self.compiled = compiled
        self.engine = None

    # The engine's work.

    @rule(crash=crashes)
    def advance(self, crash: int | None) -> None:
        """Do what is due next: finish a release, or for the newest day seal, build, prove, publish or release.

        It comes first of all rules by number of arguments and name, and Hypothesis takes the first more than others.
        """
        head, current = self.next - 1, self.served.current
        if current is not None and self.served.shown != (current.day, current.day):  # a release was killed
            self._release(current.day, again=False, crash=crash)
        elif self._seals(None):
            self.seal(self.next, crash)
        elif not {(store, head) for store in SINKS.values()} <= self.observer.sound:
            self.build("tally", 0, crash)
        elif not self._ready(head):
            self.prove(None, 0, crash)
        elif not self.served.whole(head):
            self.publish(None, 0, crash)
        elif current is None or current.day < head:
            self._release(head, again=False, crash=crash)
        else:
            self.resume(self.compiled)

    @rule(through=st.none() | places, crash=crashes)
    def seal(self, through: int | None, crash: int | None) -> None:
        """Seal up to some day, perhaps beyond what has landed, or all that has landed."""
        last = None if through is None else key_of(min(through, self.next, DAYS_MAX - 1))
        self.attempt("seal", lambda engine: _drain(engine.sealing.seal(last)), Effect(seals=self._seals(last)), crash)

    def _seals(self, last: str | None) -> list[str]:
        taken = {name for day in self.log.days for name, _ in day.objects}
        late = [key_of(self.next)] if self.log.landed.keys() - taken else []  # late objects wait for the next day alone
        last = last or max([*late, *(name.split("/")[1].removeprefix("dt=") for name in self.log.landed)])
        keys = [key_of(place) for place in range(self.next, DAYS_MAX)]
        return [key for key in keys if key <= last]

    @sealed_days
    @rule(store=st.sampled_from(["on_hand", "last_move", "tally"]), back=places, crash=crashes)
    def build(self, store: str, back: int, crash: int | None) -> None:
        """Build one store at one day, from the nearest checkpoint."""
        place = self._place(back)
        work = lambda engine: engine.build(engine.project.store(store), _at(engine, place))  # noqa: E731
        if self.attempt("fold", work, Effect(), crash):
            assert (store, place) in self.observer.sound, f"{store} at place {place} was built and is not there"

    @sealed_days
    @rule(back=places, fresh=st.booleans(), crash=crashes)
    def fold_history(self, back: int, fresh: bool, crash: int | None) -> None:
        """Build the folded stores at every day in one pass, from the first damaged checkpoint or from the beginning."""
        place = self._place(back)
        work = lambda engine: _drain(engine.fold_history(moves.name, _at(engine, place), fresh=fresh))  # noqa: E731
        if self.attempt("fold", work, Effect(), crash, strict=True):
            built = {(store, each) for store in ("on_hand", "last_move") for each in range(place + 1)}
            assert built <= self.observer.sound, f"folded and not there: {built - self.observer.sound}"

    @sealed_days
    @rule(store=st.sampled_from(["on_hand", "last_move", "tally", None]), back=places, crash=crashes)
    def prove(self, store: str | None, back: int, crash: int | None) -> None:
        """Verify one store at one day, or build and verify all."""
        place, verdicts = self._place(back), dict[str, bool]()

        def work(engine: Engine) -> None:
            for each in engine.project.in_order:
                if store is None:
                    engine.build(each, _at(engine, place))
                if store in (None, each.name):
                    verdicts[each.name] = engine.prover.prove(each, _at(engine, place)).passed

        ready = store is None or ((store, place) in self.observer.sound and self._inputs_proven(store, place))
        if self.attempt("prove", work, Effect(), crash):
            for name, passed in verdicts.items():
                assert not passed or (name, place) in self.observer.proven, f"{name} at {place} passed without a proof"
                forgiven = not ready or self.observer.outstanding()
                assert passed or forgiven, f"{name} at place {place} is right and not proven"

    def _inputs_proven(self, store: str, place: int) -> bool:
        return store != "tally" or {("on_hand", place), ("last_move", place)} <= self.observer.proven

    @sealed_days
    @rule(store=st.sampled_from([*SINKS.values(), None]), back=places, crash=crashes)
    def publish(self, store: str | None, back: int, crash: int | None) -> None:
        """Publish one store, or all, at one day, which is often one that is proven."""
        attested = self.observer.attested
        place = self._place(back, lambda each: self._ready(each) if store is None else (store, each) in attested)
        stores = [name for name in ("on_hand", "last_move", "tally") if store in (None, name)]
        proven = [(name, place) in attested for name in stores]
        allowed = stores[: proven.index(False)] if False in proven else stores
        gains = frozenset((title, place) for title, name in SINKS.items() if name in allowed)

        def work(engine: Engine) -> None:
            for each in engine.project.in_order:
                for sink in each.sinks if each.name in stores else ():
                    engine.publisher.publish(each, sink, _at(engine, place))

        refused = None if all(proven) else "unproven"
        self.attempt("publish", work, Effect(gains=gains, refused=refused), crash, sinks=True)

    @sealed_days
    @rule(back=places, again=st.booleans(), crash=crashes)
    def release(self, back: int, again: bool, crash: int | None) -> None:
        """Release one day, which is often one that may be released."""
        self._release(self._place(back, self.served.whole), again, crash)

    def _release(self, place: int, again: bool, crash: int | None) -> None:
        crash = None if crash is None else 2 * crash  # it tries in every sink what it then does
        effect = self._released(place, self._ready(place), again)
        work = lambda engine: engine.releaser.release(_at(engine, place), again=again)  # noqa: E731
        self.attempt("release", work, effect, crash, sinks=True)

    def _ready(self, place: int) -> bool:
        return all((store, place) in self.observer.attested for store in SINKS.values())

    def _released(self, place: int, ready: bool, again: bool = False, held: Held = NOTHING) -> Effect:
        model = replace(self.served, held=self.served.held | held)
        try:
            return Effect(gains=held, number=model.release(place, ready, again), rolls=True)
        except Refused as error:
            return Effect(gains=held, refused=error.kind)

    @precondition(lambda self: self.served.series)
    @rule(number=st.none() | st.integers(1, 5), crash=crashes)
    def roll_back(self, number: int | None, crash: int | None) -> None:
        """Serve again what was served before."""
        try:
            effect = Effect(number=self.served.roll_back(number), rolls=True)
        except Refused as error:
            effect = Effect(refused=error.kind)
        later = None if crash is None else 2 * crash  # it tries in every sink what it then does
        self.attempt("roll back", lambda engine: engine.releaser.rollback(number), effect, later, sinks=True)

    @precondition(lambda self: self.served.series)
    @rule(keep=st.integers(1, 3), crash=crashes)
    def prune(self, keep: int, crash: int | None) -> None:
        """Give up old versions, rows of old checkpoints, and objects that nothing names."""
        number, drops = self.served.prune(keep, self.observer.begun())

        def work(engine: Engine) -> None:
            pruner = Pruner(engine.project, engine.releaser, engine.publisher)
            pruner.apply(pruner.plan(keep, 0))
            engine.thinner.apply(engine.thinner.plan(_later()))
            remove_unreferenced(engine.objects, _later())

        self.attempt("prune", work, Effect(number=number, drops=drops, rolls=bool(drops)), crash, sinks=True)

    @precondition(lambda self: self.rebuilds < _REBUILDS_MAX)
    @rule(through=st.none() | places, crash=crashes)
    def rebuild(self, through: int | None, crash: int | None) -> None:
        """The whole job: seal, fold, prove, relate, publish, release."""
        self.rebuilds += 1
        self._rebuild(through, None if crash is None else 5 * crash)

    def _rebuild(self, through: int | None, crash: int | None = None) -> None:
        last = None if through is None else key_of(min(through, self.next, DAYS_MAX - 1))
        seals = self._seals(last)
        place = self.next + len(seals) - 1 if last is None or seals else _index(last)
        effect = self._released(place, ready=True, held=frozenset((title, place) for title in SINKS))
        effect = Effect(seals, effect.gains, number=effect.number, rolls=effect.rolls, refused=effect.refused)
        # A rebuild mends what it comes by; of a later day that is served, it reads the proofs.
        strict = self.served.current is None or self.served.current.day <= place
        if self.attempt("rebuild", lambda engine: rebuild_all(engine, last), effect, crash, sinks=True, strict=strict):
            every = {(store, each) for store in SINKS.values() for each in range(place + 1)}
            assert every <= self.observer.proven, f"rebuilt and not proven: {every - self.observer.proven}"

    def _place(self, back: int, wanted: Callable[[int], bool] | None = None) -> int:
        """A sealed day, the newest for 0; for the lower half of the numbers a wanted one, if there is one."""
        found = [place for place in range(self.next) if wanted is None or wanted(place)]
        places = list(range(self.next)) if 2 * back > PLACES_MAX or not found else found
        return places[-1 - back % len(places)]

    # Damage.

    @rule(kind=st.sampled_from(["record", "rows", "ledger", "any"]), **spots)
    def damage_checkpoint(self, kind: str, which: int, how: int, at: int) -> None:
        """A state record, rows or a ledger part get other bytes, or go."""
        found = self.observer.names("states")
        wanted = {
            "record": [name for name in found if name.endswith(".json")],
            "ledger": [name for name in found if "/ledger/" in name],
            "rows": [name for name in found if name.endswith(".parquet") and "/ledger/" not in name],
        }
        self._damage("damage a checkpoint", wanted.get(kind, found), which, how, at)

    @rule(**spots)
    def damage_proof(self, which: int, how: int, at: int) -> None:
        """A proof gets other bytes, or is replaced by another's, or goes."""
        self._damage("damage a proof", self.observer.names("proofs"), which, how, at)

    @rule(**spots)
    def damage_seen_index(self, which: int, how: int, at: int) -> None:
        """The hashes of seen ids, by which sealing finds repeats, get other bytes, or go."""
        self._damage("damage the seen index", self.observer.names(f"logs/{moves.name}/seen"), which, how, at)

    @rule(**spots)
    def damage_content_check(self, which: int, how: int, at: int) -> None:
        """What replay remembers of contents that it compared gets other bytes, or goes."""
        self._damage("damage a content check", self.observer.names("checked"), which, how, at)

    def _damage(self, kind: str, candidates: Sequence[str], which: int, how: int, at: int) -> None:
        if not candidates:
            return
        name = candidates[which % len(candidates)]
        data = self.observer.bytes_of(name) or b""
        place = at * len(data) // 100
        others = [self.observer.bytes_of(each) for each in candidates if Path(each).suffix == Path(name).suffix]
        others = [other for other in others if other != data]
        damaged: bytes | None = None
        if how == 0 and data:
            damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        elif how == 1:
            damaged = data[:place]
        elif how == 2 and others:
            damaged = others[at % len(others)]
        self.count(kind)
        self.observer.damage(name, damaged)
        self.engine = None  # what a process has read it does not read again
        self.observer.look()


def _index(key: str) -> int:
    return (dt.date.fromisoformat(key) - START).days


def _at(engine: Engine, place: int) -> Any:
    return engine.chain.get(key_of(place))


def _later() -> dt.datetime:
    """A time by which everything is old enough to go."""
    return dt.datetime.now(dt.UTC) + dt.timedelta(days=2)


def _drain(work: Any) -> None:
    for _ in work:
        pass
