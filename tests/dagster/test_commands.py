"""The commands an operator and CI run: `refold.dagster.rebuild`, and Dagster's own for the job `verify`."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from assets import PROJECT
from refold.cli.terminal import console
from refold.dagster.rebuild import main, open_instance, prepare_home, write_sample
from refold.rebuild import rebuild_all
from tests.dagster.conftest import land
from tests.dagster.house import House, falsify
from tests.support import Shop, digests

ROOT = Path(__file__).parents[2]
PARTS = ("assets", "resources", "dagster_project", "pyproject.toml", "dagster.yaml", "workspace.yaml")


@pytest.fixture(scope="module", autouse=True)
def _backfill_meanwhile(request: pytest.FixtureRequest) -> None:
    """Begin the backfill that `test_ui.py` looks at: Dagster's daemon looks every 30 seconds, whatever it does."""
    if any("test_ui.py" in item.nodeid for item in request.session.items):
        request.getfixturevalue("served")


def environment(shop: Shop, **more: str) -> dict[str, str]:
    """What a process needs to work on a shop, and nothing of ours."""
    settings = shop.settings
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/nonexistent"),
        "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],  # what these runs took is not for the user's predictions
        "PYTHONPATH": str(ROOT),
        "REFOLD_LANDING": settings.landing,
        "REFOLD_STORE": settings.store,
        "REFOLD_DATABASE": settings.database,
        **more,
    }


def start(shop: Shop, folder: Path, **more: str) -> subprocess.Popen[str]:
    """Begin `python -m refold.dagster.rebuild` in a project's folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "refold.dagster.rebuild"],
        cwd=folder,
        env=environment(shop, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def copy_project(folder: Path) -> Path:
    """This project without its engine, elsewhere."""
    folder.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder)
    return folder


def kill_once_sealed(process: subprocess.Popen[str], shop: Shop, snapshots: int) -> None:
    """Kill a rebuild, as a machine that goes down would, once it has sealed some snapshots."""
    folder, deadline = shop.store / "snapshots", time.monotonic() + 120
    while not (folder.is_dir() and len(list(folder.iterdir())) >= snapshots):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()


def clean(shop: Shop, root: Path) -> dict[str, tuple[str, ...]]:
    """The digests of a rebuild of the same landing in a place of its own, without Dagster."""
    other = Shop(root, shop.project, shop.landing)
    rebuild_all(other.engine())
    return digests(other.engine())


def runs(home: Path) -> list[dg.DagsterRun]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return list(instance.get_runs())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The environment of a project whose landing holds three days, set for this process."""
    shop = land(Shop(tmp_path, PROJECT))
    monkeypatch.chdir(ROOT)
    for name, value in environment(shop, DAGSTER_HOME=str(tmp_path / "home")).items():
        monkeypatch.setenv(name, value)
    return shop


class TestRebuilding:
    def test_after_a_kill_and_twice_at_once_in_a_path_with_a_space_ends_well(self, tmp_path: Path):
        """A rebuild is killed midway; then two begin at the same time, and both end as one undisturbed would."""
        folder = copy_project(tmp_path / "a project")
        shop = land(Shop(folder / "my data", PROJECT), days=6)
        killed = start(shop, folder)
        kill_once_sealed(killed, shop, snapshots=3)
        assert shop.engine().releaser.current() is None

        processes = [start(shop, folder) for _ in range(2)]
        told = [process.communicate(timeout=240)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], "\n".join(told)
        for text in told:
            assert "asset checks passed" in text
            assert "Served: release" in text
            assert not {"DEBUG", "Traceback", "Warning"} & set(text.replace(":", " ").split())
        assert digests(shop.engine()) == clean(shop, tmp_path / "clean")
        home = folder / ".refold" / "dagster"
        assert (home / "dagster.yaml").resolve() == (folder / "dagster.yaml").resolve()
        assert sorted(run.status.value for run in runs(home)) == ["FAILURE", "SUCCESS", "SUCCESS"]

    def test_tells_a_damaged_landing_in_a_sentence(self, here: Shop, capsys: pytest.CaptureFixture[str]):
        whole = gzip.compress(b'{"event_id": "x"}\n' * 50)
        broken = here.landing / "stock_events" / "dt=2010-12-02" / "b.jsonl.gz"
        broken.write_bytes(whole[:-12])
        assert main([]) == 1
        out, err = capsys.readouterr()
        told = " ".join(out.split())
        assert "check_landing: " in told
        assert "stock_events/dt=2010-12-02/b.jsonl.gz" in told
        assert "Traceback" not in out + err
        assert "DEBUG" not in out + err

    def test_tells_what_is_missing(self, here: Shop, capsys: pytest.CaptureFixture[str], monkeypatch):
        monkeypatch.setenv("REFOLD_LANDING", str(here.root / "nowhere"))
        assert main([]) == 1
        assert "Expected a folder at" in capsys.readouterr().out
        assert main(["--definitions", "assets.nothing"]) == 1
        assert "There is no module 'assets.nothing'" in capsys.readouterr().out

    def test_stops_where_told_folds_anew_when_told_and_then_changes_nothing(
        self, here: Shop, capsys: pytest.CaptureFixture[str]
    ):
        assert main(["--through", "2010-12-02"]) == 0
        assert here.engine().releaser.current().snapshot == "2010-12-02"
        falsify(House(here), "stock", "2010-12-02", "2010-12-01")
        assert main([]) == 1
        assert here.engine().releaser.current().snapshot == "2010-12-02"
        assert main(["--from-scratch"]) == 0
        assert here.engine().releaser.current().snapshot == "2010-12-03"
        files = here.files()
        assert main([]) == 0
        assert here.files() == files
        told = capsys.readouterr().out
        assert told.count("asset checks passed") == 3
        assert told.count("prove_history: Full replay failed") == 1
        tables = [line for line in told.splitlines() if not line.startswith(("prove_history", "  - "))]
        assert max(map(len, tables)) <= 160


class TestTheSample:
    def test_is_written_whole_where_no_landing_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("REFOLD_LANDING", raising=False)
        written = []

        def sample(folder: Path, late: bool) -> None:
            assert not late
            assert not (tmp_path / ".refold" / "landing").exists()
            written.append(folder)
            (folder / "x").mkdir()

        project = replace(PROJECT, sample=sample)
        write_sample(project, tmp_path, console())
        write_sample(project, tmp_path, console())
        assert len(written) == 1
        assert [path.name for path in (tmp_path / ".refold").iterdir()] == ["landing"]
        assert (tmp_path / ".refold" / "landing" / "x").is_dir()


class TestTheHome:
    def test_is_below_the_project_with_a_link_to_its_settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        for _ in range(2):
            home = prepare_home(tmp_path)
        assert home == tmp_path / ".refold" / "dagster"
        assert (home / "dagster.yaml").resolve() == tmp_path / "dagster.yaml"

    def test_may_be_named_and_keeps_settings_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "dagster.yaml").write_text("nux: {enabled: false}\n")
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "own"))
        assert prepare_home(tmp_path) == tmp_path / "own"
        assert "nux" in (tmp_path / "own" / "dagster.yaml").read_text()

    def test_can_be_new_to_several_who_open_it_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
        with ThreadPoolExecutor(4) as pool:
            opened = [future.result() for future in [pool.submit(open_instance) for _ in range(4)]]
        assert [instance.get_runs() for instance in opened] == [[], [], [], []]
        for instance in opened:
            instance.dispose()


def test_verify_through_dagsters_command_fails_when_one_check_fails(tmp_path: Path):
    shop = land(Shop(tmp_path, PROJECT, search="store/search"))
    rebuild_all(shop.engine())
    engine = shop.engine()
    record = engine.builder.require(PROJECT.store("sell_through"), engine.chain.get("2010-12-02"))
    (shop.store / record.objects[0].name).write_bytes(b"damaged")
    (tmp_path / "home").mkdir()
    job = ["job", "execute", "-f", "dagster_project/definitions.py", "-d", str(ROOT), "-j", "verify"]
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *job, "--tags", '{"dagster/partition": "2010-12-02"}'],
        cwd=ROOT,
        env=environment(shop, DAGSTER_HOME=str(tmp_path / "home")),
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode != 0
    assert "1 checks failed" in told
    assert "state/sell_through: full_replay" in told
    assert "Steps failed: ['verify_states']" in told
