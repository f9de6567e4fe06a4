"""JSON Lines of real and hostile data sets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from refold.landing.jsonl import JsonLines
from tests.landing.test_jsonl import STOCK, decode


@pytest.mark.parametrize(("part", "key"), [("landing", "first"), ("late", "then")])
def test_the_torture_landing_gives_exactly_the_quarantine_of_its_oracle(shared_data: Path, part: str, key: str) -> None:
    root = shared_data / "torture" / part
    expected = json.loads((shared_data / "torture" / "expected.json").read_text())[key]["quarantined"]
    expected = [tuple(place) for place in expected if (root / place[0]).exists()]
    found = []
    for path in sorted((root / "stock_events").rglob("*.jsonl*")):
        decoded = JsonLines().decode(path.name, path.read_bytes(), STOCK)
        found += [(str(path.relative_to(root)), bad.number) for bad in decoded.bad]
        data = path.read_bytes()
        plain = gzip.decompress(data) if path.suffix == ".gz" else data
        assert all(plain.split(b"\n")[bad.number - 1] == bad.raw for bad in decoded.bad)
        assert decoded.read == sum(1 for line in plain.split(b"\n") if line.strip())
    assert found == sorted(expected)


def test_the_retail_shop_decodes_without_one_bad_record(shared_data: Path) -> None:
    total = 0
    for path in sorted((shared_data / "retail" / "landing" / "stock_events").rglob("*.jsonl.gz")):
        decoded = JsonLines().decode(path.name, path.read_bytes(), STOCK)
        assert not decoded.bad
        total += len(decoded.rows)
    assert total == 212_890


def test_naughty_strings_come_through_byte_for_byte(shared_data: Path) -> None:
    data = (shared_data / "naughty" / "events.jsonl").read_bytes()
    expected = [json.loads(line)["product_id"] for line in data.split(b"\n") if line.strip()]
    assert decode(data, STOCK).rows.column("product_id").to_pylist() == expected
