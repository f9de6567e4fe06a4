"""`python -m refold.dagster.rebuild`: run the project's history job in this process and end with a summary.

Dagster records the run in the one home that the UI and the daemon share. With REFOLD_LANDING unset, the project's
sample is written first and used.
"""

import argparse
import importlib
import logging
import os
import sys
import time
from pathlib import Path

import dagster as dg
from rich.console import Console

from refold import terminal as view
from refold.engine import open_engine
from refold.errors import RefoldError
from refold.project import Project, find_root, load_project


def prepare_home(root: Path) -> Path:
    """The absolute Dagster home under a project's root, with the project's dagster.yaml in it; idempotent."""
    home = root / ".refold" / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    committed, linked = root / "dagster.yaml", home / "dagster.yaml"
    if committed.is_file() and not linked.exists():
        linked.unlink(missing_ok=True)
        linked.symlink_to(committed)
    return home


def write_sample(project: Project, root: Path, console: Console) -> None:
    """Write the project's sample to the default landing, if nothing names another and the project has one."""
    landing = root / ".refold" / "landing"
    if os.environ.get("REFOLD_LANDING") or project.sample is None or landing.is_dir():
        return
    console.print(f"REFOLD_LANDING is not set: writing the sample shop to {landing}")
    project.sample(landing, False)


def main() -> int:
    """Run the history job. Returns the exit code: 0 when everything was proven and released."""
    parser = argparse.ArgumentParser(description="Rebuild the whole history in Dagster, in this process.")
    parser.add_argument("--definitions", default="dagster_project.definitions", help="module that defines `defs`")
    parser.add_argument("--through", help="the last snapshot; by default the last folder in landing")
    arguments = parser.parse_args()
    console, root = view.console(), find_root()
    started = time.monotonic()
    logging.getLogger("dagster").setLevel(logging.ERROR)
    os.environ["DAGSTER_HOME"] = str(prepare_home(root))
    try:
        project = load_project(root)
        write_sample(project, root, console)
        defs: dg.Definitions = importlib.import_module(arguments.definitions).defs
        job = defs.resolve_job_def("rebuild_history")
        ops = ("seal_history", "fold_history", "prove_history", "relate_history", "publish_and_release")
        config = {"ops": {op: {"config": {"through": arguments.through}} for op in ops}}
        with view.progress(console), dg.DagsterInstance.get() as instance:
            result = job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)
        if not result.success:
            return _failed(result, console)
        engine = open_engine(project, root)
        view.summary(engine, engine.chain.get(arguments.through), console)
    except RefoldError as error:
        console.print(view.cell(f"{error.kind}: {error}"), style="bold red")
        return 1
    checks = len(result.get_asset_check_evaluations())
    console.print(
        f"{checks} asset checks passed in {time.monotonic() - started:.0f} s. "
        "Next: `make ui` for the Dagster UI, `refold --help` for the rest."
    )
    return 0


def _failed(result: dg.ExecuteInProcessResult, console: Console) -> int:
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            described = data.user_failure_data.description if data.user_failure_data else None
            text = described or (data.error.to_string() if data.error else "no message")
            console.print(view.cell(f"{event.step_key} failed: {text}"), style="bold red")
    console.print("What is served has not changed.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
