# Two commands: `make run` and `make test`. Both make the virtual environment they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= etc/balance.yaml

.PHONY: run test lint unit integration bench clean

run: $(VENV)/.run
	$(BIN)/twistd -n --pidfile= balance --config $(CONFIG)

test: lint unit integration

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/python -m twisted.trial test.unit

integration: $(VENV)/.dev
	$(BIN)/python -m pytest test/integration

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools

$(VENV)/.run: $(VENV)/bin/python setup.cfg pyproject.toml
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python setup.cfg pyproject.toml
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --config-settings editable_mode=compat -e '.[dev]'
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) _trial_temp* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
