# make demo, make test: each sets up all it needs. PYTHON=python3.12 chooses the interpreter. `make` alone lists all of
# them, with the words after ##.
PYTHON ?= python3
VENV ?= .venv
STAMP := $(VENV)/.installed
# The executors for clusters stand apart: see the extra `cluster` in pyproject.toml.
CLUSTER := $(VENV)-cluster
CLUSTER_STAMP := $(CLUSTER)/.installed
# What we are compared with stands apart too: the extra `bench`.
BENCH := $(VENV)-bench
BENCH_STAMP := $(BENCH)/.installed
# So does what builds the documentation.
DOCS := $(VENV)-docs
DOCS_STAMP := $(DOCS)/.installed
# And what tests check results with, which needs other versions of what Kaizen needs.
CHECKS := $(VENV)-checks
CHECKS_STAMP := $(CHECKS)/.installed
# Processes of `make test`: pytest alone, as for a single file, is one.
WORKERS ?= 2
RUN := PATH="$(abspath $(VENV))/bin:$$PATH"

.PHONY: help demo test test-slow test-slurm smoke-slurm lint bench bench-quick docs
.PHONY: setup setup-cluster setup-bench setup-docs setup-checks clean clean-results clean-store

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: setup ## set everything up and run the experiment of params.yaml on real images
	$(RUN) snakemake --cores all

test: setup setup-checks lint ## set everything up, check and test
	$(RUN) pytest -n $(WORKERS)

test-slow: setup setup-checks ## all tests, those longer than a minute too
	$(RUN) pytest -m "not slurm"

# A real SLURM on this machine, as root on Debian: installed, started, stopped.
test-slurm: setup-cluster ## the tests on a real SLURM, which it installs and starts (root, Debian)
	$(RUN) cluster/slurm/with.sh $(CLUSTER)/bin/python -m pytest -m slurm tests/slurm

# Two jobs through it. 75: SLURM cannot run here, which it has said.
smoke-slurm: setup-cluster ## two of them
	$(RUN) cluster/slurm/with.sh $(CLUSTER)/bin/python -m pytest -m slurm tests/slurm -k smoke \
	|| { [ $$? = 75 ] && echo "smoke-slurm: SKIPPED, see above"; }

lint: setup ## style, types and rules, without tests
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

bench: setup-bench ## our steps, openings and views against the peers', about a quarter of an hour
	$(BENCH)/bin/python -m bench

bench-quick: setup-bench ## the small ones, compared with the record of bench, two minutes
	$(BENCH)/bin/python -m bench --quick

docs: setup-docs ## the documentation site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet
	@echo "site/index.html"

setup: $(STAMP) ## the environment: .venv, with the versions of constraints.txt

# DVC needs a git repository around it: a copy of the sources without one gets its own.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --no-deps torchvision
	@# Under this name the package was installed before; it would take the command with it later.
	$(VENV)/bin/pip uninstall --quiet --yes kaizen 2>/dev/null || true
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	git rev-parse --git-dir >/dev/null 2>&1 || git init --quiet
	touch $(STAMP)

setup-bench: $(BENCH_STAMP) ## whom bench compares with: .venv-bench

setup-cluster: $(CLUSTER_STAMP) ## the executors for clusters: .venv-cluster

setup-docs: $(DOCS_STAMP) ## what builds the documentation: .venv-docs

setup-checks: $(CHECKS_STAMP) ## what tests check results with: .venv-checks

# Virtual environments on top of the other: only the extra is in each.
$(CLUSTER_STAMP): EXTRA = cluster
$(DOCS_STAMP): EXTRA = docs
$(BENCH_STAMP): EXTRA = bench
$(CLUSTER_STAMP) $(DOCS_STAMP) $(BENCH_STAMP): %/.installed: $(STAMP) pyproject.toml constraints.txt
	$(VENV)/bin/python -m venv $*
	$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		>"$$($*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/kaizen.pth"
	$*/bin/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRA)]'
	touch $@

# Without these the tests that use them skip, and say so.
$(CHECKS_STAMP): $(STAMP) tests/checks-requirements.txt
	$(VENV)/bin/python -m venv $(CHECKS)
	$(CHECKS)/bin/pip install --quiet --no-deps --requirement tests/checks-requirements.txt \
		&& touch $@ || echo "not installed, to be tried again: tests/checks-requirements.txt" >&2

# Logs and working files. Results and the store stay, and what is finished is not made again.
clean: ## remove logs and working files
	rm -rf .snakemake logs site .kaizen/receipts .kaizen/published .kaizen/checksums

# What is published, with whatever else lies there; `snakemake` takes it from the store in seconds.
clean-results: clean ## also what is published
	rm -rf results data/shards data/replay .kaizen/publishing.json

# Every finished step, hours of work perhaps. A store that KAIZEN_STORE names is left alone.
clean-store: ## remove every finished step: hours of work perhaps
	rm -rf .kaizen/store
