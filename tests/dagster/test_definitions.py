"""This project's code location: loads from nothing, warns of nothing, and says what each of its assets is."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import dagster as dg
import pytest

from dagster_project.definitions import defs

ROOT = Path(__file__).parents[2]

GUARDED = textwrap.dedent("""
    import sys
    sys.path.insert(0, {root!r})

    def refuse(event, arguments):
        if event.startswith(("socket.", "subprocess.", "os.system", "os.mkdir", "os.rename", "os.remove")):
            raise PermissionError(f"{{event}} while definitions are loaded: {{arguments}}")
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            if arguments[0] != "/dev/null":
                raise PermissionError(f"a file is written while definitions are loaded: {{arguments}}")

    sys.addaudithook(refuse)
    from dagster_project.definitions import defs
    repository = defs.get_repository_def()
    repository.load_all_definitions()
    print(len(repository.asset_graph.materializable_asset_keys), len(repository.get_all_jobs()))
""")


def test_they_load_without_environment_network_or_files_and_without_a_warning(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-B", "-c", GUARDED.format(root=str(ROOT))],
        env={},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["17", "10"]
    assert list(tmp_path.iterdir()) == []


def test_the_workspace_is_valid_from_another_directory_and_warns_of_nothing_of_ours(tmp_path: Path):
    command = [sys.executable, "-B", "-m", "dagster", "definitions", "validate", "-w", str(ROOT / "workspace.yaml")]
    environment = {"PATH": os.environ["PATH"], "DAGSTER_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "Validation successful for code location refold_shop" in told
    assert "PreviewWarning" not in told
    assert "BetaWarning" not in told


GRAPH = defs.resolve_asset_graph()
ASSETS = {key.to_user_string(): GRAPH.get(key) for key in GRAPH.materializable_asset_keys}


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_an_asset_says_what_it_is(name: str):
    node = ASSETS[name]
    assert len(node.description) > 30
    assert node.kinds
    assert node.group_name == {"log": "logs", "state": "states"}.get(name.split("/", maxsplit=1)[0], "sinks")
    assert node.code_version
    assert len(node.pools) == 1
    assert node.is_partitioned == name.startswith(("log/", "state/"))
    if name != "release":
        assert [owner.startswith("team:") for owner in node.owners] == [True]
        assert node.metadata["dagster/column_schema"].columns


def test_columns_say_what_they_hold():
    columns = {c.name: c for c in ASSETS["log/stock_events"].metadata["dagster/column_schema"].columns}
    key = "The product, as the shop numbers it. The key: which entity the event belongs to."
    assert columns["product_id"].description == key
    assert columns["quantity"].description == "How many units moved. At least 1, at most 1,000,000."
    assert columns["event_type"].description == "Whether units came in or went out. One of add, remove."
    assert not columns["product_id"].constraints.nullable
    assert columns["country"].constraints.nullable
    published = {c.name: c for c in ASSETS["sql/stock_view"].metadata["dagster/column_schema"].columns}
    assert [*published] == ["product_id", "level", "log_partition", "log_offset", "log_seq"]
    assert published["product_id"].constraints.unique
    assert published["level"].description == "Units on hand, never below zero."


@pytest.mark.parametrize("store", ["stock", "daily_movement"])
def test_a_state_links_to_the_function_that_defines_it(store: str):
    (place,) = ASSETS[f"state/{store}"].metadata["dagster/code_references"].code_references
    lines = Path(place.file_path).read_text(encoding="utf-8").splitlines()
    assert f"def {store}(" in "\n".join(lines[place.line_number - 1 :])
    assert lines[place.line_number - 1].startswith(("@fold", "@relation"))


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_lineage_names_columns_that_exist(name: str):
    from assets import PROJECT
    from refold.dagster.columns import column_lineage, sink_lineage

    kind, _, rest = name.partition("/")
    schemas = {key: node.metadata.get("dagster/column_schema") for key, node in ASSETS.items()}
    if kind == "state":
        lineage = column_lineage(PROJECT.store(rest))
    elif kind in ("log", "release"):
        return
    else:
        store = next(s for s in PROJECT.stores if any((k.kind, k.name) == (kind, rest) for k in s.sinks))
        lineage = sink_lineage(store)
    assert set(lineage.deps_by_column) == {column.name for column in schemas[name].columns}
    for dependencies in lineage.deps_by_column.values():
        for dependency in dependencies:
            columns = {column.name for column in schemas[dependency.asset_key.to_user_string()].columns}
            assert dependency.column_name in columns


def test_every_log_and_state_is_checked_and_every_check_but_that_of_landing_stops_what_follows():
    checks = {key.to_user_string(): GRAPH.get(key) for key in GRAPH.asset_check_keys}
    waiting = {f"{name}:landing" for name in ASSETS if name.startswith("log/")}
    assert {name for name, check in checks.items() if not check.blocking} == waiting
    assert all(len(check.description) > 30 for check in checks.values())
    guarded = {f"{name}:structure" for name in ASSETS if name.startswith("log/")}
    guarded |= {f"{name}:full_replay" for name in ASSETS if name.startswith("state/")}
    guarded |= {f"{name}:served" for name in ASSETS if name.startswith(("sql/", "delta/", "search/"))}
    assert guarded <= checks.keys()
    assert {name.split(":")[1] for name in checks.keys() - guarded - waiting} == {"expectations"}


def test_jobs_schedules_and_sensors_say_what_they_do():
    repository = defs.get_repository_def()
    jobs = {job.name: job for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert jobs.keys() == {
        "rebuild_history",
        "rebuild_snapshot",
        "prove_snapshot",
        "publish_newest",
        "verify",
        "verify_served",
        "repair",
        "rollback",
        "prune",
    }
    told = [*jobs.values(), *repository.schedule_defs, *repository.sensor_defs]
    assert all(len(each.description) > 30 for each in told)
    assert {each.name: each.job_name for each in repository.schedule_defs} == {
        "daily_rebuild": "rebuild_snapshot",
        "weekly_backfill": "prove_snapshot",
        "hourly_verification": "verify_served",
    }


def test_sinks_wait_for_every_state_and_the_release_for_every_sink():
    sinks = {name for name, node in ASSETS.items() if node.group_name == "sinks" and name != "release"}
    assert {key.to_user_string() for key in ASSETS["release"].parent_keys} == sinks
    for name in sinks:
        (state,) = ASSETS[name].parent_keys
        assert state.path[0] == "state"
        assert isinstance(GRAPH.get_partition_mapping(dg.AssetKey(name.split("/")), state), dg.AllPartitionMapping)
