"""Asserts, with the Python of a clean environment, that a wheel holds the package alone and works on its own.

Here live the assertions; `wheel_smoke.sh` makes the environment. Takes the wheel's path as its one argument.
"""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT_FOLDERS = ("assets", "resources", "dagster_project", "tests", "examples", "benchmarks")


def foreign_members(wheel: Path) -> list[str]:
    """The files in a wheel that are neither the package's nor its metadata; two wheels could overwrite such files."""
    with zipfile.ZipFile(wheel) as archive:
        tops = ("refold/", f"refold-{wheel.name.split('-')[1]}.dist-info/")
        return [name for name in archive.namelist() if not name.startswith(tops)]


NEED_EXTRAS = (
    "refold.dagster",
    "refold.testing.sink_conformance",
    "refold.testing.sink_repeats",
    "refold.testing.sink_values",
    "refold.testing.strategies",
)


def modules_without_extras() -> list[str]:
    """The names of all modules of the installed package except those that need an extra."""
    root = Path(importlib.import_module("refold").__file__ or "").parent
    # By files: pkgutil.walk_packages would import the packages it walks, and Dagster with one of them.
    files = (path.relative_to(root.parent).with_suffix("") for path in sorted(root.rglob("*.py")))
    names = (".".join(file.parts).removesuffix(".__init__") for file in files)
    return [name for name in names if not name.startswith(NEED_EXTRAS)]


def main(wheel: Path) -> None:
    """Check the wheel and the installed package; exits with the first finding."""
    if strays := foreign_members(wheel):
        sys.exit(f"{wheel.name} holds files outside refold/: {strays}")
    package = Path(importlib.import_module("refold").__file__ or "").parent
    if Path(sys.prefix) not in package.parents:
        sys.exit(f"refold was imported from {package}, not from the clean environment {sys.prefix}")
    for folder in PROJECT_FOLDERS:
        if importlib.util.find_spec(folder) is not None:
            sys.exit(f"the top-level package {folder} can be imported: it is in the wheel or in a dependency")
    names = modules_without_extras()
    for name in names:
        importlib.import_module(name)
    if leaked := sorted(name for name in sys.modules if name.split(".")[0] == "dagster"):
        sys.exit(f"importing refold without refold.dagster imported Dagster: {leaked[:3]}")
    importlib.import_module("refold.dagster")
    subprocess.run([Path(sys.prefix, "bin", "refold"), "--help"], check=True, stdout=subprocess.DEVNULL)
    sys.stdout.write(f"{wheel.name}: {len(names)} modules import without Dagster, and the command answers\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
