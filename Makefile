# Each target does its own set-up: a virtual environment beside this file, made once
# and again whenever pyproject.toml changes. Nothing outside .venv is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO   ?= demo

.PHONY: help demo test test-slow lint format bench bench-features clean
help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "natgeo needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-ready: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev-ready: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo-ready

demo: $(VENV)/.demo-ready  ## the main job on real digits; writes demo/report.html
	$(BIN)/natgeo demo --out $(DEMO)

test: $(VENV)/.dev-ready  ## the quick suite, under ten minutes on two cores
	$(BIN)/python -m pytest -n 2 -m 'not slow'

test-slow: $(VENV)/.dev-ready  ## the long runs
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(VENV)/.dev-ready  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev-ready  ## rewrite the sources in house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev-ready  ## every benchmark at full size, one JSON line per case
	$(BIN)/python -m benchmarks

bench-features: pyproject.toml | $(BIN)/python  ## projected gradients against peers
	$(PIP) --editable '.[dev,peers]'
	$(BIN)/python -m benchmarks.features --keep
	$(BIN)/python -m benchmarks.fidelity --keep

clean:           ## remove what the targets made
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
