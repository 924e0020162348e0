# Plain `make` prints the targets.  Everything is set up by the targets themselves; nothing is installed by hand.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv verify lint types contracts generated unit format crds golden integration e2e test demo demo-down warm bench-fit bench-meter bench-overhead clean test-faults test-engines bench-judge bench-judge-fast bench-scale soak

PYTHON ?= python3
BIN := .venv/bin
LOCK := requirements-dev.lock
CHECKS := lint types contracts generated unit

help:  ## print the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  %-16s %s\n", $$1, $$2}'

venv: .venv/ready  ## make .venv with the programs modelops and kubectl-modelops

.venv/ready: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: needs Python 3.11 or newer, found %s; set PYTHON" % sys.version.split()[0])'
	@# Debian's Python comes without what makes a virtual environment.
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "venv: installing the package python3-venv"; \
	  apt-get install -qq -y python3-venv >/dev/null || { apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null; }; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@echo "venv: installing $$(grep -c == $(LOCK)) locked packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK) -r operator/build.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

verify: venv  ## lint, types, contracts, generated files, unit and golden tests; lists all that failed
	@failed=(); for check in $(CHECKS); do \
	  start=$$SECONDS; echo "== $$check"; \
	  $(MAKE) --no-print-directory $$check || failed+=($$check); \
	  echo "== $$check: $$((SECONDS - start)) s"; done; \
	if [ $${#failed[@]} -gt 0 ]; then echo "verify: failed: $${failed[*]}"; exit 1; fi; echo "verify: all of $(CHECKS) passed"

lint: venv  ## ruff, and no __init__.py in operator/
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "lint: files are not formatted; run make format"; exit 1; }
	@[ ! -e operator/__init__.py ] || { echo "operator/__init__.py: hides the standard library's operator; remove it"; exit 1; }

types: venv  ## mypy, strict
	@$(BIN)/mypy operator/modelops e2e runtimes/predictive/modelops_predictive

contracts: venv  ## import contracts: the folders are the architecture
	@$(BIN)/lint-imports --no-cache | tail -n 12

generated: venv  ## generated files are fresh
	@$(BIN)/python -m modelops.api.crd --out crds --chart charts/modelops/templates/crds --check
	@$(BIN)/python -m modelops.governance.policies --chart charts/modelops/templates --check

unit: venv  ## unit and golden tests
	@$(BIN)/python -m pytest tests -q --ignore=tests/integration --ignore=tests/processes

test-faults: venv  ## the whole fault campaign: the operator killed or frozen at every write
	@$(BIN)/python -m pytest tests/faults -q --all-faults

format: venv  ## format and mend what ruff can
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

crds: venv  ## write crds/, the chart's CRD templates and the approval gate
	@$(BIN)/python -m modelops.api.crd --out crds --chart charts/modelops/templates/crds
	@$(BIN)/python -m modelops.governance.policies --chart charts/modelops/templates

golden: venv  ## rewrite the golden files; read the difference as the behaviour change it is
	@$(BIN)/python -m pytest tests -q --update-golden --ignore=tests/integration --ignore=tests/processes

warm: venv  ## build and cache binaries and images of the native cluster
	@$(BIN)/python -m e2e.cluster.warm

integration: warm  ## tests against a real API server
	@$(BIN)/python -m pytest tests/integration -q

test-engines: venv  ## real engines by their rendered arguments; vLLM too once `python -m e2e.engine.real` made it (6 GB)
	@$(BIN)/python -m pytest tests/processes -v -s

e2e: warm  ## the stories on a real cluster of their own
	@$(BIN)/python -m pytest e2e -v -s

soak: warm  ## ten minutes of faults on a real cluster, under users and rollouts; ARGS="--seconds 120 --seed 7"
	@$(BIN)/python -m e2e.soak $(ARGS)

test:  ## all set-up and every test, with the time of each stage
	@$(PYTHON) .ci/stages.py

demo: warm  ## a cluster with the quickstart story told; it is left running
	@$(BIN)/python -m e2e.demo up

demo-down: venv  ## remove every trace of the demo
	@$(BIN)/python -m e2e.demo down

bench-fit: venv  ## is the fit true and quick: engines' own numbers beside ours, 1,000 services planned
	@$(BIN)/python tests/bench/bench_fit.py

bench-meter: venv  ## what the meter costs: added latency and CPU, beside no meter
	@$(BIN)/python tests/bench/bench_meter.py

bench-overhead: warm  ## from approval to the first token on a cluster, beside the engine's own start
	@$(BIN)/python -m e2e.overhead

bench-judge: venv  ## the judge beside Flagger's and Argo Rollouts' rules on simulated rollouts; ARGS="--runs 2000 --cells N1 R7b"
	@$(BIN)/python -m tests.bench.bench_judge $(ARGS)

bench-judge-fast: venv  ## the same, the cells and the 300 runs that CI asks for
	@$(BIN)/python -m tests.bench.bench_judge --cells fast $(ARGS)

bench-scale: venv  ## 1,000 services on a real API server with kwok's nodes (root; builds kwok once); ARGS="--services 200"
	@$(BIN)/python -m tests.bench.bench_scale $(ARGS)

clean:  ## remove .venv and caches of tools in this folder; the shared cache stays
	@rm -rf .venv .mypy_cache .ruff_cache .hypothesis build *.egg-info operator/*.egg-info
