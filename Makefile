# The whole interface to the workspace. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
MEMBERS := libs/common libs/understudy libs/launcher services/gateway services/session services/tools services/notify
MEMBER_FILES := $(addsuffix /pyproject.toml,$(MEMBERS))
export ORT_DISABLE_TELEMETRY := 1

.PHONY: help setup setup-voice setup-test run test check fmt bench simulate scenarios mutants lock contracts clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | while IFS='|' read -r n d; do printf '  make %-12s %s\n' "$$n" "$$d"; done

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Parley needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Set PYTHON=/path/to/python3.11."; exit 78; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module. On Debian or Ubuntu: apt-get install python3-venv"; exit 78; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.python requirements.lock $(MEMBER_FILES)
	@echo "installing the services (requirements.lock)"
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS))
	@touch $@

# The voice models have no wheel on some platforms: a failure is a message and light mode, not an error.
$(VENV)/.voice: $(VENV)/.run requirements-voice.lock
	@echo "installing ears and voice (requirements-voice.lock)"
	@$(PIP) --require-hashes -r requirements-voice.lock \
	  || echo "ears and voice could not be installed here: the understudy will run in light mode (typed text and generated tones)"
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements-test.lock
	@echo "installing the test tools (requirements-test.lock)"
	@$(PIP) --require-hashes -r requirements-test.lock
	@touch $@

setup: $(VENV)/.run $(VENV)/.voice ## make .venv and install everything that `make run` needs
setup-voice: $(VENV)/.voice
setup-test: setup $(VENV)/.test

run: setup ## start everything here and print where to talk to Cap
	@exec $(BIN)/parley up

# What needs no clock of its own runs side by side; what speaks, listens or fails for real has the machine to itself.
SIDE_BY_SIDE := tests/unit tests/contract tests/replay tests/infra tests/scenarios tests/test_house.py tests/test_docs.py tests/test_telemetry_docs.py

test: setup-test ## every test, on the strongest Kafka and PostgreSQL found here
	@$(BIN)/python -m pytest -q -n 2 $(SIDE_BY_SIDE) tests/sessions
	@$(BIN)/python -m pytest $(addprefix --ignore=,$(SIDE_BY_SIDE) tests/sessions)

check: setup-test ## lint, types, import laws, unit tests: a few minutes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q -n 2 $(SIDE_BY_SIDE)

fmt: setup-test ## format and fix what can be fixed
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench: setup-test ## measure sessions per core, latency, memory and CPU; under 10 minutes on 2 cores
	@$(BIN)/parley bench

# Figures that were measured here are used instead of the defaults.
SIMULATION := .parley/simulation
simulate: setup-test ## simulate 100,000 sessions on measured figures: what fills, what breaks first
	@PYTHONPATH=tests $(BIN)/python -m load.simulation --out $(SIMULATION)/simulation.json \
	  $(addprefix --bench ,$(wildcard .parley/bench/bench.json)) $(addprefix --figures ,$(wildcard $(SIMULATION)/figures.json))

scenarios: setup-test ## play every typed dialogue of every business through the whole system: a table
	@$(BIN)/python tests/scenarios/run.py bank cap clinic helpdesk shop

mutants: setup-test ## plant bugs in the session core one by one: each must kill a test
	@$(BIN)/python tests/mutants.py

contracts: setup-test ## export JSON Schemas, samples and AsyncAPI from the contracts
	@$(BIN)/python -m parley_common.contracts.export

lock: ## recompute the hashed locks (needs uv on PATH)
	@infra/lock.sh

clean: ## remove the environment and all local state
	rm -rf $(VENV) .parley .cache .mypy_cache .ruff_cache .pytest_cache
