# From a fresh clone, with Python 3.11 or newer, make and a C library:
#   make demo    see it at work          make test    run all tests
# The others are for those who change it: see CONTRIBUTING.md.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# By path: Alembic loads the migrations under names of its own.
COVERAGE := --cov=memory --cov=retrieval --cov-report=term-missing:skip-covered
PYTEST_ARGS ?=
LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	--overrides requirements/overrides.txt

.DEFAULT_GOAL := help
.PHONY: help demo test notebooks notebooks-strip pictures lint types contract mutants format lock \
	lock-check wheel clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make demo      show it at work on one person's values (sets everything up first)
demo: $(VENV)/.runtime
	@$(BIN)/holdfast demo $(DEMO_ARGS)

## make test      run all tests, with coverage of memory/ and retrieval/
test: $(VENV)/.test
	$(BIN)/python -m pytest $(COVERAGE) --cov-fail-under=95 $(PYTEST_ARGS)

## make notebooks open the notebooks, with everything that they need
notebooks: $(VENV)/.notebooks
	cd notebooks && $(abspath $(BIN))/jupyter lab

## make notebooks-strip  take outputs, counts and metadata out of the notebooks, as git has them
notebooks-strip: $(VENV)/.python
	$(BIN)/python notebooks/strip.py

## make pictures  make the README's pictures anew, docs/map.png and docs/why.png
pictures: $(VENV)/.notebooks
	HOLDFAST_PICTURES='$(CURDIR)/docs' $(BIN)/jupyter execute \
		notebooks/02_map_of_values.ipynb notebooks/03_why_this_was_injected.ipynb

## make lint      ruff: rules and format
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

## make format    ruff: put the format right
format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## make types     pyright, strict, on the package
types: $(VENV)/.dev
	@mkdir -p $(VENV)/types && ln -sfn "$(CURDIR)" $(VENV)/types/holdfast
	PYTHONPATH=$(VENV)/types $(BIN)/pyright --pythonpath $(BIN)/python __init__.py memory retrieval server

## make contract  import-linter: the folders point down
contract: $(VENV)/.test
	$(BIN)/lint-imports

## make mutants   mutation testing of the verifier: half an hour, and no mutant may survive
mutants: $(VENV)/.test
	$(PIP) 'mutmut>=3.8'
	$(BIN)/python tests/mutants.py

## make wheel     build the wheel into dist/
wheel: $(VENV)/.test
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@rm -rf build

## make lock      resolve requirements/*.txt anew (UPGRADE=1: newest versions), the largest first
lock: $(VENV)/.python
	$(PIP) 'uv>=0.9'
	$(LOCK) $(if $(UPGRADE),--upgrade) --group test --group clients --group lint --group training \
		--all-extras -o requirements/ci.txt
	$(LOCK) --extra server --group test --group clients --group lint \
		--constraints requirements/ci.txt -o requirements/dev.txt
	$(LOCK) --extra server --group test --group clients --constraints requirements/ci.txt \
		-o requirements/test.txt
	$(LOCK) --constraints requirements/ci.txt -o requirements/runtime.txt
	@! grep -nE '://|^-|--hash' requirements/*.txt

## make clean     remove what was made here, the environment too
clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .hypothesis .pytest_cache .ruff_cache \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Holdfast needs Python 3.11 or newer, and $(PYTHON) is not." \
			"Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make an environment; on Debian: apt-get install python3-venv" >&2; \
		rm -rf $(VENV); exit 1; }
	@touch $@

# The package is installed in place, so that a change counts at once.
$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/.python
	@echo "Setting up $(VENV) (once; a minute or two) ..." >&2
	@$(PIP) -r requirements/runtime.txt
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.runtime
	@$(PIP) -r requirements/test.txt
	@touch $@

# JupyterLab is for people and not in the lock; pip knows groups from 25.1 on.
$(VENV)/.notebooks: pyproject.toml $(VENV)/.test
	@$(PIP) 'pip>=25.1'
	@$(PIP) --group notebooks
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.test
	@$(PIP) -r requirements/dev.txt
	@touch $@
