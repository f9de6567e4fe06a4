"""What is built and pinned: the wheel, the locks, the settings files, the commands of the Makefile."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LOCKS = ("build", "refold", "dev")
PROJECT_FOLDERS = {"assets", "resources", "dagster_project", "tests", "examples", "benchmarks", "scripts"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirement_lines(name: str) -> list[str]:
    return [line.strip() for line in (ROOT / "requirements" / name).read_text().splitlines()]


def pins(lock: str) -> set[str]:
    """The pinned `name==version` of a lock, without the systems they are for."""
    lines = requirement_lines(f"{lock}.txt")
    return {re.split(r"[ ;\\]", line)[0] for line in lines if re.match(r"[a-z0-9].*==", line)}


def test_the_wheel_holds_the_package_and_its_metadata_alone(wheel: zipfile.ZipFile):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"refold", f"refold-{pyproject()['project']['version']}.dist-info"}
    assert not tops & PROJECT_FOLDERS


def test_the_wheel_holds_every_module_and_template_of_the_package_and_says_that_it_is_typed(wheel: zipfile.ZipFile):
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "refold").rglob("*.py")}
    templates = (ROOT / "refold" / "cli" / "templates").rglob("*")
    sources |= {path.relative_to(ROOT).as_posix() for path in templates if path.is_file()}
    sources.add("refold/py.typed")
    assert sources <= set(wheel.namelist())


def test_the_wheel_names_what_the_command_runs_on(wheel: zipfile.ZipFile):
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "refold = refold.cli.main:main" in wheel.read(entry_points).decode()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_registry_and_no_place_on_a_machine(lock: str):
    lines = requirement_lines(f"{lock}.txt")
    allowed = re.compile(r"#|[a-z0-9][a-z0-9.-]*==\S+( ; .+)? \\$|--hash=sha256:[0-9a-f]{64}( \\)?$")
    assert [line for line in lines if not allowed.match(line)] == []
    assert [line for line in lines if line.startswith("#") and "/" in line] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str):
    lines = requirement_lines(f"{lock}.txt")
    followers = [after for line, after in zip(lines, [*lines[1:], ""], strict=True) if re.match(r"[a-z0-9].*==", line)]
    assert followers
    assert all(after.startswith("--hash=sha256:") for after in followers)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_what_is_asked_for(lock: str):
    asked = [re.sub(r"\[.*?\]", "", line) for line in requirement_lines(f"{lock}.in")]
    asked = [line for line in asked if line and not line.startswith(("#", "-r"))]
    known = pins(lock) | {pin.split("==")[0] for pin in pins(lock)}
    assert [line for line in asked if line not in known] == []


def test_what_is_tested_is_what_runs():
    assert pins("refold") <= pins("dev")
    assert pins("build") <= pins("dev")


def test_declared_dependencies_are_pinned_and_dagster_is_one_version():
    project = pyproject()["project"]
    names = {pin.split("==")[0] for pin in pins("dev")}
    extras = [extra for group in project["optional-dependencies"].values() for extra in group]
    declared = {re.split(r"[<>=\[]", line)[0] for line in [*project["dependencies"], *extras]}
    assert declared <= names
    versions = {pin for pin in pins("refold") if re.match(r"dagster(-graphql|-webserver)?==", pin)}
    (dagster,) = (extra for extra in extras if extra.startswith("dagster=="))
    assert {pin.split("==")[1] for pin in versions} == {dagster.split("==")[1]}
    assert pyproject()["build-system"]["requires"][0] in pins("build")


def test_pyproject_leaves_the_workspace_to_its_file():
    """With either table, plain `dagster dev` ignores workspace.yaml."""
    assert not {"dagster", "dg"} & set(pyproject()["tool"])


def test_the_workspace_can_be_loaded_from_any_directory():
    (location,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert location["python_file"]["relative_path"] == "dagster_project/definitions.py"
    assert location["python_file"]["working_directory"] == "."


def test_dagster_takes_its_settings(tmp_path: Path):
    from dagster import DagsterInstance

    (tmp_path / "dagster.yaml").symlink_to(ROOT / "dagster.yaml")
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 0


def test_every_command_of_the_makefile_is_listed_by_make():
    lines = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.+)$", lines, re.MULTILINE)
    targets = set(phony.split()) - {"home"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    told = subprocess.run(["make"], cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    assert {line.split()[1] for line in told.splitlines() if line.startswith("  make ")} == targets
    assert {"rebuild", "test", "ui", "check", "image", "clean", "lock"} <= targets


@pytest.mark.parametrize("script", [".ci/run", *(f"scripts/{path.name}" for path in (ROOT / "scripts").glob("*.sh"))])
def test_a_script_can_be_run_and_stops_at_its_first_failure(script: str):
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text()
    subprocess.run(["bash", "-n", path], check=True)


def test_the_image_is_built_from_files_that_exist_and_are_let_in():
    dockerfile = (ROOT / "Dockerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.+) \S+$", dockerfile, re.MULTILINE)
    sources = {source for copy in copies for source in copy.split()}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if source.split("/")[0] not in let_in] == []


def test_the_image_does_not_run_as_root_and_watches_its_own_health():
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)[-1:] == ["refold"]
    assert "HEALTHCHECK" in dockerfile
