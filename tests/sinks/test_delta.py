"""Delta tables seen as their readers see them: pandas, time travel, the log, and after strange hands."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from refold.errors import Damaged, DeclarationError, NotFound
from refold.sinks import Connections, Content, Delta
from refold.sinks.delta import DeltaTarget, _parquet_files
from refold.storage.objects import ObjectStore
from refold.testing.sink_conformance import ALL_TYPES, assert_holds, content_of, levels
from refold.types import text


def opened(connections: Connections, content: Content) -> DeltaTarget:
    return Delta("stock").open(connections, content.store, content.key, content.columns)


def released(connections: Connections, *contents: Content) -> DeltaTarget:
    target = opened(connections, contents[0])
    for content in contents:
        target.publish(content)
        target.release(content.version, content.lineage)
    return target


def test_pandas_reads_the_released_version_and_the_former_one_by_time_travel(connections: Connections) -> None:
    target = released(connections, levels("v1", 1, count=2), levels("v2", 2, count=3, ordinal=2))
    assert DeltaTable(target.place).to_pandas()["level"].tolist() == [2, 2, 2]
    assert DeltaTable(target.place, version=0).to_pandas()["level"].tolist() == [1, 1]


def test_there_is_no_table_before_the_first_release(connections: Connections) -> None:
    content = levels("v1", 1)
    target = opened(connections, content)
    target.publish(content)
    assert not DeltaTable.is_deltatable(target.place)


def test_the_types_of_the_table_are_deltas_own(connections: Connections) -> None:
    rows = ("P", dt.date(2020, 1, 1), 1, "n", Decimal(1), Decimal(1), None, None, True, b"", 0.5)
    target = released(connections, content_of(ALL_TYPES, [rows], "v1"))
    types = {field.name: str(field.type.type) for field in DeltaTable(target.place).schema().fields}
    assert types == {
        "name": "string", "day": "date", "number": "long", "note": "string", "price": "decimal(38,10)",
        "units": "decimal(18,0)", "until": "date", "at": "timestamp", "active": "boolean", "raw": "binary",
        "share": "double",
    }  # fmt: skip


def test_every_commit_tells_its_version_and_lineage(connections: Connections) -> None:
    target = released(connections, levels("v1", 1), levels("v2", 2, ordinal=2))
    commit = DeltaTable(target.place).history(1)[0]
    found = {name: value for name, value in commit.items() if name.startswith("refold.")}
    assert found == {
        "refold.store": "a_store",
        "refold.version": "v2",
        "refold.snapshot": "2020-01-02",
        "refold.digest": "d" * 64,
        "refold.code_version": "1-abc",
        "refold.proof": "p",
    }


def test_a_rerun_of_a_release_adds_no_commit(connections: Connections) -> None:
    content = levels("v1", 1)
    target = released(connections, content)
    target.publish(content)
    target.release("v1", content.lineage)
    assert DeltaTable(target.place).version() == 0


def test_a_table_that_others_compacted_is_no_longer_released_but_readable_and_mended_by_a_release(
    connections: Connections,
) -> None:
    content = levels("v1", 1)
    target = released(connections, content)
    table = DeltaTable(target.place)
    table.delete("product_id = 'P-0003'")
    assert target.released() is None
    with pytest.raises(NotFound):
        target.read()
    target.release("v1", content.lineage)
    assert_holds(content, target.read())


def test_a_version_whose_file_was_changed_is_damaged_and_publishing_mends_it(connections: Connections) -> None:
    content = levels("v1", 1)
    target = opened(connections, content)
    target.publish(content)
    file = next(Path(target.place).glob("v1/*.parquet"))
    file.write_bytes(file.read_bytes()[:-5] + b"wrong")
    with pytest.raises(Damaged):
        target.read("v1")
    target.publish(content)
    assert_holds(content, target.read("v1"))


def test_a_released_file_is_never_changed_by_publishing_other_bytes_for_the_same_rows(connections: Connections) -> None:
    """Another library version may write other bytes; the log holds the sizes of the first ones."""
    content = levels("v1", 1)
    target = released(connections, content)
    shuffled = Content(**{**vars(content), "rows": content.rows.take(list(range(19, -1, -1)))})
    target.publish(shuffled)
    assert len(DeltaTable(target.place).to_pandas()) == 20
    target.release("v1", content.lineage)
    assert_holds(content, target.read())


def test_dropping_removes_every_file_of_a_version(connections: Connections) -> None:
    target = released(connections, levels("v1", 1), levels("v2", 2, ordinal=2))
    connections.objects.put("delta/stock/v1/left-00000.parquet", b"left by a kill")
    target.drop("v1")
    assert [info.name for info in connections.objects.list("delta/stock/v1")] == []
    assert target.versions() == ["v2"]


def test_large_content_is_split_into_files_that_hold_all_rows_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refold.sinks.delta._ROWS_A_FILE", 7)
    rows = levels("v1", 1, count=20).rows
    parts = [pq.read_table(pa.BufferReader(data)) for data in _parquet_files(rows)]
    assert [part.num_rows for part in parts] == [7, 7, 6]
    assert pa.concat_tables(parts).equals(rows)


def test_names_that_delta_readers_refuse_are_refused_at_the_declaration(connections: Connections) -> None:
    with pytest.raises(DeclarationError):
        Delta("../elsewhere")
    with pytest.raises(DeclarationError) as caught:
        Delta("stock").open(connections, "stock", ["a"], {"a": text(), "A": text(), "two words": text()})
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(("folder", "shown"), [("plain%20x", "%20"), ("a\\b", "\\"), ("two\nlines", "\\n")])
def test_a_path_that_the_library_takes_for_another_is_refused_at_the_declaration(
    tmp_path: Path, folder: str, shown: str
) -> None:
    """It writes the log to one folder and reads it from another, or not at all, once other sinks have moved."""
    objects = ObjectStore.open(str(tmp_path / folder))
    with pytest.raises(DeclarationError, match=re.escape(f"has {shown}, which Delta Lake takes for something else")):
        Delta("levels").open(Connections(objects, {}), "levels", ["product"], {"product": text()})
    Delta("levels").open(
        Connections(ObjectStore.open(str(tmp_path / "50% x")), {}), "levels", ["product"], {"product": text()}
    )
