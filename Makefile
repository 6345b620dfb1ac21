# Every target sets up what it needs: a virtual environment with pinned packages, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
TORCH := torch==2.13.0
# Where PyTorch keeps builds without CUDA, for every Python: those of the usual index have it, and take gigabytes.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
SPU_VENV := .venv-spu
SPU_INSTALLED := $(SPU_VENV)/.installed

.PHONY: help demo test test-fast test-long test-faults wire-digests lint bench bench-peers docs check-install clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(INSTALLED) ## Compare two real photos, privately, with client and server as MPI processes
	$(BIN)/hybridface demo

test: $(INSTALLED) ## Run all tests but the long ones: what CI runs
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: $(INSTALLED) ## Run the quick tests, within one process: after every change
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not long and not slow'

test-long: $(INSTALLED) ## Run the long tests: statistics, many seeds; before a release
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

test-faults: $(INSTALLED) ## Break the code on purpose, and see that the tests notice
	$(BIN)/python tests/faults/run.py

wire-digests: $(INSTALLED) ## Write anew what each protocol sends: after a change that is meant to change it
	PYTHONPATH=tests $(BIN)/python -m support.wire

lint: $(INSTALLED) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED) ## Build the documentation site in build/site; needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'Open build/site/index.html'

check-install: $(INSTALLED) ## Build wheel and sdist, and run the demonstration from the wheel, in an environment of its own
	.ci/check-install $(BIN)/python

bench: $(INSTALLED) ## Measure one verification against an enrolled template
	$(BIN)/hybridface bench verify

bench-peers: $(INSTALLED) ## Measure it beside plaintext, CrypTen alone and SPU's Cheetah (in an environment of its own)
	-$(MAKE) $(SPU_INSTALLED)
	$(BIN)/hybridface bench peers

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hybridface needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; choose another: make PYTHON=python3.12")'
	@echo 'Installing pinned packages into $(VENV) (some minutes, once)'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --no-deps --retries 2 --index-url $(TORCH_INDEX) '$(TORCH)+cpu' \
		|| { echo 'Cannot get $(TORCH) without CUDA from $(TORCH_INDEX): installing the usual build' >&2; $(PIP_INSTALL) $(TORCH); }
	$(PIP_INSTALL) --editable '.[dev,docs]'
	@$(BIN)/python -c 'import torch; torch.version.cuda and print("torch is a build for CUDA, which hybridface does not use: it takes gigabytes of disk, and memory in every rank. README.md, Installation, says how to get one without.")'
	@echo 'Compiling the arithmetic and measuring this machine (some seconds, once)'
	$(BIN)/hybridface calibrate --quiet
	touch $@

$(SPU_INSTALLED): spu-constraints.txt
	@echo 'Installing SPU into $(SPU_VENV) (some minutes, once)'
	$(PYTHON) -m venv $(SPU_VENV)
	$(SPU_VENV)/bin/python -m pip install -qq --disable-pip-version-check --constraint spu-constraints.txt spu
	touch $@

clean: ## Remove the virtual environments and caches
	rm -rf $(VENV) $(SPU_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
