PYTHON ?= python3
ARCHITECTURE ?= x86_64# of the deployed functions: x86_64 or arm64
BIN := .venv/bin
INSTALLED := .venv/.installed

COMPILE = $(BIN)/uv pip compile --quiet $(UPGRADE) --no-header --no-annotate --no-emit-index-url

export ARCHITECTURE
export SAM_CLI_TELEMETRY := 0
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Reads .env, if there is one; what the caller's environment says wins over it.
ENVIRONMENT = given=$$(export -p); set -a; if [ -f .env ]; then . ./.env; fi; eval "$$given"; set +a

.PHONY: help run chat demo bench dlq stop test lint format types docs validate build requirements
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 20

run: $(INSTALLED) ## everything on http://127.0.0.1:8000, until Ctrl-C
	@$(ENVIRONMENT); exec $(BIN)/python -m local.run

chat: $(INSTALLED) ## talk to a running stack in the terminal
	@$(ENVIRONMENT); exec $(BIN)/python -m local.chat $(ARGS)

demo: $(INSTALLED) ## the main journey against a running stack, step by step
	@$(ENVIRONMENT); exec $(BIN)/python -m local.demo

bench: $(INSTALLED) ## what AIDeer adds to the provider's time
	@$(ENVIRONMENT); exec $(BIN)/python -m local.bench

dlq: $(INSTALLED) ## dead letters: lists them (ARGS=--redrive, --purge; --stack NAME: of a deployed stack)
	@$(ENVIRONMENT); exec $(BIN)/python -m local.dlq $(ARGS)

stop: $(INSTALLED) ## end a stack that was left running
	@$(ENVIRONMENT); exec $(BIN)/python -m local.stop

test: $(INSTALLED) ## unit and integration tests (PYTEST_ARGS=...)
	@$(BIN)/python -m pytest -q -n auto --dist loadfile $(PYTEST_ARGS)

chaos: $(INSTALLED) ## every AWS call broken in every way, for half an hour (writes docs/reliability.md)
	@$(BIN)/python -m tests.chaos

lint: $(INSTALLED) ## style and common errors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(INSTALLED) ## mends what lint can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED) ## mypy, strict
	@$(BIN)/mypy functions local

docs: $(INSTALLED) ## functions/docs/openapi.json from the handlers
	@$(BIN)/python -m local.openapi
	@$(BIN)/python -m local.apidoc

validate: $(INSTALLED) ## template.yaml
	@$(BIN)/sam validate --lint --region us-east-1

build: $(INSTALLED) ## functions and layers for Lambda (ARCHITECTURE=x86_64 or arm64)
	@find functions -name __pycache__ -prune -exec rm -rf {} +
	@$(BIN)/sam build --parameter-overrides Architecture=$(ARCHITECTURE)

requirements: $(INSTALLED) ## pins what the .in files ask for (UPGRADE=--upgrade: the newest)
	@$(COMPILE) --universal --python-version 3.11 --override requirements-overrides.in requirements-dev.in -o requirements-dev.txt
	@for layer in core web dashscope; do $(COMPILE) --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
		-c requirements-dev.txt layers/$$layer/requirements.in -o layers/$$layer/requirements.txt || exit; done

# Without dependencies: requirements-dev.txt holds them all, and overrides a pin (requirements-overrides.in).
$(INSTALLED): requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "AIDeer needs Python 3.11 or later")'
	@echo "Setting up .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check $$(grep '^uv==' requirements-dev.txt)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode -r requirements-dev.txt
	@touch $@
