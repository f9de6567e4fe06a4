"""A format without lines, in folders of year, month and day, is sealed, quarantined, retried, planned and rebuilt."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from assets.logs import stock_events
from assets.stock import stock
from refold import QuarantineLimits
from refold.cli.group import cli
from refold.errors import DeclarationError, FixInput, UnreadableObject
from refold.landing.decoder import BadRecord, Decoded
from refold.landing.layout import Folders
from refold.plan.history import history_ahead
from refold.rebuild import rebuild_all
from refold.types import Schema, arrow_schema
from tests.seal.sealing import STOCK_ONLY, refused, sealed
from tests.support import Shop, levels, verify_reference

LAYOUTS = [Folders("year={year}/month={month}/day={day}"), Folders("{year}/{month}/{day}"), Folders("d_{date}")]
UNITS_MAX = 100


@dataclass(frozen=True)
class Framed:
    """Two bytes of length, then that many bytes of `event id|product|units`; units above `units_max` are bad."""

    units_max: int = UNITS_MAX
    suffixes: tuple[str, ...] = (".frames",)
    unit: str = "frame"

    def encode(self, raws: Sequence[bytes]) -> bytes:
        return b"".join(struct.pack(">H", len(raw)) + raw for raw in raws)

    def decode(self, name: str, data: bytes, columns: Schema, key: Sequence[str] = ()) -> Decoded:
        rows, numbers, bad = [], [], []
        for number, raw in enumerate(_frames(name, data), 1):
            event_id, product_id, units = raw.decode().split("|")
            if int(units) > self.units_max:
                bad.append(BadRecord(number, "too-many", f"Expected at most {self.units_max}, found {units}.", raw))
                continue
            row = {"event_id": event_id, "product_id": product_id, "quantity": int(units), "event_type": "add"}
            rows.append(dict.fromkeys(columns) | row | {"occurred_at": 0})
            numbers.append(number)
        return Decoded(pa.Table.from_pylist(rows, arrow_schema(columns)), np.array(numbers, np.int64), bad)


def _frames(name: str, data: bytes) -> Iterator[bytes]:
    while data:
        (size,) = struct.unpack(">H", data[:2])
        if len(data) < 2 + size:
            raise UnreadableObject(f"Expected a frame of {size} bytes in {name}, found {len(data) - 2}.")
        yield data[2 : 2 + size]
        data = data[2 + size :]


def _shop(shop: Shop, layout: Folders, units_max: int = UNITS_MAX) -> Shop:
    limits = QuarantineLimits(share_max=1.0)
    log = replace(stock_events, decoder=Framed(units_max), layout=layout, quarantine=limits)
    return shop.declared(stores=[replace(stock, log=log, sinks=(), expect=())])


PROJECT = _shop(Shop(Path("nowhere"), STOCK_ONLY), LAYOUTS[0]).project
"""What `refold quarantine ls` opens."""


def _land(shop: Shop, folder: str, *records: bytes) -> Path:
    path = shop.landing / "stock_events" / folder / "a.frames"
    path.parent.mkdir(parents=True)
    path.write_bytes(Framed().encode(records))
    return path


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.template)
def test_frames_are_sealed_quarantined_retried_and_planned(shop: Shop, layout: Folders):
    small = _shop(shop, layout)
    _land(small, layout.folder("2026-01-01"), b"1|lamp|5", b"2|lamp|500", b"3|rug|7")
    _land(small, layout.folder("2026-01-02") + "/partition=2", b"4|desk|1")
    (small.landing / "stock_events" / layout.folder("2026-01-01") / "_SUCCESS").touch()
    ahead = history_ahead(small.engine()).days
    assert [(day.key, day.events) for day in ahead] == [("2026-01-01", 3), ("2026-01-02", 1)]  # by records, not lines
    assert small.engine().sealing.sealer().complete("2026-01-01")
    rebuild_all(small.engine())
    assert levels(small.engine()) == {"desk": 1, "lamp": 5, "rug": 7}
    (bad,) = small.engine().quarantine()
    place = f"stock_events/{layout.folder('2026-01-01')}/a.frames"
    assert (bad.object, bad.record.number, bad.record.raw) == (place, 2, b"2|lamp|500")
    assert small.engine().chain.get().cut("stock_events").ends[2] >= 1

    (shop.root / "pyproject.toml").write_text(f'[tool.refold]\nproject = "{__name__}:PROJECT"\n')
    places = {"REFOLD_LANDING": str(shop.landing), "REFOLD_STORE": str(shop.store), "COLUMNS": "200"}
    shown = CliRunner().invoke(cli, ["--project", str(shop.root), "quarantine", "ls"], env=places)
    assert "frame 2" in shown.output and "too-many" in shown.output

    wide = _shop(shop, layout, units_max=1000)
    assert [item.record.number for item in wide.engine().retry_quarantine()["stock_events"]] == [2]
    _land(wide, layout.folder("2026-01-03"), b"5|rug|1")
    assert [(day.key, day.is_new) for day in history_ahead(wide.engine()).days][-1] == ("2026-01-03", True)
    rebuild_all(wide.engine())
    engine = wide.engine()
    assert levels(engine) == {"desk": 1, "lamp": 505, "rug": 8}
    assert verify_reference(engine, engine.chain.get()) == []
    assert [f for _, found in engine.verify_log("stock_events", engine.chain.get()) for f in found] == []


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.template)
def test_a_late_object_enters_the_next_snapshot(shop: Shop, layout: Folders):
    small = _shop(shop, layout)
    _land(small, layout.folder("2026-01-01"), b"1|lamp|5")
    _land(small, layout.folder("2026-01-02"), b"2|rug|1")
    sealed(small)
    late = f"stock_events/{layout.folder('2026-01-01')}/late.frames"
    (small.landing / late).write_bytes(Framed().encode([b"9|sofa|2"]))
    _land(small, layout.folder("2026-01-03"), b"3|rug|1")
    assert [(day.key, day.events) for day in history_ahead(small.engine()).days][-1] == ("2026-01-03", 2)
    (report,) = sealed(small)
    assert list(report.late) == [late]
    assert [o.late for o in report.snapshot.cut("stock_events").objects] == [True, False]


def test_a_name_that_the_layout_refuses_is_shown_with_the_one_expected(shop: Shop):
    other = _shop(shop, LAYOUTS[0])
    _land(other, "dt=2026-01-01", b"1|lamp|5")
    refused(other, FixInput, "stock_events/dt=2026-01-01/a.frames", "year=YYYY/month=MM/day=DD", ".frames")


def test_the_layout_does_not_enter_identities(shop: Shop, tmp_path: Path):
    found = []
    for number, layout in enumerate((Folders(), *LAYOUTS)):
        each = _shop(Shop(tmp_path / str(number), shop.project), layout)
        _land(each, layout.folder("2026-01-01"), b"1|lamp|5", b"3|rug|7")
        sealed(each)
        found.append(each.engine().chain.get().id)
    assert len(set(found)) == 1


@pytest.mark.parametrize("template", ["", "dt", "{date}/{day}", "{year}/{month}", "{date}/{date}", "{hour}", "{", "{}"])
def test_a_template_that_names_no_one_day_is_refused(template: str):
    with pytest.raises(DeclarationError):
        Folders(template)
