# Everything a checkout can do; `make` lists it. Needs make and Python 3.11 or newer, sets up the rest in .venv.
# Paths are relative on purpose: make splits prerequisites at spaces, and the project may live in a folder that has one.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# A pyenv shim for python3.11 may stand in PATH and still run nothing, so it is run to find out.
PYTHON ?= $(shell python3.11 -c '' >/dev/null 2>&1 && echo python3.11 || echo python3)
PORT ?= 3000
WORKERS ?= 2
TESTS ?= tests
SCHEDULES ?= 10000
EVENTS ?= 1000000
ROUNDS ?= 5
BENCH := .refold/benchmarks/venv

PY := .venv/bin/python
UV := $(PY) -m uv --no-config
# One home for rebuild, ui and daemon, or each would see runs and materializations of its own. Dagster wants it absolute.
export DAGSTER_HOME := $(CURDIR)/.refold/dagster
# Nothing but the hashed requirements decides what is installed: no user site, no settings of the machine for packages.
export PYTHONNOUSERSITE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_REQUIRE_VIRTUALENV := 0
# Without a home that can be written, caches go below the project.
ifneq ($(shell test -n "$$HOME" && test -d "$$HOME" && test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/.refold/home
export XDG_CACHE_HOME := $(HOME)/.cache
endif

##@ Use

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

rebuild: .venv/.stamp home ## Rebuild every derived store of the project from its landing, and prove it
	$(PY) -m refold.dagster.rebuild

ui: .venv/.stamp home ## Show the project in Dagster's web page, on PORT (3000)
	$(PY) -m dagster dev -w workspace.yaml -h 127.0.0.1 -p $(PORT)

test: .venv/.stamp ## Run the tests
	$(PY) -m pytest $(TESTS) -n $(WORKERS) --dist loadfile --no-loadscope-reorder

##@ Check

check: lint types contracts doctest docs test wheel ## Everything that must hold before a change is accepted

lint: .venv/.stamp ## Style and common faults
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: .venv/.stamp ## Mend the style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: .venv/.stamp ## Types, strictly
	$(PY) -m mypy

contracts: .venv/.stamp ## Imports point one way
	$(PY) -c 'from importlinter.cli import lint_imports_command as run; run()' --no-cache

doctest: .venv/.stamp ## The examples in the docstrings
	$(PY) -m pytest --doctest-modules refold examples -q -n 0

docs: .venv/.stamp ## Build the documentation site into site/; a broken link or an unresolved name fails
	$(PY) scripts/commands_page.py
	.venv/bin/zensical build --strict --clean

wheel: .venv/.stamp ## Build the wheel and try it in an environment of its own
	rm -rf dist
	$(PY) -m build --wheel --no-isolation --outdir dist
	scripts/wheel_smoke.sh

image: .venv/.stamp ## Build the container image, start it and ask it for its definitions
	scripts/container.sh

schedules: .venv/.stamp ## Run SCHEDULES (10000) random schedules against a plain model; writes docs/schedules.md
	$(PY) -m tests.machine --schedules $(SCHEDULES) --workers 2

bench: $(BENCH)/.stamp ## Measure Refold beside merely reading the log and other tools, at EVENTS (1000000) for ROUNDS (5)
	$(BENCH)/bin/python -m benchmarks.run --measure compare --measure rebuild --measure verify --measure incremental \
	  --measure seal --measure publish-sqlite --measure publish-postgres --measure startup \
	  --events $(EVENTS) --rounds $(ROUNDS) --write

##@ Keep

lock: .venv/.stamp ## Resolve requirements/*.in again; UPGRADE=1 takes newer versions
	scripts/lock.sh $(if $(UPGRADE),--upgrade)

clean: ## Remove environment, caches and builds; what .refold holds (landing, log, stores) stays
	rm -rf .venv .refold/home build dist site .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment holds exactly the hashed requirements; anything else is removed again, so that it cannot be leant on.
.venv/.stamp: requirements/build.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and \
	  f"Expected Python 3.11 or newer, found {v}. Install it, or name it: make PYTHON=/path/to/python3.11")'
	@mkdir -p "$$HOME"
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --require-hashes -r requirements/build.txt
	$(UV) pip sync --quiet --compile-bytecode --python $(PY) --require-hashes requirements/dev.txt
	$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH)/.stamp: requirements/bench.txt .venv/.stamp
	@mkdir -p $(dir $(BENCH))
	$(PYTHON) -m venv $(BENCH)
	$(UV) pip sync --quiet --compile-bytecode --python $(BENCH)/bin/python --require-hashes requirements/bench.txt
	$(UV) pip install --quiet --python $(BENCH)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

home: ; @mkdir -p .refold/dagster && ln -sfn ../../dagster.yaml .refold/dagster/dagster.yaml

.PHONY: help rebuild ui test check lint format types contracts doctest docs wheel image schedules bench lock clean home
