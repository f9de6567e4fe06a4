"""A process that imports everything once, and forks: to prepare shops, to be killed, to run again, to read. Not a test.

Orders come as lines of JSON, one stage each; answers go back the same way. Each fork is made while there is no other
thread, and whatever has threads or connections is opened in the forks.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import great_expectations  # noqa: F401  # takes seconds, which a fork then does not spend
import numpy as np
import pandas  # noqa: F401  # likewise
import pyarrow as pa

from refold.canonical.encoding import encode_rows, kafka_partitions
from refold.errors import RefoldError
from refold.storage import opened  # noqa: F401  # likewise
from refold.stores import incremental_query  # noqa: F401  # likewise
from refold.stores.folding import fold_events
from refold.stores.state import State
from tests.failpoints import readers
from tests.failpoints.forks import Reading, fork, write_all
from tests.failpoints.places import Place, kind
from tests.failpoints.power import Cut, Disk, PowerCuts, write_contents
from tests.failpoints.shop import PROJECTS, SQLITE, land
from tests.failpoints.sites import know_calls
from tests.failpoints.stages import PHASES, STAGES, Stage
from tests.failpoints.steps import NEXT, everything, repair_all
from tests.failpoints.watching import Watch, fingerprint, install

_GOES = re.compile(r"/\.(building|dropped)-")
"""What killed runs may leave that the next publisher clears away."""

_RANDOM = re.compile(r"(\.building-|\.dropped-|/tmp)[^/]+")
"""Of the names of what is left over, what differs from run to run."""

_HARMLESS = re.compile(_GOES.pattern + r"|^cache/refold/tmp\w+\.tmp$")
"""And what stays in a folder of temporary files, and is never read."""

UNSEEN = ("statement", "IndexWriter.add_document")
"""What no power cut is made at: the disk sees of statements their commit, and of documents their index's."""


class Server:
    """Prepares phases once, and kills stages in copies of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        land(root)
        self.readers = [Reading(), Reading()]
        self.prepared: dict[tuple[str, str], Place] = {}
        self.recorded: dict[tuple[str, str], dict[str, Any]] = {}

    def phase(self, name: str, url: str) -> Place:
        """The shop of a phase, made if need be."""
        if (name, url) not in self.prepared:
            phase = PHASES[name]
            before = self.phase(phase.after, url) if phase.after else None
            place = Place(self.root / kind(url) / name, url)
            place.copied_from(before)
            _sound(fork(lambda _: phase.make(place.shop(phase.project))).result(), f"phase {name}")
            self.prepared[name, url] = place
        return self.prepared[name, url]

    def record(self, name: str, url: str) -> dict[str, Any]:
        """Do a stage undisturbed, once: what it writes where, and what it leaves."""
        if (name, url) not in self.recorded:
            self.recorded[name, url] = self._record(name, url)
        return self.recorded[name, url]

    def _record(self, name: str, url: str) -> dict[str, Any]:
        stage = STAGES[name]
        before = self.phase(stage.phase, url)
        place = Place(self.root / kind(url) / f"{name} undisturbed", url)
        place.copied_from(before)

        def work(_: int) -> dict[str, Any]:
            shop = place.shop(stage.project)
            watch = install(Watch(fingerprint=lambda: fingerprint(place.root)))
            stage.do(shop)
            watch.settle()
            found = {"seen": [asdict(write) for write in watch.seen], "unseen": list(watch.unseen)}
            if stage.again:
                stage.again(shop)
            return found

        found = _sound(fork(work).result(), f"stage {name}")
        know_calls(file for write in found["seen"] for file, _, _ in write["calls"])
        return found | {"files": place.files(), "rows": place.rows(), "before": before, "stage": stage}

    def kill(self, name: str, url: str, near: bool) -> dict[str, Any]:
        """Kill a stage before and after its writes, or with `near` only at those that readers could notice.

        Of the writes that come the same way through the code, the first and the last.
        """
        recorded = self.record(name, url)
        writes = changing(recorded)
        killed = chosen_of(writes, _noticed if near else lambda _: True)
        chosen = sorted({moment for place in killed for moment in (place, place + 1)})
        half = (len(chosen) + 1) // 2
        parts = zip(self.readers, (chosen[:half], chosen[half:]), strict=True)
        forks = [fork(lambda _, r=r, p=p: self._kill_each(name, url, p, recorded, r)) for r, p in parts]
        cases = [case for each in forks for case in _sound(each.result(), "a kill")["cases"]]
        at = [writes[place] for place in killed]
        return {"seen": recorded["seen"], "unseen": recorded["unseen"], "killed": at, "cases": cases}

    def cut_power(self, name: str) -> dict[str, Any]:
        """Cut the power before and after the writes of a stage, and see what the next run makes of what is left."""
        recorded = self.record(name, SQLITE)
        stage, root = STAGES[name], self.root / "power" / name
        cut = chosen_of(changing(recorded), lambda write: not write["primitive"].startswith(UNSEEN))
        cuts = PowerCuts(chosen={moment for place in cut for moment in (place, place + 1)})
        place = Place(root / "cut", SQLITE)
        place.copied_from(recorded["before"])

        def work(_: int) -> dict[str, Any]:
            shop = place.shop(stage.project)
            cuts.disk = Disk(place.root)
            install(cuts)
            stage.do(shop)
            cuts.keep(Cut.LOST, "the end")
            for number, contents in enumerate(cuts.states.values()):
                write_contents(contents, root / f"state {number}")
            return {"moments": list(cuts.moments.values())}

        moments = _sound(fork(work).result(), f"stage {name}")["moments"]
        parts = [[*enumerate(moments)][each::2] for each in (0, 1)]
        forks = [fork(lambda _, p=p: {"cases": [recover(root, name, *m, recorded) for m in p]}) for p in parts]
        return {"cases": [case for each in forks for case in _sound(each.result(), "a cut")["cases"]]}

    def _kill_each(
        self, name: str, url: str, moments: Sequence[int], recorded: Mapping[str, Any], reader: Reading
    ) -> dict[str, Any]:
        """Kill at some moments, one after the other."""
        known: set[str] = set()
        followed: set[str] = set()
        cases = []
        for moment in moments:
            case = Case(
                self.root / kind(url) / f"{name} {moment}", url, name, moment, recorded, reader, known, followed
            )
            cases.append(case.run())
            known.add(cases[-1]["state"])
        return {"cases": cases}


def chosen_of(writes: Sequence[Mapping[str, Any]], wanted: Callable[[Mapping[str, Any]], bool]) -> list[int]:
    """The places of those that are wanted: of all that come the same way through the code the first and the last."""
    ways: dict[tuple[Any, ...], list[int]] = {}
    for place, write in enumerate(writes):
        if wanted(write):
            ways.setdefault((write["primitive"], *map(tuple, write["calls"])), []).append(place)
    return sorted({place for places in ways.values() for place in (places[0], places[-1])})


def changing(recorded: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of what was recorded the calls that changed something."""
    return [write for write in recorded["seen"] if write["changes"]]


def _noticed(write: Mapping[str, Any]) -> bool:
    return write["primitive"] in ("statement", "commit") or "releases/" in write["what"]


def _sound(result: dict[str, Any], what: str) -> dict[str, Any]:
    if "error" in result or "signal" in result:
        raise RuntimeError(f"{what}: {result.get('error', result)}")
    return result


@dataclass
class Case:
    """One kill: readers begin, the stage dies, readers look, the stage runs again, readers look.

    Attributes:
        known: the states that earlier kills left, from which the next run has begun already.
        followed: what earlier next runs left over, and the next day was rebuilt beside.
    """

    root: Path
    url: str
    stage: str
    moment: int
    recorded: Mapping[str, Any]
    reader: Reading
    known: set[str]
    followed: set[str]

    def run(self) -> dict[str, Any]:
        stage, place = STAGES[self.stage], Place(self.root, self.url)
        place.copied_from(self.recorded["before"])
        if stage.readable:
            self.reader.begin(place, stage)

        def die(pipe: int) -> None:
            shop = place.shop(stage.project)
            watch = install(Watch(die_after=self.moment, tell=pipe))
            stage.do(shop)
            raise AssertionError(f"still alive after {watch.count} writes")

        died, write = fork(die).result(), changing(self.recorded)[max(0, self.moment - 1)]
        expected = {"died at": f"{write['primitive']} at {list(write['calls'][-1])}", "signal": signal.SIGKILL}
        faults = [] if died == expected else [f"expected to be killed as {expected}, found {died}"]
        if stage.readable:
            self.reader.ask("look")
        state = hashlib.sha256(json.dumps([place.files(), place.rows()]).encode()).hexdigest()
        leftover: list[str] = []
        if state not in self.known:  # else the next run would begin with what another began with
            again = fork(lambda _: (stage.again or stage.do)(place.shop(stage.project))).result()
            faults += [f"the next run: {again['error']}"] if "error" in again else []
            files, rows = place.files(), place.rows()
            leftover = sorted(files.keys() - self.recorded["files"].keys())
            faults += _unlike(self.recorded["files"], {n: h for n, h in files.items() if n not in leftover}, "the file")
            faults += _unlike(self.recorded["rows"], rows, "the table")
            faults += [f"left over: {name}" for name in leftover if not _HARMLESS.search(name)]
            if not stage.readable:
                self.reader.begin(place, stage)
            left = repr(sorted((_RANDOM.sub(r"\1", name), files[name]) for name in leftover))
            if leftover and left not in self.followed:
                self.followed.add(left)
                faults += self._follow(place, stage)
        told = {"readings": 0, "faults": []}
        if stage.readable or state not in self.known:
            told = self.reader.ask("end")
        place.remove()
        return {
            "moment": self.moment,
            "died": died.get("died at"),
            "faults": faults + [f"a reader: {fault}" for fault in told["faults"]],
            "readings": told["readings"],
            "leftover": leftover,
            "state": state,
            "again": state not in self.known,
        }

    def _follow(self, place: Place, stage: Stage) -> list[str]:
        """What is left over must not be in the way of the next day, and goes with it."""
        self.reader.ask("allow", allowed=stage.following)
        done = fork(lambda _: everything(place.shop(stage.project), NEXT)).result()
        left = [name for name in place.files() if _GOES.search(name)]
        failed = [f"the next day: {done['error']}"] if "error" in done else []
        return failed + [f"left for ever: {name}" for name in left]


def recover(root: Path, name: str, number: int, moment: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Go on from what a power cut left: nothing wrong is read, and the next run completes the stage.

    Where it cannot, `repair` must make it possible.
    """
    stage, place = STAGES[name], Place(root / f"state {number}", SQLITE)
    (place.root / "landing").symlink_to(Path(recorded["before"].root, "landing").readlink())

    def work(_: int) -> dict[str, Any]:
        shop = place.shop(stage.project)
        faults = list(readers.Reader(stage.allowed, stage.old is None, stage.project == "fewer", SQLITE).wrong())
        repaired = ""
        try:
            (stage.again or stage.do)(shop)
        except RefoldError as error:
            repaired = f"{type(error).__name__}: {error}"
            repair_all(shop)
            (stage.again or stage.do)(shop)
        return {"faults": faults, "repaired": repaired}

    found = fork(work).result()
    faults = found.get("faults", []) + ([found["error"]] if "error" in found else [])
    files = place.files()
    left = sorted(files.keys() - recorded["files"].keys())
    faults += _unlike(recorded["files"], {n: h for n, h in files.items() if n not in left}, "the file")
    faults += _unlike(recorded["rows"], place.rows(), "the table")
    faults += [f"left over: {each}" for each in left if not _HARMLESS.search(each)]
    place.remove()
    return {"moment": moment, "faults": faults, "repaired": found.get("repaired", "")}


def _unlike(expected: Mapping[str, Any], found: Mapping[str, Any], what: str) -> list[str]:
    return [
        f"{what} {name}: expected {str(expected.get(name))[:600]}, found {str(found.get(name))[:600]}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ][:5]


def warm_up() -> None:
    """Load compiled code, so that not every child does it again."""
    event = {"id": "a", "product": "a", "quantity": 1, "kind": "add", "price": 1}
    place = {"log_seq": 0, "log_offset": 0, "log_partition": 0, "source_object": "", "source_line": 1}
    for project in PROJECTS.values():
        for store in project.folded:
            fields = [*store.log.schema, pa.field("log_partition", pa.int64(), False)]
            events = pa.Table.from_pylist([event | place], schema=pa.schema(fields))
            state = State(store)
            fold_events(state, events, np.zeros(1, dtype=np.uint8))
            state.digest()
            encode_rows([events["id"]]).hashes()
            kafka_partitions(events["product"], 2)


def main() -> None:
    """Serve orders until standard input ends."""
    warm_up()
    gc.collect()
    gc.freeze()  # what is there for good is not looked at in every fork again, which would copy it
    orders, answers = sys.stdin, os.dup(1)
    os.dup2(2, 1)
    server = Server(Path(sys.argv[1]))
    for text in orders:
        order = json.loads(text)
        try:
            if order.get("power"):
                found = server.cut_power(order["stage"])
            else:
                found = server.kill(order["stage"], order["url"], order.get("near", False))
        except Exception:
            found = {"error": traceback.format_exc()}
        write_all(answers, (json.dumps(found) + "\n").encode())
    os._exit(0)  # without the farewells of libraries


if __name__ == "__main__":
    main()
