# make repro and make test are all a newcomer needs: each does its own set-up, once.
SHELL := /bin/bash
VENV  ?= .venv
BIN   := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
READY := $(VENV)/.ready
ifeq ($(VENV),.venv)  # it holds whole paths: one that was moved, or copied, with its project is made anew
$(if $(filter-out $(CURDIR),$(shell cat $(READY) 2>/dev/null)),$(shell rm -rf $(VENV)))
endif

# No library phones home unless the user turns it on.
export DO_NOT_TRACK ?= 1
export DVC_NO_ANALYTICS ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export PATH := $(CURDIR)/$(BIN):$(PATH)

MLFLOW_PORT ?= 5000
PREFECT_PORT ?= 4200
TESTS ?= not slow

.PHONY: help setup repro flow watch up ui down schedule test check mutants format lint types bench bench-quick

help:
	@echo "make repro   run the DAG: validate, augment, split, fine-tune, export, evaluate, register"
	@echo "make up      start MLflow and Prefect on this machine; make down stops them; make ui starts MLflow alone"
	@echo "make flow    run the same DAG once as a Prefect flow; make watch only where retraining is due"
	@echo "make schedule  run both on the schedules of params.yaml, until stopped"
	@echo "make bench   measure speed beside the usual script, 20 minutes; make bench-quick in 5"
	@echo "make test    run the tests but the slow ones; make check   format, lint, types and all tests"
	@echo "make mutants break the code one line at a time, and see that a test fails each time"

setup: $(READY)

# .ci/install.py takes torch first and alone: where another requirement cannot be met, pip would go back to a build of several GB.
$(READY): pyproject.toml constraints.txt .ci/install.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and "Refit needs Python 3.11 or 3.12: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python .ci/install.py
	@mkdir -p -m 700 .dvc/site && $(BIN)/dvc config --local core.site_cache_dir "$(CURDIR)/.dvc/site"
	@$(BIN)/python -m stages.project.plots && $(BIN)/dvc config --local plots.html_template plots.html
	@git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/dvc config --local core.no_scm true  # an unpacked ZIP
	@echo "$(CURDIR)" > $@

repro: setup
	python -m stages.project.preflight dvc repro

flow: setup
	python -m flows.pipeline

watch: setup
	python -m flows.watch

schedule: setup
	python -m flows.schedule

up: setup
	@python -m flows.servers up mlflow=$(MLFLOW_PORT) prefect=$(PREFECT_PORT)

ui: setup
	@python -m flows.servers up mlflow=$(MLFLOW_PORT)

down: setup
	@python -m flows.servers down

test: setup
	pytest -m "$(TESTS)"

mutants: setup
	python -m tests.mutants

check: TESTS =
check: setup format lint types test

# BENCH_DATA: a folder with banking77, financial_phrasebank and hymenoptera, which no package brings; they are left out unless it is named.
BENCH_DATA ?= data/bench
bench: setup
	python -m benchmarks.speed --data $(BENCH_DATA)
bench-quick: setup
	python -m benchmarks.speed --quick --data $(BENCH_DATA)

format:
	ruff format --check .
lint:
	ruff check .
types:
	pyright
