"""The same events from each format: the same store, and a bad record that is quarantined, mended and retried."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refold import Avro, Csv, Daily, JsonLines, Log, Parquet, Project, QuarantineLimits, int64, latest_by_key, text
from refold.landing.decoder import Decoder
from tests.support import Shop, seal_and_prove

LOG = Log(
    "sales",
    key="sku",
    event_id="id",
    columns={"id": int64(), "sku": text(), "units": int64(0, 100)},
    quarantine=QuarantineLimits(share_max=1.0),
)
ROWS = [{"id": n, "sku": f"s{n % 7}", "units": n % 90 if n != 33 else 101} for n in range(60)]


def _json(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _csv(rows: list[dict]) -> bytes:
    return "".join(["id,sku,units\n", *(f'{row["id"]},"{row["sku"]}",{row["units"]}\n' for row in rows)]).encode()


def _parquet(rows: list[dict]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=16)
    return out.getvalue()


def _avro(rows: list[dict]) -> bytes:
    out = io.BytesIO()
    fields = [{"name": "id", "type": "long"}, {"name": "sku", "type": "string"}, {"name": "units", "type": "int"}]
    fastavro.writer(out, {"type": "record", "name": "sale", "fields": fields}, rows)
    return out.getvalue()


FORMATS: dict[str, tuple[Decoder, str, Callable[[list[dict]], bytes]]] = {
    "json": (JsonLines(), ".jsonl", _json),
    "csv": (Csv(), ".csv", _csv),
    "avro": (Avro(), ".avro", _avro),
    "parquet": (Parquet(), ".parquet", _parquet),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_events_of_each_format_are_sealed_proven_quarantined_and_retried(kind: str, tmp_path: Path) -> None:
    decoder, suffix, write = FORMATS[kind]
    log = replace(LOG, decoder=decoder)

    def shop_of(most: int) -> Shop:
        columns = {**log.columns, "units": int64(0, most)}
        store = latest_by_key(replace(log, columns=columns), "units", version=1, columns={"units": int64(0, most)})
        return Shop(tmp_path, Project("formats", Daily(dt.date(2026, 1, 30)), [store]))

    shop = shop_of(100)
    for day, rows in (("2026-01-30", ROWS[:40]), ("2026-01-31", ROWS[40:])):
        path = shop.landing / "sales" / f"dt={day}" / f"a{suffix}"
        path.parent.mkdir(parents=True)
        path.write_bytes(write(rows))
    seal_and_prove(shop.engine())
    (bad,) = shop.engine().quarantine()
    assert (bad.record.number, bad.record.reason) == (34, "out-of-range")
    right = {row["sku"]: row["units"] for row in ROWS if row["units"] <= 100}
    assert _units(shop) == right

    wider = shop_of(200)
    assert [len(retried) for retried in wider.engine().retry_quarantine().values()] == [1]
    (wider.landing / "sales" / "dt=2026-02-01").mkdir()
    (wider.landing / "sales" / "dt=2026-02-01" / f"b{suffix}").write_bytes(write([ROWS[0]]))
    seal_and_prove(wider.engine())
    assert wider.engine().chain.get().events_through == 61  # the retried event, and one that was delivered again
    assert _units(wider) == {**right, "s5": 101}


def _units(shop: Shop) -> dict[str, int]:
    engine = shop.engine()
    (store,) = engine.project.stores
    return {row["sku"]: row["units"] for row in engine.rows(store, engine.chain.get()).to_pylist()}
