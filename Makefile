# make run    set up on the way, then train and judge one model (a minute or two): make run ARGS="model=simclr dataset.noise=1"
# make test   set up on the way, then lint, types and tests
# make test-slow      what takes minutes or a service: kills, damaged files, larger packs, Ray, SLURM; about an hour
#                     of two cores, of which the 200 kills take a quarter; each harness prints its seed
# make test-pythons   the tests on every Python from 3.10 to 3.13 that is found; those that are missing are named
# Set-up happens once, and again when what it depends on has changed.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
EXTRAS ?= photos,notebook,parquet,tensorboard,joblib,submitit,dev
ARGS ?=
TEST_ARGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
SETUP := $(VENV)/.set-up
RUFF_RULES := E,W,F,I,B,UP,C4,SIM,RUF100
RUFF := $(BIN)/ruff check --line-length 120 --target-version py310 --select $(RUFF_RULES) --ignore C408

PYTHONS ?= python3.10 python3.11 python3.12 python3.13

.PHONY: run test test-slow test-pythons lint set-up clean

run: $(SETUP)
	$(BIN)/python -m jepa.run trainer=quick $(ARGS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) $(TEST_ARGS)

test-slow: $(SETUP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[$(EXTRAS),ray]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(TEST_ARGS)

test-pythons:
	@for python in $(PYTHONS); do \
		if ! $$python -c '' 2>/dev/null; then missing="$$missing $$python"; continue; fi; \
		echo "$$python: $$($$python --version)"; \
		$(MAKE) test PYTHON=$$python VENV=.venv-$${python##*python} || failed="$$failed $$python"; \
	done; \
	echo "missing:$${missing:- none}; failed:$${failed:- none}"; test -z "$$failed"

lint: $(SETUP)
	$(RUFF) .
	$(BIN)/python -m mypy

set-up: $(SETUP)

$(SETUP): setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "jepa needs Python 3.10 to 3.13 and finds none: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "jepa needs Python 3.10 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version); the first time downloads torch and takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[$(EXTRAS)]"
	@touch $@

clean:
	rm -rf .venv .venv-3.* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
