# Two commands do everything on a machine with Python 3.11 or newer, make and a package registry:
#   make run     a ledger on this machine, with its own Valkey and PostgreSQL (PORT=9000 DATA=folder)
#   make test    lint and all tests, on their own servers and free ports

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
# Sizes and places may be given: make test TESTS=tests/unit PROCESSES=1
TESTS ?=
PROCESSES ?= 2
FAULTS ?= 200
# Files are begun in the order of tests/conftest.py, the longest first.
PYTEST := $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: run test lint check chaos bench format clean help

help:
	@sed -n '1,4p' Makefile

run: $(READY)
	@exec $(BIN)/lastro up $(if $(PORT),--port '$(PORT)') $(if $(DATA),--data '$(DATA)')

test: lint
	$(PYTEST) $(TESTS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What `make test` does, in sizes that take long.
check: lint
	$(PYTEST) --nightly $(TESTS)

# Everything is killed, stopped, cut off and starved of disk, for about ten minutes; again: make chaos SEED=7
chaos: $(READY)
	$(BIN)/python -m tests.chaos.storm --faults $(FAULTS) $(if $(SEED),--seed $(SEED))

bench: $(READY)
	$(BIN)/python -m tests.bench

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(READY): pyproject.toml constraints.txt .ci/venv
	@bash .ci/venv $(VENV)
	@touch $@
