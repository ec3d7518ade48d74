# `make demo` and `make test` need python3, make and a package index; everything else is installed into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# The Python that counts is the environment's, once there is one.
MINOR       := $(shell $$(test -x $(BIN)/python && echo $(BIN)/python || echo $(PYTHON)) -c 'import sys; print("py%d%d" % sys.version_info[:2])')
CONSTRAINTS := $(wildcard constraints/$(MINOR).txt)
CONSTRAIN   := $(addprefix -c ,$(CONSTRAINTS))

# One thread per process: two test processes on two cores would otherwise slow each other down.
TEST_ENV := OMP_NUM_THREADS=1 MPLBACKEND=agg PYTHONHASHSEED=0

# All of them; `make test TESTS=tests/nn` runs some.
TESTS :=

.PHONY: demo test lint docs peers clean
.DEFAULT_GOAL := test

demo: $(VENV)/.installed
	MPLBACKEND=agg $(BIN)/python tutorials/demo.py

# loadfile: what the tests of a file share, one process makes.
test: lint
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not internet" $(TESTS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	DOCS_OFFLINE=$${DOCS_OFFLINE-1} OMP_NUM_THREADS=1 $(BIN)/sphinx-build -M html docs docs/_build -W --keep-going

clean:
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist docs/_build docs/api/generated docs/notebooks
	rm -f demo.h5ad demo.png
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Dependency groups need pip 25.1. torch comes first and alone, so that a build that is at hand already is taken.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@test -n "$(CONSTRAINTS)" || echo "No tested versions for $(MINOR) in constraints/: the newest that fit are installed."
	$(PIP) install --quiet --upgrade "pip>=25.1"
	$(PIP) install --quiet $(CONSTRAIN) torch
	$(PIP) install --quiet $(CONSTRAIN) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet $(CONSTRAIN) --group test
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) install --quiet $(CONSTRAIN) --group docs
	@touch $@

# Integration methods of others, which `python -m benchmarks.quality integration` runs in an environment of their own.
peers: .peers/.installed

.peers/.installed: benchmarks/quality/integration/peers.txt
	$(PYTHON) -m venv .peers
	.peers/bin/python -m pip --disable-pip-version-check install --quiet --upgrade pip
	.peers/bin/python -m pip --disable-pip-version-check install --quiet torch
	.peers/bin/python -m pip --disable-pip-version-check install --quiet --requirement benchmarks/quality/integration/peers.txt
	@touch $@
