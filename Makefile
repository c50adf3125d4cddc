# One command each; `make demo` and `make test` need nothing but make and Python 3.11 or newer.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.PHONY: help demo migrate run test check sim planted bench control chaos soak docs lock sbom audit clean

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHONS := $(PYTHON) python3.13 python3.12 python3.11 python3
APP ?= app.loyalty
TESTERS ?= 2

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(READY) ## replay a year of purchases through three services, then serve (EXIT=1: stop after the verdict; LOG=kafka)
	@$(BIN)/python -m app.demo $(if $(filter-out 0,$(EXIT)),--exit) $(if $(LOG),--log $(LOG))

migrate: $(READY) ## let one of three services leave their shared database while all go on (EXIT=1: stop after the verdict; DB=sqlite)
	@$(BIN)/python -m app.migrate $(if $(filter-out 0,$(EXIT)),--exit) $(if $(DB),--database $(DB))

run: $(READY) ## run one worker (APP=app.checkout, app.promotions or app.loyalty)
	@$(BIN)/headrace -A $(APP) worker -l info

test: $(READY) ## run every test suite that this machine can run, and say which it cannot (TESTERS=1: one by one)
	@$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY) ## format, lint, types, the tidy test, lock and bill of materials; changes nothing
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_tidy.py tests/test_lockfile.py tests/test_bill_of_materials.py

sim: $(READY) ## live through 10,000 seeded worlds, on all cores (SEEDS=500: fewer; FROM=4000: go on from there)
	@$(BIN)/python -m tests.simulation.worlds --seeds $(or $(SEEDS),10000) --from $(or $(FROM),0) $(ARGS)

planted: $(READY) ## plant bugs in copies of the package, and let the simulation find each (SEEDS=500, ARGS=NAME)
	@$(BIN)/python -m tests.simulation.planted --seeds $(or $(SEEDS),500) $(ARGS)

bench: $(READY) ## measure headrace and its peers on one broker (QUICK=1: a short run)
	@$(BIN)/python -m bench $(if $(filter-out 0,$(QUICK)),--quick) $(ARGS)

chaos: $(READY) ## kill workers and brokers on a real Kafka, 40 minutes at a time (PART=kill, CYCLES=n, ARGS=)
	@$(BIN)/python -m tests.chaos $(if $(PART),--part $(PART)) $(if $(CYCLES),--cycles $(CYCLES)) $(ARGS)

soak: $(READY) ## run a worker at half its full speed and tell how its memory grows (MINUTES=60)
	@$(BIN)/python -m tests.chaos.soak $(if $(MINUTES),--minutes $(MINUTES))

control: $(READY) ## point the kill -9 harness at plain faust-streaming and report its miscount
	@$(BIN)/python -m bench.control $(ARGS)

docs: $(READY) ## build the documents into .cache/site, and check them: links, commands, examples, manifests
	@$(BIN)/python -m tests.reference_pages
	@$(BIN)/zensical build --strict --config-file mkdocs.yml
	@$(BIN)/python -m pytest -q tests/test_docs.py tests/test_reference_pages.py tests/test_tutorial.py tests/test_kubernetes.py

lock: $(READY) ## write requirements.lock anew from pyproject.toml (UPGRADE=1: the newest of everything)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	@UPGRADE=$(UPGRADE) $(BIN)/python -m tests.lockfile

sbom: $(READY) ## write the bill of materials of a worker into dist/sbom.json (CycloneDX)
	@$(BIN)/python -m tests.bill_of_materials

audit: $(READY) ## ask for known vulnerabilities of everything in requirements.lock; needs the network
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

clean: ## remove the environment, caches and local data
	@rm -rf $(VENV) .headrace .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

# The newest interpreter that works: version managers leave names on the PATH that only print an error.
# What is installed is in the lock by hash, headrace itself apart; its build needs nothing more.
$(READY): pyproject.toml requirements.lock
	@chosen=; for name in $(PYTHONS); do \
	  if "$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	  then chosen=$$name; break; fi; done; \
	if [ -z "$$chosen" ]; then \
	  echo 'No Python 3.11 or newer with the venv module was found (tried: $(strip $(PYTHONS))).' >&2; \
	  echo 'Install one (on Debian also python3-venv), or name it: make PYTHON=/path/to/python3 ...' >&2; exit 1; fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	  echo "Building $(VENV) with $$("$$chosen" --version)"; "$$chosen" -m venv --clear $(VENV); fi; \
	echo 'Installing headrace and its tools into $(VENV)'; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)
