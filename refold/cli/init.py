"""`refold init`: write a project that runs, with a first log and a first store.

The files are made from `templates/`: `project` is common to all, and a folder for each template has what is its own.
Python in them ends in `.txt`, since it has gaps that are filled.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import keyword
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template as Text

import click

from refold.cli import terminal as view
from refold.cli.group import cli
from refold.cli.samples import TEMPLATES, Event, Template
from refold.errors import FixInput
from refold.project import load_project
from refold.release.releaser import utc_now

_HELP = "What the first store is: " + "; ".join(f"{name}, {each.sentence}" for name, each in TEMPLATES.items()) + "."
_SAMPLE_BEGINS_DAYS_AGO = 4
_HIDDEN = {"gitignore": ".gitignore", "dockerignore": ".dockerignore"}
_TAKEN = {"refold", "tests", "test", "assets", "resources"}


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--name", help="The name of the project and its package; by default that of the folder.")
@click.option("--template", type=click.Choice([*TEMPLATES]), help=_HELP)
@click.option("--log", help="The name of the first log, which is its folder in landing; by default the template's.")
@click.option("--landing", help="URL or path of landing; by default a sample is written to .refold/landing.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), help="The first day; by default four days ago.")
@click.option("--yes", is_flag=True, help="Ask nothing: what is not given is the default.")
def init(
    folder: Path,
    name: str | None,
    template: str | None,
    log: str | None,
    landing: str | None,
    start: dt.datetime | None,
    yes: bool,
) -> None:
    """Write a project that runs into FOLDER (default: the working folder), with a first log and store.

    Asks for what is not given, where it is run in a terminal. No file is overwritten.
    """
    asking = not yes and sys.stdin.isatty()
    root = folder.resolve()
    name = _answer(asking, "Name of the project", name, root.name.replace("-", "_"))
    if asking and template is None:
        template = click.prompt("Template", type=click.Choice([*TEMPLATES]), default="stock")
    chosen = TEMPLATES[template or "stock"]
    log = _answer(asking, "Name of the log", log, chosen.log)
    landing = _answer(asking, "URL or path of landing (empty: a sample)", landing, "")
    first = start.date() if start else utc_now().date() - dt.timedelta(days=_SAMPLE_BEGINS_DAYS_AGO)
    _require_names(name, log, chosen.store)
    written = project_files(name, template or "stock", log, landing, first)
    _write(root, written)
    project = load_project(root)
    console = view.console()
    console.print(view.cell(f"Wrote the project {name!r} to {root}: {len(written)} files."))
    steps = [] if folder == Path() else [f"cd {folder}"]
    if project.sample is not None:
        project.sample(root / ".refold" / "landing", False)
        console.print(view.cell("Wrote a sample of three days to .refold/landing."))
    steps += ["refold rebuild", f"refold show {chosen.store}", 'pip install -e ".[dev]"', "pytest", "dagster dev"]
    console.print("Next:")
    for step in steps:
        console.print(view.cell(f"  {step}"))


def _answer(asking: bool, question: str, given: str | None, default: str) -> str:
    if given is not None:
        return given
    return str(click.prompt(question, default=default)) if asking else default


def _require_names(name: str, log: str, store: str) -> None:
    faults = []
    for what, each in (("name", name), ("log", log)):
        if not (each.isidentifier() and each.isascii() and each == each.lower()) or keyword.iskeyword(each):
            faults.append(f"--{what}: expected a lower-case Python name such as shop, found {each!r}")
    if name in _TAKEN or (name.isidentifier() and importlib.util.find_spec(name) is not None):
        faults.append(f"--name: {name!r} is the name of an installed package; the project's would hide it")
    if log == store:
        faults.append(f"--log: {log!r} is the name of the store; expected another one")
    if faults:
        raise FixInput("; ".join(faults) + ".", remedy="Give other names.")


def project_files(name: str, template: str, log: str, landing: str, start: dt.date) -> dict[str, str]:
    """The texts of all files of a project, by path. Without `landing` it has a sample.

    >>> sorted(project_files("shop", "stock", "moves", "", dt.date(2026, 1, 1)))[-3:]
    ['shop/sample.py', 'shop/stock.py', 'tests/test_stock.py']
    """
    chosen = TEMPLATES[template]
    own = {
        "logs.py": f"{name}/logs.py",
        "store.py": f"{name}/{chosen.store}.py",
        "test.py": f"tests/test_{chosen.store}.py",
    }
    values = _values(name, chosen, log, landing, start)
    sources = {path.replace("PACKAGE", name): text for path, text in _texts("project")}
    sources |= {own[path]: text for path, text in _texts(template)}
    if not landing:
        sources[f"{name}/sample.py"] = (files("refold.cli") / "templates" / "sample.py.txt").read_text("utf-8")
    return {path: Text(text).substitute(values) for path, text in sorted(sources.items())}


def _values(name: str, chosen: Template, log: str, landing: str, start: dt.date) -> dict[str, str]:
    sample = not landing
    imports = [
        f"from {name}.{chosen.store} import {chosen.store}",
        *([f"from {name}.sample import write"] if sample else []),
    ]
    rebuild = [*(["refold sample"] if sample else []), "refold rebuild", "refold verify"]
    said = {
        "refold sample": "made-up events into .refold/landing",
        "refold rebuild": "seal, fold, prove, publish, release",
        "refold verify": "against full replay",
    }
    return {
        "name": name,
        "log": log,
        "store": chosen.store,
        "landing": "" if sample else f"landing = {json.dumps(landing)}\n",
        "start_arguments": f"{start.year}, {start.month}, {start.day}",
        "imports": "\n".join(sorted(imports)),
        "sample_argument": "\n    sample=write," if sample else "",
        "days": _literal(chosen.events(start)) if sample else "",
        "late": _literal(chosen.late_events(start)) if sample else "",
        "check": "\n".join(f"      - run: {step}" for step in rebuild) if sample else "",
        "commands": "\n".join(f"{step:<28} # {said[step]}" for step in rebuild),
        "landing_note": "" if sample else "Landing is declared in `pyproject.toml`; `REFOLD_LANDING` overrides it.",
    }


def _literal(days: Mapping[str, list[Event]]) -> str:
    """Days as Python writes them, a line for each event."""
    lines = []
    for day, events in days.items():
        lines += [f'    "{day}": [', *(f"        {_record(each)}," for each in events), "    ],"]
    return "\n".join(lines) + "\n"


def _record(event: Event) -> str:
    return json.dumps(event).replace(": null", ": None")


def _texts(folder: str) -> Iterator[tuple[str, str]]:
    """The templates of a folder, by their path in it, as it is in a project."""
    root = Path(str(files("refold.cli") / "templates" / folder))
    for path in sorted(root.rglob("*")):
        if path.is_file():
            place = path.relative_to(root).as_posix().removesuffix(".txt")
            yield _HIDDEN.get(place, place), path.read_text(encoding="utf-8")


def _write(root: Path, written: Mapping[str, str]) -> None:
    """Write all files. Raises FixInput, before anything is written, where there is one of them already."""
    there = [path for path in written if (root / path).exists()]
    if there:
        raise FixInput(
            f"Expected none of the project's files in {root}, found {', '.join(there)}.",
            remedy="Choose another folder, or remove them.",
        )
    for path, text in written.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
