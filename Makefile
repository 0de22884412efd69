# VisionMesh: `make demo` and `make test` set up what they need; a second run is quick.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint protos up diagram benchmarks clean

demo: $(STAMP)
	$(BIN)/vmesh demo

up: $(STAMP)
	$(BIN)/vmesh up

test: $(STAMP) lint
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/lint.py

protos: $(STAMP)
	$(BIN)/python protos/generate.py --python .

benchmarks: $(STAMP)
	$(BIN)/python benchmarks/dispatch.py
	$(BIN)/python benchmarks/progress.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# uv installs several times faster than pip; it comes from the same registry.
$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "VisionMesh needs Python 3.11 or newer: PYTHON=/path/to/python make"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "uv>=0.8"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[all,dev]"
	@touch $(STAMP)
