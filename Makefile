# Everything sets itself up: `make run` and `make test` each work alone on a fresh machine.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-long test-oldest test-kernels test-pythons bench lint format clean

run: $(VENV)/ready
	$(BIN)/python -m harness run --methods gfp,skeletonmae

# A file of tests stays in one process, so that what its tests share is made once. What is imported is compiled once for
# all processes and runs, also where the user's environment keeps Python from it.
test: $(VENV)/ready lint
	OMP_NUM_THREADS=1 PYTHONUTF8=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

# Other versions, Pythons and processor kernels, and the tests marked long, each in an environment of its own below
# .nox; the results are written to tests/LONG.md.
test-long: $(VENV)/ready lint
	$(BIN)/nox

test-oldest: $(VENV)/ready
	$(BIN)/nox --session oldest

test-kernels: $(VENV)/ready
	$(BIN)/nox --session kernels

test-pythons: $(VENV)/ready
	$(BIN)/nox --session newest

bench: $(VENV)/ready
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-columns=median,iqr,rounds --benchmark-sort=name

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch and torchvision come from the package index's default builds, together, so that they match.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .nox runs .mypy_cache .ruff_cache .pytest_cache
