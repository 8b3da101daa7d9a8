# make repro and make test are all a newcomer needs: each does its own set-up, once.
SHELL := /bin/bash
VENV  ?= .venv
BIN   := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
READY := $(VENV)/.ready

# No library phones home unless the user turns it on.
export DO_NOT_TRACK ?= 1
export DVC_NO_ANALYTICS ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup repro flow ui test check format lint types

help:
	@echo "make repro   run the DAG: validate, augment, split, fine-tune, evaluate, register"
	@echo "make ui      look at models and their lineage in MLflow"
	@echo "make flow    run the same DAG once as a Prefect flow"
	@echo "make test    run the tests        make check   format, lint, types and tests"

setup: $(READY)

# torch first and alone: where another requirement cannot be met, pip would go back to a build of several GB.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and "Refit needs Python 3.11 or 3.12: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@mkdir -p -m 700 .dvc/site && $(BIN)/dvc config --local core.site_cache_dir $(CURDIR)/.dvc/site
	@git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/dvc config --local core.no_scm true  # an unpacked ZIP
	@touch $@

repro: setup
	@python -m stages.contract.settings
	dvc repro

flow: setup
	@python -m stages.contract.settings
	python -m flows.pipeline

ui: setup
	@echo "MLflow: http://127.0.0.1:5000 (stop with Ctrl-C)"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false mlflow server --host 127.0.0.1 --port 5000 --workers 1 \
	  --backend-store-uri sqlite:///mlflow.db --allowed-hosts localhost:5000,127.0.0.1:5000

test: setup
	pytest

check: setup format lint types test

format:
	ruff format --check .
lint:
	ruff check .
types:
	pyright
