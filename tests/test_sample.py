"""The made-up shop of `examples/`: the same bytes everywhere, every trap present, and an answer that holds.

The answer is found here a second time, from the files alone.
"""

import datetime as dt
import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from examples.shop_landing import Sample, generate, gzip_stored, write, write_late

GOLDEN_LANDING = "ac9b451abccac567b47584ef790fb02b11909ebefa39cca56f52f7dd596e233a"
GOLDEN_LATE = "194cf7162f894dbadbe6ca1746647c0fbc5306db99ad509aaed0ee529233feeb"

FIELDS = {
    "event_id": str,
    "product_id": str,
    "quantity": int,
    "event_type": str,
    "occurred_at": str,
    "country": str | None,
    "invoice_no": str | None,
    "unit_price": str | None,
    "customer_id": str | None,
}


@pytest.fixture(scope="module")
def sample() -> Sample:
    return generate()


@pytest.fixture(scope="module")
def landing(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landing")
    assert write(folder) == sample.summary
    return folder


def sha256_of(objects) -> str:
    total = hashlib.sha256()
    for name, data in sorted(objects.items(), key=lambda item: item[0].encode()):
        total.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
    return total.hexdigest()


def read(folder: Path, log: str, names=None):
    """(name, line from 1, text) of a log's landing, in landing order."""
    names = names or [path.relative_to(folder).as_posix() for path in folder.glob(f"{log}/dt=*/*")]
    for name in sorted(names, key=str.encode):
        data = (folder / name).read_bytes()
        data = gzip.decompress(data) if name.endswith(".gz") else data
        yield from ((name, number, text) for number, text in enumerate(data.decode().splitlines(), start=1))


def parse(text: str):
    """A line as a stock event, or None where it cannot be one."""

    def refuse(constant):
        raise ValueError(constant)

    try:
        record = json.loads(text, parse_constant=refuse)
    except ValueError:
        return None
    event = {name: record[name] for name in FIELDS}
    good = all(isinstance(event[name], kind) for name, kind in FIELDS.items())
    return event if good and event["quantity"] >= 1 and event["event_type"] in ("add", "remove") else None


def answer(lines):
    """Levels, outcomes and quarantined places by the rule of the stock store, from the text of the lines."""
    seen, levels, outcomes, bad = {}, {}, Counter(), []
    for name, number, text in lines:
        event = parse(text)
        if event is None:
            bad.append((name, number))
            continue
        level = levels.setdefault(event["product_id"], 0)
        if event["event_id"] in seen:
            outcomes["duplicate" if seen[event["event_id"]] == event else "conflict"] += 1
            continue
        seen[event["event_id"]] = event
        change = event["quantity"] if event["event_type"] == "add" else -event["quantity"]
        outcomes["applied" if level + change >= 0 else "rejected"] += 1
        levels[event["product_id"]] = level + change if level + change >= 0 else level
    return levels, outcomes, bad


def test_the_bytes_are_the_same_on_every_machine(sample: Sample):
    assert sha256_of(sample.objects) == GOLDEN_LANDING
    assert sha256_of(sample.late_objects) == GOLDEN_LATE


def test_another_seed_makes_another_shop(sample: Sample):
    assert sha256_of(generate(seed=8, days=14).objects) != sha256_of(generate(seed=7, days=14).objects)
    assert set(generate(days=14).objects) <= set(sample.objects)


def test_the_files_alone_give_the_same_answer(landing: Path, sample: Sample):
    levels, outcomes, bad = answer(read(landing, "stock_events"))
    summary = sample.summary
    assert levels == summary.levels
    assert outcomes == summary.outcomes
    assert bad == [(name, number) for name, number, _ in summary.quarantined]
    assert summary.records == outcomes.total() + len(bad)
    assert 20_000 <= summary.events <= 25_000


def test_late_files_follow_what_was_sealed(sample: Sample, tmp_path: Path):
    write(tmp_path)
    first = list(read(tmp_path, "stock_events"))
    assert write_late(tmp_path) == sample.late_summary
    late_names = [name for name in sample.late_objects if name.startswith("stock_events/")]
    levels, outcomes, bad = answer(first + list(read(tmp_path, "stock_events", late_names)))
    assert levels == sample.late_summary.levels
    assert outcomes == sample.late_summary.outcomes
    assert len(bad) == len(sample.late_summary.quarantined)
    late_folders = {name.split("/")[1] for name in late_names}
    sealed_folders = {name.split("/")[1] for name in sample.objects}
    assert late_folders & sealed_folders == {"dt=2011-03-24"}
    assert late_folders - sealed_folders == {"dt=2011-06-01"}


def test_the_late_file_would_change_the_answer_if_it_were_folded_in_its_folder(sample: Sample, tmp_path: Path):
    write(tmp_path)
    write_late(tmp_path)
    assert answer(read(tmp_path, "stock_events"))[0] != sample.late_summary.levels


def test_the_catalogue_is_the_last_change_of_each_product_once_repeats_are_dropped(landing: Path, sample: Sample):
    catalogue, with_repeats, seen = {}, {}, set()
    for _, _, text in read(landing, "product_changes"):
        change = json.loads(text)
        row = change["after"] or change["before"]
        targets = [with_repeats] if change["source"]["lsn"] in seen else [with_repeats, catalogue]
        seen.add(change["source"]["lsn"])
        for target in targets:
            target.pop(row["product_id"], None)
            if change["op"] != "d":
                target[row["product_id"]] = (row["description"], row["unit_price"])
    assert catalogue == sample.summary.catalogue
    assert with_repeats != catalogue


def test_each_change_starts_from_the_row_before_it(landing: Path):
    rows, seen = {}, set()
    for _, _, text in read(landing, "product_changes"):
        change = json.loads(text)
        if change["source"]["lsn"] in seen:
            continue
        seen.add(change["source"]["lsn"])
        product_id = (change["after"] or change["before"])["product_id"]
        assert rows.get(product_id) == change["before"]
        rows[product_id] = change["after"]


def test_every_trap_is_there(landing: Path, sample: Sample):
    summary = sample.summary
    events = [(name.split("/")[1], event) for name, _, text in read(landing, "stock_events") if (event := parse(text))]
    folders_of = {}
    for folder, event in events:
        folders_of.setdefault(event["event_id"], []).append(folder)
    repeated = [folders for folders in folders_of.values() if len(folders) > 1]
    assert any(len(set(folders)) == 1 for folders in repeated), "repeats within a day"
    assert any(len(set(folders)) > 1 for folders in repeated), "repeats across days"
    assert summary.outcomes["conflict"] >= 5
    assert summary.outcomes["rejected"] >= 200
    assert summary.refused_again >= 10
    assert {wrong for _, _, wrong in summary.quarantined} == {
        "cut off",
        "negative quantity",
        "null key",
        "unknown event type",
        "not a number",
    }
    assert set(summary.changes) == {"create", "update", "delete", "re-create", "duplicate"}
    ids = set(summary.levels)
    assert {"21340A", "21340a"} <= ids
    assert len(ids) == 60
    stocked = {event["product_id"] for _, event in events if event["event_type"] == "add"}
    assert len(ids - stocked) == 2, "products with rejected events only"
    assert len(ids - set(summary.catalogue)) >= 2, "deleted or never in the catalogue"
    assert any(event["invoice_no"] and event["event_type"] == "add" for _, event in events), "returns"


def test_no_day_quarantines_more_than_a_log_allows_by_default(landing: Path):
    read_records, bad = Counter(), Counter()
    for name, _, text in read(landing, "stock_events"):
        read_records[name.split("/")[1]] += 1
        bad[name.split("/")[1]] += parse(text) is None
    assert max(bad[folder] / read_records[folder] for folder in read_records) < 0.05


def test_saturdays_and_the_turn_of_the_year_have_no_folder(landing: Path, sample: Sample):
    folders = {path.name.removeprefix("dt=") for path in landing.glob("stock_events/dt=*")}
    every_day = {(dt.date(2010, 12, 1) + dt.timedelta(days=n)).isoformat() for n in range(182)}
    assert every_day - folders == set(sample.summary.closed_days)
    assert not [day for day in folders if dt.date.fromisoformat(day).weekday() == 5]
    assert {"2010-12-25", "2011-01-01"} <= set(sample.summary.closed_days)


def test_popular_products_sell_most(landing: Path):
    sold = Counter(e["product_id"] for _, _, t in read(landing, "stock_events") if (e := parse(t)) and e["invoice_no"])
    ranked = [count for _, count in sold.most_common()]
    assert sum(ranked[:10]) > sum(ranked[30:])


def test_a_rerun_writes_the_same_and_leaves_nothing_unfinished(tmp_path: Path):
    first = write(tmp_path, days=7)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert write(tmp_path, days=7) == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert {path.parts[len(tmp_path.parts)] for path in before} == {"stock_events", "product_changes"}


def test_a_folder_of_another_origin_is_refused_and_left_alone(tmp_path: Path):
    write(tmp_path, days=7)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="Choose another folder"):
        write(tmp_path, days=7, seed=8)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_too_short_a_sample_is_refused():
    with pytest.raises(ValueError, match="at least 7 days"):
        generate(days=6)


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 200_000])
def test_stored_gzip_is_gzip(size: int):
    data = bytes(number % 251 for number in range(size))
    assert gzip.decompress(gzip_stored(data)) == data
