#!/usr/bin/env bash
# Resolves requirements/*.in to hashed files that name no registry. Run by `make lock`; arguments go to uv.
# Versions already pinned stay unless --upgrade is given. build.txt and refold.txt are parts of dev.txt, and that one of
# bench.txt, pin for pin.
set -euo pipefail
cd "$(dirname "$0")/.."

export UV_CUSTOM_COMPILE_COMMAND="make lock"
compile() {
  .venv/bin/python -m uv --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-annotate "$@"
}

compile "$@" -o requirements/build.txt requirements/build.in
compile "$@" -o requirements/refold.txt requirements/refold.in
compile "$@" -c requirements/build.txt -c requirements/refold.txt -o requirements/dev.txt requirements/dev.in
compile "$@" -c requirements/build.txt -c requirements/refold.txt -c requirements/dev.txt \
  --override requirements/bench-override.txt -o requirements/bench.txt requirements/bench.in
