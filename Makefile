# VisionMesh: `make demo` and `make test` set up what they need; a second run is quick.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

SECONDS ?= 600

# Tests that run side by side; many of them mostly wait.
WORKERS ?= 2

.PHONY: demo test lint protos up session soak simulate benchmarks clean

demo: $(STAMP)
	$(BIN)/vmesh demo

up: $(STAMP)
	$(BIN)/vmesh up

test: $(STAMP) lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/lint.py

protos: $(STAMP)
	$(BIN)/python protos/generate.py --python .

session: $(STAMP)
	RECORD_SESSION=docs/session.md $(BIN)/python -m pytest tests/acceptance/test_session.py

# Seeded faults without a clock or a socket; make simulate SEEDS=100000 looks longer.
simulate: $(STAMP)
	$(BIN)/python tests/simulation/simulate.py --seeds $(or $(SEEDS),1000)

# Kills things for SECONDS under load, on SQLite and PostgreSQL in turn or on DATABASE alone;
# make soak SEED=7 begins a run again.
soak: $(STAMP)
	$(BIN)/python tests/faults/soak.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) \
	  $(if $(DATABASE),--database $(DATABASE))

benchmarks: $(STAMP)
	$(BIN)/python benchmarks/dispatch.py
	$(BIN)/python benchmarks/progress.py
	$(BIN)/python benchmarks/watchers.py
	$(BIN)/python benchmarks/journal.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# uv installs several times faster than pip; it comes from the same registry.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "VisionMesh needs Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	@echo "Setting up $(VENV): a minute or two the first time (torch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "uv>=0.8"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[all,dev]"
	@touch $(STAMP)
