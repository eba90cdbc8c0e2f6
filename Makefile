# The two commands that matter: `make demo` and `make test`. `make help` lists the rest.
# Everything is installed below .venv/ of this folder, but for the Debian packages that .ci/install-system names.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The optimizer's runtime has wheels for Python 3.11 to 3.13.
PYTHON ?= $(shell for version in 3.11 3.12 3.13; do command -v python$$version && break; done || echo python3)
EXAMPLE ?= digits

TOOLS := .venv/tools
OLIVE := .venv/olive
TORCH := torch==2.13.0
# The demo's control plane; the tests have their own, and share its Azurite and its scoring environments.
PLANE := .azureml_local
# The tools and the local control plane share one environment; the optimizer conflicts with it and has its own;
# the third, for serving, is built by the local control plane from the deployment's conda.yml.
SHARED := schemas packages/aml_tool_core
# The optimizer without its extra is there too: its pure part is tested in it.
TOOL_PACKAGES := $(filter-out packages/metronome $(SHARED), \
	$(patsubst %/pyproject.toml,%,$(wildcard packages/*/pyproject.toml)))
METRONOME_SOURCES := $(shell find packages/metronome -type f -not -path '*/build/*' 2>/dev/null)
PYTHON_SOURCES := packages schemas tests job-templates images
export MYPYPATH := $(subst $() $(),:,$(wildcard packages/*/src job-templates/*/code))

PIP_INSTALL := -m pip install --quiet --quiet --disable-pip-version-check
EDITABLE := --no-deps --no-build-isolation $(addprefix --editable ,$(SHARED))

.PHONY: help
help:  ## show this list
	@sed -nE 's/^([a-zA-Z_/%-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

.PHONY: demo
demo: setup  ## run the whole chain on an example and print one table (EXAMPLE=digits)
	@$(TOOLS)/bin/python job-templates/chain.py $(EXAMPLE) --olive_python $(OLIVE)/bin/python

# The tools' tests use the demo's Azurite and scoring environments. What measures nothing runs $(TOGETHER) at a time (most of
# it waits); what measures at a small load, two at a time; the rest has the machine to itself.
TOGETHER ?= 3
PYTEST = if [ -d $(PLANE)/azurite ]; then export AZUREML_LOCAL_AZURITE="$${AZUREML_LOCAL_AZURITE:-$(CURDIR)/$(PLANE)/azurite}"; fi; \
	AZUREML_LOCAL_ENV_CACHE=$(CURDIR)/$(PLANE)/environments $(TOOLS)/bin/python -m pytest
PYTEST_TOGETHER = $(PYTEST) -m together --numprocesses $(TOGETHER) --dist worksteal
PYTEST_PAIRS = $(PYTEST) -m pairs --numprocesses 2 --dist worksteal
PYTEST_ALONE = $(PYTEST) -m "not together and not pairs"
NOT_HERE := --ignore tests/contract/aml_olive_optimizer --ignore tests/bench

.PHONY: test
test:  ## run all tests: unit, contract and end to end
	@$(MAKE) --no-print-directory test-olive
	@$(MAKE) --no-print-directory test-together
	@$(MAKE) --no-print-directory test-alone

.PHONY: test-olive
test-olive: $(OLIVE)/.ready .venv/.system-tests  ## run the tests in the optimizer's environment
	$(OLIVE)/bin/python -m pytest tests/contract/aml_olive_optimizer

.PHONY: setup-tests
setup-tests: .setup .venv/.system-tests $(PLANE)/.azurite  ## install all that the tests need

.PHONY: test-together
test-together: setup-tests  ## run the tests that measure nothing, several at a time
	$(PYTEST_TOGETHER) tests $(NOT_HERE) --ignore tests/by_image

.PHONY: test-alone
test-alone: setup-tests  ## run the tests that measure, two at a time or one by one
	$(PYTEST_PAIRS) tests $(NOT_HERE) --ignore tests/by_image
	$(PYTEST_ALONE) tests $(NOT_HERE) --ignore tests/by_image

.PHONY: test-long
test-long: setup-tests  ## run what `make test` has less of: all faults, 200 fault sequences, 20 interruptions (over an hour)
	export AML_FAULTS=all AML_FAULT_SEQUENCES=200; $(PYTEST) --numprocesses $(TOGETHER) --dist worksteal tests/contract/faults
	export AML_INTERRUPTIONS=20; $(PYTEST) tests/contract/profilers/test_resume.py

.PHONY: lint
lint: $(TOOLS)/.ready  ## check style and types
	$(TOOLS)/bin/ruff check $(PYTHON_SOURCES)
	$(TOOLS)/bin/ruff format --check $(PYTHON_SOURCES)
	$(TOOLS)/bin/mypy $(wildcard packages/*/src) tests $(wildcard job-templates/*.py job-templates/ci/*.py job-templates/components/*/*.py job-templates/sku-sweep/*.py images/*/*.py)

.PHONY: format
format: $(TOOLS)/.ready  ## rewrite the Python sources in the project's style
	$(TOOLS)/bin/ruff check --fix $(PYTHON_SOURCES)
	$(TOOLS)/bin/ruff format $(PYTHON_SOURCES)

.PHONY: setup
setup:  ## install all that demo and test need
	@$(MAKE) --no-print-directory --jobs 2 .setup

.PHONY: .setup
.setup: $(TOOLS)/.ready $(TOOLS)/.metronome $(OLIVE)/.ready

.venv/.system: .ci/install-system
	@.ci/install-system
	@mkdir -p .venv && touch $@

.venv/.system-tests: .ci/install-system
	@.ci/install-system tests
	@mkdir -p .venv && touch $@

# `.ready` is made last, so that an interrupted set-up is simply run again.
$(TOOLS)/.ready: tests/requirements.lock $(addsuffix /pyproject.toml,$(SHARED) $(TOOL_PACKAGES)) | .venv/.system
	@echo "installing the tools' environment ($(TOOLS))"
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python $(PIP_INSTALL) --no-deps --require-hashes -r tests/requirements.lock
	@$(TOOLS)/bin/python $(PIP_INSTALL) $(EDITABLE) $(addprefix --editable ,$(TOOL_PACKAGES))
	@said=$$($(TOOLS)/bin/python -m pip check) || { echo "$$said" >&2; exit 1; }
	@touch $@

$(TOOLS)/.metronome: $(METRONOME_SOURCES) $(TOOLS)/.ready
	@echo "compiling metronome, the load generator"
	@$(TOOLS)/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation --force-reinstall ./packages/metronome
	@touch $@

# torch is not in the lock: from PyPI it brings its GPU libraries, from a folder or an index with CPU wheels
# (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL) it does not; either will do, and the rest of the lock stays the same.
$(OLIVE)/.ready: images/aml_olive_optimizer/requirements.lock tests/olive.lock $(addsuffix /pyproject.toml,$(SHARED) packages/aml_olive_optimizer) | .venv/.system
	@echo "installing the optimizer's environment ($(OLIVE)); PyTorch and ONNX Runtime make it large"
	@$(PYTHON) -m venv $(OLIVE)
	@$(OLIVE)/bin/python $(PIP_INSTALL) $(TORCH)
	@$(OLIVE)/bin/python $(PIP_INSTALL) --no-deps --require-hashes -r images/aml_olive_optimizer/requirements.lock -r tests/olive.lock
	@$(OLIVE)/bin/python $(PIP_INSTALL) $(EDITABLE) --editable packages/aml_olive_optimizer
	@said=$$($(OLIVE)/bin/python -m pip check) || { echo "$$said" >&2; exit 1; }
	@touch $@

# Locks are made for the images' Python; wheels of later ones are among the hashes. The tools' locks keep to the base
# image's versions, because they are installed over it.
LOCKS := $(sort $(basename $(wildcard images/*/*.in))) tests/requirements tests/olive

# Starting it once installs Azurite, unless the machine has one.
$(PLANE)/.azurite: $(TOOLS)/.ready
	$(TOOLS)/bin/azureml-local up --home $(PLANE) && $(TOOLS)/bin/azureml-local down --home $(PLANE)
	touch $@

.PHONY: lock
lock:  ## resolve every lock anew from the ranges in the pyproject files (needs PyTorch CPU wheels, see README)
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python $(PIP_INSTALL) uv
	@$(foreach lock,images/base/requirements $(filter-out images/base/requirements,$(LOCKS)),$(call COMPILE,$(lock)) &&) true

.PHONY: lock/%
lock/%:  ## resolve one lock anew (e.g. lock/tests/requirements)
	test -x .venv/lock/bin/uv || { $(PYTHON) -m venv .venv/lock && .venv/lock/bin/python $(PIP_INSTALL) uv; }
	@$(call COMPILE,$*)

COMPILE = echo "resolving $(1).lock" && UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" UV_EXTRA_INDEX_URL="$${PIP_EXTRA_INDEX_URL:-}" .venv/lock/bin/uv pip compile --quiet --upgrade \
	--generate-hashes --no-header --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-package torch \
	$(addprefix --constraint ,$(if $(filter images/%/requirements,$(filter-out images/base/% images/sbom/%,$(1))),images/base/requirements.lock) $(if $(filter tests/olive,$(1)),images/aml_olive_optimizer/requirements.lock)) \
	$(foreach package,$(patsubst %/pyproject.toml,%,$(wildcard schemas/pyproject.toml packages/*/pyproject.toml)),--no-emit-package $(call DIST,$(package))) $(1).in -o $(1).lock && \
	{ ! grep -E '^(nvidia|cuda|triton)' $(1).lock || { echo "$(1).lock: PyTorch's GPU libraries got in; name a source of CPU wheels"; rm $(1).lock; false; }; }
DIST = $(shell sed -n 's/^name = "\(.*\)"/\1/p' $(1)/pyproject.toml)

.PHONY: clean
clean:  ## remove what the demo and the tests made; the environments stay
	rm -rf .demo .azureml_local .pytest_cache .mypy_cache .ruff_cache

.PHONY: distclean
distclean: clean  ## remove the environments too
	rm -rf .venv
-include images/images.mk
