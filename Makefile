# The two commands that a fresh machine needs are `make run` and `make test`; `make help` lists all.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
# The first of these that works makes the environment; PYTHON=/path/to/python overrides.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	command -v $$name >/dev/null 2>&1 && \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && \
	command -v $$name && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet --no-input
# Tools that import the settings get a data directory of their own, not ./data.
ELSEWHERE = export GATEWAY_DATA_DIR="$$(mktemp -d)"; trap 'rm -rf "$$GATEWAY_DATA_DIR"' EXIT;

.PHONY: help setup setup-dev setup-clients run test check lint types layers migrations deployment templates bench soak \
	reliability fmt coverage docker-build clean

help: ## List the commands.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: .venv/.installed ## Make .venv and install the pinned run-time dependencies.

setup-dev: .venv/.installed-dev

setup-clients: .venv-clients/.installed ## Install the client libraries that tests/test_clients.py runs.

run: setup ## Migrate, make the first admin and demo key, serve on http://127.0.0.1:8080.
	@exec $(BIN)/python manage.py serve

test: setup-dev ## Run all tests. TEST_ARGS='-k name' chooses.
	@$(BIN)/python -m pytest $(TEST_ARGS)

check: lint types layers migrations deployment templates ## All checks that are no tests.
	@echo "All checks passed."

lint: setup-dev ## Style and format.
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted; run: make fmt" >&2; exit 1; }

types: setup-dev ## mypy --strict.
	@$(ELSEWHERE) $(BIN)/mypy --no-error-summary

layers: setup-dev ## Who may import whom (pyproject.toml, tool.importlinter).
	@$(BIN)/lint-imports > .import_linter.log || { cat .import_linter.log >&2; exit 1; }

migrations: setup-dev ## Models and migrations agree.
	@$(ELSEWHERE) $(BIN)/python manage.py makemigrations --check --dry-run --verbosity 1

deployment: setup-dev ## Django's deployment checks, as an installation behind HTTPS would run.
	@$(ELSEWHERE) APP_BASE_URL=https://gateway.example $(BIN)/python manage.py check --deploy --fail-level WARNING

templates: setup-dev ## Every template compiles.
	@$(ELSEWHERE) $(BIN)/python manage.py check_templates

bench: setup-dev ## Measure speed and memory; results in bench/results/.
	@$(BIN)/python -m bench $(BENCH_ARGS)

soak: setup-dev ## Run the full-size kill, departure, shutdown, outage, fault and row-count runs.
	@GATEWAY_SOAK=1 $(BIN)/python -m pytest -m soak --timeout 3600 $(TEST_ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m bench.soak $(SOAK_ARGS)

reliability: setup-dev ## Measure the fault matrix and write it into docs/reliability.md.
	@GATEWAY_WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/test_fault_matrix.py -k shows_the_matrix

fmt: setup-dev ## Format, and fix what can be fixed.
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

coverage: setup-dev ## Run all tests with coverage; report in htmlcov/.
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(TEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage html --quiet
	@$(BIN)/coverage report

docker-build: ## Build the image llm-gateway:latest.
	@docker build --tag llm-gateway:latest .

clean: ## Remove what the tools made. ./data and .venv stay.
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .import_linter.log .hypothesis .coverage .coverage.* htmlcov
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with the venv module was found. Install one (Debian: apt-get install python3-venv), or run: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11." >&2; exit 1; }
	@echo "Making .venv with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear .venv

.venv-clients/.installed: tests/clients/requirements.txt tests/clients/package.json | .venv/bin/python
	@echo "Installing the client libraries (about a minute)"
	@$(BIN)/python -m venv --clear .venv-clients
	@.venv-clients/bin/python -m pip --disable-pip-version-check --quiet --quiet --no-input install -r tests/clients/requirements.txt
	@cd tests/clients && npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

# Stamps: an environment is brought up to date when the requirements change.
.venv/.installed: requirements.txt | .venv/bin/python
	@echo "Installing requirements.txt (about a minute the first time)"
	@$(PIP) install -r requirements.txt
	@touch $@

.venv/.installed-dev: requirements-dev.txt requirements.txt | .venv/bin/python
	@echo "Installing requirements-dev.txt (about a minute the first time)"
	@$(PIP) install -r requirements-dev.txt
	@touch .venv/.installed $@
