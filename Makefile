# Every target sets up what it needs: Python ≥ 3.11, git and make are enough.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
ARTIFACTS ?= build/artifacts
# The installed programs (buf, envoy, protoc plugins) come first.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export QUARTET_ARTIFACTS_DIR := $(abspath $(ARTIFACTS))

PROTOS := $(shell find protos -name '*.proto')
LAST_TAG := $(shell git describe --tags --abbrev=0 2>/dev/null)

.PHONY: help
help: ## Says what the targets do
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

gen/.ready: .venv/.ready protos/generate.py $(PROTOS)
	$(BIN)/python protos/generate.py --into gen
	@touch $@

$(ARTIFACTS)/.ready: .venv/.ready config/artifacts.lock
	$(BIN)/python -m services.kit.artifacts --to $(ARTIFACTS)
	@touch $@

.PHONY: setup
setup: .venv/.ready gen/.ready $(ARTIFACTS)/.ready ## Sets everything up without starting anything

.PHONY: run
run: setup ## Starts the whole suite: PostgreSQL, Redis, four services, Envoy
	exec $(BIN)/quartet up --with-parent $$PPID

.PHONY: test
test: setup ## Runs all tests, against real parts; needs no network and no key; ARGS="-n 0" in one process
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

.PHONY: check
check: setup ## Static checks: ruff, mypy, import-linter, buf, Envoy's own validation, Kubernetes schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf format --diff --exit-code --path protos/quartet
	$(BIN)/buf lint gen/image.binpb --path quartet
	@$(MAKE) --no-print-directory breaking
	$(BIN)/quartet envoy-config --validate
	@if command -v kubectl >/dev/null; then $(MAKE) --no-print-directory k8s; else echo "no kubectl: the manifests are not checked"; fi

.PHONY: breaking
breaking: gen/.ready
ifeq ($(LAST_TAG),)
	@echo "no tag yet: there is no released contract to break"
else
	rm -rf build/released && mkdir -p build/released
	git archive $(LAST_TAG) protos | tar -x -C build/released
	$(BIN)/python build/released/protos/generate.py --into build/released/gen
	$(BIN)/buf breaking gen/image.binpb --against build/released/gen/image.binpb --path quartet
endif

.PHONY: soak
soak: setup ## Runs the long proofs that `make test` leaves out; SOAK_MINUTES=3 shortens the half-hour of mixed load
	$(BIN)/python -m pytest -m soak --timeout 3600 --log-cli-level INFO $(ARGS)

.PHONY: fuzz
fuzz: setup ## Sends 10,000 hostile messages to every public rpc and dialect; ARGS="--hypothesis-seed=7" repeats a run
	$(BIN)/python -m pytest tests/fuzz tests/e2e/test_hostile_input.py --hypothesis-profile fuzz --timeout 3600 --log-cli-level INFO $(ARGS)

.PHONY: proto
proto: ## Makes gen/ from protos/
	@rm -f gen/.ready
	@$(MAKE) --no-print-directory gen/.ready

.PHONY: bench
bench: setup ## Prints what the way from Envoy to the provider costs
	$(BIN)/python -m bench.hops

.PHONY: k8s
k8s: setup ## Builds the manifests and checks them against the Kubernetes schemas
	@mkdir -p build
	@for component in k8s/components/*/; do \
		mkdir -p "build/$$component" \
		&& printf 'resources: [../../../../k8s/overlays/local]\ncomponents: [../../../../%s]\n' "$$component" \
			> "build/$$component/kustomization.yaml" || exit 1; done
	@for overlay in k8s/overlays/*/ build/k8s/components/*/; do \
		kubectl kustomize "$$overlay" > build/manifests.yaml \
		&& $(BIN)/kubernetes-validate --strict build/manifests.yaml \
		&& echo "$$overlay is valid" || exit 1; done

.PHONY: lock
lock: .venv/.ready ## Solves requirements.lock anew; needs the network
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet -o requirements.lock

.PHONY: clean
clean: ## Removes everything that was made, except the data of `make run` in .quartet/
	rm -rf .venv gen build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
