"""`python -m refold.dagster.rebuild`: run the project's history job in this process and end with a summary.

Dagster records the run in the one home that the UI and the daemon share: DAGSTER_HOME, or `.refold/dagster` of the
project. With REFOLD_LANDING unset, the project's sample is written first and used. A rerun after a kill continues from
what is sealed and built.
"""

import argparse
import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from rich.console import Console

from refold.cli import terminal as view
from refold.dagster.failures import failure_texts
from refold.dagster.planning import outcome_lines
from refold.engine import open_engine
from refold.errors import FixInput, NotFound, RefoldError
from refold.importing import import_code
from refold.project import Project, find_root, load_project
from refold.release.releaser import utc_now
from refold.storage.file_lock import locked

_JOB = "rebuild_history"
_RUNNER_TAG = "refold/process"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def prepare_home(root: Path) -> Path:
    """The absolute Dagster home, with a link to the project's dagster.yaml unless it has one; idempotent."""
    home = Path(os.environ.get("DAGSTER_HOME") or root / ".refold" / "dagster").expanduser().resolve()
    home.mkdir(parents=True, exist_ok=True)
    committed, linked = root / "dagster.yaml", home / "dagster.yaml"
    if committed.is_file() and not linked.exists():
        linked.unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):  # another rebuild linked it just now
            linked.symlink_to(committed)
    return home


def write_sample(project: Project, root: Path, console: Console) -> None:
    """Write the project's sample to the default landing, whole or not at all, unless one exists or is named."""
    landing = root / ".refold" / "landing"
    if os.environ.get("REFOLD_LANDING") or project.sample is None or landing.is_dir():
        return
    console.print(view.cell(f"REFOLD_LANDING is not set: writing the sample to {landing}"))
    landing.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="landing-", dir=landing.parent))
    try:
        project.sample(draft, False)
        draft.chmod(0o755)
        with contextlib.suppress(OSError):  # another rebuild has put the same sample there
            draft.rename(landing)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the history job. Returns the exit code: 0 when everything was proven and released."""
    parser = argparse.ArgumentParser(prog="refold.dagster.rebuild", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--definitions", default="dagster_project.definitions", help="module that defines `defs`")
    parser.add_argument("--through", metavar="SNAPSHOT", help="the last snapshot, over or not; by default all over")
    parser.add_argument("--from-scratch", action="store_true", help="ignore all checkpoints and fold from offset 0")
    given = parser.parse_args(arguments)
    console, started = view.console(), time.monotonic()
    try:
        root = find_root()
        os.environ["DAGSTER_HOME"] = str(prepare_home(root))
        project = load_project(root)
        write_sample(project, root, console)
        with view.progress(console):
            result = _run(_definitions(given.definitions), given.through, given.from_scratch)
        if not result.success:
            return _failed(console, failure_texts(result.all_events))
        engine = open_engine(project, root, utc_now())
        view.summary(engine, engine.chain.get(given.through), console)
    except RefoldError as error:
        return _failed(console, [f"{error.kind}: {error}"])
    passed = [check.passed for check in result.get_asset_check_evaluations()]
    warned = f", {passed.count(False)} warned" if not all(passed) else ""
    console.print(
        f"{passed.count(True)} asset checks passed{warned} in {time.monotonic() - started:.0f} s. "
        "Next: `make ui` for the Dagster UI, `refold --help` for the rest."
    )
    for line in outcome_lines(result.all_events):
        console.print(view.cell(line), soft_wrap=True)
    return 0


def _definitions(module: str) -> dg.Definitions:
    found = getattr(import_code(module), "defs", None)
    if found is None:
        raise NotFound(f"The module {module!r} has no `defs`.", remedy="Name the module that defines them.")
    if not isinstance(found, dg.Definitions):
        raise FixInput(f"{module}.defs is a {type(found).__name__}; expected dagster.Definitions.")
    return found


def _run(defs: dg.Definitions, through: str | None, from_scratch: bool) -> dg.ExecuteInProcessResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        job = defs.resolve_job_def(_JOB)
    config = {"config": {"through": through, "fresh": from_scratch}}
    with open_instance() as instance:
        _bury_killed(instance)
        return job.execute_in_process(
            instance=instance,
            run_config={"ops": {node.name: config for node in job.nodes}, **_QUIET},
            tags={_RUNNER_TAG: f"{socket.gethostname()} {os.getpid()}"},
            raise_on_error=False,
        )


def open_instance() -> dg.DagsterInstance:
    """Dagster's instance of the home. One process opens it at a time: two that create its tables at once fail."""
    with locked(Path(os.environ["DAGSTER_HOME"]) / "opening.lock"):
        return dg.DagsterInstance.get()


def _bury_killed(instance: dg.DagsterInstance) -> None:
    """Mark runs of this command whose process on this machine is gone as failed; else they look as if still running."""
    filters = dg.RunsFilter(job_name=_JOB, statuses=[dg.DagsterRunStatus.STARTED])
    for run in instance.get_runs(filters):
        host, _, pid = run.tags.get(_RUNNER_TAG, "").partition(" ")
        if host == socket.gethostname() and not _alive(int(pid)):
            instance.report_run_failed(
                run, "The process of this run was killed; the next rebuild continues from there."
            )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _failed(console: Console, reasons: Sequence[str]) -> int:
    for line in "\n".join(reasons).splitlines():
        console.print(view.cell(line), style="bold red", soft_wrap=True)
    console.print("`refold release show` says what readers see.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
