#!/usr/bin/env bash
# Tries the wheel in dist/ where nothing of the checkout can be seen: `make wheel` runs it.
# An editable install hides a missing file or a stray top-level package; a clean environment does not.
set -euo pipefail
cd "$(dirname "$0")/.."
project=$PWD
uv() { "$project/.venv/bin/python" -m uv --no-config "$@"; }

wheels=(dist/*.whl)
[[ ${#wheels[@]} == 1 && -f ${wheels[0]} ]] || { echo "Expected one wheel in dist/, found: ${wheels[*]}" >&2; exit 1; }
wheel=$project/${wheels[0]}

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
uv venv --quiet --python "$project/.venv/bin/python" clean
uv pip install --quiet --python clean/bin/python --require-hashes -r "$project/requirements/refold.txt"
uv pip install --quiet --python clean/bin/python --no-deps "$wheel"
clean/bin/python -I "$project/scripts/wheel_smoke.py" "$wheel"
# The tutorial, followed to the letter where only the wheel is.
cd "$project" && .venv/bin/python -m tests.docs.blocks docs/tutorial.md "$place/clean/bin"
echo "docs/tutorial.md: every command did as it says"
