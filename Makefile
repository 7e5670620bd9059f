# Thin wrappers: everything is a dvc or pytest command that can also be typed.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup results test check
help:
	@echo "make results   set up, fetch the data, run the pipeline, print the table"
	@echo "make test      set up and run the tests"
	@echo "make check     lint and types"

setup: .venv/installed

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 10) else 'poselift needs Python 3.10 or newer')"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch .venv/installed

results: setup
	dvc pull --quiet data/raw/cmu_mocap
	dvc repro
	@cat reports/results.md

test: setup
	python -m pytest

check: setup
	ruff check .
	ruff format --check .
	mypy
