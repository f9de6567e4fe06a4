"""The stages on the way from landing to readers, each with the shop as it is before, and what readers may find.

Not a test. A phase is a shop that is prepared once and copied for every kill; a stage is what is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.failpoints.shop import DAYS, Contents, Shop, answers
from tests.failpoints.steps import (
    NEW,
    NEXT,
    OLD,
    build,
    check,
    check_again,
    compact,
    compile_anew,
    everything,
    freed,
    in_turn,
    link_landing,
    mend,
    mend_and_publish,
    mend_objects,
    mend_served,
    prove,
    prune,
    publish,
    redact,
    release,
    release_anchored,
    release_anchored_again,
    retry,
    roll_back,
    seal,
    unseal,
)
from tests.failpoints.wrecks import (
    damage,
    leave_copies,
    leave_orphans,
    leave_rubble,
    let_rot,
    lose_segments,
    publish_wide,
    spoil,
    wreck,
)


@dataclass(frozen=True)
class Phase:
    """A shop made from that of another phase."""

    after: str | None
    make: Callable[[Shop], None]
    project: str = "plain"


@dataclass(frozen=True)
class Stage:
    """What is killed.

    Attributes:
        phase: the shop that it begins with.
        do: the work; the same again is the next run, which must complete it.
        old, new: the days that readers may find before and after; None where nothing is released.
        project: under which declaration.
        again: the next run, where that is more than the same again.
        database: whether it writes to the database or moves the pointer.
        readable: whether readers read from the beginning on, and not from when the next run is done.
        retried_from: the day that takes in what was no event before.
    """

    phase: str
    do: Callable[[Shop], object]
    old: int | None = OLD
    new: int | None = OLD
    project: str = "plain"
    again: Callable[[Shop], object] | None = None
    database: bool = False
    readable: bool = True
    retried_from: int | None = None

    @property
    def allowed(self) -> dict[str, Contents]:
        """What readers may find, by snapshot."""
        found = {DAYS[self.old]: answers(self.old)} if self.old is not None else {}
        if self.new is not None:
            found[DAYS[self.new]] = answers(self.new, wide=self.project == "wide" and self.new != self.old)
        return found

    @property
    def following(self) -> dict[str, Contents]:
        """What readers find once the next day was rebuilt."""
        return {DAYS[NEXT]: answers(NEXT, wide=self.project == "wide", retried_from=self.retried_from)}


PHASES: Mapping[str, Phase] = {
    "landed": Phase(None, link_landing),
    "first proven": Phase("landed", lambda shop: in_turn(shop, 0, seal, build, prove)),
    "first published": Phase("first proven", lambda shop: in_turn(shop, 0, publish, check)),
    "first published again": Phase("first published", leave_copies),
    "served": Phase("first published", lambda shop: everything(shop, 0, OLD)),
    "sealed": Phase("served", seal),
    "built": Phase("sealed", build),
    "proven": Phase("built", prove),
    "rubble": Phase("proven", leave_rubble),
    "published": Phase("proven", publish),
    "checked": Phase("published", check),
    "damaged": Phase("checked", damage),
    "spoilt": Phase("checked", spoil),
    "released": Phase("checked", release),
    "cluttered": Phase("released", leave_orphans),
    "wrecked": Phase("released", wreck),
    "without segments": Phase("released", lose_segments),
    "rotten": Phase("released", let_rot, "retrying"),
    "withdrawn": Phase("checked", release, "fewer"),
    "wide published": Phase("served", publish_wide, "wide"),
}

STAGES: Mapping[str, Stage] = {
    "compile": Stage("served", compile_anew),
    "seal the first": Stage("landed", lambda shop: seal(shop, 0), old=None, new=None),
    "seal": Stage("served", seal),
    "build": Stage("sealed", build),
    "prove": Stage("built", prove),
    "publish the first": Stage("first proven", lambda shop: publish(shop, 0), old=None, new=None, database=True),
    "publish": Stage("rubble", publish, database=True),
    "check expectations": Stage("published", check),
    "find an expectation broken": Stage("spoilt", check_again),
    "release the first": Stage("first published again", lambda shop: release(shop, 0), old=None, new=0, database=True),
    "release": Stage("checked", release, new=NEW, database=True),
    "seal with leases": Stage("served", seal, project="leased", again=freed(seal)),
    "release with leases": Stage("checked", release, new=NEW, project="leased", again=freed(release)),
    "prune with leases": Stage("cluttered", prune, old=NEW, new=NEW, project="leased", again=freed(prune)),
    "release with an anchor": Stage("checked", release_anchored, new=NEW, again=release_anchored_again),
    "release other columns": Stage("wide published", release, new=NEW, project="wide", database=True),
    "withdraw": Stage("checked", release, new=NEW, project="fewer", database=True),
    "prune what was withdrawn": Stage("withdrawn", prune, old=NEW, new=NEW, project="fewer", database=True),
    "roll back": Stage("released", roll_back, old=NEW, new=OLD, database=True),
    "unseal": Stage("checked", unseal),
    "redact": Stage("released", redact, old=NEW, new=NEW),
    "prune": Stage("cluttered", prune, old=NEW, new=NEW, database=True),
    "compact": Stage("released", compact, old=NEW, new=NEW),
    "retry the quarantine": Stage("served", retry, project="retrying", retried_from=NEW),
    "repair": Stage("damaged", mend, again=mend_and_publish, database=True),
    "seal again from landing": Stage("without segments", mend_objects, old=NEW, new=NEW),
    "repair what is served": Stage("wrecked", mend_served, old=NEW, new=NEW, readable=False),
    "repair objects": Stage("rotten", mend_objects, old=NEW, new=NEW, project="retrying", retried_from=NEXT),
}
