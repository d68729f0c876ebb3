# make demo, make test: each sets up all it needs. PYTHON=python3.12 chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
STAMP := $(VENV)/.installed
# The executors for clusters stand apart: see the extra `cluster` in pyproject.toml.
CLUSTER := $(VENV)-cluster
CLUSTER_STAMP := $(CLUSTER)/.installed
# Processes of `make test`: pytest alone, as for a single file, is one.
WORKERS ?= 2
RUN := PATH="$(abspath $(VENV))/bin:$$PATH"

.PHONY: demo test test-slow test-slurm smoke-slurm lint setup setup-cluster clean clean-results clean-store

demo: setup
	$(RUN) snakemake --cores all

test: setup lint
	$(RUN) pytest -n $(WORKERS)

test-slow: setup
	$(RUN) pytest -m "not slurm"

# A real SLURM on this machine, as root on Debian: installed, started, stopped.
test-slurm: setup-cluster
	$(RUN) cluster/slurm/with.sh $(CLUSTER)/bin/python -m pytest -m slurm tests/slurm

# Two jobs through it. 75: SLURM cannot run here, which it has said.
smoke-slurm: setup-cluster
	$(RUN) cluster/slurm/with.sh $(CLUSTER)/bin/python -m pytest -m slurm tests/slurm -k smoke \
	|| { [ $$? = 75 ] && echo "smoke-slurm: SKIPPED, see above"; }

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

setup: $(STAMP)

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

setup-cluster: $(CLUSTER_STAMP)

# A virtual environment on top of the other: only the executors are in it.
$(CLUSTER_STAMP): $(STAMP) pyproject.toml constraints.txt
	$(VENV)/bin/python -m venv $(CLUSTER)
	$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		>"$$($(CLUSTER)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/kaizen.pth"
	$(CLUSTER)/bin/pip install --quiet --constraint constraints.txt --editable '.[cluster]'
	touch $(CLUSTER_STAMP)

# Logs and working files. Results and the store stay, and what is finished is not made again.
clean:
	rm -rf .snakemake logs .kaizen/receipts .kaizen/published .kaizen/checksums

# What is published, with whatever else lies there; `snakemake` takes it from the store in seconds.
clean-results: clean
	rm -rf results data/shards data/replay .kaizen/publishing.json

# Every finished step, hours of work perhaps. A store that KAIZEN_STORE names is left alone.
clean-store:
	rm -rf .kaizen/store
