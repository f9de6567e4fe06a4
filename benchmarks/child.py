"""One program in a process of its own: `python -m benchmarks.child MODULE[:NAME] DATA [--prepare]`.

Prints one line of JSON. A package that is not installed is reported as `{"missing": ...}`, so that its row
says so and the rest goes on. `--prepare` does the program's preparations on disk
instead, so that they count neither as time nor as memory of the process that is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.program import load, run


def main() -> None:
    """Run one program, or its preparations."""
    parser = argparse.ArgumentParser(prog="benchmarks.child", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", help="package.module or package.module:NAME")
    parser.add_argument("data", type=Path)
    parser.add_argument("--prepare", action="store_true")
    given = parser.parse_args()
    try:
        program = load(given.target)
        if not given.prepare:
            result = run(program, given.data)
        else:
            result = {"prepared": True}
            if program.prepare is not None:
                program.prepare(given.data)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("benchmarks", "refold"):
            raise
        result = {"missing": f"{error.name} is not installed"}
    _report(result)


def _report(value: Mapping[str, Any]) -> None:
    sys.stdout.flush()
    # The last line counts: libraries may have said something before.
    sys.stdout.write("\n" + json.dumps(value) + "\n")


if __name__ == "__main__":
    main()
