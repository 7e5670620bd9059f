# Thin wrappers: everything is a dvc or pytest command that can also be typed.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup data results test fixtures torture check
help:
	@echo "make results   set up, fetch the data, run the pipeline, print the table"
	@echo "make test      set up and run the tests"
	@echo "make fixtures  run made-up Human3.6M, HumanEva-I and MPI-INF-3DHP from raw files to the table"
	@echo "make torture   kill the pipeline at 20 instants and see what survives; half an hour"
	@echo "make check     lint and types"

setup: .venv/installed

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 10) else 'poselift needs Python 3.10 or newer')"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch .venv/installed

# From the store inside the repository: no network.
data: setup
	dvc pull --quiet data/raw/cmu_mocap

results: data
	dvc repro
	@cat reports/results.md

test: data
	python -m pytest -n 2

fixtures: setup
	python tests/run_fixtures.py

torture: data
	python tests/torture.py

check: setup
	ruff check .
	ruff format --check .
	mypy
