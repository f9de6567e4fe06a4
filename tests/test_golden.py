"""Names and bytes of what the sample leaves in a store stay the same from one version of the code to the next.

A change here is a change of format: states and proofs that users have would be built again. The names of Parquet
objects follow from their bytes, so an upgrade of pyarrow changes `logs`, `layouts` and `states` as well.
"""

from __future__ import annotations

from pathlib import Path

from assets import PROJECT
from refold.rebuild import rebuild_all
from tests.golden import object_sums
from tests.support import Shop

GOLDEN = {
    "checked": (43, "5302f2420b621f46"),
    "delta": (8, "fa7f699e4b9ca389"),
    "expectations": (6, "e8d38ecdd9ad082c"),
    "layouts": (39, "625b135029cc89a7"),
    "logs": (172, "477bf617d609d39b"),
    "partials": (4, "749a501d17bc1cd2"),
    "proofs": (151, "c5ede40b552153e0"),
    "releases": (1, "fe953c1cf2cbcdac"),
    "search": (4, "58a061cbccbd982b"),
    "sinks": (8, "f38046e9c95bce30"),
    "snapshots": (39, "68e3932116d09406"),
    "states": (332, "d86f8e745c0d7302"),
}


def test_the_sample_leaves_the_same_objects_as_ever(tmp_path: Path):
    shop = Shop(tmp_path, PROJECT)
    assert PROJECT.sample is not None
    PROJECT.sample(shop.landing, False)
    rebuild_all(shop.engine(), "2011-01-08")
    assert object_sums(shop.store) == GOLDEN
