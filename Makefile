# make demo, make test: each sets up all it needs. PYTHON=python3.12 chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
STAMP := $(VENV)/.installed
RUN := PATH="$(abspath $(VENV))/bin:$$PATH"

.PHONY: demo test test-slow lint setup clean

demo: setup
	$(RUN) snakemake --cores all

test: setup lint
	$(RUN) pytest

test-slow: setup
	$(RUN) pytest -m "slow or not slow"

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

setup: $(STAMP)

# DVC needs a git repository around it: a copy of the sources without one gets its own.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --no-deps torchvision
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	git rev-parse --git-dir >/dev/null 2>&1 || git init --quiet
	touch $(STAMP)

clean:
	rm -rf .kaizen .snakemake logs results data/shards data/replay
