# `make` alone lists what there is. Everything happens in .venv; nothing outside this folder is changed.

PYTHON ?= python3
# Linux wheels of torch on PyPI bring gigabytes of CUDA libraries, so the CPU build is installed first,
# from PyTorch's own index. With a GPU:  make demo TORCH=torch TORCH_INDEX=
TORCH ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV ?= .venv
OUTPUT ?= quickstart
MODEL ?= $(OUTPUT)
ARGS ?=
PREFIX ?= /usr/local

# Standard cells: where Debian installs them, or below this folder.
UNPACKED_CELLS := build/cells/usr/share/qflow/tech/osu018
CELLS := $(firstword $(wildcard /usr/share/qflow/tech/osu018) $(UNPACKED_CELLS))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PIP_UNINSTALL := $(BIN)/python -m pip uninstall --quiet --yes
# A stamp says what was installed; it is out of date when the package changes, or when another torch is asked
# for. Without a TORCH of your own, the torch that .venv already has stays.
TORCH_STAMP := $(VENV)/.torch
ifneq ($(origin TORCH),file)
ifneq ($(shell cat $(TORCH_STAMP) 2>/dev/null),$(TORCH))
.PHONY: $(TORCH_STAMP)
endif
endif
PACKAGING := pyproject.toml $(wildcard CMakeLists.txt packaging/*.cmake csrc/* csrc/*/*)

# Tests, checks and the site ask no server for a model.
test test-slow mutants bench docs: export HF_HUB_OFFLINE = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo install test test-slow test-lowest mutants check format bench hardware cells docs findings \
	wheels wheel-test c-library encrypted test-encrypted clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  Variables: PYTHON=$(PYTHON)  TORCH=$(TORCH)  TORCH_INDEX=$(TORCH_INDEX)"
	@echo "             OUTPUT=$(OUTPUT) (demo)  ARGS=… (passed on to the command behind the target)"
	@echo "             PREFIX=$(PREFIX) (c-library)"

demo: $(VENV)/.installed-quickstart ## install, then distill an inhibitor encoder: minutes on two cores
	@if [ -e "$(OUTPUT)" ] && [ -z "$(findstring --overwrite,$(ARGS))" ]; then \
		echo "$(OUTPUT)/ exists. Replace it:  make demo ARGS=--overwrite   Keep it:  make demo OUTPUT=another-folder" >&2; \
		exit 1; \
	fi
	$(BIN)/inhibit quickstart --output "$(OUTPUT)" $(ARGS)

install: $(VENV)/.installed-dev ## install the package for development, with what tests and checks need

test: $(VENV)/.installed-dev ## run the tests, but for the slow ones
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --max-worker-restart 0 $(ARGS)

test-slow: $(VENV)/.installed-dev ## run the slow tests, which guard the main claims
	$(BIN)/python -m pytest -m "slow and not gpu" --timeout 1800 -n logical --maxprocesses 4 --dist loadfile --max-worker-restart 0 $(ARGS)

test-lowest: $(BIN)/python ## run the tests with the oldest supported versions of all dependencies, in build/lowest
	@mkdir -p build
	$(BIN)/python .ci/lowest-versions > build/lowest-versions.txt
	PIP_CONSTRAINT=$(CURDIR)/build/lowest-versions.txt $(MAKE) test VENV=build/lowest

mutants: $(VENV)/.installed-dev ## break the code in small ways and list what no test notices: a night
	$(PIP) mutmut==3.8.1
	OMP_NUM_THREADS=1 $(BIN)/mutmut run $(ARGS)
	$(BIN)/mutmut results

check: $(VENV)/.installed-dev ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## format the code and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## time the operation on this machine, against torch's attention
	$(BIN)/python benchmarks/attention.py $(ARGS)

hardware: $(VENV)/.installed-hardware $(CELLS) ## compare a head's circuit with softmax's, of MODEL=quickstart: minutes
	INHIBITOR_CELLS="$(abspath $(CELLS)/..)" $(BIN)/inhibit hardware "$(MODEL)" --teacher minilm $(ARGS)

cells: $(UNPACKED_CELLS) ## unpack Debian's standard cells into build/cells, which needs no root

$(UNPACKED_CELLS):
	@mkdir -p build/cells
	cd build/cells && apt-get download qflow-tech-osu018 qflow-tech-osu050
	cd build/cells && for package in *.deb; do dpkg-deb -x $$package .; done

docs: $(VENV)/.installed-docs ## build the documentation site in build/site; a broken link or reference is an error
	rm -rf build/site
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going -d build/doctrees docs build/site
	@echo "Documentation: build/site/index.html"

findings: ## run what surprised us about other libraries (findings/): minutes, and downloads
	@for script in findings/*.sh; do echo "== $$script"; bash "$$script" || exit 1; done

wheels: $(VENV)/.installed-wheels ## build the sdist and wheels for Linux, macOS and Windows in dist, and check them
	$(BIN)/python -m build --sdist --outdir dist .
	$(BIN)/python packaging/wheels.py $(ARGS)

# Only this environment is on the path: no compiler is.
wheel-test: ## install this platform's wheel of dist in a new environment, and test the attention there
	rm -rf build/wheel
	$(MAKE) build/wheel/.torch VENV=build/wheel
	build/wheel/bin/python -m pip install --quiet --no-index --no-deps --find-links dist inhibitor-transformers
	build/wheel/bin/python -m pip install --quiet inhibitor-transformers hypothesis pytest pytest-timeout
	PATH="$(CURDIR)/build/wheel/bin" python -c \
		'from inhibitor_transformers.attention.cpu import library; print(library.__file__, library.load())'
	PATH="$(CURDIR)/build/wheel/bin" python -m pytest tests/attention --ignore=tests/attention/triton $(ARGS)

c-library: ## build libinhibitor for C programs and install it, its header and its pkg-config file under PREFIX
	cmake -S . -B build/c -DINHIBITOR_C_LIBRARY=ON
	cmake --build build/c --parallel
	cmake --install build/c --component c --prefix "$(PREFIX)"

encrypted: ## install the engine of encrypted inference (concrete-python, which needs numpy 1) in build/encrypted
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13) and "concrete-python has no wheels for Python " \
		+ sys.version.split()[0] + ". Name another:  make encrypted PYTHON=python3.12")'
	@mkdir -p build
	@$(MAKE) --no-print-directory build/encrypted/.installed-engine VENV=build/encrypted

test-encrypted: encrypted ## run the tests of encrypted inference that need its engine
	build/encrypted/bin/python -m pytest tests/deploy/encrypted/engine $(ARGS)

clean: ## remove .venv, caches and build output (never quickstart/ or runs/)
	rm -rf $(VENV) build dist mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, $(PYTHON) is " \
		+ sys.version.split()[0] + ". Name another:  make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(TORCH_STAMP): | $(BIN)/python
	@echo "Installing $(TORCH) $(if $(TORCH_INDEX),(from $(TORCH_INDEX) or, where that cannot be reached, from PyPI))"
	@if [ -e $@ ]; then $(PIP_UNINSTALL) torch; fi
	$(PIP) $(if $(TORCH_INDEX),--retries 1 --extra-index-url $(TORCH_INDEX)) '$(TORCH)'
	@echo '$(TORCH)' > $@

# Editable: the source in use is the source in this folder.
$(VENV)/.installed-quickstart: $(TORCH_STAMP) $(PACKAGING)
	@echo "Installing inhibitor-transformers[quickstart]"
	$(PIP) --editable '.[quickstart]'
	@touch $@

$(VENV)/.installed-dev: $(TORCH_STAMP) $(PACKAGING)
	@echo "Installing inhibitor-transformers[dev]"
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed-quickstart

# Without CMake: the kernels that .venv uses stay as they are, and Concrete needs none.
$(VENV)/.installed-engine: $(TORCH_STAMP) packaging/encrypted-requirements.txt pyproject.toml
	@echo "Installing the engine of encrypted inference"
	$(PIP) --requirement packaging/encrypted-requirements.txt
	$(PIP) --no-deps --editable . --config-settings wheel.cmake=false
	@touch $@
	@$(BIN)/python -c 'from inhibitor_transformers.deploy.encrypted.engine import LICENSE_NOTICE; print(LICENSE_NOTICE)'

$(VENV)/.installed-hardware: $(TORCH_STAMP) $(PACKAGING)
	@echo "Installing inhibitor-transformers[hardware,quickstart]"
	$(PIP) --editable '.[hardware,quickstart]'
	@touch $@

$(VENV)/.installed-wheels: $(TORCH_STAMP) $(PACKAGING)
	@echo "Installing inhibitor-transformers[wheels]"
	$(PIP) --editable '.[wheels]'
	@touch $@

$(VENV)/.installed-docs: $(TORCH_STAMP) $(PACKAGING)
	@echo "Installing inhibitor-transformers[docs]"
	$(PIP) --editable '.[docs]'
	@touch $@
