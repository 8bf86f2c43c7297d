# Everything runs from .venv, which is made when it is missing and again when the pins change.
PYTHON ?= python3
BIN := .venv/bin
# One more than there are cores: many tests wait for a daemon's tick of 30 seconds.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
MADE := .venv/.made

.PHONY: run test ui bench campaign lint docs

run: $(MADE)
	$(BIN)/backfill demo

ui: $(MADE)
	$(BIN)/backfill demo --ui

test: $(MADE)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(MADE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(MADE)
	$(BIN)/python -m benchmarks

campaign: $(MADE)
	$(BIN)/python -m benchmarks.campaign

docs: $(MADE)
	$(BIN)/python -m backfill_pipeline_tests.docs

$(MADE): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[sample,dev]"
	touch $(MADE)
